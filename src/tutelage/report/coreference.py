"""Documents of coreference as a page: mentions in the colour and with the number of their cluster."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from ..coref.documents import Document, Span
from . import page

_TURN = 137.508
"""Degrees of hue from one cluster to the next, the golden angle, so that neighbours differ."""
_LONGEST = 60
"""Characters of a mention in the list of clusters."""
Piece = tuple[str, Any]


@dataclasses.dataclass(frozen=True)
class Mention:
    """A mention on the page; `name` is its anchor, `entity` its cluster's number from 1."""

    span: Span
    entity: int
    hue: int
    alone: bool
    name: str


def write(documents: Sequence[Document], path: Path, *, title: str) -> None:
    """Write the page, whole or not at all. Nothing of a document is read as markup; the only script is the page's own, by its hash."""
    script = (Path(__file__).parent / "coreference.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    shown = [_shown(one, f"d{number}") for number, one in enumerate(documents)]
    page.render(
        "coreference.html.jinja",
        {"kind": "coreference", "title": title, "documents": shown, "script": Markup(script), "script_hash": digest},
        path,
    )


def _shown(document: Document, name: str) -> dict[str, Any]:
    mentions = [
        Mention(span, entity, round(entity * _TURN) % 360, len(cluster) == 1, f"{name}m{span[0]}-{span[1]}")
        for entity, cluster in enumerate(document.clusters or (), 1)
        for span in cluster
    ]
    listed: dict[int, list[tuple[Mention, str]]] = {}
    for one in mentions:
        if not one.alone:
            listed.setdefault(one.entity, []).append((one, _short(document.phrase(one.span))))
    counted = [f"{len(document.words):,} words"]
    if document.clusters is None:
        counted.append("nobody has looked for mentions")
    else:
        counted += [f"{len(mentions):,} mentions", f"{len(listed):,} clusters", f"{sum(one.alone for one in mentions):,} singletons"]
    return {
        "name": document.name,
        "anchor": name,
        "facts": [*counted, *(f"{key.replace('_', ' ')}: {value}" for key, value in document.about.items())],
        "pieces": list(pieces(document, mentions)),
        "clusters": listed,
    }


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def pieces(document: Document, mentions: Sequence[Mention]) -> Iterator[Piece]:
    """The document in order: ('text', words), ('speaker', name), ('open' or 'again', mention), and ('pause' or 'close', mention).

    Mentions that cross are paused where another ends that began before them, and opened again, so that all is nested.
    """
    opening: dict[int, list[Mention]] = {}
    for one in sorted(mentions, key=lambda m: -m.span[1]):
        opening.setdefault(one.span[0], []).append(one)
    stack: list[Mention] = []
    speaker, starts, end = None, set(document.starts), 0
    for i, word in enumerate(document.words):
        if document.text is None or document.offsets is None:
            gap = "" if not i else "\n" if i in starts else " "
        else:
            begin, after = document.offsets[i].tolist()
            gap = document.text[end:begin]
            word, end = document.text[max(begin, end) : after], max(after, end)
        yield "text", gap
        if document.speakers and i in starts and document.speakers[i] != speaker:
            speaker = document.speakers[i]
            yield "text", "" if not i or gap.endswith("\n") else "\n"
            yield "speaker", speaker
        for one in opening.get(i, ()):
            stack.append(one)
            yield "open", one
        yield "text", word
        paused = []
        while any(one.span[1] == i for one in stack):
            one = stack.pop()
            yield ("close" if one.span[1] == i else "pause"), one
            paused += [one] if one.span[1] > i else []
        for one in reversed(paused):
            stack.append(one)
            yield "again", one
    if document.text is not None:
        yield "text", document.text[end:]
