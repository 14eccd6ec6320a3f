"""How closely a student matches its teacher, by hand and by scipy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import spans
import torch
from scipy import special, stats

from tutelage import config
from tutelage.engine import fidelity
from tutelage.engine.teacher import Teacher
from tutelage.rows import LAST_STATES, OutputLayer, Seen
from tutelage.tasks import _metrics
from tutelage.tasks._packing import NO_TARGET
from tutelage.tasks._task import Encoded
from tutelage.tasks.classify import Classify
from tutelage.tasks.coreference import Coreference
from tutelage.tasks.image import Image
from tutelage.tasks.language import Language

LOG = np.log


def classify(**settings) -> Classify:
    return config.build(Classify, {"train": "own.csv", **settings})


def encoded(rows: int, gold: np.ndarray | None = None) -> Encoded:
    gold = np.zeros(rows, dtype=np.int64) if gold is None else gold
    return Encoded({"input_ids": np.ones(2 * rows, dtype=np.int32)}, np.full(rows, 2), gold)


def logits(*rows) -> dict[str, np.ndarray]:
    return {"logits": np.array(rows, dtype=np.float32)}


def test_agreement_and_kl_of_classes_by_hand():
    student = logits(LOG([0.5, 0.5]) + 3, LOG([0.2, 0.8]), LOG([0.6, 0.4]))
    teacher = logits(LOG([0.9, 0.1]), LOG([0.2, 0.8]), LOG([0.3, 0.7]))
    for task in (classify(), config.build(Image, {"data": "digits"})):
        found = fidelity.measure(task, student, teacher, encoded(3, np.array([1, -1, 0])))
        assert list(found) == ["agreement", "kl"] and found["agreement"]["rows"] == found["kl"]["rows"] == 3, "unlabelled rows count"
        each = [0.9 * math.log(0.9 / 0.5) + 0.1 * math.log(0.1 / 0.5), 0.0, 0.3 * math.log(0.3 / 0.6) + 0.7 * math.log(0.7 / 0.4)]
        assert found["kl"]["value"] == pytest.approx(np.mean(each), rel=1e-5)
        assert found["agreement"]["value"] == pytest.approx(2 / 3) and found["agreement"]["method"] == "Wilson"
        wilson = stats.binomtest(2, 3).proportion_ci(0.95, method="wilson")
        assert (found["agreement"]["low"], found["agreement"]["high"]) == pytest.approx((wilson.low, wilson.high))


def test_of_several_labels_all_must_agree_and_kl_is_the_sum_over_labels():
    student, teacher = logits([2.0, -1.0], [1.0, 1.0]), logits([1.0, -3.0], [1.0, -1.0])
    found = fidelity.measure(classify(target="labels"), student, teacher, encoded(2, np.zeros((2, 2), dtype=np.float32)))
    assert found["agreement"]["value"] == 0.5
    s, t = (special.expit(one["logits"].astype(float)) for one in (student, teacher))
    each = (special.rel_entr(t, s) + special.rel_entr(1 - t, 1 - s)).sum(1)
    assert found["kl"]["value"] == pytest.approx(each.mean(), rel=1e-5)


def test_numbers_have_a_squared_difference_and_no_agreement():
    found = fidelity.measure(classify(target="value"), logits([1.0], [2.0]), logits([1.5], [4.0]), encoded(2, np.zeros(2)))
    assert list(found) == ["mse"] and found["mse"]["value"] == pytest.approx((0.25 + 4) / 2)


def test_spans_agree_by_answer_and_their_kl_is_over_the_tokens_that_may_answer():
    """Two questions; of the second the teacher points elsewhere."""
    rows = spans.encoded(spans.asked("film was good", ("film", 0)), spans.asked("cast was bad", ("cast", 0), name="r"))
    allowed, starts = rows.extra["answerable"].astype(bool), rows.starts
    draw = np.random.default_rng(0)
    teacher = {name: draw.normal(size=len(allowed)).astype(np.float32) for name in ("start_logits", "end_logits")}
    student = {name: value.copy() for name, value in teacher.items()}
    places = np.flatnonzero(allowed[starts[1] :]) + starts[1]
    for side in student:
        teacher[side][places[0]], student[side][places[-1]] = 9.0, 12.0
    found = fidelity.measure(spans.task(), student, teacher, rows)
    assert found["agreement"]["value"] == 0.5 and found["agreement"]["rows"] == 2

    def distance(side: str) -> float:
        t, s = (special.softmax(one[side][places].astype(float)) for one in (teacher, student))
        return float(special.rel_entr(t, s).sum())

    assert found["kl"]["value"] == pytest.approx((distance("start_logits") + distance("end_logits")) / 2 / 2, rel=1e-5)


def test_language_models_agree_on_first_guesses_and_guesses_are_those_of_the_logits():
    torch.manual_seed(0)
    states, head = torch.randn(2, 5, 8), torch.randn(11, 8)
    wanted = torch.tensor([[4, 1, -1, 2, 3], [-1, 7, 5, -1, -1]])
    target = torch.where(wanted < 0, 0, wanted - NO_TARGET)
    task, rows = config.build(Language, {"data": "x.txt"}), Encoded({"input_ids": np.ones(8, dtype=np.int32)}, [5, 3], np.zeros(2))
    batch = rows.batch([0, 1])
    batch.extra["target"] = target
    made = task.shown(Seen({LAST_STATES: states}, head=OutputLayer(head)), batch)
    want = torch.where(target > 0, (states @ head.T).argmax(-1), -1)
    assert torch.equal(made["guess"], want)
    sums = made["sums"].numpy()
    teacher = {"guess": np.concatenate([want[0], want[1, :3]]).astype(np.float32), "sums": sums}
    student = {"guess": teacher["guess"].copy(), "sums": sums}
    student["guess"][[0, 6]] += 1  # a token of each row; four and two are predicted
    found = fidelity.measure(task, student, teacher, rows)
    assert list(found) == ["agreement"] and found["agreement"]["value"] == pytest.approx(4 / 6)


def test_several_teachers_speak_as_their_average_and_coreference_has_no_measure():
    one, other = logits(LOG([0.9, 0.1])), logits(LOG([0.4, 0.6]))
    mean = fidelity.together(classify(), [one, other], "probabilities")["logits"]
    assert np.exp(mean[0]) == pytest.approx([0.65, 0.35], rel=1e-5)
    assert fidelity.together(classify(), [one, other], "logits")["logits"] == pytest.approx((one["logits"] + other["logits"]) / 2)
    outputs = {"teacher-1": one, "teacher-2": other, "kd": logits(LOG([0.65, 0.35]))}
    rows = {key: encoded(1) for key in outputs}
    both = Teacher([], None, None, None, None, "probabilities")
    [(key, found)] = fidelity.of_students(classify(), outputs, rows, ["teacher-1", "teacher-2"], both).items()
    assert key == "kd" and found["kl"]["value"] == pytest.approx(0, abs=1e-6) and found["agreement"]["value"] == 1
    assert fidelity.of_students(config.build(Coreference, {"data": "x"}), outputs, rows, ["teacher-1"], both) == {}


def test_a_student_with_other_tokens_is_left_out_where_outputs_are_by_token():
    mine, theirs = (spans.encoded(spans.asked("film was good", ("film", 0))) for _ in range(2))
    zeros = {name: np.zeros(int(mine.starts[-1]), dtype=np.float32) for name in spans.task().outputs}
    outputs = {"teacher": zeros, "kd": zeros}
    teacher = Teacher([], None, None, None, None)
    assert fidelity.of_students(spans.task(), outputs, {"teacher": theirs, "kd": mine}, ["teacher"], teacher) == {}
    assert fidelity.of_students(spans.task(), outputs, {"teacher": mine, "kd": mine}, ["teacher"], teacher)["kd"]["agreement"]["value"] == 1


def test_the_interval_of_a_mean_is_near_the_normal_one():
    each = np.random.default_rng(4).exponential(0.3, 500)
    found, half = _metrics.mean_with_interval(each), 1.96 * each.std() / 500**0.5
    assert found["method"] == "bootstrap" and found["value"] == pytest.approx(each.mean())
    assert (found["low"], found["high"]) == pytest.approx((each.mean() - half, each.mean() + half), abs=0.2 * half)
