"""A task without text and models small enough to train in milliseconds; no part of the product knows of them."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path
from typing import Any

import decoders
import numpy as np
import torch
from transformers import BertConfig, BertForMaskedLM, BertForSequenceClassification

from tutelage import find, losses
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
from tutelage.tasks._packing import NO_TARGET, pack
from tutelage.tasks._task import Encoded, Task
from tutelage.tasks.language import Language

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
    depth: int = 2,
    seed: int = 0,
    dropout: float = 0.1,
    width: int = 16,
    labels: int = LABELS,
    cls: Any = None,
    heads: int = 2,
    words: int = VOCABULARY,
) -> Any:
    torch.manual_seed(seed)
    return (cls or BertForSequenceClassification)(
        BertConfig(
            vocab_size=words,
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


def moved(model: Any, seed: int) -> Any:
    """A copy with other weights near the model's."""
    other, draw = copy.deepcopy(model), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=draw))
    return other


def sizes(student: Any, teacher: Any, name: str) -> dict[str, int]:
    """A size of both models by role, where both know it."""
    known = {"student": student, "teacher": teacher}
    both = {role: getattr(getattr(model, "config", None), name, None) for role, model in known.items()}
    return both if None not in both.values() else {}


MORE = {
    "annealing-many": {"max_temperature": 2, "label_share": 0.3, "reload": False, "optimizer": "continue"},
    "backward-steps": {"relative": False, "every": 1},
    "combined": {"generator_steps": 1, "student_steps": 3},
    "combined-bert": {"form": "bert"},
    "combined-still": {"dropout": False, "generator_steps": 1, "student_steps": 3},
    "continuation-images": {"labels": "images", "temperature": "equal", "anneal_share": 0.5},
    "continuation-step": {"labels": "step", "label_from": 0.5, "margin": 0.0},
    "echo": {"layers": (1,)},
    "echo-one": {"layers": (1,), "label_share": 0.0, "direction": "teacher_first", "temperature": 2.0},
    "gkd-half": {"share": 0.5, "hard_weight": 0.5, "form": "kl", "temperature": 2.0},
    "gkd-teacher": {"writer": "teacher", "hard_weight": 0.5, "every": 2},
    "kd-jsd": {"form": "jsd", "mix": 0.3},
    "kd-mse": {"form": "mse"},
    "kd-reverse": {"form": "reverse_kl"},
    "kd-skewed": {"form": "skewed_reverse_kl"},
    "mate": {"generator_steps": 1, "student_steps": 3},
    "mate-kl": {"divergence": "kl", "prepare": 0, "generator_steps": 1, "student_steps": 2},
    "pro_kd-kl": {"form": "kl", "hard_weight": 0.5},
    "pro_kd-online": {"teacher": "online", "turn": 1},
    "relations-first": {"pairs": ("qk", "vv"), "soft_weight": 0.0},
}
"""Other settings of a method that take another way through its code, and cycles short enough for a toy."""
WHOLE_STEP = ("dist",)
"""Methods with a term that compares the rows of a step."""
SLOW = {"dist": 100}
"""By how much a rate must be lower to keep rounding small: correlations of nearly equal probabilities lose digits."""


def text(number: int = 20, seed: int = 0) -> Encoded:
    """Packed rows of 12 tokens, with one document or several in each."""
    draw = np.random.default_rng(seed)
    documents = [(draw.integers(3, 97, draw.integers(4, 20)).tolist(), [True] * 20) for _ in range(number)]
    columns, targets, lengths = pack(documents, 12)
    numbers = np.zeros(len(lengths), dtype=np.int64)
    return Encoded(columns, lengths, numbers, extra={"target": targets - NO_TARGET}, pad={"input_ids": 0}, mask=False)


def decoder(depth: int = 2, seed: int = 0, **more: Any) -> Any:
    return decoders.model(num_hidden_layers=depth, seed=seed, hidden_size=24, intermediate_size=32, num_attention_heads=2, **more)


def method(name: str, **changes: Any) -> Any:
    return find.find("methods", name.split("-")[0])(**MORE.get(name, {}) | changes)


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
    text: bool = False
    """Running text and decoders, also for a method that does not need them."""
    echoes: dict[int, int] = dataclasses.field(default_factory=dict)

    def loop(self, on_step=lambda state: None) -> Loop:
        if self.text or self.method.writes_text:
            self.task, self.data, self.dev = Language(data="none", tokens=12), text(), text(8, seed=9)
            self.student = self.student or decoder(1, seed=2)
            self.teacher = self.teacher or decoder(2, seed=1)
        machine, talk = Machine(threads=1), Talk()
        student = self.student or bert(1, seed=2, dropout=self.dropout)
        teacher = (self.teacher or bert(2, seed=1, dropout=self.dropout)).eval()
        roles = {"student": student, "teacher": teacher, **{k: f() for k, f in self.roles.items()}}
        other = lambda seed: copy.deepcopy(teacher) if self.copies else moved(teacher, seed)
        route = [other(21), other(22), teacher]
        roles |= {f"teacher@{k}": model for k, model in enumerate(route, 1)}
        per_epoch = -(-len(self.data) // self.training.batch_size)
        widths = sizes(student, teacher, "vocab_size").values()
        words = min(widths) if len(set(widths)) > 1 else None
        facts = Facts(
            steps=self.training.steps or (self.training.epochs or 3) * per_epoch,
            steps_per_epoch=per_epoch,
            depths=sizes(student, teacher, "num_hidden_layers"),
            widths=sizes(student, teacher, "hidden_size"),
            heads=sizes(student, teacher, "num_attention_heads"),
            kept_layers=None,
            checkpoints=len(route),
            task_kind="choice",
            labels=LABELS,
            mask_token=0,
            words=words,
            echoes=self.echoes,
            tokenized=self.task.tokenized,
        )
        for role, spec in self.method.roles(facts).items():
            if spec.head == "masked_lm":
                words = student.config.vocab_size
                roles.setdefault(role, bert(2, seed=3, dropout=self.dropout, cls=BertForMaskedLM, words=words))
            roles.setdefault(role, copy.deepcopy(student) if spec.start == "student" and not self.copies else other(23))
        cache = Cache(self.folder / "signals", machine, talk)

        def signals(role, stage):
            from tutelage.models.load import weights_digest

            member = Member(role, lambda: roles[role], weights_digest(roles[role]), lambda: self.data, 16, "same")
            return Teacher([member], Signals(source=self.source, precision="float32"), self.task, cache, machine).source(
                self.method.needs(facts, stage.name), LABELS, words
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
    """What a method's terms look through, with these logits; `more` are other roles' logits, `progress` and `scale`."""
    gold = torch.full((len(student),), -1) if gold is None else gold
    progress, scale = more.pop("progress", None), more.pop("scale", 0.0)
    roles = {role: Seen({"logits": logits}) for role, logits in {"student": student, "teacher": teacher, **more}.items()}
    batch = Batch({}, gold, gold >= 0, torch.arange(len(gold)))
    return See(lambda role, inputs=None, places=None: roles[role], lambda role: None, ToyTask(), batch, progress, {}, scale=scale)


class Stop(BaseException):
    """Ends a training from outside, as a kill would."""


def stop_at(step: int):
    def on_step(state: State) -> None:
        if state.total == step:
            raise Stop

    return on_step
