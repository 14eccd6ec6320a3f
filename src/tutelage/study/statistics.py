"""Tests across seeds: scipy and statsmodels compute, and what may be said of few seeds is said.

A difference is of two methods under the same seed, which gives both the same start, order and noise, so tests are paired. All but
`over_seeds_and_rows` and McNemar's test speak of other seeds on the very rows that were tested.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
from scipy import optimize, special, stats

from ..errors import MissingExtra
from ..tasks import _metrics

POWER = 0.8
"""The chance of being found that `detectable` asks for."""
ROUNDING = 1e-12
"""What subtracting two scores may leave of nothing: differences that are no larger are 0, and those no further apart are equal."""


def _without_rounding(values: Sequence[float]) -> tuple[np.ndarray, bool]:
    """Values with 0 for what rounding made of it, and whether they vary by more than rounding."""
    found = np.asarray(values, dtype=float)
    found = np.where(np.abs(found) <= ROUNDING, 0.0, found)
    return found, len(found) > 1 and not (np.ptp(found) <= ROUNDING or _metrics.constant(found))


def mean_interval(values: Sequence[float], level: float = 0.05) -> tuple[float, float]:
    """Student's t interval of a mean that covers 1 - level; NaN for fewer than two values and for values that do not vary."""
    found, vary = _without_rounding(values)
    if not vary:
        return float("nan"), float("nan")
    half = stats.t.isf(level / 2, len(found) - 1) * found.std(ddof=1) / np.sqrt(len(found))
    return float(found.mean() - half), float(found.mean() + half)


def difference(differences: Sequence[float]) -> float:
    """p of a paired t test, two-sided: could the mean of these differences be 0? NaN for fewer than two.

    Differences that do not vary, as of coarse metrics, get the sign test's p.
    """
    found, vary = _without_rounding(differences)
    if len(found) < 2:
        return float("nan")
    if not vary:
        return floor(len(found)) if found[0] else 1.0
    return float(stats.ttest_1samp(found, 0.0).pvalue)


def equivalence(differences: Sequence[float], margin: float) -> float:
    """p of two one-sided t tests (TOST): could the mean lie at or beyond +-margin?

    Source: Schuirmann 1987, by statsmodels. Differences that do not vary get the sign test's p.
    """
    found, vary = _without_rounding(differences)
    if len(found) < 2:
        return float("nan")
    if not vary:
        return floor(len(found)) / 2 if abs(found[0]) < margin - ROUNDING else 1.0
    try:
        from statsmodels.stats.weightstats import DescrStatsW
    except ModuleNotFoundError:
        raise MissingExtra("the tests of a study", "study") from None
    return float(DescrStatsW(found).ttost_mean(-margin, margin)[0])


def beyond(differences: Sequence[float], margin: float) -> float:
    """p of a t test, two-sided, of the nearer end of +-margin: could the mean lie within the margin? NaN for fewer than two.

    It is below a level exactly where the interval of `mean_interval` lies outside the margin. Differences that do not vary get the
    sign test's p.
    """
    found, vary = _without_rounding(differences)
    if len(found) < 2:
        return float("nan")
    if abs(found.mean()) <= margin + ROUNDING:
        return 1.0
    if not vary:
        return floor(len(found))
    return float(stats.ttest_1samp(found, np.copysign(margin, found.mean())).pvalue)


def holm(values: Sequence[float]) -> list[float]:
    """Holm's correction of the p values of one family; NaN, a test that could not be made yet, counts as one of it.

    Source: Holm 1979. Not by statsmodels, whose function collects garbage at every call.
    """
    known = np.nan_to_num(np.asarray(values, dtype=float), nan=1.0)
    order, many = np.argsort(known), len(known)
    steps = np.maximum.accumulate(known[order] * np.arange(many, 0, -1))
    adjusted = np.empty(many)
    adjusted[order] = np.minimum(steps, 1.0)
    return [float(p) if v == v else float("nan") for p, v in zip(adjusted, values, strict=True)]


def effect(differences: Sequence[float]) -> float:
    """Mean over standard deviation of paired differences, without the bias of few: Hedges' g_z.

    Source: Hedges 1981, eq. 6e (the exact factor, by gamma functions). NaN where differences do not vary.
    """
    found, vary = _without_rounding(differences)
    if not vary:
        return float("nan")
    free = len(found) - 1
    factor = np.exp(special.gammaln(free / 2) - special.gammaln((free - 1) / 2)) / np.sqrt(free / 2) if free > 1 else float("nan")
    return float(factor * found.mean() / found.std(ddof=1))


def floor(seeds: int) -> float:
    """The least two-sided p that an exact permutation test of so many paired seeds can give: all signs alike, of 2^seeds."""
    return 2.0 / 2.0**seeds


@functools.cache
def detectable(seeds: int, level: float = 0.05, comparisons: int = 1) -> float:
    """The effect (mean over standard deviation of differences) that a two-sided paired t test finds with a chance of `POWER`.

    Of several comparisons it is the effect found at the first step of Holm, the strictest. Only the effect's own sign counts as found.
    """
    if seeds < 2:
        return float("inf")
    least = stats.t.isf(level / comparisons / 2, seeds - 1)

    def lacking(effect: float) -> float:
        return float(stats.nct.sf(least, seeds - 1, effect * np.sqrt(seeds))) - POWER

    most = 1.0
    while lacking(most) < 0:
        most *= 2
    return float(optimize.brentq(lacking, 0.0, most))


def mcnemar(right: np.ndarray, other: np.ndarray) -> float:
    """Exact p of McNemar's test for two models on the same items (items,) of bool: of these two models, not of their methods."""
    from statsmodels.stats.contingency_tables import mcnemar as test

    table = [[int(np.sum((right == i) & (other == j))) for j in (True, False)] for i in (True, False)]
    return float(test(table, exact=True).pvalue)


def over_seeds_and_rows(values: Sequence[float], draws: np.ndarray, level: float = 0.05) -> tuple[float, float]:
    """Interval of a mean over seeds for other seeds and other rows: half its width is the root of the sum of two squares.

    `values` (seeds,) stand on the rows as they are, `draws` (draws, seeds) on rows drawn for all seeds alike. The squares are of half
    Student's t interval of `values` and of half the normal one that the draws' mean over seeds gives. The luck that a seed has on
    single rows counts in both, so the interval is rather too wide than too narrow; a simulation of three and of five seeds holds it.
    NaN where `mean_interval` is.
    """
    low, high = mean_interval(values, level)
    half = np.hypot((high - low) / 2, stats.norm.isf(level / 2) * draws.mean(1).std(ddof=1))
    return float((low + high) / 2 - half), float((low + high) / 2 + half)


def metric_draws(name: str, examples: Sequence[dict[str, np.ndarray]]) -> np.ndarray | None:
    """A metric of each model on rows drawn for all alike: (draws, models); None where their test items differ."""
    gold = [e.get("gold", np.empty(0)) for e in examples]
    each = [e["each"] for e in examples if "each" in e]
    if any(not np.array_equal(g, gold[0], equal_nan=g.dtype.kind == "f") for g in gold) or len({len(x) for x in each}) > 1:
        return None
    keep = np.ones(len(gold[0]), dtype=bool) if each else labelled(gold[0])
    rows = each[0] if each else gold[0][keep]
    made = _metrics.drawn(name, [e["predicted"][keep] for e in examples if "predicted" in e], rows, each)
    return np.concatenate([np.stack(block, axis=1) for block in made])


def labelled(gold: np.ndarray) -> np.ndarray:
    """(items,) of bool: which items have a label."""
    from ..tasks._task import has_label

    return has_label(gold)
