"""Figures of agreement against statsmodels, the package krippendorff, and worked examples."""

from __future__ import annotations

import datetime
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats import inter_rater

from tutelage.answers import agreement
from tutelage.answers.agreement import Rating
from tutelage.errors import DataError

NO = -1
EXAMPLE = np.array(
    [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, NO, NO, NO],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, NO, 3],
        [NO, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, NO],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, NO],
    ]
)
"""Krippendorff 2011, section C: four observers, twelve units."""


def tables(raters=(2, 5), values=3, missing=True):
    cell = st.integers(NO if missing else 0, values - 1)
    return st.integers(*raters).flatmap(
        lambda r: st.integers(1, 12).flatmap(
            lambda u: st.lists(st.lists(cell, min_size=u, max_size=u), min_size=r, max_size=r).map(np.array)
        )
    )


def same(a, b):
    return (math.isnan(a) and math.isnan(b)) or math.isclose(a, b, abs_tol=1e-9)


def test_krippendorffs_own_example():
    assert agreement.alpha(EXAMPLE - 0) == pytest.approx(0.743, abs=5e-4)


def test_by_hand():
    two = np.array([[0, 0, 1, 1], [0, 1, 1, 1]])
    assert agreement.raw(two) == 0.75
    assert agreement.cohen(two) == pytest.approx((0.75 - (0.5 * 0.25 + 0.5 * 0.75)) / 0.5)
    assert agreement.alpha(two) == pytest.approx(1 - (2 / 8) / (2 * 3 * 5 / (8 * 7)))


@settings(max_examples=60)
@given(tables())
def test_alpha_is_krippendorffs_packages(found):
    krippendorff = pytest.importorskip("krippendorff")
    mine = agreement.alpha(found)
    data = np.where(found < 0, np.nan, found)
    overlapping = found[:, (found >= 0).sum(0) > 1]
    if len(set(overlapping[overlapping >= 0].tolist())) < 2:
        assert math.isnan(mine)
    else:
        assert same(mine, krippendorff.alpha(data, level_of_measurement="nominal"))


@settings(max_examples=60)
@given(tables(missing=False))
def test_kappas_are_statsmodels(found):
    counts = agreement._counts(found)
    with np.errstate(all="ignore"):
        assert same(agreement.fleiss(found), float(inter_rater.fleiss_kappa(counts)))
        cross = np.zeros((3, 3))
        np.add.at(cross, (found[0], found[1]), 1)
        assert same(agreement.cohen(found[:2]), float(inter_rater.cohens_kappa(cross, return_results=False)))


def test_what_is_not_defined_is_nan_without_a_warning():
    one, apart = np.zeros((2, 5), dtype=int), np.array([[0, NO], [NO, 1]])
    for figure in (agreement.alpha, agreement.cohen):
        assert math.isnan(figure(one)) and math.isnan(figure(apart))
    assert agreement.raw(one) == 1.0 and math.isnan(agreement.raw(apart)) and math.isnan(agreement.fleiss(one))
    assert all(math.isnan(x) for x in agreement.interval(agreement.alpha, apart, draws=5))
    assert math.isnan(agreement.raw(np.full((2, 3), NO)))


@settings(max_examples=60)
@given(tables())
def test_alpha_is_nan_where_a_reason_is_given(found):
    assert math.isnan(agreement.alpha(found)) == (agreement.undefined(found) is not None)
    assert agreement.undefined(np.array([[0, NO], [NO, 1]])) == "no unit has two ratings"
    assert agreement.undefined(np.zeros((2, 5), dtype=int)).startswith("all ratings have the same value")


@settings(max_examples=60)
@given(tables(), st.randoms(use_true_random=False))
def test_a_figure_of_drawn_units_is_that_of_the_table_with_each_so_often(found, draw):
    """What `interval` draws by counts is the bootstrap that repeats columns."""
    times = np.array([[draw.randint(0, 3) for _ in found[0]] for _ in range(4)])
    repeated = [np.repeat(found, row, axis=1) for row in times]
    for figure, rows in ((agreement.raw, slice(None)), (agreement.alpha, slice(None)), (agreement.cohen, slice(2))):
        wanted = [float(figure(one[rows])) for one in repeated]
        assert np.allclose(figure(found[rows], times), wanted, atol=1e-9, equal_nan=True)


def test_the_interval_of_a_share_is_binomial():
    """400 pairs, 300 of them alike: 0.75 with a standard error of 0.0217; kappa's by statsmodels' formula."""
    found = np.array([[0, 0, 1, 1] * 100, [0, 1, 1, 1] * 100])
    low, high = agreement.interval(agreement.raw, found, draws=4000)
    error = 1.96 * math.sqrt(0.75 * 0.25 / 400)
    assert (low, high) == pytest.approx((0.75 - error, 0.75 + error), abs=4e-3)
    told = inter_rater.cohens_kappa([[100, 100], [0, 200]])
    assert agreement.interval(agreement.cohen, found, draws=4000) == pytest.approx((told.kappa_low, told.kappa_upp), abs=8e-3)


def test_fleiss_needs_equally_many():
    with pytest.raises(DataError, match="units have 1 to 2 ratings, and it needs equally many; take Krippendorff's alpha"):
        agreement.fleiss(np.array([[0, 1], [0, NO]]))


def rate(unit, rater, value, criterion="attributable", day=1):
    return Rating(unit, rater, criterion, value, datetime.datetime(2026, 11, day, tzinfo=datetime.UTC))


RATINGS = [
    rate(1, "a", 1), rate(1, "b", 1), rate(2, "a", 1), rate(2, "b", 0), rate(2, "c", 0), rate(3, "a", None), rate(3, "b", 1),
    rate(4, "a", 0, day=20), rate(4, "b", 1, day=20), rate(1, "a", 1, "informative"), rate(1, "b", 1, "informative"),
]  # fmt: skip


def test_summaries_by_hand():
    table = agreement.by_criterion(RATINGS, draws=200)
    found = table["attributable"]
    assert (found["units"], found["overlapping"], found["raters"], found["ratings"]) == (4, 3, 3, 9)
    assert found["cannot_judge"] == pytest.approx(1 / 9) and math.isnan(found["fleiss"])
    assert found["raw"]["value"] == pytest.approx((2 + 2) / (2 + 6 + 2)) and found["raw"]["low"] <= 0.4 <= found["raw"]["high"]
    assert found["undefined"] is None and table["informative"]["undefined"].startswith("all ratings")
    assert table["informative"]["raw"]["value"] == 1.0 and math.isnan(table["informative"]["alpha"]["value"])
    pairs = {p["raters"]: p for p in agreement.by_pair([r for r in RATINGS if r.criterion == "attributable"])}
    assert pairs["a", "b"]["units"] == 3 and pairs["a", "b"]["raw"]["value"] == pytest.approx(1 / 3) and ("a", "c") in pairs
    rater = agreement.by_rater([r for r in RATINGS if r.criterion == "attributable"])
    assert rater["a"] == {"ratings": 4, "cannot_judge": 0.25, "agree": pytest.approx(1 / 4)}
    assert rater["c"]["agree"] == pytest.approx(1 / 2)


def test_disagreements_come_with_who_said_what():
    found = agreement.disagreements(RATINGS)
    assert [d["unit"] for d in found] == [4, 2] and found[1]["said"] == {"a": 1, "b": 0, "c": 0}


def test_over_time_by_the_last_rating_of_a_unit():
    weeks = agreement.over_time([r for r in RATINGS if r.criterion == "attributable"])
    assert [(w["from"], w["units"]) for w in weeks] == [("2026-11-01", 3), ("2026-11-15", 1)]
    assert weeks[1]["raw"] == {"value": 0.0, "low": 0.0, "high": 0.0} and agreement.over_time([Rating(1, "a", "x", 1)]) == []


def test_a_second_rating_is_refused():
    with pytest.raises(DataError, match="a rated 1 twice on 'attributable'"):
        agreement.table([rate(1, "a", 1), rate(1, "a", 0)])


def test_agreement_is_split_by_whether_a_suggestion_was_shown():
    """By hand: with it two of two pairs agree, and three of four votes follow; without it none of one. All bare or all shown: no split."""
    rows = [
        ("u", "a", 1, 1),
        ("u", "b", 1, 1),
        ("v", "a", 0, 1),
        ("v", "b", 0, 0),
        ("w", "c", 1, None),
        ("w", "d", 0, None),
        ("w", "e", None, 1),
    ]
    many = [Rating(unit, rater, "attributable", value, suggestion=suggestion) for unit, rater, value, suggestion in rows]
    found = agreement.by_suggestion([*many, Rating("u", "a", "informative", 1), Rating("u", "b", "informative", 1)], draws=10)
    assert set(found) == {"attributable"}
    shown, bare = found["attributable"]["with"], found["attributable"]["without"]
    assert (shown["raw"]["value"], shown["units"], shown["followed"]) == (1.0, 3, 0.75)
    assert (bare["raw"]["value"], bare["units"]) == (0.0, 1) and "followed" not in bare
    assert agreement.by_suggestion(many[:4]) == {} == agreement.by_suggestion(many[4:6])
