"""From a question to an answer with the quotes it cites: search, prompt, model."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Sequence
from typing import Any

from ..cited import citations, hagrid, prompts
from ..errors import ConfigError, RunError
from .retrieve import Index
from .writers import Failed, Request, Writer


def quoted(index: Index, questions: Sequence[hagrid.Question], k: int) -> list[hagrid.Question]:
    """Questions without quotes with the best `k` passages for theirs; the others as they are. Titles stand before the texts.

    Raises ConfigError for a question to which nothing is found.
    """
    bare = [q for q in questions if not q.quotes]
    found = dict(zip((q.query_id for q in bare), index.search([q.query for q in bare], k), strict=True)) if bare else {}
    out = []
    for question in questions:
        hits = found.get(question.query_id)
        if hits is None:
            out.append(question)
        elif not hits:
            raise ConfigError(f"question '{question.query_id}': the index holds nothing about it; give it quotes, or leave it out")
        else:
            quotes = [hagrid.Quote(idx=i, docid=h.docid, text=f"{h.title}: {h.text}" if h.title else h.text) for i, h in enumerate(hits, 1)]
            out.append(question.model_copy(update={"quotes": quotes}))
    return out


def ask(index: Index, writer: Writer, question: str, *, k: int = 3, prompt: str = "short", tokens: int = 200) -> dict[str, Any]:
    """One answer: its text, its segments, the quotes with whether each is cited, and citations that point nowhere.

    Raises ConfigError where nothing is found, RunError where the model fails.
    """
    hits = index.search([question], k)[0]
    if not hits:
        raise ConfigError("the index holds nothing about this question; ask another, or index more passages")
    chat = prompts.messages(prompt, question, [(h.title or None, h.text) for h in hits])
    [reply] = asyncio.run(writer.write([Request(chat, tokens=tokens)]))
    if isinstance(reply, Failed):
        raise RunError(f"no answer came: {reply}")
    places, dangling = citations.cited(reply.text, len(hits))
    quotes = [{**dataclasses.asdict(h), "cited": i in places} for i, h in enumerate(hits)]
    return {"question": question, "answer": reply.text, "segments": citations.segments(reply.text), "quotes": quotes, "dangling": dangling}
