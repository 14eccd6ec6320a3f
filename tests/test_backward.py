"""Backward-pass KD: where rows are moved, how far, through which map, how long they live, and what they leave alone."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from test_image import bench as pictures
from test_image import network
from toys import Bench, Stop, bert, rows, stop_at

from tutelage import records
from tutelage.engine.forward import statistics_kept
from tutelage.errors import ConfigError
from tutelage.methods.backward import Backward, _map, _report, _same_class
from tutelage.methods.kd import Kd
from tutelage.recipe import Training
from tutelage.rows import Rows

SPECIAL = (7, 8, 9)
ALL = {"start": 0, "share": 1.0}


class Moved:
    """Rows of a toy moved once, in float64 wherever this test works them out again; the student is the wider or the narrower."""

    def __init__(self, folder, width=24, **settings):
        training = Training(epochs=2, batch_size=8, precision="float32")
        twins = {"student": bert(1, 2, 0.0, width=width), "teacher": bert(2, 1, 0.0, width=16)}
        self.loop = Bench(folder, Backward(**{**ALL, **settings}), training, dropout=0.0, source="live", data=rows(20), **twins).loop()
        self.loop.stages = self.loop.job.method.stages(dataclasses.replace(self.loop.job.facts, special_tokens=SPECIAL))
        self.loop._enter(0, None)
        self.loop._refresh(self.loop.stages[0])
        self.student, self.teacher = self.loop.models["student"], self.loop.cast.model(self.loop.stages[0], "teacher")
        self.batch = self.loop.columns.rows.batch(range(20))
        self.ids, self.mask = self.batch.inputs["input_ids"], self.batch.inputs["attention_mask"]
        self.by = self.batch.extra["displacement"]
        self.free = self.mask.bool() & ~torch.isin(self.ids, torch.tensor(SPECIAL))
        small, large = (m.get_input_embeddings().weight.detach() for m in (self.student, self.teacher))
        self.small, self.large = small[self.ids], large[self.ids]
        self.map = torch.from_numpy(np.linalg.lstsq(small.double().numpy(), large.double().numpy(), rcond=None)[0]).float()

    def logits(self, by):
        moved = ((self.student, self.small + by), (self.teacher, self.large + by @ self.map))
        return [m(inputs_embeds=x, attention_mask=self.mask).logits for m, x in moved]

    def apart(self, by):
        """|S(w_S + d) - T(w_T + d Q)|^2 of each row; (rows,)."""
        s, t = self.logits(by)
        return ((s - t) ** 2).sum(-1)

    def terms(self):
        stage = self.loop.stages[0]
        see = self.loop.cast.see(stage, stage.turns[0], self.batch, self.loop.columns.rows, None, 0)
        see.once = self.loop.columns.once
        return stage.turns[0].terms(see)


def test_the_map_between_embeddings_is_numpys_least_squares_in_float64_with_its_residual():
    many = np.random.default_rng(0)
    tables = {"student": many.normal(size=(60, 8)).astype(np.float32), "teacher": many.normal(size=(60, 12)).astype(np.float32)}
    found = _map(lambda role: torch.from_numpy(tables[role]))
    small, large = (tables[role].astype(float) for role in ("student", "teacher"))
    rival = np.linalg.lstsq(small, large, rcond=None)[0]
    assert found["map"].shape == (8, 12) and np.allclose(found["map"].numpy(), rival, atol=1e-6)
    assert float(found["residual"]) == pytest.approx(np.linalg.norm(small @ rival - large) / np.linalg.norm(large))


def test_a_map_is_exact_where_the_teachers_table_is_an_image_of_the_students():
    many = np.random.default_rng(0)
    small, turn = many.normal(size=(60, 8)), many.normal(size=(8, 12))
    tables = {"student": small, "teacher": small @ turn}
    found = _map(lambda role: torch.from_numpy(tables[role]).float())
    assert np.allclose(found["map"].numpy(), turn, atol=1e-4) and float(found["residual"]) < 1e-6


def test_tables_of_two_vocabularies_are_refused_in_one_sentence():
    with pytest.raises(ConfigError, match=r"^method: student and teacher know 5 and 6 tokens; [^\n]*one vocabulary$"):
        _map(lambda role: torch.zeros(5 if role == "student" else 6, 3))


@pytest.mark.parametrize(
    ("measures", "said"),
    [
        ({"kept": 0.76, "residual": 0.036}, "the teacher keeps its class on 76 % of them$"),
        ({"kept": 0.74}, "on 74 % of them; under 75 % they teach its errors, lower method.step_size$"),
        ({"kept": 0.9, "residual": 0.994}, "on 90 % of them; warning: the map [^\n]* misses 99 % of the teacher's table"),
    ],
)
def test_a_teacher_that_leaves_its_class_and_a_map_that_carries_nothing_are_warned_of(measures, said):
    import re

    assert re.search(said, _report(measures))


@pytest.mark.parametrize("width", [24, 8])
def test_moved_rows_part_student_and_teacher_who_sees_its_own_embeddings_moved_by_the_image(tmp_path, width):
    moved = Moved(tmp_path, width, step_size=0.05)
    with torch.no_grad():
        before, after = moved.apart(0 * moved.by), moved.apart(moved.by)
        s, t = ((x / 2).log_softmax(-1) for x in moved.logits(moved.by))
        wanted = 4 * (t.exp() * (t - s)).sum()
        assert (after > before).all()
        found = moved.terms()["moved"]
    assert float(found.sum) == pytest.approx(float(wanted), rel=1e-4) and found.weight == 0.5 and found.unit == "example"


def test_the_share_on_which_the_teacher_keeps_its_class_is_recorded_by_refresh(tmp_path):
    moved = Moved(tmp_path, step_size=30.0)
    with torch.no_grad():
        before, after = (moved.logits(by)[1].argmax(-1) for by in (0 * moved.by, moved.by))
    kept = float((before == after).float().mean())
    moved.loop.log = records.Log(tmp_path / "log.jsonl")
    moved.loop.state.augmented = None
    moved.loop._refresh(moved.loop.stages[0])
    moved.loop.log.close()
    [row] = records.rows(tmp_path / "log.jsonl")
    assert 0 < kept < 1 and row["measures"]["kept"] == pytest.approx(kept) and 0 < row["measures"]["residual"] < 1
    assert f"keeps its class on {100 * kept:.0f} % of them" in moved.loop.job.talk.notes[-1]


def test_classes_are_compared_by_kind_and_only_where_they_exist():
    row = lambda logits, kind, allowed=None: Rows(torch.tensor(logits), kind, allowed=None if allowed is None else torch.tensor(allowed))
    exists = [[True, True, False]]
    assert _same_class(row([[1.0, 0.0, 9.0]], "choice", exists), row([[2.0, 0.0, 3.0]], "choice", exists)).tolist() == [True]
    assert _same_class(row([[1.0, 0.0], [0.0, 1.0]], "choice"), row([[0.0, 1.0], [0.0, 2.0]], "choice")).tolist() == [False, True]
    assert _same_class(row([[1.0, -1.0], [1.0, 1.0]], "binary"), row([[2.0, -2.0], [1.0, -1.0]], "binary")).tolist() == [True, False]
    assert not len(_same_class(row([[1.0]], "value"), row([[2.0]], "value")))


def test_padding_and_special_tokens_stay_where_they_are(tmp_path):
    moved = Moved(tmp_path)
    still = moved.mask.bool() & ~moved.free
    assert still.any() and not moved.by[~moved.free].any() and (moved.by[moved.free].norm(dim=-1) > 0).all()


def test_a_relative_step_has_the_stated_length_in_units_of_the_rows_own(tmp_path):
    moved = Moved(tmp_path, steps=1, step_size=0.3)
    length = (moved.small * moved.free[..., None]).flatten(1).norm(dim=1)
    assert torch.allclose(moved.by.flatten(1).norm(dim=1), 0.3 * length, rtol=1e-4)


def test_a_plain_step_is_the_gradient_through_both_models_times_its_size(tmp_path):
    moved = Moved(tmp_path, steps=2, step_size=100.0, relative=False)
    by = torch.zeros_like(moved.by)
    for _ in range(2):
        by.requires_grad_()
        [gradient] = torch.autograd.grad(moved.apart(by).sum(), by)
        by = (by + 100.0 * gradient * moved.free[..., None]).detach()
    assert torch.allclose(moved.by, by, rtol=1e-3, atol=1e-4)
    assert by.abs().max() > 0.01, "nothing moved, so nothing was compared"


def test_the_students_table_learns_from_moved_rows(tmp_path):
    moved = Moved(tmp_path)
    moved.loop.cast.train(moved.loop.stages[0].turns[0])
    table = moved.student.get_input_embeddings().weight
    [gradient] = torch.autograd.grad(moved.terms()["moved"].sum, table)
    assert (gradient[moved.ids[moved.mask.bool()].unique()].norm(dim=-1) > 0).all()


PLAIN = Training(steps=6, batch_size=8, learning_rate=1e-2, precision="float32", optimizer="sgd", clip=None, warmup=0.0)


@pytest.mark.parametrize("width", [24, 8])
def test_unmoved_copies_of_all_rows_teach_what_kd_teaches(tmp_path, width):
    """KL of a row and of its copy, each at half the weight, is the row's KL: exact for narrower students and any map."""
    made = lambda where, method: Bench(
        tmp_path / where, method, PLAIN, dropout=0.0, source="live", data=rows(20), student=bert(1, 2, 0.0, width=width)
    )
    kd, still = made("kd", Kd()).run(), made("b", Backward(**ALL, step_size=0.0)).run()
    assert all(torch.allclose(kd[k], still[k], atol=2e-6) for k in kd)
    far = made("c", Backward(**ALL, step_size=5.0)).run()
    assert not all(torch.allclose(kd[k], far[k], atol=2e-5) for k in kd)


def test_rows_are_made_anew_every_few_epochs_and_training_rows_keep_their_epochs(tmp_path, monkeypatch):
    seen, inner = [], Backward._ascend

    def watched(self, see, by, *more):
        seen.append((see.progress.epoch, bool(by.any()), see.batch.index.tolist()))
        return inner(self, see, by, *more)

    monkeypatch.setattr(Backward, "_ascend", watched)
    loop = Bench(tmp_path, Backward(every=2, start=1), Training(epochs=6, batch_size=10), source="live", data=rows(20)).loop()
    alive, epochs = [], []
    loop.job.on_step = lambda state: (alive.append((state.augmented or {}).get("epoch")), epochs.append(state.epoch))
    loop.run()
    assert [(epoch, moved) for epoch, moved, _ in seen] == [(1, False), (3, False), (5, False)], "each time from the original rows"
    assert len({tuple(index) for _, _, index in seen}) == 3 and all(0 < len(index) < 20 for _, _, index in seen), "other rows each time"
    assert alive == [None, None, 1, 1, 1, 1, 3, 3, 3, 3, 5, 5] and epochs[1::2] == [1, 2, 3, 4, 5, 6]


def images(folder, training=PLAIN, augment=True, autosave=1e9, **settings):
    method = Backward(**{"step_size": 0.05, "relative": True, **settings})
    made = pictures(folder, "backward", augment=augment, training=training, student=network(2), teacher=network(1), autosave=autosave)
    return dataclasses.replace(made, method=method)


def test_moved_images_stay_in_the_box_and_are_moved_and_mirrored_like_their_originals(tmp_path):
    loop = images(tmp_path, **ALL, step_size=0.3).loop()
    loop._enter(0, None)
    loop._refresh(loop.stages[0])
    task, stored = loop.job.task, loop.columns.rows.batch(range(40))
    mean, std = (stored.inputs[name][:, :, None, None] for name in ("mean", "std"))
    by = stored.extra["displacement"]
    straight, drawn = task.view(stored), task.view(stored, range(100, 140))
    pixels = drawn.extra["displaced"] * std + mean
    assert pixels.min() >= -1e-6 and pixels.max() <= 1 + 1e-6 and (by.flatten(1).norm(dim=1) > 0).all()
    outside = straight.inputs["pixel_values"] + by
    assert ((outside * std + mean) < -1e-3).any(), "nothing would have left the box"
    assert torch.allclose(straight.extra["displaced"], outside.clamp(min=-mean / std, max=(1 - mean) / std), atol=1e-6)
    for row in range(40):  # by hand: a crop of the padded displacement at the draw's place, then mirrored or not
        seed = 100 + row
        down, along = (seed >> 1) % 5, (seed >> 24) % 5
        crop = torch.nn.functional.pad(by[row], (2, 2, 2, 2))[:, down : down + 8, along : along + 8]
        moved = drawn.inputs["pixel_values"][row] + (crop.flip(-1) if seed % 2 else crop)
        wanted = moved.clamp(min=-mean[row] / std[row], max=(1 - mean[row]) / std[row])
        assert torch.allclose(drawn.extra["displaced"][row], wanted, atol=1e-5), row


def test_moved_images_leave_running_statistics_and_the_label_term_as_kd_has_them(tmp_path):
    """A step of KD and one with moved rows start alike; after it the running statistics are equal and the weights are not."""
    one = dataclasses.replace(PLAIN, steps=1)
    kd = dataclasses.replace(images(tmp_path / "a", one), method=Kd()).run()
    moved = images(tmp_path / "b", one, **ALL).run()
    running = [k for k in kd if "running" in k or "tracked" in k]
    assert running and all(torch.equal(kd[k], moved[k]) for k in running)
    assert not all(torch.equal(kd[k], moved[k]) for k in kd if k not in running)


def test_batch_normalisation_whose_statistics_are_kept_gives_what_it_gives_in_training():
    layer, x = torch.nn.BatchNorm2d(3), torch.randn(4, 3, 5, 5)
    before = {k: v.clone() for k, v in layer.state_dict().items()}
    with statistics_kept(layer):
        found = layer(x)
    assert all(torch.equal(before[k], v) for k, v in layer.state_dict().items())
    assert torch.equal(found, layer(x)) and layer.num_batches_tracked == 1


def test_resume_is_exact_for_moved_images_under_augmentation(tmp_path):
    training = dataclasses.replace(PLAIN, steps=None, epochs=3)
    whole = images(tmp_path / "a", training).run()
    with pytest.raises(Stop):
        images(tmp_path / "b", training, autosave=0.0).run(stop_at(8))
    resumed = images(tmp_path / "b", training, autosave=0.0).run()
    assert all(torch.equal(whole[k], resumed[k]) for k in whole)


def test_images_move_up_the_gradient_by_hand():
    """S(x) = a x and T(x) = b x on one pixel, so that the gap's gradient is 2 (a - b)^2 x, until the box holds it."""
    import types

    from tutelage.methods._method import See
    from tutelage.rows import Batch, Seen
    from tutelage.tasks.image import Image

    view = Image(data="digits").view
    task = types.SimpleNamespace(rows=lambda seen, batch: [Rows(seen.outputs["logits"], "choice")], view=view)
    pixels, ones = torch.tensor([102, 204], dtype=torch.uint8).view(2, 1, 1, 1), torch.ones(2, 1)
    stored = Batch({"pixel_values": pixels, "mean": 0 * ones, "std": ones}, torch.zeros(2), torch.zeros(2).bool(), torch.arange(2))
    by = {"student": 3.0, "teacher": 1.0}
    look = lambda role, inputs, places: Seen({"logits": by[role] * inputs["pixel_values"].flatten(1)})
    see = See(look, lambda role: None, task, view(stored), None, {})
    found, kept = Backward(steps=2, step_size=0.05, relative=False)._images(see, stored)
    assert found.flatten().tolist() == pytest.approx([0.4 * (1.4**2 - 1), 0.8 * 0.4]) and kept.all()
