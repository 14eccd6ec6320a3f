"""Metrics by name, their intervals, and the difference of two models on the same rows.

Single values come from scikit-learn and scipy. Bootstrap draws of the metrics of classes and labels are computed from
counts of true positives, so that 1,000 draws cost milliseconds; a test holds them equal to scikit-learn's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..coref import scores
from ..seeds import stream

if TYPE_CHECKING:
    from ._task import Task

DRAWS = 1000
METRICS = {
    "choice": ("accuracy", "macro_f1", "f1", "mcc"),
    "binary": ("micro_f1", "macro_f1"),
    "value": ("pearson", "spearman", "rmse"),
}
"""Metrics by the kind of rows. All but rmse may select: more is better."""
USUAL = {"choice": ("accuracy", "macro_f1"), "binary": ("micro_f1", "macro_f1"), "value": ("pearson", "spearman", "rmse")}
"""Reported where a task has none of its own; the first selects."""

OF_SUMS = {"conll_f1": scores.conll_of}
"""Metrics of sums over items: (..., columns) to (...)."""


def constant(values: np.ndarray) -> np.ndarray:
    """Whether values (..., items), one item at least, differ by no more than the rounding of their floats; whole numbers by nothing."""
    rounding = 64 * np.finfo(values.dtype).eps if np.issubdtype(values.dtype, np.floating) else 0
    return np.ptp(values, axis=-1) <= rounding * np.abs(values).max(-1)


def measure(name: str, predicted: np.ndarray, gold: np.ndarray) -> float:
    """One metric over labelled rows, at least one.

    accuracy, f1 (of class 1), macro_f1, micro_f1 in [0, 1]; mcc, pearson, spearman in [-1, 1]; rmse in the unit of the
    labels. mcc and correlations are 0 where predictions or labels are all the same.
    """
    if name in ("mcc", "pearson", "spearman") and (constant(predicted) or constant(gold)):
        return 0.0
    if name in ("pearson", "spearman"):
        from scipy import stats

        correlate = stats.pearsonr if name == "pearson" else stats.spearmanr
        return float(correlate(predicted.astype(np.float64), gold.astype(np.float64)).statistic)
    from sklearn import metrics

    if name == "rmse":
        return float(metrics.root_mean_squared_error(gold, predicted))
    if name == "accuracy":
        return float(metrics.accuracy_score(gold, predicted))
    if name == "mcc":
        return float(metrics.matthews_corrcoef(gold, predicted))
    average = {"f1": "binary", "macro_f1": "macro", "micro_f1": "micro"}[name]
    return float(metrics.f1_score(gold.astype(np.int64), predicted, average=average, zero_division=0.0))


def wilson(right: int, of: int, level: float) -> tuple[float, float]:
    """Wilson's interval of a proportion, as scipy computes it."""
    from scipy.stats import binomtest

    found = binomtest(right, of).proportion_ci(level, method="wilson")
    return float(found.low), float(found.high)


def interval(task: Task, predicted: np.ndarray, gold: np.ndarray, *, level: float = 0.95, seed: int = 0) -> dict[str, Any]:
    """Every metric, and an interval for the primary one: Wilson's for accuracy, else a percentile bootstrap over items.

    Items without a label are left out. Source: Wilson 1927 as scipy computes it; Efron and Tibshirani 1993, section 13.3.
    """
    predicted, gold = _labelled(predicted, gold)
    metrics = task.score(predicted, gold)
    if task.primary == "accuracy":
        low, high, method = *wilson(int((predicted == gold).sum()), len(gold), level), "Wilson"
    else:
        draws = np.concatenate([d[0] for d in _draws(task, [predicted], gold, seed)])
        low, high, method = *_percentiles(draws, level), "bootstrap"
    return {
        "metrics": metrics,
        "primary": metrics[task.primary],
        "low": low,
        "high": high,
        "level": level,
        "method": method,
        "rows": len(gold),
    }


def mean_with_interval(each: np.ndarray, *, level: float = 0.95, seed: int = 0) -> dict[str, Any]:
    """A mean over items (items,) with its interval: Wilson's where all are 0 or 1, else a percentile bootstrap over items."""
    if np.isin(each, (0, 1)).all():
        low, high, method = *wilson(int(each.sum()), len(each), level), "Wilson"
    else:
        low, high, method = *_percentiles(np.concatenate([d[0] for d in drawn("", (), each, [each], seed)]), level), "bootstrap"
    return {"value": float(each.mean()), "low": low, "high": high, "level": level, "method": method, "rows": len(each)}


def paired_difference(task: Task, a: np.ndarray, b: np.ndarray, gold: np.ndarray, *, level: float = 0.95, seed: int = 0) -> dict[str, Any]:
    """Primary metric of predictions `a` less that of `b`, with a percentile bootstrap that draws the same items for both.

    The interval tells how sure the difference is for these two models and other rows, not for other training seeds.
    """
    (a, _), (b, gold) = _labelled(a, gold), _labelled(b, gold)
    pairs = list(_draws(task, [a, b], gold, seed))
    low, high = _percentiles(np.concatenate([x - y for x, y in pairs]), level)
    difference = _primary(task, a, gold) - _primary(task, b, gold)
    return {
        "metric": task.primary,
        "difference": difference,
        "low": low,
        "high": high,
        "level": level,
        "rows": len(gold),
        "method": "paired bootstrap",
    }


def _labelled(predicted: np.ndarray, gold: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    from ._task import has_label

    keep = has_label(gold)
    return predicted[keep], gold[keep]


def _percentiles(draws: np.ndarray, level: float) -> tuple[float, float]:
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _primary(task: Task, predicted: np.ndarray, gold: np.ndarray) -> float:
    each = task.each(predicted, gold)
    return task.score(predicted, gold)[task.primary] if each is None else float(each.mean())


def _draws(task: Task, predictions: Sequence[np.ndarray], gold: np.ndarray, seed: int) -> Iterator[list[np.ndarray]]:
    """The primary metric of each prediction on items drawn with replacement, in blocks that add up to `DRAWS`."""
    values = [each for p in predictions if (each := task.each(p, gold)) is not None]
    sums = [] if values else [each for p in predictions if (each := task.sums(p, gold)) is not None]
    return drawn(task.primary, predictions, gold, values or sums, seed)


def drawn(
    name: str, predictions: Sequence[np.ndarray], gold: np.ndarray, values: Sequence[np.ndarray] = (), seed: int = 0
) -> Iterator[list[np.ndarray]]:
    """A metric of each prediction on items drawn with replacement, the same for all, in blocks that add up to `DRAWS`.

    `values` are each prediction's values of the metric by item (items,), where it is their mean, or (items, columns) of whose sums
    `OF_SUMS` makes it.
    """
    rng = np.random.default_rng(stream(seed, "bootstrap"))
    if values:
        for _ in range(0, DRAWS, 10):
            index = rng.integers(len(gold), size=(10, len(gold)))
            picked = [each[index] for each in values]
            yield [p.mean(-1) if p.ndim == 2 else OF_SUMS[name](p.sum(1)) for p in picked]
        return
    if name in METRICS["value"]:
        for _ in range(0, DRAWS, 10):
            index = rng.integers(len(gold), size=(10, len(gold)))
            yield [from_values(name, p[index], gold[index]) for p in predictions]
        return
    # Equal rows are drawn together: how often each kind of row comes up is multinomial.
    width = 1 if gold.ndim == 1 else gold.shape[1]
    rows = np.column_stack([*predictions, gold]).astype(np.int64)
    kinds, counts = np.unique(rows, axis=0, return_counts=True)
    columns = [kinds[:, i * width : (i + 1) * width] for i in range(len(predictions) + 1)]
    if gold.ndim == 1:
        classes = int(rows.max()) + 1
        columns = [np.eye(classes, dtype=np.int64)[c[:, 0]] for c in columns]
    *guesses, truth = columns
    kind = "choice" if gold.ndim == 1 else "binary"
    for _ in range(0, DRAWS, 100):
        weights = rng.multinomial(len(gold), counts / counts.sum(), size=100).astype(np.float64)
        yield [from_counts(name, kind, weights @ (g * truth), weights @ g, weights @ truth) for g in guesses]


def from_values(name: str, predicted: np.ndarray, gold: np.ndarray) -> np.ndarray:
    """A metric of numbers, both (draws, items), as `measure` has it of each draw; gives (draws,)."""
    if name == "rmse":
        return np.sqrt(((predicted.astype(np.float64) - gold) ** 2).mean(-1))
    sides = predicted, gold
    if name == "spearman":
        from scipy.stats import rankdata

        sides = rankdata(predicted, axis=-1), rankdata(gold, axis=-1)
    a, b = (x - x.mean(-1, keepdims=True) for x in (side.astype(np.float64) for side in sides))
    found = _ratio((a * b).sum(-1), np.sqrt((a**2).sum(-1) * (b**2).sum(-1)))
    return np.where(constant(predicted) | constant(gold), 0.0, found)


def from_counts(name: str, kind: str, hits: np.ndarray, said: np.ndarray, true: np.ndarray) -> np.ndarray:
    """A metric of classes or labels from counts by label, each (draws, labels): said and true, said, true; gives (draws,).

    mcc is the form for several classes of Gorodkin 2004. Classes neither said nor true take no part in macro_f1.
    """
    if name in ("accuracy", "mcc"):
        rows, right = true.sum(-1), hits.sum(-1)
        if name == "accuracy":
            return right / rows
        spread = (rows**2 - (said**2).sum(-1)) * (rows**2 - (true**2).sum(-1))
        return _ratio(rows * right - (said * true).sum(-1), np.sqrt(spread))
    total = said + true
    if name == "micro_f1":
        return _ratio(2 * hits.sum(-1), total.sum(-1))
    each = _ratio(2 * hits, total)
    if name == "f1":
        return each[:, 1]
    return each.sum(-1) / (np.maximum((total > 0).sum(-1), 1) if kind == "choice" else each.shape[-1])


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    return np.divide(above, below, out=np.zeros_like(below), where=below > 0)
