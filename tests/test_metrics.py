"""Metrics of classify: values by hand and by scikit-learn, and intervals against theory."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as sk

from tutelage import config
from tutelage.tasks import _metrics
from tutelage.tasks.classify import Classify


def task(**settings) -> Classify:
    return config.build(Classify, settings)


SEVERAL = {"train": "own.csv", "target": "labels"}
VALUE = {"train": "own.csv", "target": "value"}


def test_metrics_of_classes_by_hand():
    predicted, gold = np.array([1, 1, 0, 1]), np.array([1, 0, 0, 1])
    assert task().score(predicted, gold) == {"accuracy": 0.75, "macro_f1": pytest.approx((0.8 + 2 / 3) / 2)}
    assert task(data="mrpc").score(predicted, gold) == {"f1": pytest.approx(0.8), "accuracy": 0.75}
    assert task(data="cola").score(predicted, gold) == {"mcc": pytest.approx(1 / 3**0.5)}  # (2*1 - 1*0) / sqrt(3*2*2*1)


def test_metrics_of_several_labels_by_hand():
    predicted, gold = np.array([[1, 0], [1, 1], [0, 0]]), np.array([[1, 0], [0, 1], [0, 1]], dtype=np.float32)
    made = task(**SEVERAL).score(predicted, gold)  # label 0: 1 hit of 2 said, 1 true; label 1: 1 hit of 1 said, 2 true
    assert made == {"micro_f1": pytest.approx(4 / 6), "macro_f1": pytest.approx(2 / 3)}


def test_metrics_of_values_by_hand():
    predicted, gold = np.array([1.0, 2.0, 4.0]), np.array([0.0, 2.0, 3.0])
    made = task(**VALUE).score(predicted, gold)
    centred = (predicted - predicted.mean()), (gold - gold.mean())
    pearson = (centred[0] * centred[1]).sum() / np.sqrt((centred[0] ** 2).sum() * (centred[1] ** 2).sum())
    assert made == {"pearson": pytest.approx(pearson), "spearman": pytest.approx(1.0), "rmse": pytest.approx((2 / 3) ** 0.5)}
    assert list(task(data="stsb").score(predicted, gold)) == ["pearson", "spearman"]


def test_equal_predictions_have_no_correlation_rather_than_nan():
    assert task(**VALUE).score(np.zeros(4), np.arange(4.0))["pearson"] == 0
    assert task(data="cola").score(np.ones(4, int), np.array([0, 1, 0, 1])) == {"mcc": 0}
    assert task(data="cola").score(np.ones(4, int), np.ones(4, int))["mcc"] == 0
    alike = np.float32(2.5) + np.float32(2.4e-7) * np.arange(4, dtype=np.float32)  # an output's rounding in batches of other neighbours
    assert np.ptp(alike) > 0 and task(**VALUE).score(alike, np.arange(4.0))["spearman"] == 0
    assert task(**VALUE).score(np.float32(2.5) + np.arange(4, dtype=np.float32) / 1000, np.arange(4.0))["pearson"] == pytest.approx(1)


def test_rows_without_a_label_are_left_out():
    assert task().score(np.array([1, 0, 1]), np.array([1, -1, 0]))["accuracy"] == 0.5
    assert task(**VALUE).score(np.array([1.0, 2.0, 9.0, 3.0]), np.array([1.0, 2.0, np.nan, 3.0]))["rmse"] == 0
    found = _metrics.interval(task(), np.array([1, 0, 1]), np.array([1, -1, 0]))
    assert found["rows"] == 2 and found["primary"] == 0.5


@pytest.mark.parametrize(
    ("data", "primary", "others"),
    [
        ("cola", "mcc", ()),
        ("mrpc", "f1", ("accuracy",)),
        ("qqp", "f1", ("accuracy",)),
        ("stsb", "pearson", ("spearman",)),
        *((name, "accuracy", ()) for name in ("sst2", "mnli", "qnli", "rte", "wnli")),
    ],
)
def test_glues_tasks_have_their_own_metrics(data, primary, others):
    assert task(data=data).primary == primary and task(data=data).metrics == (primary, *others)


def test_a_metric_may_be_chosen_to_select():
    assert task(data="sst2", metric="mcc").metrics == ("mcc", "accuracy")
    assert task(metric="macro_f1").metrics == ("macro_f1", "accuracy")


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("name", ["accuracy", "macro_f1", "mcc", "f1"])
def test_draws_of_class_metrics_equal_scikit_learns_on_the_same_rows(name, classes):
    if name == "f1" and classes > 2:
        return
    rng = np.random.default_rng(classes)
    measures = {
        "accuracy": sk.accuracy_score,
        "mcc": sk.matthews_corrcoef,
        "macro_f1": lambda g, p: sk.f1_score(g, p, average="macro", zero_division=0.0),
        "f1": lambda g, p: sk.f1_score(g, p, zero_division=0.0),
    }
    for rows in (1, 3, 50):
        gold, predicted = rng.integers(0, classes, rows), rng.integers(0, classes, rows)
        eye = np.eye(classes)
        counts = ((eye[gold] * eye[predicted]).sum(0)[None], eye[predicted].sum(0)[None], eye[gold].sum(0)[None])
        [made] = _metrics.from_counts(name, "choice", *counts)
        assert made == pytest.approx(measures[name](gold, predicted), abs=1e-12)


@pytest.mark.parametrize("name", ["micro_f1", "macro_f1"])
def test_draws_of_label_metrics_equal_scikit_learns_on_the_same_rows(name):
    rng = np.random.default_rng(0)
    for rows in (1, 4, 50):
        gold, predicted = rng.integers(0, 2, (rows, 4)), rng.integers(0, 2, (rows, 4))
        counts = ((gold * predicted).sum(0)[None] * 1.0, predicted.sum(0)[None] * 1.0, gold.sum(0)[None] * 1.0)
        [made] = _metrics.from_counts(name, "binary", *counts)
        expected = sk.f1_score(gold, predicted, average=name.removesuffix("_f1"), zero_division=0.0)
        assert made == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("name", ["pearson", "spearman", "rmse"])
def test_draws_of_metrics_of_numbers_equal_scipy_s_on_the_same_rows(name):
    draw = np.random.default_rng(2)
    predicted, gold = draw.normal(size=(6, 30)).astype(np.float32), draw.integers(0, 5, (6, 30)).astype(np.float64)
    predicted[1], gold[2] = 0.7, 3.0
    expected = [_metrics.measure(name, p, g) for p, g in zip(predicted, gold, strict=True)]
    assert _metrics.from_values(name, predicted, gold) == pytest.approx(expected, abs=1e-7)
    assert name == "rmse" or expected[1] == expected[2] == 0


def test_the_interval_of_accuracy_is_wilsons():
    gold = np.zeros(100, int)
    predicted = np.where(np.arange(100) < 80, 0, 1)
    found = _metrics.interval(task(), predicted, gold)
    z, p, n = 1.959963984540054, 0.8, 100
    centre, half = (p + z**2 / (2 * n)) / (1 + z**2 / n), z / (1 + z**2 / n) * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    assert (found["low"], found["high"]) == (pytest.approx(centre - half), pytest.approx(centre + half))
    assert found["method"] == "Wilson" and found["rows"] == 100 and found["level"] == 0.95
    assert found["primary"] == found["metrics"]["accuracy"] == 0.8
    wide = _metrics.interval(task(), predicted, gold, level=0.99)
    assert wide["low"] < found["low"] and wide["high"] > found["high"]


@pytest.mark.parametrize("settings", [{"data": "cola"}, {"data": "mrpc"}, {"metric": "macro_f1"}, SEVERAL, {"data": "stsb"}])
def test_bootstrap_intervals_agree_with_drawing_rows_by_hand_and_repeat_by_seed(settings):
    made, rng = task(**settings), np.random.default_rng(1)
    if made.kind == "value":
        gold = rng.normal(size=200).astype(np.float32)
        predicted = gold + rng.normal(size=200).astype(np.float32)
    else:
        shape = (200, 3) if made.kind == "binary" else 200
        gold = rng.integers(0, 2, shape)
        predicted = np.where(rng.random(shape) < 0.8, gold, 1 - gold)
    found = _metrics.interval(made, predicted, gold, seed=4)
    assert found == _metrics.interval(made, predicted, gold, seed=4) != _metrics.interval(made, predicted, gold, seed=5)
    draws = []
    for _ in range(200):
        index = rng.integers(200, size=200)
        draws.append(_metrics.measure(made.primary, predicted[index], gold[index]))
    low, high = np.quantile(draws, [0.025, 0.975])
    assert found["method"] == "bootstrap" and found["low"] < found["primary"] < found["high"]
    assert abs(found["low"] - low) < 0.25 * (high - low) and abs(found["high"] - high) < 0.25 * (high - low)


def test_the_paired_difference_draws_the_same_rows_for_both():
    rng = np.random.default_rng(0)
    gold = rng.integers(0, 2, 500)
    a = np.where(rng.random(500) < 0.9, gold, 1 - gold)
    b = np.where(np.arange(500) < 25, 1 - a, a)
    found = _metrics.paired_difference(task(), a, b, gold)
    gain = (a == gold).astype(int) - (b == gold).astype(int)
    spread = 1.96 * gain.std() / 500**0.5
    assert found["difference"] == pytest.approx(gain.mean())
    assert found["high"] - found["low"] == pytest.approx(2 * spread, rel=0.15)
    assert (found["metric"], found["rows"], found["method"], found["level"]) == ("accuracy", 500, "paired bootstrap", 0.95)
    back = _metrics.paired_difference(task(), b, a, gold)
    assert [back[k] for k in ("difference", "low", "high")] == pytest.approx([-found[k] for k in ("difference", "high", "low")])
    same = _metrics.paired_difference(task(), a, a, gold)
    assert same["difference"] == same["low"] == same["high"] == 0


def test_the_paired_difference_of_values_is_zero_for_the_same_predictions_and_sides_with_the_better():
    rng = np.random.default_rng(0)
    gold = rng.normal(size=100)
    good, poor = gold + 0.1 * rng.normal(size=100), gold + 2 * rng.normal(size=100)
    assert _metrics.paired_difference(task(**VALUE), good, poor, gold)["low"] > 0
    assert _metrics.paired_difference(task(**VALUE), good, good, gold)["high"] == 0
