"""From the grids of all queries to clusters, by the symmetrised scores: average-link merging, or each mention's best antecedent.

Merging joins two clusters while the mean score between their mentions is above the threshold, the best pair first. Such a pair of
clusters has a pair of mentions above the threshold, so mentions that no chain of such pairs connects are never joined, and only the
scores within connected parts are ever held; memory stays linear while parts stay small.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from .documents import Clusters, Span
from .grid import CELLS, Factors, known, proposals, scores


@dataclasses.dataclass(frozen=True)
class Found:
    """What one document's grids say."""

    clusters: Clusters
    proposed: tuple[Span, ...]
    """The spans that were asked about."""
    mentions: dict[Span, float]
    """The null query's score of each mention in a cluster."""


def at_thresholds(
    f: Factors,
    thresholds: Sequence[float],
    *,
    share: float = 0.3,
    singletons: bool = False,
    given: Tensor | None = None,
    best: bool = False,
) -> list[Found]:
    """At each threshold, clusters of a document's proposed spans, or of the `given` ones (spans, 2), by merging or by `best` antecedents.

    With `singletons`, a proposed span in no cluster whose mention score is above 0 is a cluster of its own, and a given one always.
    """
    with torch.no_grad():
        spans = proposals(f.mentions, share) if given is None else given
        value = known(f, spans).cpu().numpy()
        labels = chained(*_antecedents(f, spans), thresholds) if best else _joined(f, spans, thresholds)
    alone = math.inf if not singletons else 0.0 if given is None else -math.inf
    return [grouped(value, spans, one, alone) for one in labels]


def grouped(value: np.ndarray, spans: Tensor, labels: np.ndarray, alone: float = math.inf) -> Found:
    """Spans (spans, 2) with their scores as mentions by the number of their cluster; one that is alone in it is kept where its score is
    above `alone`."""
    places = [(int(first), int(last)) for first, last in spans.tolist()]
    many: dict[int, list[Span]] = {}
    for place, label in zip(places, labels, strict=True):
        many.setdefault(int(label), []).append(place)
    score_of = dict(zip(places, map(float, value), strict=True))
    clusters = tuple(sorted(tuple(sorted(c)) for c in many.values() if len(c) > 1 or score_of[c[0]] > alone))
    return Found(clusters, tuple(places), {span: score_of[span] for c in clusters for span in c})


def symmetric(f: Factors, some: Tensor, others: Tensor) -> Tensor:
    """(some, others): the mean of what either says of the other."""
    given = scores(f, some, others)
    return (given + (given if some is others else scores(f, others, some)).T) / 2


def _joined(f: Factors, spans: Tensor, thresholds: Sequence[float]) -> list[np.ndarray]:
    """(spans,) of cluster numbers for each threshold; a part is what the least one connects.

    Where one tile holds the scores of all spans it is kept, else those within a part are made anew.
    """
    n, least = len(spans), min(thresholds)
    found, whole = [(np.empty(0, dtype=np.int64),) * 2], None
    for start, block in _later(f, spans):
        high = (block > least).triu(1).nonzero().cpu().numpy() + start
        found.append((high[:, 0], high[:, 1]))
        whole = block.cpu().numpy() if len(block) == n else None
    one, two = map(np.concatenate, zip(*found, strict=True))
    _, part = connected_components(coo_array((np.ones(len(one)), (one, two)), shape=(n, n)), directed=False)
    labels = [np.arange(n) for _ in thresholds]
    for number in np.flatnonzero(np.bincount(part, minlength=1) > 1):
        mine = np.flatnonzero(part == number)
        rows = _rows(f, spans[mine]) if whole is None else (whole[one, mine[i:]] for i, one in enumerate(mine, 1))
        far = np.empty(len(mine) * (len(mine) - 1) // 2)
        at = 0
        for row in rows:
            far[at : at + len(row)] = row
            at += len(row)
        top = far.max()
        np.subtract(top, far, out=far)
        tree = linkage(far, "average")
        for own, threshold in zip(labels, thresholds, strict=True):
            if threshold < top:
                own[mine] = mine[0] + n * fcluster(tree, top - threshold, "distance")
    return labels


def _antecedents(f: Factors, spans: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """(spans,) of the best score among the spans before each, and which one has it; -inf and 0 for the first."""
    top, best = torch.full((len(spans),), -math.inf), torch.zeros(len(spans), dtype=torch.long)
    for start, block in _later(f, spans):
        before = torch.ones_like(block, dtype=torch.bool).triu(1)
        value, at = (x.cpu() for x in block.masked_fill(~before, -math.inf).max(0))
        better = value > top[start:]
        top[start:], best[start:] = torch.where(better, value, top[start:]), torch.where(better, at + start, best[start:])
    return top.numpy(), best.numpy()


def chained(top: np.ndarray, best: np.ndarray, thresholds: Sequence[float]) -> list[np.ndarray]:
    """(spans,) of cluster numbers for each threshold: a span joins `best`, one before it, where `top`, that one's score, is above."""
    out = []
    for threshold in thresholds:
        labels = np.arange(len(top))
        for i in np.flatnonzero(top > threshold):
            labels[i] = labels[best[i]]
        out.append(labels)
    return out


def _later(f: Factors, spans: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Tile by tile, the number of a tile's first span, and what its spans and all from it on say of each other."""
    size = max(1, CELLS // max(len(spans), 1))
    for start in range(0, len(spans), size):
        rest = spans[start:]
        yield start, symmetric(f, rest if len(rest) <= size else rest[:size], rest)


def _rows(f: Factors, spans: Tensor) -> Iterator[np.ndarray]:
    """What each span and all behind it say of each other."""
    for _, block in _later(f, spans):
        for i, row in enumerate(block.cpu().numpy(), 1):
            yield row[i:]
