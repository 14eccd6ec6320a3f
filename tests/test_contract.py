"""The hard cases that the method contract must carry, as toys: they settle its shape and are no products.

Each runs through the one loop, resumes exactly in the middle of every stage, and keeps frozen roles frozen.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools

import numpy as np
import pytest
import torch
from torch import nn
from toys import LABELS, Bench, Stop, ToyTask, bert, rows, stop_at

from tutelage import losses, records
from tutelage.config import settings
from tutelage.errors import ConfigError
from tutelage.methods._method import Augment, Made, Method, Needs, RoleSpec, Stage, Turn, over_rows
from tutelage.methods.finetune import Finetune
from tutelage.methods.kd import Kd
from tutelage.recipe import Training
from tutelage.rows import Inside, Rows, Term


def toward(see, role: str) -> dict[str, Term]:
    return {"soft": over_rows(losses.soft_targets, see.student, see(role), see)}


@settings
class OnlineProKd(Method):
    """Teacher and student trained by turns of an epoch: the student follows the teacher's own path."""

    def stages(self, facts):
        turns = (
            Turn(lambda see: {"label": see.task.label_term(see("teacher"), see.batch)}, role="teacher", steps=facts.steps_per_epoch),
            Turn(lambda see: toward(see, "teacher"), steps=facts.steps_per_epoch),
        )
        return [
            Stage("follow", turns, 2 * facts.steps),
            Stage("label", (Turn(Finetune().terms),), facts.steps_per_epoch, start_from="best"),
        ]


@settings
class Mate(Method):
    """A generator takes 2 steps to part student and teacher, then the student takes 3 to close the gap."""

    def roles(self, facts):
        return {"generator": RoleSpec(start="teacher", head="masked_lm")}

    def mixed(self, see, grad: bool):
        ids = see.batch.inputs["input_ids"]
        hidden = torch.rand(ids.shape) < 0.3
        with torch.set_grad_enabled(grad):
            scores = see(
                "generator", {"input_ids": ids.masked_fill(hidden, 0), "attention_mask": see.batch.inputs["attention_mask"]}
            ).outputs["logits"]
            chosen = nn.functional.gumbel_softmax(scores.float(), hard=True)
        out = {}
        for role in ("student", "teacher"):
            table = see.embeddings(role)
            mixed = torch.where(hidden[..., None], chosen @ table.float(), table[ids])
            out[role] = see(role, {"inputs_embeds": mixed, "attention_mask": see.batch.inputs["attention_mask"]})
        return out

    def generator_terms(self, see):
        seen = self.mixed(see, True)
        return {
            "gap": over_rows(lambda s, t, kind, allowed: losses.squared_distance(s, t), seen["student"], seen["teacher"], see, weight=-1.0)
        }

    def student_terms(self, see):
        seen = self.mixed(see, False)
        return {"soft": over_rows(losses.soft_targets, seen["student"], seen["teacher"], see), "clean": toward(see, "teacher")["soft"]}

    def stages(self, facts):
        return [
            Stage("adversarial", (Turn(self.generator_terms, role="generator", steps=2), Turn(self.student_terms, steps=3)), facts.steps)
        ]


@settings
class Backward(Method):
    """Rows moved up the gradient of the gap in embedding space, made anew every 2 epochs, without labels."""

    def ascend(self, see):
        with torch.enable_grad():
            e = see.embeddings("student")[see.batch.inputs["input_ids"]].detach().requires_grad_()
            mask = see.batch.inputs["attention_mask"]
            s, t = (see(r, {"inputs_embeds": e, "attention_mask": mask}).outputs["logits"] for r in ("student", "teacher"))
            [gradient] = torch.autograd.grad(((s - t) ** 2).sum(), e)
        by = 0.5 * gradient / gradient.norm().clamp(min=1e-9)
        return Made({"displacement": by, "length": by.flatten(1).norm(dim=1)}, {"length": by.flatten(1).norm(dim=1)})

    def terms(self, see):
        out = {"soft": toward(see, "teacher")["soft"], "label": see.task.label_term(see.student, see.batch)}
        if "displacement" in see.batch.extra:
            ids, mask, by = *(see.batch.inputs[k] for k in ("input_ids", "attention_mask")), see.batch.extra["displacement"]
            fed = lambda role, by: {"inputs_embeds": see.embeddings(role)[ids] + by, "attention_mask": mask}
            pair = see("student", fed("student", by)), see("teacher", fed("teacher", see.once["factor"] * by))
            out["moved"] = over_rows(losses.soft_targets, *pair, see)
        return out

    def stages(self, facts):
        return [Stage("train", (Turn(self.terms),), facts.steps, augment=Augment(self.ascend, self.once, every=2, start=1))]

    def once(self, table):
        return {"factor": torch.tensor(2.0)}


@settings
class Takd(Method):
    """An assistant is trained in a stage of its own; the student then learns from it."""

    def roles(self, facts):
        return {"assistant": RoleSpec(start="teacher")}

    def assist(self, see):
        return {"soft": over_rows(losses.soft_targets, see("assistant"), see.teacher, see)}

    def stages(self, facts):
        return [
            Stage("assistant", (Turn(self.assist, role="assistant"),), facts.steps),
            Stage("student", (Turn(lambda see: toward(see, "teacher")),), facts.steps, teacher="assistant"),
        ]


@settings
class LearnedMap(Method):
    """A hidden state through a learned map, and the first layer's attention maps."""

    def needs(self, facts, stage):
        return Needs(Inside(hidden=(1,)), Inside(hidden=(2,)))

    def maps(self, facts):
        return {"width": nn.Linear(facts.widths["student"], facts.widths["teacher"], bias=False)}

    def terms(self, see):
        gap = (see.maps["width"](see.student.hidden[1]).float() - see.teacher.hidden[2].float()) ** 2
        return {"hidden": Term((gap.mean(-1) * see.batch.inputs["attention_mask"]).sum(), "token")}


@settings
class Attention(Method):
    """Attention maps, which are never cached."""

    def needs(self, facts, stage):
        return Needs(Inside(attention=(1,)), Inside(attention=(2,)))

    def terms(self, see):
        return {"attention": Term(((see.student.attention[1] - see.teacher.attention[2]) ** 2).sum(), "example")}


@settings
class Dist(Method):
    """A term over the classes' columns: it compares examples, so it must see the whole step."""

    def terms(self, see):
        s, t = (x.outputs["logits"].float().softmax(-1).T for x in (see.student, see.teacher))
        apart = 1 - nn.functional.cosine_similarity(s - s.mean(-1, keepdim=True), t - t.mean(-1, keepdim=True), dim=-1)
        return {"columns": Term(apart.mean() * len(see.batch.index), "example", scope="step")}


@settings
class SpanTask(ToyTask):
    """Two kinds of rows, starts and ends, over the tokens that exist: a stand-in for spans made of classes' logits."""

    def counts(self, encoded, index):
        return super().counts(encoded, index) | {"token": float(encoded.lengths[index].sum())}

    def rows(self, seen, batch):
        allowed = torch.ones_like(seen.outputs["logits"], dtype=torch.bool)
        allowed[:, -1] = False
        return [Rows(seen.outputs["logits"] * sign, "choice", allowed=allowed, share=0.5) for sign in (1, -1)]


def masked_lm():
    from transformers import BertConfig, BertForMaskedLM

    torch.manual_seed(3)
    small = BertConfig(
        vocab_size=50, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, max_position_embeddings=32
    )
    return BertForMaskedLM(small)


CASES = {
    "online_pro_kd": OnlineProKd(), "mate": Mate(), "backward": Backward(), "takd": Takd(), "learned_map": LearnedMap(),
    "attention": Attention(), "dist": Dist(), "kd": Kd(), "finetune": Finetune(),
}  # fmt: skip
ROLES = {"mate": {"generator": masked_lm}, "takd": {"assistant": functools.partial(bert, 1, seed=7)}}


def bench(folder, name: str, **changes) -> Bench:
    task = SpanTask() if name == "learned_map" else ToyTask()
    training = Training(epochs=4, batch_size=8, learning_rate=1e-3, precision="float32")
    made = Bench(folder, CASES[name], training, roles=ROLES.get(name, {}), task=task, source="auto")
    return dataclasses.replace(made, **changes)


@pytest.mark.parametrize("name", CASES)
def test_a_training_stopped_in_the_middle_of_every_stage_ends_in_the_same_weights(name, tmp_path):
    undisturbed = bench(tmp_path / "a", name)
    loop = undisturbed.loop()
    before, points = 0, []
    for stage in loop.stages:
        points += [before + stage.steps // 2, before + stage.steps]
        before += stage.steps
    whole = undisturbed.run()
    for number, point in enumerate(p for p in points if p < before):
        disturbed = bench(tmp_path / f"b{number}", name, autosave=0.0)
        with pytest.raises(Stop):
            disturbed.run(stop_at(point))
        resumed = bench(tmp_path / f"b{number}", name, autosave=0.0).run()
        assert all(torch.equal(whole[k], resumed[k]) for k in whole), f"stopped at step {point}"


@pytest.mark.parametrize("name", CASES)
def test_no_parameter_of_a_frozen_role_gets_a_gradient(name, tmp_path):
    made = bench(tmp_path, name)
    loop = made.loop()

    def look(state):
        trained = loop.cast.turn.role if loop.cast.turn else None
        for role, model in loop.job.models.items():
            if role not in (trained, "teacher@3"):
                frozen = role in loop.models or role in loop.cast.frozen
                assert not frozen or not any(p.requires_grad for p in model.parameters()), role
                assert role in loop.models or all(p.grad is None for p in model.parameters()), role

    loop.job.on_step = look
    loop.run()


def test_a_whole_step_term_refuses_to_be_split(tmp_path):
    made = bench(tmp_path, "dist", training=Training(epochs=1, batch_size=8, micro_batch=3, precision="float32"))
    with pytest.raises(ConfigError, match="compares the examples of a step"):
        made.run()


def test_turns_follow_each_other_in_a_cycle(tmp_path):
    loop = bench(tmp_path, "mate").loop()
    seen = []
    loop.job.on_step = lambda state: seen.append(loop.cast.turn.role)
    loop.run()
    assert seen[:10] == ["generator"] * 2 + ["student"] * 3 + ["generator"] * 2 + ["student"] * 3


def test_the_generator_parts_what_the_student_closes(tmp_path):
    loop = bench(tmp_path, "mate").loop()
    start = {k: v.clone() for k, v in loop.models["generator"].state_dict().items()}
    loop.run()
    assert any(not torch.equal(start[k], v) for k, v in loop.models["generator"].state_dict().items())


def test_made_columns_live_for_their_epochs_beside_the_rows_and_what_is_measured_is_logged(tmp_path):
    loop = bench(tmp_path, "backward").loop()
    made = []
    loop.job.on_step = lambda state: made.append((state.augmented or {}).get("epoch"))
    loop.run()
    assert [e for i, e in enumerate(made) if i == 0 or made[i - 1] != e] == [None, 1, 3]
    assert len(made) == 4 * -(-len(loop.job.train) // 8), "made columns cost no steps, so rows keep their epochs"
    assert loop.columns.rows.ragged["input_ids"] is loop.job.train.ragged["input_ids"] and loop.columns.rows.gold is loop.job.train.gold
    by, starts = loop.columns.rows.extra["displacement"], loop.job.train.starts
    assert by.shape == (int(starts[-1]), 16)
    lengths = [np.linalg.norm(by[a:b]) for a, b in itertools.pairwise(starts)]
    assert np.allclose(loop.columns.rows.beside["length"], lengths, atol=1e-6)
    first, logged = [row for row in records.rows(tmp_path / "steps.jsonl") if "measures" in row]
    assert first["step"] == len(made) // 4 and logged["measures"] == {"length": pytest.approx(np.mean(lengths)), "factor": 2.0}


def test_an_assistant_teaches_what_it_was_at_its_best(tmp_path):
    loop = bench(tmp_path, "takd").loop()
    loop.run()
    assert loop.cast.source is not None
    shown = loop.cast.source.of(loop.job.train.batch([0, 1])).outputs["logits"]
    model = loop.models["assistant"].eval()
    batch = loop.job.train.batch([0, 1])
    with torch.no_grad():
        assert torch.allclose(model(**batch.inputs).logits, shown, atol=1e-3)


def test_span_positions_are_rows_of_two_kinds_that_count_half_each():
    see = type("See", (), {"task": SpanTask(), "batch": None})()
    seen = [type("Seen", (), {"outputs": {"logits": torch.randn(4, LABELS)}})() for _ in range(2)]
    term = over_rows(losses.soft_targets, *seen, see)
    by_hand = sum(
        0.5 * losses.divergence(s * seen[0].outputs["logits"][:, :2], s * seen[1].outputs["logits"][:, :2]).sum() for s in (1, -1)
    )
    assert torch.allclose(term.sum, by_hand)


@pytest.mark.parametrize("name", ["kd", "finetune", "learned_map", "takd"])
@pytest.mark.parametrize("micro", [3, 5])
def test_unequal_micro_batches_give_the_gradient_of_the_whole_batch(name, micro, tmp_path):
    data = rows(40, unlabelled=7)
    run = {}
    for cut in (None, micro):
        training = Training(steps=3, batch_size=8, micro_batch=cut, learning_rate=1e-3, precision="float32", optimizer="sgd", clip=None)
        run[cut] = bench(tmp_path / str(cut), name, training=training, dropout=0.0, data=data).run()
    assert all(torch.allclose(run[None][k], run[micro][k], atol=2e-6) for k in run[None])
