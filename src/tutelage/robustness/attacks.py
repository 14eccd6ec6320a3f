"""How a text is changed until a student errs: searches that say what they must know and go on when they hear it.

A search is a generator. It yields what it asks, ('ask', texts) of the student, ('fill', places) of a masked language model
or ('alike', pairs) of a sentence encoder, and is sent the answers in order; it returns a `Found`. It knows nothing of batches,
so that `rounds` may answer many searches at once.

Sources: `words` is of the family of TextFooler (Jin, Jin, Zhou, Szolovits 2020, arXiv:1907.11932: words by importance, cosine of
sentence vectors) and BAE (Garg, Ramakrishnan 2020, arXiv:2004.01970: candidates of a masked language model). Departures: no
check of parts of speech; stop words are neither replaced nor put in.
"""

from __future__ import annotations

import dataclasses
import random
import re
import string
from collections.abc import Callable, Generator, Sequence
from typing import Any

import numpy as np
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

from ..seeds import stream
from .suites import Attack

_WORD = re.compile(r"[^\W_]+(?:['\u2019-][^\W_]+)*")
_CONTENT = "amount bill bottom call cry describe detail empty fill find fire found front full give interest keep mill move name part please"
STOP_WORDS = ENGLISH_STOP_WORDS - frozenset(f"{_CONTENT} serious show side sincere system thick thin top".split())
"""scikit-learn's, without those that carry meaning of their own."""
DIGITS = 4
"""Decimals of probabilities and cosines that a search looks at, so that it does not turn on a batch's rounding."""
Asked = tuple[str, list[Any]]
Search = Generator[Asked, Sequence[Any], "Found"]


@dataclasses.dataclass(frozen=True)
class Words:
    """A text as its words and what stands between them: gaps are one more than words."""

    words: tuple[str, ...]
    gaps: tuple[str, ...]

    @classmethod
    def of(cls, text: str) -> Words:
        """Words are runs of letters and digits, with apostrophes and hyphens inside."""
        spans = [m.span() for m in _WORD.finditer(text)]
        edges = [0, *(x for span in spans for x in span), len(text)]
        gaps = tuple(text[edges[i] : edges[i + 1]] for i in range(0, len(edges), 2))
        return cls(tuple(text[a:b] for a, b in spans), gaps)

    def put(self, place: int, word: str) -> Words:
        """With another word in a place."""
        return Words((*self.words[:place], word, *self.words[place + 1 :]), self.gaps)

    def __str__(self) -> str:
        return self.gaps[0] + "".join(w + g for w, g in zip(self.words, self.gaps[1:], strict=True))

    def around(self, place: int, mask: str, reach: int) -> str:
        """The words near a place, `mask` in its stead, with what stands between them."""
        low, high = max(0, place - reach), min(len(self.words), place + reach + 1)
        return str(Words((*self.words[low:place], mask, *self.words[place + 1 : high]), self.gaps[low : high + 1]))


@dataclasses.dataclass(frozen=True)
class Found:
    """What a search came to: 'wrong' (the student erred on the text as it is), 'held' or 'broken'."""

    status: str
    queries: int
    """Texts that the student was asked about."""
    words: int
    """Words of the text."""
    pieces: tuple[str | tuple[str, str], ...] = ()
    """The broken text: what stayed as it was, and (old, new) for each changed word."""
    similarity: float | None = None
    """Cosine of the broken text with the original, where it was measured."""

    @property
    def changed(self) -> int:
        """Words that differ."""
        return sum(not isinstance(piece, str) for piece in self.pieces)


def marked(before: Words, after: Words) -> tuple[str | tuple[str, str], ...]:
    """The text after as pieces that stayed, and pairs (old, new) for words that did not."""
    out: list[str | tuple[str, str]] = [before.gaps[0]]
    for old, new, gap in zip(before.words, after.words, before.gaps[1:], strict=True):
        if old != new:
            out += [(old, new), gap]
        else:
            out[-1] = f"{out[-1]}{old}{gap}"
    return tuple(out)


def words(text: str, gold: int, attack: Attack) -> Search:
    """Replace the words whose absence hurts the right answer most, one after the other.

    Of a word's candidates that keep the text alike, the most alike one that misleads is taken; where none does, the one that
    lowers the right answer's probability most. Half of the queries at most go into finding out which words matter.
    """
    now = whole = Words.of(text)
    [first] = yield "ask", [text]
    if _said(first) != gold:
        return Found("wrong", 1, len(whole.words))
    places = [i for i, word in enumerate(whole.words) if word.lower() not in STOP_WORDS][: attack.queries // 2]
    without = yield "ask", [str(whole.put(i, "")) for i in places]
    queries, best = 1 + len(places), _right(first, gold)
    order = sorted(range(len(places)), key=lambda k: (_right(without[k], gold), k))
    for place in (places[k] for k in order):
        if _differ(whole, now) >= _most(whole, attack) or queries >= attack.queries:
            break
        [candidates] = yield "fill", [(now, place)]
        tried = [now.put(place, _cased(new, whole.words[place])) for new in candidates if new.lower() != whole.words[place].lower()]
        cosines = yield "alike", [(text, str(one)) for one in tried]
        near = [
            (one, round(float(c), DIGITS)) for one, c in zip(tried, cosines, strict=True) if round(float(c), DIGITS) >= attack.similarity
        ]
        near = near[: attack.queries - queries]
        said = yield "ask", [str(one) for one, _ in near]
        queries += len(near)
        if misled := [k for k, p in enumerate(said) if _said(p) != gold]:
            one, cosine = near[max(misled, key=lambda k: (near[k][1], -k))]
            return Found("broken", queries, len(whole.words), marked(whole, one), cosine)
        if near:
            k = min(range(len(near)), key=lambda k: (_right(said[k], gold), k))
            if (left := _right(said[k], gold)) < best:
                now, best = near[k][0], left
    return Found("held", queries, len(whole.words))


def characters(text: str, gold: int, attack: Attack) -> Search:
    """Typing errors in words drawn at random, in more and more of them, until the student errs; the fewest are found first."""
    whole = Words.of(text)
    [first] = yield "ask", [text]
    if _said(first) != gold:
        return Found("wrong", 1, len(whole.words))
    draw, queries, seen = random.Random(stream(attack.seed, "characters", text)), 1, {whole}
    places = [i for i, word in enumerate(whole.words) if len(word) > 2]
    most, total = min(_most(whole, attack), len(places)), attack.queries - 1
    drawn = (_mistyped(whole, draw.sample(places, 1 + number * most // total), draw) for number in range(total) if most)
    fresh = [one for one in drawn if one not in seen and not seen.add(one)]  # type: ignore[func-returns-value]
    for start in range(0, len(fresh), attack.candidates):
        tried = fresh[start : start + attack.candidates]
        said = yield "ask", [str(one) for one in tried]
        queries += len(tried)
        if misled := [one for one, p in zip(tried, said, strict=True) if _said(p) != gold]:
            return Found("broken", queries, len(whole.words), marked(whole, min(misled, key=lambda one: _differ(whole, one))))
    return Found("held", queries, len(whole.words))


SEARCHES: dict[str, Callable[[str, int, Attack], Search]] = {"words": words, "characters": characters}


def _differ(a: Words, b: Words) -> int:
    return sum(x != y for x, y in zip(a.words, b.words, strict=True))


def _most(whole: Words, attack: Attack) -> int:
    return max(1, int(attack.changes * len(whole.words)))


def _said(p: np.ndarray) -> int:
    return int(np.round(p, DIGITS).argmax())


def _right(p: np.ndarray, gold: int) -> float:
    return round(float(p[gold]), DIGITS)


def _cased(new: str, old: str) -> str:
    """A word with the capitals of the one that it replaces."""
    if old.isupper() and len(old) > 1:
        return new.upper()
    return new.capitalize() if old[:1].isupper() else new


def _mistyped(whole: Words, places: Sequence[int], draw: random.Random) -> Words:
    """One letter after the first of each word dropped, doubled, replaced, or changed over with the next."""
    for place in places:
        word = whole.words[place]
        at = draw.randrange(1, len(word))
        what = draw.choice(("drop", "double", "replace", "swap"))
        if what == "drop":
            word = word[:at] + word[at + 1 :]
        elif what == "double":
            word = word[:at] + word[at] + word[at:]
        elif what == "replace":
            word = word[:at] + draw.choice(string.ascii_lowercase) + word[at + 1 :]
        else:
            word = word[: at - 1] + word[at] + word[at - 1] + word[at + 1 :]
        whole = whole.put(place, word)
    return whole
