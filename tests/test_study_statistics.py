"""A study's tests against scipy, statsmodels and figures by hand, and against pure noise."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats import contingency_tables, multitest, power, weightstats

from tutelage.study import statistics

GAPS = [0.02, 0.01, 0.03, -0.01, 0.02]


def test_the_interval_and_p_are_those_by_hand():
    mean, spread = 0.014, math.sqrt(sum((g - 0.014) ** 2 for g in GAPS) / 4)
    half = 2.7764451051977987 * spread / math.sqrt(5)  # t of 4 degrees of freedom, 97.5 %
    assert statistics.mean_interval(GAPS) == pytest.approx((mean - half, mean + half))
    t = mean / (spread / math.sqrt(5))
    assert statistics.difference(GAPS) == pytest.approx(2 * stats.t.sf(t, 4)) == pytest.approx(stats.ttest_rel(GAPS, [0] * 5).pvalue)
    assert statistics.effect(GAPS) == pytest.approx(mean / spread * math.gamma(2) / (math.sqrt(2) * math.gamma(1.5)))


def test_equivalence_is_statsmodels_paired_tost_and_two_tests_by_hand():
    a, b = np.array([0.8, 0.81, 0.79, 0.805, 0.8]), np.array([0.798, 0.813, 0.788, 0.8, 0.803])
    p = statistics.equivalence(a - b, 0.01)
    assert p == pytest.approx(weightstats.ttost_paired(a, b, -0.01, 0.01)[0])
    error = stats.sem(a - b)
    by_hand = max(stats.t.sf(((a - b).mean() + 0.01) / error, 4), stats.t.cdf(((a - b).mean() - 0.01) / error, 4))
    assert p == pytest.approx(by_hand) and p < 0.05 < statistics.equivalence(a - b, 0.002)


def test_holm_is_the_step_down_by_hand_and_counts_tests_that_are_missing():
    assert statistics.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    found = statistics.holm([0.01, math.nan, 0.03])
    assert found[::2] == pytest.approx([0.03, 0.06]) and math.isnan(found[1]) and statistics.holm([]) == []
    many = np.random.default_rng(0).random(12)
    assert statistics.holm(many) == pytest.approx(multitest.multipletests(many, method="holm")[1].tolist())


def test_five_paired_seeds_cannot_go_below_a_sixteenth_in_a_permutation_test():
    assert statistics.floor(5) == 0.0625
    signs = itertools.product((1, -1), repeat=5)
    best = [1.0, 2.0, 3.0, 4.0, 5.0]
    assert sum(abs(sum(s * x for s, x in zip(way, best, strict=True))) >= sum(best) for way in signs) / 32 == statistics.floor(5)
    exact = stats.permutation_test((best,), np.mean, permutation_type="samples", n_resamples=np.inf)
    assert exact.pvalue == statistics.floor(5)
    assert power.TTestPower().power(statistics.detectable(5), 5, 0.05) == pytest.approx(0.8) and statistics.detectable(1) == math.inf


def test_few_seeds_and_seeds_that_do_not_vary_claim_little():
    assert all(math.isnan(f([0.1])) for f in (statistics.difference, statistics.effect)) and math.isnan(statistics.equivalence([0.1], 1))
    assert statistics.difference([0.1] * 5) == 0.0625 and statistics.difference([0.0] * 5) == 1.0
    assert statistics.equivalence([0.001] * 5, 0.01) == 1 / 32 and statistics.equivalence([0.02] * 5, 0.01) == 1.0
    assert all(map(math.isnan, statistics.mean_interval([0.1, 0.1])))


def test_mcnemar_is_the_binomial_test_of_what_only_one_of_two_models_gets_right():
    right, other = np.array([1] * 30 + [1] * 9 + [0] * 2 + [0] * 9, bool), np.array([1] * 30 + [0] * 9 + [1] * 2 + [0] * 9, bool)
    assert statistics.mcnemar(right, other) == pytest.approx(stats.binomtest(2, 11).pvalue)
    assert statistics.mcnemar(right, other) == pytest.approx(contingency_tables.mcnemar([[30, 9], [2, 9]], exact=True).pvalue)


def test_the_bootstrap_draws_the_same_rows_for_all_and_has_the_spread_of_both_layers():
    draw = np.random.default_rng(1)
    gold = draw.integers(2, size=400)
    one = {"predicted": np.where(draw.random(400) < 0.8, gold, 1 - gold), "gold": gold}
    same = statistics.metric_draws("accuracy", [one, one])
    assert same.shape == (1000, 2) and (same[:, 0] == same[:, 1]).all()
    p = (one["predicted"] == gold).mean()
    assert same[:, 0].std() == pytest.approx(math.sqrt(p * (1 - p) / 400), rel=0.1)
    each = statistics.metric_draws("accuracy", [{"each": (one["predicted"] == gold).astype(float)}])
    assert each.std() == pytest.approx(same[:, 0].std(), rel=0.1)
    assert statistics.metric_draws("accuracy", [one, {**one, "gold": 1 - gold}]) is None, "other items"
    seeds = draw.normal(0, 1, 5)
    low, high = statistics.over_seeds(np.tile(seeds, (20000, 1)))
    drawn = [np.mean(x) for x in itertools.product(seeds, repeat=5)]
    assert (low, high) == pytest.approx(np.quantile(drawn, [0.025, 0.975]), abs=0.05)


def test_a_percentile_bootstrap_over_five_seeds_covers_about_84_per_cent_and_student_s_t_95():
    draw, many = np.random.default_rng(2), 1500
    t = boot = 0
    for _ in range(many):
        seeds = draw.normal(0, 1, 5)
        low, high = statistics.mean_interval(seeds)
        t += low <= 0 <= high
        low, high = statistics.over_seeds(np.tile(seeds, (400, 1)))
        boot += low <= 0 <= high
    assert t / many == pytest.approx(0.95, abs=0.018) and boot / many == pytest.approx(0.84, abs=0.03)
