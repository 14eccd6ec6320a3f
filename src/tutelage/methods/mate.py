"""MATE-KD: a masked-LM generator writes texts where student and teacher part, and the student closes the gap.

Source: Rashid, Lioutas, Rezagholizadeh 2021, arXiv:2105.05912; the authors' code in huawei-noah/Efficient-NLP.
Departures: where no masked LM is named, the generator first learns to fill masks in the task's text; the generator's
optimizer is the recipe's; weights are free (published: a third each).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Literal

from .. import losses
from ..config import NonNegative, settings
from ..rows import Seen, Term
from ._generator import Adversary
from ._method import Facts, Method, See, Stage, on_labels, over_rows


@settings
class Mate(Adversary, Method):
    """label loss, distance on the text as it is, and distance on the text that the generator wrote, by weights."""

    name = "mate"

    divergence: Literal["cross_entropy", "kl"] = "cross_entropy"
    """Distance of outputs. Cross-entropy, as published, also rewards a generator that makes the teacher doubt; kl does not."""
    hard_weight: NonNegative = 1 / 3
    """Weight of the label loss."""
    soft_weight: NonNegative = 1 / 3
    """Weight of the distance on the text as it is."""
    written_weight: NonNegative = 1 / 3
    """Weight of the distance on the written text."""

    def stages(self, facts: Facts) -> list[Stage]:
        return [*self.preparation(facts), Stage("train", self.turns(facts, self._distance, self._learn), self.length(facts.steps))]

    def _distance(self, see: See, student: Seen, teacher: Seen, weight: float) -> Term:
        f = losses.cross_entropy if self.divergence == "cross_entropy" else functools.partial(losses.soft_targets, temperature=1.0)
        return over_rows(f, student, teacher, see, weight=weight)

    def _learn(self, see: See, written: Callable[[], dict[str, Seen]]) -> dict[str, Term]:
        out = {}
        if self.written_weight:
            seen = written()
            out["written"] = self._distance(see, seen["student"], seen["teacher"], self.written_weight)
        if self.soft_weight:
            out["soft"] = self._distance(see, see.student, see.teacher, self.soft_weight)
        return out | on_labels(see, self.hard_weight)
