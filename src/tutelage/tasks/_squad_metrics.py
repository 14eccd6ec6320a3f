"""Exact match and F1 of answers in words, as SQuAD's official scripts have them.

Source: evaluate-v2.0.py of Rajpurkar, Jia, Liang 2018, arXiv:1806.03822. On 1.1 it gives the figures of evaluate-v1.1.py,
but for right answers of articles and punctuation alone, which 2.0 leaves out.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Sequence

ARTICLES = re.compile(r"\b(a|an|the)\b")
PUNCTUATION = frozenset(string.punctuation)
"""Of ASCII alone: quotation marks and dashes beyond it stay."""


def normal(text: str) -> str:
    """The text in lower case, without ASCII punctuation, then without articles, with single blanks."""
    plain = "".join(letter for letter in text.lower() if letter not in PUNCTUATION)
    return " ".join(ARTICLES.sub(" ", plain).split())


def exact(predicted: str, right: str) -> float:
    """1 where both are the same once normal, else 0."""
    return float(normal(predicted) == normal(right))


def f1(predicted: str, right: str) -> float:
    """Harmonic mean of precision and recall over words, each as often as it stands; 1 where both have none, 0 where one has."""
    said, true = normal(predicted).split(), normal(right).split()
    if not said or not true:
        return float(said == true)
    common = sum((Counter(said) & Counter(true)).values())
    return 2 * common / (len(said) + len(true))


def best(measure: Callable[[str, str], float], predicted: str, answers: Sequence[str]) -> float:
    """The measure against the right answer that fits best; against no answer, '', where none has a word."""
    worded = [answer for answer in answers if normal(answer)] or [""]
    return max(measure(predicted, answer) for answer in worded)
