"""Backward-pass KD: rows moved to where student and teacher part, by ascent through both, taught beside the originals.

Source: Jafari, Rezagholizadeh, Ghodsi 2023, arXiv:2301.12006, whose abstract was read; the loop's shape and the map between
embeddings are as remembered from the paper. Step size, steps, lifetime, share and weights are settings, none of them the paper's.
Departures: what is kept of a row is its displacement, added to the row as student and teacher have it at each step; a share of
the rows is moved; the teacher's embeddings are moved by the displacement's image under the map, not replaced by an image of the
student's; the map is solved in float64 by least squares anew at each refresh; padding and special tokens stay where they are;
steps may be taken relative to the gradient's norm; pixels stay in their range.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, cast

from pydantic import Field

from .. import losses
from ..config import Count, NonNegative, Positive, settings
from ..errors import ConfigError
from ..rows import Batch, Rows, Seen, Term
from ._method import Augment, Facts, Made, Method, Needs, See, Stage, Turn, over_rows
from .kd import soft_and_label

if TYPE_CHECKING:
    from torch import Tensor

KEPT = 0.75
"""Share of moved rows on which the teacher should keep its class."""
RESIDUAL = 0.5**0.5
"""Relative residual of the map above which more than half of the teacher's table, in squared norm, is out of its reach."""


@settings
class Backward(Method):
    """KD on the training rows and on rows moved up the gradient of |S(x) - T(x)|^2, which have no label."""

    name = "backward"

    step_size: NonNegative = 0.01
    """How far a step moves a row: times the gradient, or with `relative` in units of the typical size of the input. 0 moves nothing:
    copies of rows then stand where moved ones would, which shows what moving them does."""
    steps: Count = 3
    """Steps of ascent, each from where the last one ended, the first from the original row."""
    relative: bool = True
    """True divides the gradient of each row by its norm and multiplies by the norm of the row's input."""
    share: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Share of the training rows that are moved, drawn anew at each refresh; each stands in the same step as its original."""
    moved_weight: Positive = 1.0
    """Weight of a moved row's distance to the teacher; a training row's is 1."""
    every: Count = 2
    """Epochs that displacements live before they are made anew from the original rows."""
    start: Annotated[int, Field(ge=0)] | None = None
    """Epochs on the training rows alone before the first rows are moved; null takes one, or none in a budget of one epoch."""
    temperature: Positive = 2.0
    """Divides both logits before the softmax; the term is multiplied by its square."""
    soft_weight: Positive = 1.0
    """Weight of the distance to the teacher."""
    hard_weight: NonNegative = 0.5
    """Weight of the label loss, on training rows."""

    def needs(self, facts: Facts, stage: str) -> Needs:
        return Needs(same_tokens=True)

    def stages(self, facts: Facts) -> list[Stage]:
        start = min(1, facts.epochs - 1) if self.start is None else self.start
        if start >= facts.epochs:
            raise ConfigError(f"method.start: no row is ever moved, {start} epochs are the whole budget of {facts.epochs}; lower it")
        move = functools.partial(self._texts, facts.special_tokens) if facts.tokenized else self._images
        made = Augment(
            functools.partial(self._refresh, move), once=_map if facts.tokenized else None, every=self.every, start=start, report=_report
        )
        return [Stage("train", (Turn(self.terms),), facts.steps, augment=made)]

    def terms(self, see: See) -> dict[str, Term]:
        """The terms of kd; the distance to the teacher is a mean over training rows and moved ones, by their weights."""
        if "moved" not in see.batch.extra:
            return soft_and_label(see, temperature=self.temperature, soft_weight=self.soft_weight, hard_weight=self.hard_weight)
        one = self.soft_weight / (1 + self.share * self.moved_weight)
        out = soft_and_label(see, temperature=self.temperature, soft_weight=one, hard_weight=self.hard_weight)
        part = see.on(see.batch.at(see.batch.extra["moved"].nonzero()[:, 0]))
        if not len(part.batch.index):
            return out | {"moved": Term(see.batch.extra["moved"].sum() * 0.0)}
        extra = part.batch.extra
        inputs = _shown(extra["displaced"]) if "displaced" in extra else _embedded(part, extra["displacement"])
        distance = functools.partial(losses.soft_targets, temperature=self.temperature)
        student, teacher = (part(role, inputs[role]) for role in ("student", "teacher"))
        return out | {"moved": over_rows(distance, student, teacher, part, weight=one * self.moved_weight)}

    def _refresh(self, move: Callable[[See, Batch], tuple[Tensor, Tensor]], see: See) -> Made:
        """The displacements of a drawn share of the rows, 0 for the others, and where the teacher keeps its class."""
        import torch

        drawn = torch.tensor([float(torch.rand((), generator=g)) < self.share for g in see.generators()], device=see.batch.index.device)
        rows = drawn.nonzero()[:, 0]
        found, kept = move(see.on(see.batch.at(rows)), see.stored.at(rows))
        by = found.new_zeros(len(drawn), *found.shape[1:]).index_copy(0, rows, found)
        return Made({"displacement": by, "moved": drawn}, {"kept": kept})

    def _images(self, see: See, stored: Batch) -> tuple[Tensor, Tensor]:
        """Displacements of the scaled pixels, before they are resized."""
        still = stored.inputs["pixel_values"].float() * 0
        typical = see.batch.inputs["pixel_values"].square().mean((1, 2, 3)).sqrt() * still[0:1].numel() ** 0.5

        def fed(by: Tensor) -> dict[str, dict[str, Tensor]]:
            moved = see.task.view(dataclasses.replace(stored, extra=stored.extra | {"displacement": by}))
            return _shown(moved.extra["displaced"])

        return self._ascend(see, still, fed, typical, still + 1)

    def _texts(self, special: tuple[int, ...], see: See, stored: Batch) -> tuple[Tensor, Tensor]:
        """Displacements of the student's embeddings, 0 at padding and special tokens."""
        ids, real = see.batch.inputs["input_ids"], see.batch.inputs["attention_mask"].bool()
        for token in special:
            real = real & (ids != token)
        start, free = see.embeddings("student")[ids].detach().float(), real[..., None].float()
        return self._ascend(see, start * 0, functools.partial(_embedded, see), (start * free).flatten(1).norm(dim=1), free)

    def _ascend(self, see: See, by: Tensor, fed: Callable[[Tensor], dict], typical: Tensor, free: Tensor) -> tuple[Tensor, Tensor]:
        """Displacements after the steps of ascent from `by`, and of each row of logits whether the teacher keeps its class.

        `fed` gives each role's inputs, `typical` (rows,) is the norm of a row's input, `free` is 0 at places that must not move.
        """
        import torch

        if not len(by):
            return by, torch.zeros(0)

        def shown(role: str) -> Seen:
            return see(role, fed(by)[role])

        before: list[Rows] = []
        for _ in range(self.steps if self.step_size else 0):
            with torch.enable_grad():
                by = by.detach().requires_grad_()
                teacher = shown("teacher")
                apart = over_rows(_gap, shown("student"), teacher, see).sum
                [gradient] = torch.autograd.grad(cast("Tensor", apart), by)
            before = before or see.task.rows(teacher, see.batch)
            gradient = gradient.float() * free
            if self.relative:
                size = typical / gradient.flatten(1).norm(dim=1).clamp(min=1e-12)
                gradient = gradient * size.view(-1, *[1] * (gradient.ndim - 1))
            by = (by + self.step_size * gradient).detach()
        with torch.no_grad():
            after = see.task.rows(shown("teacher"), see.batch)
        return by, torch.cat([_same_class(a, b) for a, b in zip(before or after, after, strict=True)])


def _gap(student: Tensor, teacher: Tensor, *, kind: str, allowed: Tensor | None) -> Tensor:
    return losses.squared_distance(student, teacher, allowed=allowed)


def _shown(pixels: Tensor) -> dict[str, dict[str, Tensor]]:
    return {role: {"pixel_values": pixels} for role in ("student", "teacher")}


def _embedded(see: See, by: Tensor) -> dict[str, dict[str, Tensor]]:
    """Each role's own embeddings of the batch, the student's moved by `by`, the teacher's by its image under the map."""
    ids, others = see.batch.inputs["input_ids"], {k: v for k, v in see.batch.inputs.items() if k != "input_ids"}
    moves = {"student": by, "teacher": by @ see.once["map"]}
    return {role: {**others, "inputs_embeds": see.embeddings(role)[ids].float() + move} for role, move in moves.items()}


def _same_class(before: Rows, after: Rows) -> Tensor:
    """(rows,) of bool: whether the likeliest class, or each of several labels at once, is the same; (0,) for values."""
    sides = [(cast("Tensor", x.logits), x.allowed) for x in (before, after)]
    a, b = (logits if allowed is None else logits.masked_fill(~allowed, float("-inf")) for logits, allowed in sides)
    if before.kind == "choice":
        return a.argmax(-1) == b.argmax(-1)
    return ((a > 0) == (b > 0)).all(-1) if before.kind == "binary" else a.new_zeros(0)


def _report(measures: Mapping[str, float]) -> str:
    """What a user hears of a refresh."""
    kept, residual = measures.get("kept"), measures.get("residual", 0.0)
    said = "" if kept is None else f"rows are moved anew, the teacher keeps its class on {100 * kept:.0f} % of them"
    if kept is not None and kept < KEPT:
        said += f"; under {100 * KEPT:.0f} % they teach its errors, lower method.step_size"
    if residual > RESIDUAL:
        said += (
            f"; warning: the map from the student's embeddings misses {100 * residual**2:.0f} % of the teacher's table (residual "
            f"{residual:.2f}), so moves reach the teacher faintly or not at all; keep the teacher's embeddings in the student"
        )
    return said


def _map(table: Callable[[str], Tensor]) -> dict[str, Tensor]:
    """The least-squares map from the student's embeddings to the teacher's, (student width, teacher width), and its residual.

    W_S Q = W_T in float64, over all tokens; the residual is |W_S Q - W_T| / |W_T|, 0 where the map is exact. Raises ConfigError for
    tables of different vocabularies.
    """
    import torch

    small, large = table("student").detach().double(), table("teacher").detach().double()
    if small.shape[0] != large.shape[0]:
        raise ConfigError(f"method: student and teacher know {small.shape[0]} and {large.shape[0]} tokens; backward needs one vocabulary")
    found = torch.linalg.lstsq(small.T @ small, small.T @ large).solution
    return {"map": found.float(), "residual": (small @ found - large).norm() / large.norm()}
