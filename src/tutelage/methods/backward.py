"""Backward-pass KD: rows moved to where student and teacher part, by ascent through both, taught beside the originals.

Source: Jafari, Rezagholizadeh, Ghodsi 2023, arXiv:2301.12006, whose abstract was read; the loop's shape and the map between
embeddings are as remembered from the paper. Step size, steps, lifetime and weights are settings, none of them the paper's.
Departures: the map is solved in float64 by least squares anew at each refresh, as the student's table moves; padding and
special tokens stay where they are; steps may be taken relative to the gradient's norm.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from .. import losses
from ..config import Count, NonNegative, Positive, settings
from ..errors import ConfigError
from ..rows import Term
from ._method import Augment, Facts, Method, Needs, See, Stage, Turn
from .kd import soft_and_label

if TYPE_CHECKING:
    from torch import Tensor


@settings
class Backward(Method):
    """KD on the training rows and on rows moved up the gradient of |S(x) - T(x)|^2, which have no label."""

    name = "backward"

    step_size: Positive = 0.01
    """How far a step moves a row: times the gradient, or with `relative` in units of the typical size of the input."""
    steps: Count = 3
    """Steps of ascent, each from where the last one ended, the first from the original row."""
    relative: bool = True
    """True divides the gradient of each row by its norm and multiplies by the norm of the row's input."""
    every: Count = 2
    """Epochs that moved rows live before they are made anew from the original rows."""
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
        def refresh(see: See) -> dict[str, Tensor]:
            return self._images(see) if "pixel_values" in see.batch.inputs else self._texts(see, facts)

        start = min(1, facts.epochs - 1) if self.start is None else self.start
        if start >= facts.epochs:
            raise ConfigError(f"method.start: no row is ever moved, {start} epochs are the whole budget of {facts.epochs}; lower it")
        made = Augment(refresh, once=_maps, every=self.every, start=start, drops=("input_ids", "pixel_values"))
        return [Stage("train", (Turn(self.terms),), facts.steps, augment=made)]

    def terms(self, see: See) -> dict[str, Term]:
        return soft_and_label(see, temperature=self.temperature, soft_weight=self.soft_weight, hard_weight=self.hard_weight)

    def _images(self, see: See) -> dict[str, Tensor]:
        x = see.batch.inputs["pixel_values"]
        return {"pixel_values": self._ascend(see, x, lambda moved: {r: {"pixel_values": moved} for r in ("student", "teacher")}, None)}

    def _texts(self, see: See, facts: Facts) -> dict[str, Tensor]:
        """The student's embeddings moved, and the teacher's as their image under the map."""
        ids, real = see.batch.inputs["input_ids"], see.batch.inputs["attention_mask"].bool()
        for special in facts.special_tokens:
            real = real & (ids != special)
        bridge, own = see.once(), see.embeddings("teacher")[ids].detach().float()
        others = {k: v for k, v in see.batch.inputs.items() if k != "input_ids"}

        def fed(moved: Tensor) -> dict[str, dict[str, Tensor]]:
            teacher = (moved @ bridge).where(real[..., None], own)
            return {"student": {**others, "inputs_embeds": moved}, "teacher": {**others, "inputs_embeds": teacher}}

        start = see.embeddings("student")[ids].detach().float()
        moved = self._ascend(see, start, fed, real)
        return {"inputs_embeds": moved, "teacher:inputs_embeds": fed(moved)["teacher"]["inputs_embeds"].detach()}

    def _ascend(self, see: See, start: Tensor, fed: Callable[[Tensor], dict], free: Tensor | None) -> Tensor:
        """The inputs after the steps of ascent; `free` (rows, tokens) marks the places that may move."""
        import torch

        x = start
        size = start if free is None else start * free[..., None]
        scale = size.flatten(1).norm(dim=1).clamp(min=1e-12)
        for _ in range(self.steps):
            with torch.enable_grad():
                x = x.detach().requires_grad_()
                inputs = fed(x)
                pairs = [see.task.rows(see(role, inputs[role]), see.batch) for role in ("student", "teacher")]
                apart = sum(
                    s.share * losses.squared_distance(s.logits, t.logits, allowed=s.allowed).sum() for s, t in zip(*pairs, strict=True)
                )
                [gradient] = torch.autograd.grad(apart, x)
            gradient = gradient.float() if free is None else gradient.float() * free[..., None]
            if self.relative:
                by = scale / gradient.flatten(1).norm(dim=1).clamp(min=1e-12)
                gradient = gradient * by.view(-1, *[1] * (gradient.ndim - 1))
            x = (x + self.step_size * gradient).detach()
        return x


def _maps(table: Callable[[str], Tensor]) -> Callable[[], Tensor]:
    """The least-squares map from the student's embeddings to the teacher's, (student width, teacher width), solved when asked for.

    W_S Q = W_T in float64; over tokens that both tables hold. Raises ConfigError for tables of different vocabularies.
    """
    import functools

    import torch

    @functools.cache
    def solve() -> Tensor:
        small, large = table("student").detach().double(), table("teacher").detach().double()
        if small.shape[0] != large.shape[0]:
            raise ConfigError(
                f"method: student and teacher know {small.shape[0]} and {large.shape[0]} tokens; backward needs one vocabulary"
            )
        return torch.linalg.lstsq(small.T @ small, small.T @ large).solution.float()

    return solve
