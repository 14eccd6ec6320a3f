"""Who plays in a training: each role's model, which of them trains now, and what each shows of a batch."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from .. import losses
from ..methods._method import Facts, Method, Progress, See, Stage, Turn
from ..recipe import Training
from ..rows import NOTHING, Batch, Seen
from ..seeds import stream
from ..tasks._task import Encoded, Task
from . import augment
from .checkpoint import State
from .forward import forward, move, statistics_kept
from .machine import Machine
from .talk import Talk
from .tiles import logits_at
from .write import continuations

SCALED = 1024
"""Rows of logits that tell their mean squared norm."""
NOBODY = Turn(lambda see: {}, role="")
"""The turn in which every role is frozen."""


@dataclasses.dataclass
class Job:
    """Everything one training needs."""

    title: str
    method: Method
    task: Task
    training: Training
    seed: int
    facts: Facts
    models: Mapping[str, nn.Module]
    """Roles with a model at hand: 'student', and those the method trains or looks through. May load when asked."""
    signals: Callable[[str, Stage], Any]
    """The signals of a frozen role for a stage (`engine.signals`), asked for when the stage begins."""
    train: Encoded
    dev: Encoded
    folder: Path
    machine: Machine
    talk: Talk
    autosave: float = 60.0
    on_step: Callable[[State], None] = lambda state: None
    anchors: int = 0
    """Checkpoints of this training to keep, at equal distances; the last is the finished model and not kept apart."""


class Cast:
    """The roles of one training. `models` are those that some turn trains; the others are loaded when they are first seen."""

    def __init__(self, job: Job, stages: Sequence[Stage], dtype: torch.dtype):
        self.job, self.machine, self.dtype = job, job.machine, dtype
        torch.manual_seed(stream(job.seed, "maps"))
        self.maps = nn.ModuleDict(job.method.maps(job.facts)).to(self.machine.device)
        self.outputs = dict.fromkeys((r for r, s in job.method.roles(job.facts).items() if s.head == "masked_lm"), ("logits",))
        """What models with another head than the task's put out, by role."""
        trained = sorted({turn.role for stage in stages for turn in stage.turns})
        for role in trained:
            job.models[role].to(self.machine.device)
        self.models = {role: job.models[role] for role in trained}
        self.frozen: dict[str, nn.Module] = {}
        self.source: Any = None
        """The stored or live signals of the stage's teacher."""
        self.scale = 0.0
        """The mean squared norm of its logits, where the stage needs it."""
        self.turn: Turn | None = None
        self.shared: list[nn.Parameter] = []
        """Parameters that stand in the teacher's memory while their stage lasts."""

    def enter(self, stage: Stage) -> None:
        """Begin a stage: find its teacher's signals, unless that role is itself trained in it."""
        seen = stage.teacher and stage.teacher not in {turn.role for turn in stage.turns}
        self.source = self.job.signals(str(stage.teacher), stage) if seen else None
        reduction = self.job.method.needs(self.job.facts, stage.name).scale
        self.scale = self._mean_square(reduction, stream(self.job.seed, "scale", stage.name)) if reduction and self.source else 0.0
        self.turn = None
        self._share(stage, getattr(self.source, "model", None))

    def _share(self, stage: Stage, teacher: nn.Module | None) -> None:
        """Let what no turn of the stage moves stand in the live teacher's memory, where it is equal to the teacher's."""
        theirs = dict(teacher.named_parameters()) if teacher is not None else {}
        for role, model in self.models.items():
            moved = {name for turn in stage.turns if turn.role == role for name, _ in self.parameters(turn)}
            for name, mine in model.named_parameters():
                other = theirs.get(name)
                if other is None or other is mine or name in moved or other.shape != mine.shape or other.dtype != mine.dtype:
                    continue
                if torch.equal(other, mine):
                    mine.data = other.data
                    self.shared.append(mine)

    def _mean_square(self, reduction: str, seed: int) -> float:
        """The mean squared norm of the teacher's logits over training rows drawn by the seed, `SCALED` rows of logits or all."""
        job, total, count = self.job, 0.0, 0
        order = np.random.default_rng(seed).permutation(len(job.train))
        for start in range(0, len(order), job.training.batch_size):
            batch = job.task.view(move(job.train.batch(order[start : start + job.training.batch_size]), self.machine.device))
            for rows in job.task.rows(self.source.of(batch), batch):
                z = rows.logits[:SCALED] if isinstance(rows.logits, torch.Tensor) else logits_at(rows.logits, slice(SCALED))
                assert isinstance(z, torch.Tensor), "raw logits are asked for, which a few classes are not"
                allowed = None if rows.allowed is None else rows.allowed[:SCALED]
                norms = losses.squared_distance(z, torch.zeros_like(z), allowed=allowed, reduction=reduction)
                total, count = total + float(norms.double().sum()), count + len(norms)
            if count >= SCALED:
                break
        return total / max(1, count)

    def own(self) -> None:
        """Give every role its own memory again, before anything is put into it."""
        for parameter in self.shared:
            parameter.data = parameter.data.clone()
        self.shared.clear()

    def train(self, turn: Turn) -> None:
        """Make the turn's role the only one that trains: others in eval mode, their parameters without gradient."""
        if turn is not self.turn:
            self.turn = turn
            self._freeze(turn)

    def _freeze(self, turn: Turn) -> None:
        for role, model in self.models.items():
            model.train(role == turn.role and turn.dropout)
            for name, parameter in model.named_parameters():
                parameter.requires_grad_(role == turn.role and (turn.only is None or turn.only(name)))
        self.maps.train(turn.role == "student")
        self.maps.requires_grad_(turn.role == "student")

    def rest(self) -> None:
        """Freeze every role until the next `train`."""
        self.train(NOBODY)

    def parameters(self, turn: Turn) -> list[tuple[str, nn.Parameter]]:
        """What a turn's optimizer moves, by name."""
        named = [(n, p) for n, p in self.models[turn.role].named_parameters() if turn.only is None or turn.only(n)]
        return named + (list(self.maps.named_parameters()) if turn.role == "student" else [])

    def see(self, stage: Stage, turn: Turn, batch: Batch, encoded: Encoded, progress: Progress, seed: int) -> See:
        """What a turn's terms look through; `seed` is that of the rows' own draws."""
        look = functools.partial(self._look, stage, turn, batch, encoded)
        write = functools.partial(self._write, stage)
        return See(look, self.tables(stage), self.job.task, batch, progress, self.maps, seed, write, self.scale)

    def _write(self, stage: Stage, role: str, prompts: Any, lengths: Any, draws: Any, temperature: float) -> list[torch.Tensor]:
        """What a role writes after these prompts."""
        with self.machine.autocast(self.dtype, cached=False):
            return continuations(self.model(stage, role), prompts, lengths, draws, temperature, self.job.facts.words)

    def tables(self, stage: Stage) -> Callable[[str], torch.Tensor]:
        """A role's table of input embeddings by its name."""
        return lambda role: self.model(stage, role).get_input_embeddings().weight

    def model(self, stage: Stage, role: str) -> Any:
        """A role's model; 'teacher' is the stage's."""
        real = _real(stage, role)
        if real in self.models:
            return self.models[real]
        if real not in self.frozen:
            self.frozen[real] = self.job.models[real].to(self.machine.device).eval().requires_grad_(False)
        return self.frozen[real]

    def _look(
        self,
        stage: Stage,
        turn: Turn,
        batch: Batch,
        encoded: Encoded,
        role: str,
        inputs: Mapping[str, torch.Tensor] | None = None,
        places: torch.Tensor | None = None,
    ) -> Seen:
        """What a role shows; its output layer knows which classes distances compare."""
        seen = self._pass(stage, turn, batch, encoded, role, inputs, places)
        if seen.head is not None:
            seen.head.words = self.job.facts.words
        return seen

    def _pass(
        self,
        stage: Stage,
        turn: Turn,
        batch: Batch,
        encoded: Encoded,
        role: str,
        inputs: Mapping[str, torch.Tensor] | None,
        places: torch.Tensor | None,
    ) -> Seen:
        """A role's forward pass: the trained one with gradients, the stage's teacher by its signals, others frozen.

        Inputs of a method's making leave running statistics as they are: those are of the training rows.
        """
        job, real = self.job, _real(stage, role)
        given = batch.inputs if inputs is None else inputs
        if real == stage.teacher and self.source is not None and inputs is None and augment.same_inputs(encoded, job.train):
            return self.source.of(batch)
        needs = job.method.needs(job.facts, stage.name)
        inside = needs.student if role == turn.role else needs.teacher if role == "teacher" else NOTHING
        names = self.outputs.get(real, job.task.outputs)
        if inputs is not None:
            with statistics_kept(model := self.model(stage, role)):
                return forward(model, given, names, inside, places)
        if real == turn.role:
            return forward(self.model(stage, role), given, names, inside)
        with torch.no_grad(), self.machine.autocast(self.dtype, cached=False):
            return forward(self.model(stage, role), given, names, inside)


def _real(stage: Stage, role: str) -> str:
    return stage.teacher if role == "teacher" and stage.teacher else role
