"""A document of coreference: words in sentences, clusters of mentions, and where there is one the text with exact offsets.

A mention is the span (first word, last word), its end inclusive, words counted from 0 over the whole document, as in the files of
CoNLL-2012 and of its readers. Characters are Unicode code points, ends exclusive: `text[begin:end]` is the mention.
"""

from __future__ import annotations

import bisect
import dataclasses
import functools
import itertools
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from .. import splitting
from ..errors import DataError

Span = tuple[int, int]
Clusters = tuple[tuple[Span, ...], ...]
NOBODY = "-"
"""The speaker of a word that nobody is known to say."""


@dataclasses.dataclass(frozen=True, eq=False)
class Document:
    """A document, checked when made; clusters stand in the order of their first mentions, mentions in the order of the text.

    Raises DataError, naming document and place, for no word at all, a span that is out of range or ends before it starts, a span that
    comes twice, and speakers or offsets that do not fit the words.
    """

    name: str
    sentences: tuple[tuple[str, ...], ...]
    clusters: Clusters | None = None
    """Clusters of mentions, a singleton being a cluster of one; None where nobody has looked."""
    speakers: tuple[str, ...] | None = None
    """One a word; None where none is known."""
    text: str | None = None
    offsets: np.ndarray | None = None
    """(words, 2) whole numbers: where each word begins and ends in `text`, ends exclusive."""
    about: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Genre and what else the file says of the document."""

    def __post_init__(self) -> None:
        put = functools.partial(object.__setattr__, self)
        put("sentences", tuple(tuple(words) for words in self.sentences if words))
        if not self.words:
            raise DataError(f"document {self.name}: holds no word")
        if self.speakers is not None:
            put("speakers", self._spoken(tuple(who or NOBODY for who in self.speakers)))
        if (self.text is None) != (self.offsets is None):
            raise DataError(f"document {self.name}: a text and the offsets of its words come together; one of them is missing")
        if self.offsets is not None:
            put("offsets", self._placed(np.array(self.offsets, dtype=np.int64)))
        if self.clusters is not None:
            put("clusters", self._clustered(self.clusters))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Document):
            return NotImplemented
        mine, its = ({k: v for k, v in vars(d).items() if k in _PLAIN} for d in (self, other))
        return mine == its and np.array_equal(_or_empty(self.offsets), _or_empty(other.offsets))

    @functools.cached_property
    def words(self) -> tuple[str, ...]:
        """All words, in order."""
        return tuple(word for sentence in self.sentences for word in sentence)

    @functools.cached_property
    def starts(self) -> tuple[int, ...]:
        """The first word of each sentence."""
        return tuple(int(n) for n in np.cumsum([0, *map(len, self.sentences[:-1])]))

    @functools.cached_property
    def mentions(self) -> tuple[Span, ...]:
        """All spans of all clusters, in the order of the text."""
        return tuple(sorted(span for cluster in self.clusters or () for span in cluster))

    @functools.cached_property
    def character_clusters(self) -> Clusters:
        """The clusters as (begin, end) in characters of `text`, ends exclusive. Raises DataError for a document without text."""
        return tuple(tuple(self.characters(span) for span in cluster) for cluster in self.clusters or ())

    def characters(self, span: Span) -> Span:
        """Where a span of words begins and ends in `text`. Raises DataError for a document without text."""
        if self.offsets is None:
            raise DataError(f"document {self.name}: has words but no text, so its mentions have no place in characters")
        return int(self.offsets[span[0], 0]), int(self.offsets[span[1], 1])

    def phrase(self, span: Span) -> str:
        """A span's own text, or its words with spaces between them where the document has no text."""
        if self.text is None:
            return " ".join(self.words[span[0] : span[1] + 1])
        begin, end = self.characters(span)
        return self.text[begin:end]

    def _spoken(self, speakers: tuple[str, ...]) -> tuple[str, ...] | None:
        if len(speakers) != len(self.words):
            raise DataError(f"document {self.name}: {len(speakers)} speakers for {len(self.words)} words; give one for each word")
        return speakers if set(speakers) != {NOBODY} else None

    def _placed(self, offsets: np.ndarray) -> np.ndarray:
        text = self.text or ""
        if offsets.shape != (len(self.words), 2):
            raise DataError(f"document {self.name}: {len(offsets)} offsets for {len(self.words)} words; give begin and end of each word")
        for i, (begin, end) in enumerate(offsets.tolist()):
            if not 0 <= begin <= end <= len(text) or (i and begin < offsets[i - 1, 0]):
                raise DataError(
                    f"document {self.name}, word {i} '{self.words[i]}': offsets [{begin}, {end}] do not lie in order in a text of "
                    f"{len(text)} characters"
                )
        offsets.flags.writeable = False
        return offsets

    def _clustered(self, clusters: Iterable[Sequence[Sequence[int]]]) -> Clusters:
        seen: dict[Span, int] = {}
        out = []
        for number, cluster in enumerate(clusters):
            where = f"document {self.name}, cluster {number}"
            if not cluster:
                raise DataError(f"{where}: holds no mention")
            for first, last in cluster:
                if last < first:
                    raise DataError(f"{where}: span [{first}, {last}] ends before it starts")
                if first < 0 or last >= len(self.words):
                    raise DataError(f"{where}: span [{first}, {last}] is out of range; the document has words 0 to {len(self.words) - 1}")
                if (first, last) in seen:
                    raise DataError(
                        f"{where}: span [{first}, {last}] '{self.phrase((first, last))}' is in cluster {seen[first, last]} too; a span "
                        "has one place in one cluster"
                    )
                seen[first, last] = number
            out.append(tuple(sorted((int(first), int(last)) for first, last in cluster)))
        return tuple(sorted(out))


_PLAIN = {f.name for f in dataclasses.fields(Document)} - {"offsets"}


def _or_empty(offsets: np.ndarray | None) -> np.ndarray:
    return np.zeros((0, 2), np.int64) if offsets is None else offsets


def of_text(name: str, text: str, *, about: Mapping[str, str] | None = None) -> Document:
    """A document of a raw text, split into sentences and words (see `splitting`), without clusters.

    Raises DataError for a text without a word.
    """
    sentences, offsets = splitting.split(text)
    return Document(name, tuple(tuple(words) for words in sentences), text=text, offsets=offsets, about=about or {})


def of_characters(name: str, text: str, clusters: Iterable[Iterable[Span]], *, about: Mapping[str, str] | None = None) -> Document:
    """A document of a raw text with clusters of (begin, end) in characters, ends exclusive.

    Words are cut where a mention begins or ends inside one, so that every mention keeps its exact place; white space at its edges is
    left off. Raises DataError for a mention that is empty or outside the text.
    """
    trimmed = []
    for number, cluster in enumerate(clusters):
        spans = []
        for begin, end in cluster:
            if not 0 <= begin < end <= len(text) or not text[begin:end].strip():
                raise DataError(
                    f"document {name}, cluster {number}: [{begin}, {end}] is no mention in a text of {len(text)} characters; a mention "
                    "has a begin, an end above it, and something between them"
                )
            inner = text[begin:end]
            spans.append((begin + len(inner) - len(inner.lstrip()), end - len(inner) + len(inner.rstrip())))
        trimmed.append(spans)
    made = cut(of_text(name, text, about=about), {point for spans in trimmed for span in spans for point in span})
    assert made.offsets is not None
    begins, ends = made.offsets.T.tolist()
    found = tuple(tuple((bisect.bisect_left(begins, begin), bisect.bisect_left(ends, end)) for begin, end in spans) for spans in trimmed)
    return dataclasses.replace(made, clusters=found)


def cut(document: Document, points: Iterable[int]) -> Document:
    """The same document with its words cut at these characters of its text; mentions keep their places in the text."""
    assert document.offsets is not None and document.text is not None
    inside, first = sorted(set(points)), [0]
    sentences: list[tuple[str, ...]] = []
    offsets: list[Span] = []
    speakers: list[str] = []
    for start, words in zip(document.starts, document.sentences, strict=True):
        made: list[str] = []
        for i, word in enumerate(words, start):
            begin, end = document.offsets[i].tolist()
            edges = [begin, *inside[bisect.bisect_right(inside, begin) : bisect.bisect_left(inside, end)], end]
            pieces = list(itertools.pairwise(edges))
            made += [document.text[b:e] for b, e in pieces] if len(pieces) > 1 else [word]
            offsets += pieces
            speakers += [document.speakers[i]] * len(pieces) if document.speakers else []
            first.append(first[-1] + len(pieces))
        sentences.append(tuple(made))
    clusters = document.clusters and tuple(tuple((first[a], first[b + 1] - 1) for a, b in cluster) for cluster in document.clusters)
    return dataclasses.replace(
        document, sentences=tuple(sentences), clusters=clusters, speakers=tuple(speakers) or None, offsets=np.array(offsets, np.int64)
    )


def some(names: Sequence[str]) -> str:
    """The first five names, and how many more there are."""
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
