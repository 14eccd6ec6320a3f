"""Backward-pass KD: where rows are moved, how far, through which map, and how long they live."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from toys import VOCABULARY, Bench, bert, rows

from tutelage.errors import ConfigError
from tutelage.methods.backward import Backward, _maps
from tutelage.recipe import Training

SPECIAL = (7, 8, 9)


class Moved:
    """Rows of a toy moved once, in float64 wherever this test works them out again."""

    def __init__(self, folder, **settings):
        training = Training(epochs=2, batch_size=8, precision="float32")
        twins = {"student": bert(1, 2, 0.0, width=24), "teacher": bert(2, 1, 0.0, width=16)}
        self.loop = Bench(folder, Backward(start=0, **settings), training, dropout=0.0, source="live", data=rows(20), **twins).loop()
        self.loop.stages = self.loop.job.method.stages(dataclasses.replace(self.loop.job.facts, special_tokens=SPECIAL))
        self.loop._enter(0, None)
        self.loop._refresh(self.loop.stages[0])
        self.student, self.teacher = self.loop.models["student"], self.loop.cast.model(self.loop.stages[0], "teacher")
        self.before, self.after = (x.batch(range(20)).inputs for x in (self.loop.job.train, self.loop.extra))
        self.mask = self.before["attention_mask"]
        self.free = self.mask.bool() & ~torch.isin(self.before["input_ids"], torch.tensor(SPECIAL))
        small, large = (m.get_input_embeddings().weight.detach() for m in (self.student, self.teacher))
        self.small, self.large = small[self.before["input_ids"]], large[self.before["input_ids"]]
        self.map = torch.from_numpy(np.linalg.lstsq(small.double().numpy(), large.double().numpy(), rcond=None)[0]).float()

    def apart(self, embedded: torch.Tensor) -> torch.Tensor:
        """|S(x) - T(x Q)|^2 of each row, Q where places are free and the teacher's own embeddings elsewhere; (rows,)."""
        image = torch.where(self.free[..., None], embedded @ self.map, self.large)
        s, t = (m(inputs_embeds=x, attention_mask=self.mask).logits for m, x in ((self.student, embedded), (self.teacher, image)))
        return ((s - t) ** 2).sum(-1)


def test_the_map_between_embeddings_is_numpys_least_squares_in_float64():
    many = np.random.default_rng(0)
    tables = {"student": many.normal(size=(60, 8)), "teacher": many.normal(size=(60, 12))}
    found = _maps(lambda role: torch.from_numpy(tables[role]).float())()
    rival = np.linalg.lstsq(
        tables["student"].astype(np.float32).astype(float), tables["teacher"].astype(np.float32).astype(float), rcond=None
    )[0]
    assert found.shape == (8, 12) and np.allclose(found.numpy(), rival, atol=1e-6)


def test_a_map_is_exact_where_the_teachers_table_is_an_image_of_the_students():
    many = np.random.default_rng(0)
    small, turn = many.normal(size=(60, 8)), many.normal(size=(8, 12))
    tables = {"student": small, "teacher": small @ turn}
    assert np.allclose(_maps(lambda role: torch.from_numpy(tables[role]).float())().numpy(), turn, atol=1e-4)


def test_tables_of_two_vocabularies_are_refused_in_one_sentence():
    with pytest.raises(ConfigError, match=r"^method: student and teacher know 5 and 6 tokens; [^\n]*one vocabulary$"):
        _maps(lambda role: torch.zeros(5 if role == "student" else 6, 3))()


def test_moved_rows_part_student_and_teacher_and_the_teacher_sees_their_image(tmp_path):
    moved = Moved(tmp_path, step_size=0.05)
    with torch.no_grad():
        before, after = moved.apart(moved.small), moved.apart(moved.after["inputs_embeds"])
    assert (after > before).all()
    image = moved.after["inputs_embeds"] @ moved.map
    assert torch.allclose(moved.after["teacher:inputs_embeds"][moved.free], image[moved.free], atol=1e-5)


def test_padding_and_special_tokens_stay_where_they_are_for_both(tmp_path):
    moved = Moved(tmp_path)
    still = moved.mask.bool() & ~moved.free
    assert still.any() and torch.equal(moved.after["inputs_embeds"][still], moved.small[still])
    assert torch.equal(moved.after["teacher:inputs_embeds"][still], moved.large[still])
    gone = (moved.after["inputs_embeds"] - moved.small)[moved.free].norm(dim=-1)
    assert (gone > 0).all()
    assert set(moved.after) == {"inputs_embeds", "teacher:inputs_embeds", "attention_mask"} and not moved.loop.extra.labelled.any()


def test_a_relative_step_has_the_stated_length_in_units_of_the_rows_own(tmp_path):
    moved = Moved(tmp_path, steps=1, step_size=0.3)
    gap = ((moved.after["inputs_embeds"] - moved.small) * moved.mask[..., None]).flatten(1).norm(dim=1)
    length = (moved.small * moved.free[..., None]).flatten(1).norm(dim=1)
    assert torch.allclose(gap, 0.3 * length, rtol=1e-4)


def test_a_plain_step_is_the_gradient_through_both_models_times_its_size(tmp_path):
    moved = Moved(tmp_path, steps=2, step_size=100.0, relative=False)
    x = moved.small.clone()
    for _ in range(2):
        x.requires_grad_()
        [gradient] = torch.autograd.grad(moved.apart(x).sum(), x)
        x = (x + 100.0 * gradient * moved.free[..., None]).detach()
    real = moved.mask.bool()
    assert torch.allclose(moved.after["inputs_embeds"][real], x[real], rtol=1e-3, atol=1e-4)
    assert (x - moved.small).abs().max() > 0.01, "nothing moved, so nothing was compared"


def test_rows_are_made_anew_every_few_epochs_from_the_original_ones(tmp_path, monkeypatch):
    seen, inner = [], Backward._ascend

    def watched(self, see, start, fed, free):
        own = see.embeddings("student")[see.batch.inputs["input_ids"]]
        seen.append((see.progress.epoch, torch.equal(start, own)))
        return inner(self, see, start, fed, free)

    monkeypatch.setattr(Backward, "_ascend", watched)
    training = Training(epochs=6, batch_size=20, precision="float32")
    loop = Bench(tmp_path, Backward(every=2, start=1), training, dropout=0.0, source="live", data=rows(20)).loop()
    alive, steps = [], []
    loop.job.on_step = lambda state: (alive.append((state.augmented or {}).get("epoch")), steps.append(state.epoch))
    loop.run()
    assert [epoch for epoch, _ in seen] == sorted({1, 3}) and all(original for _, original in seen)
    assert alive == [None, 1, 1, 1, 1, 3], "an epoch with moved rows has twice the steps, all within the budget"
    assert loop.job.train.ragged["input_ids"].max() < VOCABULARY and "inputs_embeds" not in loop.job.train.ragged


def test_images_move_alike_for_student_and_teacher(tmp_path):
    """Without a map: S(x) = a x and T(x) = b x on one pixel, so that the gap's gradient is 2 (a - b)^2 x, by hand."""
    import types

    from tutelage.methods._method import See
    from tutelage.rows import Batch, Rows, Seen

    task = types.SimpleNamespace(rows=lambda seen, batch: [Rows(seen.outputs["logits"], "choice")])
    batch = Batch({"pixel_values": torch.tensor([[1.0], [-2.0]])}, torch.zeros(2), torch.zeros(2).bool(), torch.arange(2))
    by = {"student": 3.0, "teacher": 1.0}
    look = lambda role, inputs, places: Seen({"logits": by[role] * inputs["pixel_values"]})
    see = See(look, lambda role: None, task, batch, None, {})
    found = Backward(steps=2, step_size=0.01, relative=False)._images(see)["pixel_values"]
    assert found.flatten().tolist() == pytest.approx([1.08**2, -2 * 1.08**2])
