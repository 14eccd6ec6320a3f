"""What a search finds, and how a list by words and a list by vectors become one.

Reciprocal rank fusion (Cormack, Clarke, Büttcher 2009): the sum over the lists of weight / (k + rank).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from ..config import Count, NonNegative, Share, settings


@settings
class Fusion:
    """How the two lists become one; k 60 and equal weights are the source's, the defaults were better on HAGRID's training questions."""

    k: NonNegative = 1.0
    """Added to each rank: the larger, the less the first ranks stand out."""
    depth: Count = 100
    """Length of each list that is fused."""
    vector: Share = 0.75
    """Weight of the list by vectors; that of the list by words is 1 less it."""


@dataclasses.dataclass(frozen=True)
class Hit:
    """A passage found. `score` is BM25, the cosine, or the fused one; ranks count from 1, None where a list does not hold it."""

    docid: str
    title: str
    text: str
    score: float
    text_rank: int | None = None
    vector_rank: int | None = None


def fused(words: Sequence[Hit], meant: Sequence[Hit], fusion: Fusion) -> list[Hit]:
    """A list by words and one by vectors as one: best first, equal ones by docid. A list of weight 0 adds no passages."""
    ranks = [{hit.docid: rank for rank, hit in enumerate(hits[: fusion.depth], 1)} for hits in (words, meant)]
    out = []
    for docid, hit in {hit.docid: hit for hit in (*words[: fusion.depth], *meant[: fusion.depth])}.items():
        text, vector = (mine.get(docid) for mine in ranks)
        score = sum(weight / (fusion.k + rank) for weight, rank in ((1 - fusion.vector, text), (fusion.vector, vector)) if rank)
        if score:
            out.append(dataclasses.replace(hit, score=score, text_rank=text, vector_rank=vector))
    return sorted(out, key=lambda hit: (-hit.score, hit.docid))
