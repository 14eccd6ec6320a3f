"""Links by distance: how well mentions that stand far apart are found to be one entity."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from .documents import Document, Span
from .scores import pairs

EDGES = (0, 32, 128, 512, 2048)
"""Where bins begin, in words from the first word of one mention to that of the other; the last has no end."""


def links(key: Sequence[Document], response: Sequence[Document], edges: Sequence[int] = EDGES) -> list[dict[str, Any]]:
    """By bin of distance: links of the key, of the response and of both, with recall, precision and F1 (None without links to divide by).

    A link is a pair of mentions of one cluster, all pairs of a cluster counting; singletons have none. Raises DataError as `pairs` does.
    """
    counts = np.zeros((3, len(edges)), dtype=np.int64)
    for mine, its in pairs(key, response):
        place = {span: number for number, cluster in enumerate(its.clusters or ()) for span in cluster}
        shared: dict[tuple[int, int], list[Span]] = {}
        for number, cluster in enumerate(mine.clusters or ()):
            for span in cluster:
                if span in place:
                    shared.setdefault((number, place[span]), []).append(span)
        sides: tuple[Iterable[Sequence[Span]], ...] = (mine.clusters or (), its.clusters or (), shared.values())
        for row, clusters in enumerate(sides):
            counts[row] += sum((_apart(cluster, edges) for cluster in clusters), np.zeros(len(edges), dtype=np.int64))
    out = []
    for i, start in enumerate(edges):
        of_key, of_response, both = counts[:, i].tolist()
        recall, precision = (both / n if n else None for n in (of_key, of_response))
        total = of_key + of_response
        end = edges[i + 1] - 1 if i + 1 < len(edges) else None
        found = {"from": start, "to": end, "key": of_key, "response": of_response, "both": both, "recall": recall, "precision": precision}
        out.append({**found, "f1": 2 * both / total if total else None})
    return out


def _apart(cluster: Sequence[Span], edges: Sequence[int]) -> np.ndarray:
    """(bins,) how many pairs of a cluster's mentions stand how far apart."""
    firsts = np.array(sorted(first for first, _ in cluster))
    far = np.subtract.outer(firsts, firsts)[np.tril_indices(len(firsts), -1)]
    return np.bincount(np.searchsorted(edges, far, side="right") - 1, minlength=len(edges))
