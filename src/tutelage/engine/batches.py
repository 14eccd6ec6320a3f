"""Which rows make which batch: by length, by seed, different each epoch; and batches that never change."""

from __future__ import annotations

import numpy as np

from ..seeds import stream


def epoch(lengths: np.ndarray, size: int, *, bucket: int, seed: int, number: int) -> list[np.ndarray]:
    """The batches of one epoch: every row once, `size` rows each, the last one found may be smaller.

    Rows are shuffled; each run of `bucket` batches is sorted by length and cut, so that a batch holds rows of nearly one
    length; then the batches are shuffled. `bucket` 0 only shuffles. The same seed and number give the same batches.
    """
    draw = np.random.default_rng(stream(seed, "order", number))
    order = draw.permutation(len(lengths))
    pool = size * bucket
    if pool:
        pools = [order[i : i + pool] for i in range(0, len(order), pool)]
        order = np.concatenate([p[np.argsort(lengths[p], kind="stable")] for p in pools]) if pools else order
    batches = [order[i : i + size] for i in range(0, len(order), size)]
    return [batches[i] for i in draw.permutation(len(batches))] if pool else batches


def split(rows: np.ndarray, processes: int, rank: int, micro: int | None) -> list[np.ndarray]:
    """This process's share of an optimizer step's rows, in forward passes of at most `micro` rows; may be empty."""
    mine = np.array_split(rows, processes)[rank]
    return [mine[i : i + (micro or len(mine))] for i in range(0, len(mine), micro or max(1, len(mine)))]


def canonical(lengths: np.ndarray, tokens: int = 2048) -> list[np.ndarray]:
    """Batches for inference that depend on the lengths alone: sorted, longest first, at most `tokens` padded cells each."""
    order = np.argsort(-lengths, kind="stable")
    out, start = [], 0
    while start < len(order):
        size = max(1, tokens // max(1, int(lengths[order[start]])))
        out.append(order[start : start + size])
        start += size
    return out
