"""What a model is asked: versioned templates. A changed wording is a new version; what was collected keeps the name of its own."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import ConfigError
from ..find import near

_RULES = (
    "Use only the numbered passages. Put the numbers of the passages that support a statement in square brackets right after it, "
    "such as [1] or [1, 3]. If the passages do not answer the question, say so."
)
TEMPLATES = {
    "short-1": f"Answer the question in one sentence. {_RULES}",
    "long-1": f"Answer the question in a short paragraph. {_RULES}",
}
"""Name with version -> instruction. The part before the version is the answer's type."""
LATEST = {"short": "short-1", "long": "long-1"}


def named(name: str) -> str:
    """The full name of a template; `short` and `long` are their latest versions. Raises ConfigError for others."""
    full = LATEST.get(name, name)
    if full not in TEMPLATES:
        raise ConfigError(f"prompt: no prompt '{name}'{near(name, (*LATEST, *TEMPLATES))} ({', '.join((*LATEST, *TEMPLATES))})")
    return full


def kind(name: str) -> str:
    """The type of answer that a template asks for."""
    return named(name).rpartition("-")[0]


def messages(name: str, question: str, quotes: Sequence[tuple[str | None, str]]) -> list[dict[str, str]]:
    """The chat that asks for an answer; quotes are (title or None, text), cited by position from 1."""
    passages = "\n\n".join(f"[{i}] {f'{title}: ' if title else ''}{text}" for i, (title, text) in enumerate(quotes, 1))
    return [{"role": "user", "content": f"{TEMPLATES[named(name)]}\n\nPassages:\n{passages}\n\nQuestion: {question}\nAnswer:"}]
