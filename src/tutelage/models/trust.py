"""Whose own code may run: that of models which the user named for it, and of no others."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path

HOW = "set trust_remote_code: true beside its model in the recipe, or give --trust-remote-code, if you trust whoever wrote it"
OURS = "tutelage-"
"""What our model types begin with; their code is the package's, whatever lies in a folder."""

_trusted: ContextVar[tuple[str, ...] | None] = ContextVar("trusted", default=())


@contextlib.contextmanager
def trusting(names: tuple[str, ...] | None = None) -> Iterator[None]:
    """While the block runs, code of these models may run, and of what lies in these folders; None trusts all."""
    token = _trusted.set(names)
    try:
        yield
    finally:
        _trusted.reset(token)


def trusted(name: str, where: str) -> bool:
    """Whether the own code of a model, by its name and its folder (or its name again), may run."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        kind = json.loads((Path(where) / "config.json").read_text(encoding="utf-8"))["model_type"]
        if str(kind).startswith(OURS):
            return False
    names = _trusted.get()
    if names is None:
        return True
    return any(name == given or where == given or Path(where).resolve().is_relative_to(Path(given).resolve()) for given in names)
