"""From cells to verdicts: by hand on made-up results, and how often pure noise is taken for a finding."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest

from tutelage.study import results, statistics
from tutelage.study.plan import Plan, Study
from tutelage.study.results import Results
from tutelage.study.tables import CellRow
from tutelage.tasks import _metrics

BASE = {"task": {"kind": "classify"}, "student": {"model": "somewhere"}, "method": "finetune"}
NAMES = {"one": {"autosave": 60.0}, "other": {"autosave": 61.0}, "third": {"autosave": 62.0}}
TASKS = {"a": {"task.limit": 100}, "b": {"task.limit": 200}}


def plan(claims, names=("one", "other"), tasks=("a", "b"), seeds=(1, 2, 3, 4, 5)) -> Plan:
    axes = {"method": {n: NAMES[n] for n in names}, "task": {t: TASKS[t] for t in tasks}}
    return Plan(Study(name="made up", base=BASE, axes=axes, seeds=seeds, claims=tuple(claims)), BASE, "made-up.yaml")


def rows(made: Plan, score, metric="accuracy", lost=()) -> list[CellRow]:
    """Cells with the scores that `score(point, seed)` gives; those numbered in `lost` failed."""
    packed = io.BytesIO()
    np.savez(packed, each=np.zeros(2))
    out = []
    for c in made.cells:
        value = score(c.point, c.seed)
        result = {"metric": metric, "kind": "choice", "score": value, "dev": {metric: value}, "teacher": {}, "seconds": {"total": 1.0}}
        row = CellRow(number=c.number, trial=c.trial, seed=c.seed, point=c.point, state="done", result=result, examples=packed.getvalue())
        if c.number in lost:
            row.state, row.result, row.examples = "failed", None, None
        out.append(row)
    return out


GAIN = {"name": "better", "against": "one"}
SAME = {"name": "the same", "kind": "equivalent", "margin": 0.01, "against": "one"}


def test_a_gain_everywhere_holds_a_loss_contradicts_and_less_is_better_for_losses():
    made = plan([GAIN])

    def score(point, seed, sign=1.0):
        return 0.5 + 0.01 * seed + (sign * (0.02 + 0.001 * (seed % 2)) if point["method"] == "other" else 0.0)

    [found] = Results(made, rows(made, score)).verdicts()
    assert found["verdict"] == "holds" and [c["finding"] for c in found["comparisons"]] == ["gain", "gain"]
    assert found["comparisons"][0]["mean"] == pytest.approx(0.0206) and found["comparisons"][0]["at"] == {"task": "a"}
    p = found["comparisons"][0]["p"]
    assert found["comparisons"][0]["adjusted"] == pytest.approx(2 * p)
    [found] = Results(made, rows(made, lambda point, seed: score(point, seed, -1.0))).verdicts()
    assert found["verdict"] == "contradicted"
    [found] = Results(made, rows(made, lambda point, seed: score(point, seed, -1.0), metric="loss")).verdicts()
    assert found["verdict"] == "holds" and found["comparisons"][0]["mean"] > 0
    [found] = Results(made, rows(made, lambda point, seed: score(point, seed, 1.0 if point["task"] == "a" else -1.0))).verdicts()
    assert found["verdict"] == "mixed", "a gain beside a loss is no claim that holds in part"
    [found] = Results(made, rows(made, lambda point, seed: score(point, seed, 1.0 if point["task"] == "a" else 0.0))).verdicts()
    assert found["verdict"] == "holds in part" and [c["finding"] for c in found["comparisons"]] == ["gain", "not shown"]


def test_no_significant_gain_is_not_equivalence():
    made = plan([GAIN, SAME])
    wild = {1: 0.03, 2: -0.03, 3: 0.02, 4: -0.02, 5: 0.001}
    gain, same = Results(made, rows(made, lambda p, s: 0.5 + (wild[s] if p["method"] == "other" else 0))).verdicts()
    assert gain["verdict"] == same["verdict"] == "not shown"
    calm = {s: x / 20 for s, x in wild.items()}
    gain, same = Results(made, rows(made, lambda p, s: 0.5 + (calm[s] if p["method"] == "other" else 0))).verdicts()
    assert (gain["verdict"], same["verdict"]) == ("not shown", "holds")
    far = {s: 0.03 + x / 20 for s, x in wild.items()}
    gain, same = Results(made, rows(made, lambda p, s: 0.5 + (far[s] if p["method"] == "other" else 0))).verdicts()
    assert (gain["verdict"], same["verdict"]) == ("holds", "contradicted")


def test_a_difference_beyond_the_margin_is_corrected_by_holm_as_equivalence_is():
    made = plan([SAME], names=tuple(NAMES))
    wild = {1: 0.004, 2: -0.003, 3: 0.003, 4: -0.004, 5: 0.0}

    def score(point, seed):
        return 0.5 + (0.0148 + wild[seed] if (point["task"], point["method"]) == ("a", "other") else 0.0)

    [found] = Results(made, rows(made, score)).verdicts()
    one, *others = found["comparisons"]
    assert one["low"] > SAME["margin"] and one["beyond"] < 0.05, "alone it would be a difference"
    assert one["adjusted_beyond"] == pytest.approx(4 * one["beyond"]) and one["finding"] == "not shown"
    assert all(c["beyond"] == 1.0 and c["p"] == pytest.approx(1 / 32) for c in others)


def test_power_is_that_of_the_claim_s_number_of_comparisons():
    for names, many in ((("one", "other"), 2), (tuple(NAMES), 4)):
        made = plan([GAIN], names=names)
        [found] = Results(made, rows(made, lambda point, seed: 0.5)).verdicts()
        assert found["detectable"] == statistics.detectable(5, 0.05, many) > statistics.detectable(5)


def test_a_missing_seed_is_named_and_nothing_is_averaged_over_the_rest():
    made = plan([GAIN])
    found = Results(made, rows(made, lambda p, s: 0.5 + s / 100, lost={7}))
    [verdict] = found.verdicts()
    a, b = verdict["comparisons"]
    assert verdict["verdict"] == "open" and a["missing"] == [] and b["missing"] == ["one, seed 3 (failed)"]
    assert "mean" not in b and b["finding"] == "open" and math.isnan(b["p"])
    assert a["adjusted"] == min(1.0, 2 * a["p"]), "a test that is still to come counts for Holm"
    points = found.points()
    assert [p["metric"] for p in points] == ["accuracy", None, "accuracy", "accuracy"]
    assert points[1]["missing"] == [{"seed": 3, "state": "failed"}] and "test" not in points[1]
    assert points[0]["test"] == pytest.approx(0.53)


def test_a_claim_may_be_on_some_values_and_points_only():
    made = plan([GAIN | {"values": ["third"], "where": {"task": "b"}}], names=("one", "other", "third"))
    [found] = Results(made, rows(made, lambda p, s: 0.5 + s / 100)).verdicts()
    assert [(c["value"], c["at"]) for c in found["comparisons"]] == [("third", {"task": "b"})]


@pytest.fixture
def few_draws(monkeypatch):
    """Draw little for intervals over rows, on which no finding rests, from rows that are not unpacked again."""
    monkeypatch.setattr(_metrics, "DRAWS", 10)
    monkeypatch.setattr(results, "examples_of", lambda row: {"each": np.zeros(2)})


def noise(made: Plan, draw: np.random.Generator, spread: float = 0.01, edge: float = 0.0) -> Results:
    """A study whose methods differ by noise alone, or by `edge` too, on seeds that differ for all alike."""
    seeds, own = draw.normal(0, 0.02, (2, 6)), draw.normal(0, spread, (3, 2, 6))
    shift = dict(zip(NAMES, (0.0, edge, -edge), strict=True))

    def score(point, seed):
        task, method = "ab".index(point["task"]), list(NAMES).index(point["method"])
        return 0.8 + seeds[task, seed] + own[method, task, seed] + shift[point["method"]]

    return Results(made, rows(made, score))


def test_pure_noise_is_taken_for_a_finding_as_often_as_the_level_says(few_draws):
    made, draw, simulations = plan([GAIN], names=tuple(NAMES)), np.random.default_rng(7), 600
    found = [noise(made, draw).verdicts()[0]["comparisons"] for _ in range(simulations)]
    each = [c["p"] < 0.05 for many in found for c in many]
    family = [any(c["finding"] in ("gain", "loss") for c in many) for many in found]
    assert len(each) == 4 * simulations and 0.036 <= np.mean(each) <= 0.064
    assert np.mean(family) <= 0.064


def test_differences_as_large_as_the_margin_are_seldom_called_equivalent(few_draws):
    made, draw = plan([SAME], names=tuple(NAMES)), np.random.default_rng(8)
    found = [noise(made, draw, 0.001, SAME["margin"]).verdicts()[0]["comparisons"] for _ in range(300)]
    assert np.mean([any(c["finding"] == "equivalent" for c in many) for many in found]) <= 0.064
