"""Mentions as files of brackets hold them: a mention opens at one word and closes at another, each bracket by its entity's name.

A closing bracket closes its entity's last open one, as the reference scorer has it, so mentions of one entity nest; two that cross
(a < c < b < d) cannot be written.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Sequence

from ..errors import DataError
from .documents import Clusters, Span


@dataclasses.dataclass
class _Mention:
    entity: str
    first: int
    where: str
    last: int | None = None


class Brackets:
    """Collects the brackets of one document, in their order. `document` names file and document for what goes wrong."""

    def __init__(self, document: str):
        self.document = document
        self._all: list[_Mention] = []
        self._open: dict[str, list[_Mention]] = {}

    def open(self, entity: str, word: int, where: str) -> None:
        """A mention begins at this word; `where` is the line, for people."""
        self._all.append(_Mention(entity, word, where))
        self._open.setdefault(entity, []).append(self._all[-1])

    def close(self, entity: str, word: int, where: str) -> None:
        """The entity's last open mention ends with this word; raises DataError where none is open."""
        if not self._open.get(entity):
            raise DataError(f"{self.document}, {where}: '{entity})' closes a mention that was not opened; mend the brackets")
        self._open[entity].pop().last = word

    def clusters(self) -> Clusters:
        """The entities' mentions, when all is read. Raises DataError for a mention that is still open.

        A span that comes twice is kept where it was opened first, as in the reference scorer, and warned of. Mentions without a
        word, as of empty nodes, are left out and warned of.
        """
        kept: dict[str, list[Span]] = {}
        seen: dict[Span, str] = {}
        again, empty = [], []
        for one in self._all:
            if one.last is None:
                raise DataError(f"{self.document}, {one.where}: '({one.entity}' opens a mention that is not closed; mend the brackets")
            span = (one.first, one.last)
            if one.last < one.first:
                empty.append(one)
            elif span in seen:
                again.append(one)
            else:
                seen[span] = one.entity
                kept.setdefault(one.entity, []).append(span)
        if again:
            of = again[0]
            warnings.warn(
                f"{self.document}: spans that are in an entity already: {len(again)} (first {of.where}, entity {of.entity}); the entity "
                "that opened one first keeps it",
                stacklevel=2,
            )
        if empty:
            warnings.warn(f"{self.document}: mentions of no word: {len(empty)} (first {empty[0].where}); they are left out", stacklevel=2)
        return tuple(map(tuple, kept.values()))


@dataclasses.dataclass
class Marks:
    """The brackets at one word, in an order that reads back: what closes, what opens (longest first), what is this word alone."""

    closing: list[int] = dataclasses.field(default_factory=list)
    opening: list[Span] = dataclasses.field(default_factory=list)
    """(entity, words of the mention)."""
    alone: list[int] = dataclasses.field(default_factory=list)


def marks(clusters: Clusters, words: int, document: str) -> list[Marks]:
    """The brackets of a document by word; entities are numbered by cluster.

    Warns where mentions of one entity cross, which read back as nested.
    """
    out = [Marks() for _ in range(words)]
    spans = [(first, last, entity) for entity, cluster in enumerate(clusters) for first, last in cluster]
    for first, last, entity in sorted(spans, key=lambda s: (s[0], -s[1])):
        if first == last:
            out[first].alone.append(entity)
        else:
            out[first].opening.append((entity, last - first + 1))
    for _, last, entity in sorted((s for s in spans if s[0] < s[1]), key=lambda s: (s[1], -s[0])):
        out[last].closing.append(entity)
    crossing = [n for n, cluster in enumerate(clusters) if _read_back(cluster) != sorted(cluster)]
    if crossing:
        warnings.warn(
            f"{document}: mentions of one entity cross ({', '.join(map(str, crossing))} by number), which brackets cannot hold; they "
            "read back as nested. JSON lines hold them",
            stacklevel=2,
        )
    return out


def _read_back(cluster: Sequence[Span]) -> list[Span]:
    """The spans that the brackets of one entity give when they are read."""
    events = sorted(
        [(last, 0, -first) for first, last in cluster if first < last] + [(first, 1, -last) for first, last in cluster if first < last]
    )
    stack: list[int] = []
    out = [span for span in cluster if span[0] == span[1]]
    for place, kind, _ in events:
        if kind:
            stack.append(place)
        else:
            out.append((stack.pop(), place))
    return sorted(out)
