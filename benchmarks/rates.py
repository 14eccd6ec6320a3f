"""A search of learning rates that goes on until the next one is worse, up and down; what benchmarks share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def best(tried: Mapping[float, float | None]) -> float:
    """The rate of the highest score, the lowest of equals; None is the score of a training that broke down."""
    scores = {rate: score for rate, score in tried.items() if score is not None}
    if not scores:
        raise SystemExit(f"no training at the rates {', '.join(f'{rate:g}' for rate in sorted(tried))} came to its end")
    return min(rate for rate, score in scores.items() if score == max(scores.values()))


def following(tried: Mapping[float, float | None], first: Sequence[float]) -> float | None:
    """The next rate to try, None where the search is over: `first`, then half the lowest or twice the highest while that is best."""
    if rest := [rate for rate in first if rate not in tried]:
        return rest[0]
    top = tried[best(tried)]
    if tried[min(tried)] == top:
        return min(tried) / 2
    return max(tried) * 2 if tried[max(tried)] == top else None
