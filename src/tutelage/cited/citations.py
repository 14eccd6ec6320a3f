"""Citations in an answer: [1], [1, 2], [1-3], [1]-[3], [1 to 3], [1][2]; where they point, and the segments that they close.

Brackets may be those of East Asian text, as some models write them. Where sentences end is said by `splitting`, citations left aside.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable

from .. import splitting

MOST = 1000
"""The widest range that is read as one, so that [1-999999999] costs nothing."""
_DASH = "[-\u2010-\u2015]"
_TO = rf"(?:{_DASH}|to|through)"
_NUMBERS = rf"\d{{1,6}}(?:\s*(?:,\s*and|,|;|and|&|{_TO})\s*\d{{1,6}})*"
_ONE = rf"[\[\u3010\uff3b]\s*{_NUMBERS}\s*[\]\u3011\uff3d]"
_LINKED = rf"{_ONE}(?:{_DASH}{_ONE})*"
_BRACKET = re.compile(_LINKED)
_RUN = re.compile(rf"{_LINKED}(?:\s*(?:[,;]\s*)?(?:(?:and|&)\s*)?{_LINKED})*")
_PARENTHESES = re.compile(rf"\(\s*{_RUN.pattern}\s*\)")
_PART = re.compile(rf"(\d{{1,6}})(?:\s*{_TO}\s*(\d{{1,6}}))?")
_OTHER = re.compile(r"[\[\u3010\uff3b][^\[\]\u3010\u3011\uff3b\uff3d]{0,40}[\]\u3011\uff3d]")
_STOPS = ".!?\N{HORIZONTAL ELLIPSIS}"
_QUOTES = "\"'\u2019\u201d)"


@dataclasses.dataclass(frozen=True)
class Citation:
    """One bracket, or several that dashes link, with the numbers in the order of writing."""

    numbers: tuple[int, ...]
    start: int
    end: int
    """The bracket is text[start:end]."""


def parse(text: str) -> list[Citation]:
    """All citations of a text. Brackets that hold anything but numbers, commas and ranges are no citations (`others`).

    A range counts both its ends; one that falls, or is wider than MOST, counts its two ends alone.
    """
    return [Citation(tuple(_read(re.sub("[^\\w\\s,;&\u2010-\u2015-]", "", found[0]))), *found.span()) for found in _BRACKET.finditer(text)]


def others(text: str) -> list[str]:
    """Brackets of a text that hold a digit and are no citations, such as [^1] or [Source 2]: perhaps citations in a form of their own."""
    return [found for found in _OTHER.findall(text) if re.search(r"\d", found) and not _BRACKET.fullmatch(found)]


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
    """The text less its citations, the parentheses that hold nothing else, and the blanks that they leave."""
    bare = _RUN.sub("", _PARENTHESES.sub("", text))
    return re.sub(r"(?<!\s)\s+([.,;:!?)])", r"\1", re.sub(r"[ \t]{2,}", " ", bare)).strip()


def normalise(text: str) -> str:
    """Citations behind a sentence's end moved before it: `A river. [1] It flows.` becomes `A river [1]. It flows.`

    Scorers that split by sentences would count such a citation for the next one. Full stops of abbreviations end no sentence.
    """
    bare, out, done = _Bare(text), [], 0
    for run in bare.runs:
        piece = text[done : run.start()]
        before, done = piece.rstrip(), run.end()
        quoted = before.rstrip(_QUOTES)
        said = quoted.rstrip(_STOPS)
        late = said != quoted and bare.ends(done)
        out += [said.rstrip(), " ", run[0], before[len(said) :]] if late else [piece, run[0]]
    return "".join([*out, text[done:]])


def segments(text: str) -> list[str]:
    """An answer in segments, each closed by the citations behind it: what people judge and scores are counted by.

    A run of citations closes a segment, with the marks that stand at it. Where the answer ends without a citation, only runs
    at the end of a sentence do, and what follows the last one is a segment of its own. Joined, the segments are the text but for
    its white space.

    HAGRID's published segments are these in 702 of 772 and 165 of 177 answers that were looked at; most others hold several
    sentences with citations of their own before a run such as [1][2], which is not imitated.
    """
    bare = _Bare(text)
    open_end = bool(bare.runs) and re.search(r"\w", text[bare.runs[-1].end() :]) is not None
    out, start = [], 0
    for run in bare.runs:
        end = _CLOSE.match(text, run.end()).end()  # type: ignore[union-attr]
        if not open_end or bare.ends(end):
            out.append(text[start:end].strip())
            start = end
    out.append(text[start:].strip())
    return [one for one in out if one]


_CLOSE = re.compile(r"[.,;:!?]*[\"'\u2019\u201d)\]]*[.,]?")
"""Marks that stand at a run of citations and belong to its segment."""


class _Bare:
    """A text with blanks in place of its runs of citations, and where the sentences of that begin."""

    def __init__(self, text: str):
        self.runs = list(_RUN.finditer(text))
        self._text = _RUN.sub(lambda found: " " * len(found[0]), text)
        self._begins = splitting.begins(self._text) if self.runs else set()

    def ends(self, place: int) -> bool:
        """Whether a sentence ends before what follows this place: a sentence begins there, or a line, or nothing is left."""
        follows = _BLANKS.match(self._text, place)[0]  # type: ignore[index]
        place += len(follows)
        return place in self._begins or "\n" in follows or place == len(self._text)


_BLANKS = re.compile(r"\s*")
