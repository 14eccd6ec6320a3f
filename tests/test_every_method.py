"""Promises that every method keeps, tested over the folder: a new file is held to them without a new test."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from toys import Bench, Stop, bert, rows, stop_at

from tutelage import find
from tutelage.engine import batches
from tutelage.recipe import Training
from tutelage.tasks._task import Encoded

METHODS = find.names("methods")
PLAIN = Training(steps=4, batch_size=8, learning_rate=1e-2, precision="float32", optimizer="sgd", clip=None, warmup=0.0)


def bench(folder, name, **changes) -> Bench:
    changes = {"method": find.find("methods", name)(), "training": PLAIN, "dropout": 0.0, "data": rows(40, unlabelled=7)} | changes
    return Bench(folder, **changes)


def equal(a, b, tolerance):
    return all(torch.allclose(a[k], b[k], atol=tolerance) for k in a)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("micro", [1, 3, 5])
def test_micro_batching_changes_nothing(name, micro, tmp_path):
    whole = bench(tmp_path / "a", name).run()
    cut = bench(tmp_path / "b", name, training=dataclasses.replace(PLAIN, micro_batch=micro)).run()
    assert equal(whole, cut, 2e-6)


@pytest.mark.parametrize("name", METHODS)
def test_padding_changes_nothing(name, tmp_path, monkeypatch):
    tight = bench(tmp_path / "a", name).run()
    inner = Encoded.batch

    def padded(self, index):
        batch = inner(self, index)
        batch.inputs = {k: torch.nn.functional.pad(v, (0, 5)) for k, v in batch.inputs.items()}
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
    cls = find.find("methods", name)
    if not cls.uses_teacher:
        pytest.skip("learns from no teacher")
    unlabelled = rows(16, unlabelled=16)
    made = bench(tmp_path, name, teacher=bert(2, seed=1, dropout=0.0), student=bert(2, seed=1, dropout=0.0), data=unlabelled, source="live")
    loop = made.loop()
    before = {k: v.clone() for k, v in loop.models["student"].state_dict().items()}
    loop.run()
    after = loop.models["student"].state_dict()
    moved = max((before[k] - after[k]).abs().max().item() for k in before)
    assert moved < 1e-4, "in float32 rounding of the live teacher's precision"


@pytest.mark.parametrize("name", METHODS)
def test_unlabelled_rows_give_no_label_loss(name, tmp_path):
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
def test_stages_fill_the_budget(name, tmp_path):
    loop = bench(tmp_path, name, training=Training(steps=37, batch_size=8)).loop()
    assert sum(s.steps for s in loop.stages) == 37
