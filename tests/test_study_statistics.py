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


def test_what_can_be_detected_is_statsmodels_power_and_with_few_seeds_that_of_a_t_test_by_simulation():
    assert power.TTestPower().power(statistics.detectable(5), 5, 0.05) == pytest.approx(0.8) and statistics.detectable(1) == math.inf
    assert power.TTestPower().power(statistics.detectable(5, 0.05, 8), 5, 0.05 / 8) == pytest.approx(0.8)
    effect, draws = statistics.detectable(3, 0.05, 4), np.random.default_rng(5).normal(size=(20000, 3))
    assert effect == pytest.approx(6.55, abs=0.01)  # statsmodels' search stops at 5.0 here
    found = stats.ttest_1samp(draws + effect, 0.0, axis=1).pvalue < 0.05 / 4
    assert found.mean() == pytest.approx(0.8, abs=0.012)


def test_few_seeds_and_seeds_that_do_not_vary_claim_little():
    assert all(math.isnan(f([0.1])) for f in (statistics.difference, statistics.effect)) and math.isnan(statistics.equivalence([0.1], 1))
    assert statistics.difference([0.1] * 5) == 0.0625 and statistics.difference([0.0] * 5) == 1.0
    assert statistics.equivalence([0.001] * 5, 0.01) == 1 / 32 and statistics.equivalence([0.02] * 5, 0.01) == 1.0
    assert all(map(math.isnan, statistics.mean_interval([0.1, 0.1])))


@pytest.mark.parametrize("right", [(487, 503, 480, 511, 499), (0, 100, 313, 700, 793)])
def test_ten_more_right_of_803_under_five_seeds_are_one_difference_whatever_rounding_leaves_of_it(right):
    gaps = [(n + 10) / 803 - n / 803 for n in right]
    assert 0 < np.ptp(gaps) < 1e-15
    assert statistics.difference(gaps) == 0.0625 and statistics.difference([-g for g in gaps]) == 0.0625
    assert statistics.equivalence(gaps, 0.02) == 0.03125 and statistics.equivalence(gaps, 10 / 803) == 1.0
    assert statistics.beyond(gaps, 0.01) == 0.0625 and statistics.beyond(gaps, 10 / 803) == 1.0
    assert math.isnan(statistics.effect(gaps)) and all(map(math.isnan, statistics.mean_interval(gaps)))
    assert all(map(math.isnan, statistics.over_seeds_and_rows(gaps, np.zeros((9, 5)))))
    nothing = [0.1 + 0.2 - 0.3, 0.0, 0.3 - 0.1 - 0.2, 0.0, 0.0]
    assert max(nothing) > 0 and statistics.difference(nothing) == 1.0 and math.isnan(statistics.effect(nothing))


def test_differences_that_vary_a_little_are_tested():
    gaps = [0.01, 0.01 + 1e-9, 0.01 + 2e-9]
    assert statistics.difference(gaps) == pytest.approx(stats.ttest_1samp(gaps, 0.0).pvalue)
    assert statistics.effect(gaps) > 1e6


def test_a_difference_beyond_a_margin_is_found_exactly_where_the_interval_lies_outside():
    for gaps, margin in itertools.product((GAPS, [-g for g in GAPS], [0.03, 0.034, 0.031, 0.033, 0.029]), (0.001, 0.01, 0.02, 0.028)):
        low, high = statistics.mean_interval(gaps)
        assert (statistics.beyond(gaps, margin) < 0.05) == (low > margin or high < -margin)
    error, mean = stats.sem(GAPS), np.mean(GAPS)
    assert statistics.beyond(GAPS, 0.005) == pytest.approx(2 * stats.t.sf((mean - 0.005) / error, 4))


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


def test_the_interval_over_seeds_and_rows_adds_the_squares_of_both_halves():
    draws = np.random.default_rng(3).normal(0.014, 0.01, (400, 5))
    low, high = statistics.mean_interval(GAPS)
    half = math.hypot((high - low) / 2, 1.959964 * draws.mean(1).std(ddof=1))
    assert statistics.over_seeds_and_rows(GAPS, draws) == pytest.approx((0.014 - half, 0.014 + half))
    assert all(map(math.isnan, statistics.over_seeds_and_rows([0.1], draws[:, :1])))


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [3, 5])
@pytest.mark.parametrize(("by_seed", "by_row", "luck"), [(0.02, 0.0, 0.2), (0.02, 0.2, 0.2), (0.0, 0.3, 0.3), (0.005, 0.3, 0.0)])
def test_intervals_of_three_and_five_seeds_cover_what_they_say(seeds, by_seed, by_row, luck):
    """Differences of two methods: a part of the seed, a part of the row, and luck of a seed on a row, whose true mean is 0."""
    draw, rows, many = np.random.default_rng(11), 200, 1200
    fixed = both = 0
    for _ in range(many):
        parts = by_row * draw.normal(size=rows)
        block = by_seed * draw.normal(size=(seeds, 1)) + parts + luck * draw.normal(size=(seeds, rows))
        low, high = statistics.mean_interval(block.mean(1))
        fixed += low <= parts.mean() <= high
        weights = draw.multinomial(rows, np.full(rows, 1 / rows), size=200) / rows
        low, high = statistics.over_seeds_and_rows(block.mean(1), weights @ block.T)
        both += low <= 0 <= high
    assert fixed / many == pytest.approx(0.95, abs=0.019), "Student's t, for other seeds on these rows"
    assert both / many >= 0.95 - 0.019, "with the rows drawn, for other seeds and other rows"
