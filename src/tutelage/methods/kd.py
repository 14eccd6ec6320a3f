"""Knowledge distillation: the teacher's tempered outputs and the labels, weighted.

Source: Hinton, Vinyals, Dean 2015, arXiv:1503.02531, section 2.
Departures: the two weights are free, not tied to add up to one; the form `mse` matches raw logits.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Literal

from .. import losses
from ..config import NonNegative, Positive, settings
from ..rows import Term
from ._method import Facts, Method, Needs, See, over_rows, scaled_distance


@settings
class Kd(Method):
    """hard_weight * label loss + soft_weight * distance to the teacher, each a mean over its items."""

    name = "kd"

    temperature: Positive = 2.0
    """Divides both logits before the softmax; the term is multiplied by its square. Form kl only."""
    soft_weight: Positive = 1.0
    """Weight of the distance to the teacher."""
    hard_weight: NonNegative = 0.5
    """Weight of the label loss; 0 learns from the teacher alone."""
    form: Literal["kl", "mse"] = "kl"
    """kl: T^2 KL(teacher || student); mse: squared distance of raw logits, summed over classes."""

    def faults(self) -> Iterator[tuple[str, str]]:
        if self.form == "mse" and self.temperature != 2.0:
            yield "temperature", "has no effect with form mse; leave it out"

    def needs(self, facts: Facts, stage: str) -> Needs:
        return Needs(raw_logits=self.form == "mse")

    def terms(self, see: See) -> dict[str, Term]:
        if self.form == "kl":
            return soft_and_label(see, temperature=self.temperature, soft_weight=self.soft_weight, hard_weight=self.hard_weight)
        out = {"soft": scaled_distance(see, see.student, see.teacher, 1.0, weight=self.soft_weight)}
        if self.hard_weight:
            out["label"] = see.task.label_term(see.student, see.batch, weight=self.hard_weight)
        return out


def soft_and_label(see: See, *, temperature: float, soft_weight: float, hard_weight: float, who: str = "student") -> dict[str, Term]:
    """Distillation as its first paper has it, for the role `who`: the tempered distance to the teacher, and the labels."""
    distance = functools.partial(losses.soft_targets, temperature=temperature)
    out = {"soft": over_rows(distance, see(who), see.teacher, see, weight=soft_weight)}
    if hard_weight:
        out["label"] = see.task.label_term(see(who), see.batch, weight=hard_weight)
    return out
