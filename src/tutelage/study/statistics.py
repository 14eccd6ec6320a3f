"""Tests across seeds: scipy and statsmodels compute, and what may be said of few seeds is said.

A difference is of two methods under the same seed, which gives both the same start, order and noise, so tests are paired.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
from scipy import special, stats

from ..errors import MissingExtra
from ..seeds import stream
from ..tasks import _metrics

POWER = 0.8
"""The chance of being found that `detectable` asks for."""


def mean_interval(values: Sequence[float], level: float = 0.05) -> tuple[float, float]:
    """Student's t interval of a mean that covers 1 - level; NaN for fewer than two values and for values that do not vary."""
    if len(values) < 2 or np.ptp(values) == 0:
        return float("nan"), float("nan")
    found = stats.ttest_1samp(values, 0.0).confidence_interval(1 - level)
    return float(found.low), float(found.high)


def difference(differences: Sequence[float]) -> float:
    """p of a paired t test, two-sided: could the mean of these differences be 0? NaN for fewer than two.

    Differences that do not vary, as of coarse metrics, get the sign test's p.
    """
    if len(differences) < 2:
        return float("nan")
    if np.ptp(differences) == 0:
        return floor(len(differences)) if differences[0] else 1.0
    return float(stats.ttest_1samp(differences, 0.0).pvalue)


def equivalence(differences: Sequence[float], margin: float) -> float:
    """p of two one-sided t tests (TOST): could the mean lie at or beyond +-margin?

    Source: Schuirmann 1987, by statsmodels. Differences that do not vary get the sign test's p.
    """
    if len(differences) < 2:
        return float("nan")
    if np.ptp(differences) == 0:
        return floor(len(differences)) / 2 if abs(differences[0]) < margin else 1.0
    try:
        from statsmodels.stats.weightstats import DescrStatsW
    except ModuleNotFoundError:
        raise MissingExtra("the tests of a study", "study") from None
    return float(DescrStatsW(np.asarray(differences)).ttost_mean(-margin, margin)[0])


def holm(values: Sequence[float]) -> list[float]:
    """Holm's correction of the p values of one family; NaN, a test that could not be made yet, counts as one of it."""
    if not len(values):
        return []
    try:
        from statsmodels.stats.multitest import multipletests
    except ModuleNotFoundError:
        raise MissingExtra("the tests of a study", "study") from None
    known = np.nan_to_num(np.asarray(values, dtype=float), nan=1.0)
    return [float(p) if v == v else float("nan") for p, v in zip(multipletests(known, method="holm")[1], values, strict=True)]


def effect(differences: Sequence[float]) -> float:
    """Mean over standard deviation of paired differences, without the bias of few: Hedges' g_z.

    Source: Hedges 1981, eq. 6e (the exact factor, by gamma functions). NaN where differences do not vary.
    """
    spread = float(np.std(differences, ddof=1)) if len(differences) > 1 else 0.0
    if spread == 0:
        return float("nan")
    free = len(differences) - 1
    factor = np.exp(special.gammaln(free / 2) - special.gammaln((free - 1) / 2)) / np.sqrt(free / 2) if free > 1 else float("nan")
    return float(factor * np.mean(differences) / spread)


def floor(seeds: int) -> float:
    """The least two-sided p that an exact permutation test of so many paired seeds can give: all signs alike, of 2^seeds."""
    return 2.0 / 2.0**seeds


def detectable(seeds: int, level: float = 0.05) -> float:
    """The effect (mean over standard deviation of differences) that a two-sided paired t test finds with a chance of `POWER`."""
    if seeds < 2:
        return float("inf")
    from statsmodels.stats.power import TTestPower

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return float(TTestPower().solve_power(nobs=seeds, alpha=level, power=POWER, alternative="two-sided"))


def mcnemar(right: np.ndarray, other: np.ndarray) -> float:
    """Exact p of McNemar's test for two models on the same items (items,) of bool: of these two models, not of their methods."""
    from statsmodels.stats.contingency_tables import mcnemar as test

    table = [[int(np.sum((right == i) & (other == j))) for j in (True, False)] for i in (True, False)]
    return float(test(table, exact=True).pvalue)


def over_seeds(draws: np.ndarray, level: float = 0.05) -> tuple[float, float]:
    """Percentile interval of a mean over seeds; `draws` (draws, seeds) are each seed's values on rows drawn for all seeds alike.

    Seeds are drawn too. Over five seeds such an interval covers about 84 % where seeds vary more than rows: the t interval is
    the one for claims on methods; this one adds the rows.
    """
    rng = np.random.default_rng(stream(0, "seeds"))
    index = rng.integers(draws.shape[1], size=draws.shape)
    low, high = np.quantile(np.take_along_axis(draws, index, axis=1).mean(1), [level / 2, 1 - level / 2])
    return float(low), float(high)


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
