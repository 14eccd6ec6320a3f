"""A task without text and models small enough to train in milliseconds; no part of the product knows of them."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import BertConfig, BertForMaskedLM, BertForSequenceClassification

from tutelage import losses
from tutelage.config import settings
from tutelage.engine.checkpoint import State
from tutelage.engine.loop import Job, Loop
from tutelage.engine.machine import Machine
from tutelage.engine.signals import Cache
from tutelage.engine.talk import Talk
from tutelage.engine.teacher import Member, Teacher
from tutelage.methods._method import Facts, See
from tutelage.recipe import Signals, Training
from tutelage.rows import Batch, Rows, Seen, Term
from tutelage.tasks._task import Encoded, Task

VOCABULARY, LABELS = 50, 3


@settings
class ToyTask(Task):
    """Rows of token ids with one of three labels."""

    kind = "choice"
    primary = "accuracy"

    def rows(self, seen, batch):
        return [Rows(seen.outputs["logits"], "choice", batch.gold)]

    def label_term(self, seen, batch, weight=1.0):
        keep = batch.labelled
        return Term(losses.label_loss(seen.outputs["logits"][keep], batch.gold[keep], kind="choice").sum(), "label", weight)

    def predict(self, outputs, encoded):
        return outputs["logits"].argmax(-1)

    def score(self, predicted, gold):
        return {"accuracy": float((predicted == gold).mean())}


def rows(number: int = 40, seed: int = 0, unlabelled: int = 0) -> Encoded:
    """Rows of 3 to 12 tokens; the label is the first token's remainder, so that it can be learned."""
    draw = np.random.default_rng(seed)
    lengths = draw.integers(3, 13, number)
    ids = draw.integers(1, VOCABULARY, lengths.sum()).astype(np.int32)
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    gold = (ids[starts] % LABELS).astype(np.int64)
    gold[:unlabelled] = -1
    return Encoded({"input_ids": ids}, lengths, gold)


def bert(
    depth: int = 2, seed: int = 0, dropout: float = 0.1, width: int = 16, labels: int = LABELS, cls: Any = None, heads: int = 2
) -> Any:
    torch.manual_seed(seed)
    return (cls or BertForSequenceClassification)(
        BertConfig(
            vocab_size=VOCABULARY,
            hidden_size=width,
            num_hidden_layers=depth,
            num_attention_heads=heads,
            intermediate_size=2 * width,
            max_position_embeddings=32,
            num_labels=labels,
            hidden_dropout_prob=dropout,
            attention_probs_dropout_prob=dropout,
        )
    )


@dataclasses.dataclass
class Bench:
    """One training on toy parts; `run` gives the student's weights."""

    folder: Path
    method: Any
    training: Training = Training(epochs=2, batch_size=8, learning_rate=1e-3, precision="float32")
    source: str = "cached"
    dropout: float = 0.1
    autosave: float = 1e9
    task: Any = dataclasses.field(default_factory=ToyTask)
    data: Encoded = dataclasses.field(default_factory=rows)
    dev: Encoded = dataclasses.field(default_factory=lambda: rows(20, seed=9))
    teacher: Any = None
    student: Any = None
    roles: dict[str, Any] = dataclasses.field(default_factory=dict)
    copies: bool = False
    """Whether checkpoints and roles with the task's head are copies of the teacher."""

    def loop(self, on_step=lambda state: None) -> Loop:
        machine, talk = Machine(threads=1), Talk()
        student = self.student or bert(1, seed=2, dropout=self.dropout)
        teacher = (self.teacher or bert(2, seed=1, dropout=self.dropout)).eval()
        roles = {"student": student, "teacher": teacher, **{k: f() for k, f in self.roles.items()}}
        other = lambda seed: copy.deepcopy(teacher) if self.copies else bert(2, seed=seed, dropout=self.dropout).eval()
        route = [other(21), other(22), teacher]
        roles |= {f"teacher@{k}": model for k, model in enumerate(route, 1)}
        per_epoch = -(-len(self.data) // self.training.batch_size)
        facts = Facts(
            steps=self.training.steps or (self.training.epochs or 3) * per_epoch,
            steps_per_epoch=per_epoch,
            depths={"student": len(student.bert.encoder.layer), "teacher": len(teacher.bert.encoder.layer)},
            widths={"student": student.config.hidden_size, "teacher": teacher.config.hidden_size},
            heads={"student": student.config.num_attention_heads, "teacher": teacher.config.num_attention_heads},
            kept_layers=None,
            checkpoints=len(route),
            task_kind="choice",
            labels=LABELS,
            mask_token=0,
        )
        for role, spec in self.method.roles(facts).items():
            cls = BertForMaskedLM if spec.head == "masked_lm" else None
            made = bert(spec.layers or (1 if spec.start == "student" else 2), seed=3, dropout=self.dropout, cls=cls)
            roles.setdefault(role, copy.deepcopy(teacher) if self.copies and cls is None else made)
        cache = Cache(self.folder / "signals", machine, talk)

        def signals(role, stage):
            from tutelage.models.load import weights_digest

            member = Member(role, lambda: roles[role], weights_digest(roles[role]), lambda: self.data, 16, "same")
            return Teacher([member], Signals(source=self.source), self.task, cache, machine).source(
                self.method.needs(facts, stage.name), LABELS, "same"
            )

        return Loop(
            Job(
                "toy",
                self.method,
                self.task,
                self.training,
                5,
                facts,
                roles,
                signals,
                self.data,
                self.dev,
                self.folder,
                machine,
                talk,
                self.autosave,
                on_step,
            )
        )

    def run(self, on_step=lambda state: None) -> dict[str, torch.Tensor]:
        loop = self.loop(on_step)
        loop.run()
        return {f"{role}.{k}": v.clone() for role, model in loop.models.items() for k, v in model.state_dict().items()}


@settings
class Scripted(ToyTask):
    """The toy task whose looks at dev have the scores of a script, in turn."""

    scores: Any = None

    def score(self, predicted, gold):
        return {"accuracy": next(self.scores)}


def shown(student: torch.Tensor, teacher: torch.Tensor, gold: torch.Tensor | None = None, **more: Any) -> Any:
    """What a method's terms look through, with these logits; `more` are other roles' logits and `progress`."""
    gold = torch.full((len(student),), -1) if gold is None else gold
    progress = more.pop("progress", None)
    roles = {role: Seen({"logits": logits}) for role, logits in {"student": student, "teacher": teacher, **more}.items()}
    batch = Batch({}, gold, gold >= 0, torch.arange(len(gold)))
    return See(lambda role, inputs=None: roles[role], lambda role: None, ToyTask(), batch, progress, {})


class Stop(BaseException):
    """Ends a training from outside, as a kill would."""


def stop_at(step: int):
    def on_step(state: State) -> None:
        if state.total == step:
            raise Stop

    return on_step
