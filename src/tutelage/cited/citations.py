"""Citations in an answer: [1], [1, 2], [1-3], [1][2]; where they point, and the segments that they close."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable

MOST = 1000
"""The widest range that is read as one, so that [1-999999999] costs nothing."""
_NUMBERS = r"\d{1,6}(?:\s*(?:,\s*and|,|;|and|&|[-\u2010-\u2015])\s*\d{1,6})*"
_BRACKET = re.compile(rf"\[\s*({_NUMBERS})\s*\]")
_RUN = re.compile(rf"\[\s*{_NUMBERS}\s*\](?:\s*,?\s*\[\s*{_NUMBERS}\s*\])*")
_PART = re.compile(r"(\d{1,6})(?:\s*[-\u2010-\u2015]\s*(\d{1,6}))?")
_LATE = re.compile(rf"([.!?])([\"'\u2019\u201d)]*)(\s*)({_RUN.pattern})(?!\s*[.,;:!?])(?=\s|$)")


@dataclasses.dataclass(frozen=True)
class Citation:
    """One bracket with the numbers it holds, in the order of writing."""

    numbers: tuple[int, ...]
    start: int
    end: int
    """The bracket is text[start:end]."""


def parse(text: str) -> list[Citation]:
    """All citations of a text. Brackets that hold anything but numbers, commas and ranges are no citations.

    A range counts both its ends; one that falls, or is wider than MOST, counts its two ends alone.
    """
    return [Citation(tuple(_read(found[1])), *found.span()) for found in _BRACKET.finditer(text)]


def _read(inside: str) -> Iterable[int]:
    for found in _PART.finditer(inside):
        first, last = int(found[1]), int(found[2] or found[1])
        if first <= last <= first + MOST:
            yield from range(first, last + 1)
        else:
            yield from (first, last)


def cited(text: str, quotes: int) -> tuple[list[int], list[int]]:
    """What a text cites of so many quotes: positions from 0, and the numbers that dangle; each once, in the order of writing.

    [n] is the quote at position n, the first being [1], whatever numbers the quotes carry themselves.
    """
    numbers = list(dict.fromkeys(n for citation in parse(text) for n in citation.numbers))
    return [n - 1 for n in numbers if 1 <= n <= quotes], [n for n in numbers if not 1 <= n <= quotes]


def without(text: str) -> str:
    """The text less its citations, and less the blanks that they leave."""
    return re.sub(r"\s+([.,;:!?])", r"\1", re.sub(r"[ \t]{2,}", " ", _BRACKET.sub("", text))).strip()


def normalise(text: str) -> str:
    """Citations behind a sentence's end moved before it: `A river. [1] It flows.` becomes `A river [1]. It flows.`

    Scorers that split by sentences would count such a citation for the next one.
    """
    return _LATE.sub(lambda found: f" {found[4]}{found[1]}{found[2]}", text)


def segments(text: str) -> list[str]:
    """An answer in segments, each closed by the citations behind it: what people judge and scores are counted by.

    A run of citations closes a segment, with the marks that stand at it. Where the answer ends without a citation, only runs
    at the end of a sentence do, and what follows the last one is a segment of its own. Joined, the segments are the text but for
    its white space.

    HAGRID's published segments are these in 702 of 772 and 165 of 177 answers that were looked at; most others hold several
    sentences with citations of their own before a run such as [1][2], which is not imitated.
    """
    runs = list(_RUN.finditer(text))
    open_end = bool(runs) and re.search(r"\w", text[runs[-1].end() :]) is not None
    out, start = [], 0
    for run in runs:
        end = _CLOSE.match(text, run.end()).end()  # type: ignore[union-attr]
        if not open_end or re.search(r"[.!?]", text[run.end() : end]) or _begins(text[end:]):
            out.append(text[start:end].strip())
            start = end
    out.append(text[start:].strip())
    return [one for one in out if one]


_CLOSE = re.compile(r"[.,;:!?]*[\"'\u2019\u201d)\]]*[.,]?")
"""Marks that stand at a run of citations and belong to its segment."""


def _begins(rest: str) -> bool:
    """Whether a text begins a sentence: with a capital or a digit, perhaps behind opening marks; or is empty."""
    first = re.match(r"\s*[-\u2010-\u2015*\u2022(\"'\u2018\u201c]*\s*(\S?)", rest)[1]  # type: ignore[index]
    return not first or first.isupper() or first.isdigit()
