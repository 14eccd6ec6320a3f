"""Raw text as sentences and words with exact offsets, by a few rules for English.

Words are those of OntoNotes, which coreference models are trained on: "don't" is "do" and "n't", a possessive "'s" is a word, words
with hyphens are taken apart except after prefixes, and numbers, abbreviations, addresses of the web and emoji are kept whole. It takes
time in proportion to the text, whatever that holds.
Sentences end at a full stop, question or exclamation mark with the quotes and brackets that close behind it, where what follows looks
like a beginning and what stands before is no abbreviation; and at empty lines.

Libraries were looked at: NLTK's sentence splitter wants a download and its word splitter rewrites quotes; spaCy brings a pipeline and
its packages for what are these rules. Text of other languages comes apart at white space and punctuation.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np

_APOSTROPHE = "['\N{RIGHT SINGLE QUOTATION MARK}]"
_LETTER = "(?:[^\\W\\d_]|[\u0300-\u036f])"
_PREFIX = (
    "anti|co|counter|cross|e|ex|inter|intra|macro|mega|micro|mid|mini|multi|neo|non|over|pan|post|pre|pro|quasi|re|semi|sub|super|trans|"
    "ultra|un|under|vice"
)
_EMOJI = "\U0001f000-\U0001faff\u2190-\u2bff"
_WORD = re.compile(
    rf"""
      (?:https?://|www\.)[^\s<>"]*[\w/]                       # an address of the web
    | [\w.+-]{{1,64}}@[\w-]+(?:\.[\w-]+)+                     # of mail, its name as long as it may be
    | [a-z0-9]+(?:\.[a-z]{{2,}})+\b                          # a name of the web
    | [#@]\w+
    | Ph\.D\. | (?:{_LETTER}\.){{2,}}                        # U.S., e.g.
    | \.?\d+(?:[.,:/]\d+)*(?:(?:st|nd|rd|th|s|%)\b)?         # 1,000.50, 7:30, 1/2, 3rd
    | (?:{_PREFIX})-{_LETTER}+
    | {_LETTER}(?:{_LETTER}|\d)*(?:{_APOSTROPHE}{_LETTER}+)* # a word; contractions come apart below
    | {_APOSTROPHE}(?:s|m|d|re|ve|ll|em|tis|twas)\b
    | [{_EMOJI}][{_EMOJI}\ufe0f\u200d\u20e3\U000e0020-\U000e007f]*
    | \.{{2,}} | -{{2,}} | `` | '' | [!?]+ | _+
    | \S
    """,
    re.X | re.I,
)
_CONTRACTION = re.compile(rf"n{_APOSTROPHE}t$|{_APOSTROPHE}(?:s|m|d|re|ve|ll)?$", re.I)
_TWO_WORDS = {"cannot": 3, "gonna": 3, "wanna": 3, "gotta": 3}
"""Words that are two, and where the second begins."""


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


_ABBREVIATIONS = _set(
    "mr mrs ms dr prof st gen col capt lt sgt maj cpl gov sen rep rev hon mlle mme messrs vs ed eds cf eg ie ca approx dept univ "
    "mt etc al jr sr inc corp co ltd bros esq"
)
_MAY_END = frozenset(f"{word}." for word in _set("etc al jr sr inc corp co ltd bros esq a.m p.m"))
_BEFORE_NUMBERS = _set("c no nos vol fig figs eq eqs sec ch pp p jan feb mar apr jun jul aug sep sept oct nov dec")
_ENDS = re.compile(r"[.!?\N{HORIZONTAL ELLIPSIS}]+")
_OPENING = re.compile("[\"'(\\[{`*_#\N{LEFT DOUBLE QUOTATION MARK}\N{LEFT SINGLE QUOTATION MARK}\N{EM DASH}\N{EN DASH}-]*+(.)", re.S)
_GOES_ON = frozenset(".,;:!?)]}%\N{HORIZONTAL ELLIPSIS}\N{RIGHT DOUBLE QUOTATION MARK}")
_AFTER_BLANKS = re.compile(r"\s+(\S)")
_CLOSING = frozenset("\"'\N{RIGHT DOUBLE QUOTATION MARK}\N{RIGHT SINGLE QUOTATION MARK})]}") | {"''"}


def split(text: str) -> tuple[list[list[str]], np.ndarray]:
    """Sentences of words, and where each word stands: (words, 2) characters, ends exclusive. White space has none."""
    spans = list(_words(text))
    sentences: list[list[str]] = []
    for i, (begin, end) in enumerate(spans):
        if not i or _begins(text, spans, i):
            sentences.append([])
        sentences[-1].append(text[begin:end])
    return sentences, np.array(spans, dtype=np.int64).reshape(len(spans), 2)


def begins(text: str) -> set[int]:
    """The characters at which the sentences of a text begin."""
    spans = list(_words(text))
    return {spans[i][0] for i in range(len(spans)) if not i or _begins(text, spans, i)}


def _words(text: str) -> Iterator[tuple[int, int]]:
    place = 0
    for found in _WORD.finditer(text):
        begin, end = found.span()
        if begin < place:
            continue
        word = found[0]
        if text[end : end + 1] == "." and _abbreviated(word, text, end + 1):
            yield begin, end + 1
            place = end + 1
        elif word.lower() in _TWO_WORDS:
            yield begin, begin + _TWO_WORDS[word.lower()]
            yield begin + _TWO_WORDS[word.lower()], end
        elif (tail := _CONTRACTION.search(word)) and tail.start():
            yield begin, begin + tail.start()
            yield begin + tail.start(), end
        else:
            yield begin, end


def _abbreviated(word: str, text: str, place: int) -> bool:
    """Whether the full stop behind a word is part of it, by what follows at this place of the text."""
    if word.lower() in _ABBREVIATIONS:
        return True
    initial = len(word) == 1 and word.isupper() and word != "I"
    if not initial and word.lower() not in _BEFORE_NUMBERS:
        return False
    follows = _AFTER_BLANKS.match(text, place)
    return follows is not None and ((initial and follows[1].isupper()) or (word.lower() in _BEFORE_NUMBERS and follows[1].isdigit()))


def _begins(text: str, spans: list[tuple[int, int]], i: int) -> bool:
    """Whether a sentence begins with word `i`, which is not the first."""
    begin, before = spans[i][0], spans[i - 1][1]
    if text[before:begin].count("\n") > 1:
        return True
    if begin == before or not _opens(text, begin):
        return False
    last = i - 1
    while last and text[slice(*spans[last])] in _CLOSING and spans[last][0] == spans[last - 1][1]:
        last -= 1
    word = text[slice(*spans[last])]
    whole = len(word) > 1 and not _ENDS.fullmatch(word)
    return word.lower() in _MAY_END if whole else bool(_ENDS.match(word))


def _opens(text: str, place: int) -> bool:
    """Whether what begins at this place looks like a sentence: signs that open, then no small letter and no sign that goes on."""
    start = _OPENING.match(text, place)
    return start is not None and not start[1].islower() and start[1] not in _GOES_ON
