"""A judge of attribution without a model: how many of a statement's words occur in what it cites.

ROC-AUC 0.868 on HAGRID's segments (docs/results.md). It knows nothing of meaning, of negation, or of names that were exchanged.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from typing import Literal

import numpy as np
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

from ..cited import citations

WORD = re.compile(r"\w+", re.UNICODE)
Join = Literal["min", "mean", "max", "all"]


def tokens(text: str) -> list[str]:
    """The words of a text in lower case, in order."""
    return [w.casefold() for w in WORD.findall(text)]


@functools.lru_cache(maxsize=4096)
def words(text: str, content: bool = True) -> frozenset[str]:
    """The distinct words of a text in lower case, without its citations; `content` leaves out scikit-learn's English stop words."""
    found = set(tokens(citations.without(text)))
    return frozenset(found - ENGLISH_STOP_WORDS) if content and found - ENGLISH_STOP_WORDS else frozenset(found)


def overlap(statement: str, source: str, *, content: bool = True) -> float:
    """The share of the statement's words that the source has, in [0, 1]; 0 for a statement without words."""
    mine = words(statement, content)
    return len(mine & words(source, content)) / len(mine) if mine else 0.0


def attribution(statement: str, sources: Sequence[str], *, join: Join = "min", content: bool = True) -> float:
    """How far what a statement cites supports it: the least (`min`), mean or largest (`max`) overlap with a source, or with all sources
    as one text (`all`). 0 where nothing is cited."""
    if not sources:
        return 0.0
    if join == "all":
        return overlap(statement, "\n".join(sources), content=content)
    each = [overlap(statement, source, content=content) for source in sources]
    return min(each) if join == "min" else max(each) if join == "max" else sum(each) / len(each)


class Lexical:
    """The judge of `scores`: overlap of content words with the supporting text."""

    name = "lexical overlap of content words"
    threshold = 0.65
    """Above it a text counts as supporting; chosen on one part of HAGRID's development set (benchmarks/attribution.py)."""

    def support(self, pairs: Sequence[tuple[str, str]]) -> np.ndarray:
        return np.array([overlap(statement, source) for source, statement in pairs])
