"""JSON lines, a document a line: what most coreference programs read and write.

    {"doc_key": "d1", "sentences": [["Ann", "left", "."]], "speakers": [["-", "-", "-"]], "clusters": [[[0, 0]]]}
    {"doc_key": "d2", "tokens": ["Ann", "left", "."], "clusters": [[[0, 0]]]}
    {"doc_key": "d3", "text": "Ann left.", "clusters": [[[0, 3]]]}

Spans are [first, last] in words of the document, last inclusive, where there are `sentences` or `tokens`; with a `text` alone they are
[begin, end] in characters, end exclusive, as in fastcoref, and the text is split by `splitting`. Beside words, a `text` is found again
word by word, or by `offsets`, [begin, end] of each word. `clusters` may be missing. Other fields of text are kept in `about`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pydantic
from pydantic import BaseModel, ConfigDict, Field

from .. import textfiles
from ..errors import DataError
from .documents import NOBODY, Document, of_characters, of_text

_Pair = Annotated[list[int], Field(min_length=2, max_length=2)]


class _Line(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True)

    doc_key: str | None = None
    sentences: list[list[str]] | None = None
    tokens: list[str] | None = None
    text: str | None = None
    offsets: list[_Pair] | None = None
    speakers: list[list[str]] | list[str] | None = None
    clusters: list[list[_Pair]] | None = None


def read(content: str, path: Path) -> Iterator[Document]:
    """The documents of a file's content; one without `doc_key` is called by its line. Raises DataError with file and line."""
    for number, line in enumerate(content.split("\n"), 1):
        if not line.strip():
            continue
        where, tree = f"{path}, line {number}", textfiles.object_of(line, path, number)
        try:
            yield _document(_Line.model_validate(tree), str(number))
        except pydantic.ValidationError as fault:
            first = fault.errors()[0]
            place = ".".join(str(part) for part in first["loc"] if not str(part).startswith("list["))
            raise DataError(f"{where}: {place}: {first['msg'].lower()}") from None
        except DataError as fault:
            raise DataError(f"{where}: {fault}") from None


def _document(line: _Line, number: str) -> Document:
    name = line.doc_key or number
    about = {key: value for key, value in (line.model_extra or {}).items() if isinstance(value, str)}
    sentences = line.sentences if line.sentences is not None else None if line.tokens is None else [line.tokens]
    if sentences is None:
        if line.text is None:
            raise DataError(f"document {name}: has none of sentences, tokens and text")
        if line.clusters is None:
            return of_text(name, line.text, about=about)
        return of_characters(name, line.text, line.clusters, about=about)  # type: ignore[arg-type]
    words = [word for sentence in sentences for word in sentence]
    offsets = line.offsets if line.offsets is not None else line.text and _found(name, words, line.text)
    speakers = line.speakers and [who for part in line.speakers for who in ((part,) if isinstance(part, str) else part)]
    return Document(name, sentences, line.clusters, speakers, line.text, offsets, about)  # type: ignore[arg-type]


def _found(name: str, words: Sequence[str], text: str) -> np.ndarray:
    """(words, 2): where each word stands in the text, each sought behind the one before."""
    place, out = 0, []
    for i, word in enumerate(words):
        begin = text.find(word, place)
        if begin < 0:
            raise DataError(f"document {name}: word {i} '{word}' is not in the text behind character {place}; give offsets")
        place = begin + len(word)
        out.append((begin, place))
    return np.array(out)


def lines(documents: Sequence[Document]) -> Iterator[str]:
    """A line a document, which `read` reads back to the same document."""
    for one in documents:
        speakers = one.speakers or (NOBODY,) * len(one.words)
        parts = zip(one.starts, [*one.starts[1:], len(one.words)], strict=True)
        tree: dict[str, Any] = {"doc_key": one.name, **{k: v for k, v in one.about.items() if k not in _Line.model_fields}}
        tree |= {"sentences": one.sentences, "speakers": [speakers[a:b] for a, b in parts]}
        if one.offsets is not None:
            tree |= {"text": one.text, "offsets": one.offsets.tolist()}
        if one.clusters is not None:
            tree["clusters"] = one.clusters
        yield json.dumps(tree, ensure_ascii=False) + "\n"
