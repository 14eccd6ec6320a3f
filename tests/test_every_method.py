"""Promises that every method keeps, tested over the folder: a new file is held to them without a new test."""

from __future__ import annotations

import dataclasses
import functools

import pytest
import torch
from toys import MORE, SLOW, WHOLE_STEP, Bench, Stop, bert, decoder, method, rows, stop_at

from tutelage import find
from tutelage.engine import batches, course
from tutelage.errors import ConfigError
from tutelage.recipe import Training
from tutelage.tasks._task import Encoded

METHODS = sorted({*find.names("methods"), *MORE})
PLAIN = Training(steps=8, batch_size=8, learning_rate=1e-2, precision="float32", optimizer="sgd", clip=None, warmup=0.0)


def bench(folder, name, **changes) -> Bench:
    plain = dataclasses.replace(PLAIN, learning_rate=PLAIN.learning_rate / SLOW.get(name, 1))
    changes = {"method": method(name), "training": plain, "dropout": 0.0, "data": rows(20, unlabelled=4), "source": "auto"} | changes
    return Bench(folder, **changes)


def equal(a, b, tolerance):
    return all(torch.allclose(a[k], b[k], atol=tolerance) for k in a)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("micro", [3, 5])
def test_micro_batching_changes_nothing(name, micro, tmp_path):
    whole = bench(tmp_path / "a", name).run()
    cut = bench(tmp_path / "b", name, training=dataclasses.replace(PLAIN, micro_batch=micro))
    if name in WHOLE_STEP:
        with pytest.raises(ConfigError, match="compares the examples of a step"):
            cut.run()
    else:
        assert equal(whole, cut.run(), 5e-6)


@pytest.mark.parametrize("name", METHODS)
def test_padding_changes_nothing(name, tmp_path, monkeypatch):
    tight = bench(tmp_path / "a", name).run()
    inner = Encoded.batch

    def padded(self, index):
        batch = inner(self, index)
        wide = lambda many: {k: torch.nn.functional.pad(v, (0, 0) * (v.ndim - 2) + (0, 5)) for k, v in many.items()}
        batch.inputs, batch.extra = wide(batch.inputs), wide(batch.extra)
        return batch

    monkeypatch.setattr(Encoded, "batch", padded)
    loose = bench(tmp_path / "b", name).run()
    assert equal(tight, loose, 2e-6)


@pytest.mark.parametrize("name", METHODS)
def test_the_order_of_rows_in_a_batch_changes_nothing(name, tmp_path, monkeypatch):
    straight = bench(tmp_path / "a", name).run()
    inner = batches.split
    monkeypatch.setattr(batches, "split", lambda rows, *how: [chunk[::-1].copy() for chunk in inner(rows, *how)])
    backward = bench(tmp_path / "b", name).run()
    assert equal(straight, backward, 2e-6)


@pytest.mark.parametrize("name", METHODS)
def test_with_the_teacher_as_student_the_teachers_terms_have_no_gradient(name, tmp_path):
    smooth = {"annealing": {"max_temperature": 1}, "pro_kd": {"smoothing": "none"}}
    smooth["echo"] = {"guess_weight": 0.0}  # a hard guess of the teacher's is no smooth distance
    smooth |= dict.fromkeys(("continuation", "combined"), smooth["annealing"])
    same = smooth.get(name.split("-")[0], {}) if method(name) != method("pro_kd-kl") else {}
    if not method(name).uses_teacher:
        pytest.skip("learns from no teacher")
    unlabelled = rows(16, unlabelled=16)
    one = decoder if method(name).writes_text else functools.partial(bert, dropout=0.0)
    twins = {"teacher": one(2, seed=1), "student": one(2, seed=1), "copies": True}
    if name == "gkd-teacher":
        same = {"hard_weight": 0.0}  # its text is a label
    elif name == "gkd-half":
        same = {"share": 1.0, "hard_weight": 0.0}
    loop = bench(tmp_path, name, method=method(name, **same), data=unlabelled, source="live", **twins).loop()
    before = {k: v.clone() for k, v in loop.models["student"].state_dict().items()}
    loop.run()
    after = loop.models["student"].state_dict()
    moved = max((before[k] - after[k]).abs().max().item() for k in before)
    assert moved < 1e-4, "in float32 rounding of the live teacher's precision"


@pytest.mark.parametrize("name", METHODS)
def test_unlabelled_rows_give_no_label_loss(name, tmp_path):
    if method(name).writes_text:
        pytest.skip("text is its own label")
    seen = []
    made = bench(tmp_path, name, data=rows(16, unlabelled=16))
    loop = made.loop()
    inner = loop._log
    loop._log = lambda stage, rate: (seen.append({k: float(torch.stack(v).mean()) for k, v in loop.losses.items()}), inner(stage, rate))
    loop.run()
    assert all(one.get("label", 0.0) == 0.0 for one in seen)


@pytest.mark.parametrize("name", METHODS)
def test_resume_is_exact_in_the_middle_of_every_stage(name, tmp_path):
    training = Training(epochs=3, batch_size=8, learning_rate=1e-3, precision="float32")
    make = lambda where, save=1e9: bench(tmp_path / where, name, training=training, dropout=0.1, autosave=save)
    whole = make("a").run()
    before = 0
    for number, stage in enumerate(make("a").loop().stages):
        with pytest.raises(Stop):
            make(f"b{number}", 0.0).run(stop_at(before + stage.steps // 2))
        resumed = make(f"b{number}", 0.0).run()
        before += stage.steps
        assert all(torch.equal(whole[k], resumed[k]) for k in whole)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("steps", [37, 10])
def test_the_student_learns_for_the_budget_and_no_longer(name, steps, tmp_path):
    loop = bench(tmp_path, name, training=Training(steps=steps, batch_size=8)).loop()
    mine = [s for s in loop.stages if "student" in {t.role for t in s.turns}]
    turns = [course.turn_at(s, i) for s in mine for i in range(s.steps)]
    roles = [s.turns[n].role for s, n in zip([s for s in mine for _ in range(s.steps)], turns, strict=True)]
    assert roles.count("student") + roles.count("generator") == steps, "a generator's steps are part of the published budget"
