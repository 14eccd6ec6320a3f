"""Knowledge distillation: the teacher's tempered outputs and the labels, weighted.

Source: Hinton, Vinyals, Dean 2015, arXiv:1503.02531, section 2; the other divergences: Agarwal et al. 2024 (GKD),
arXiv:2306.13649, and Ko et al. 2024 (DistiLLM), arXiv:2402.03898.
Departures: the two weights are free, not tied to add up to one; the form `mse` matches raw logits.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from .. import losses
from ..config import NonNegative, Positive, settings
from ..rows import Term
from ._method import Facts, Method, Needs, See, Stage, on_labels, one_of_several, over_rows, scaled_distance

if TYPE_CHECKING:
    from torch import Tensor

MIXED = {"jsd": ("both", 0.5), "skewed_kl": ("teacher", 0.1), "skewed_reverse_kl": ("student", 0.1)}
"""Form -> whose divergence from the mixture it is, and the usual mix."""


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
    form: Literal["kl", "reverse_kl", "jsd", "skewed_kl", "skewed_reverse_kl", "mse"] = "kl"
    """kl: T^2 KL(teacher || student); reverse_kl: T^2 KL(student || teacher); jsd: both to their mixture; skewed_kl: the teacher,
    skewed_reverse_kl: the student to it; mse: squared distance of raw logits, summed over classes. All but kl and mse are for
    one class of several, such as the next token."""
    mix: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Forms jsd (the teacher's share of the mixture; null is 0.5) and skewed (the share of whom the divergence is of; null is
    0.1)."""

    def faults(self) -> Iterator[tuple[str, str]]:
        if self.form == "mse" and self.temperature != type(self).temperature:
            yield "temperature", "has no effect with form mse; leave it out"
        if self.mix is not None and self.form not in MIXED:
            yield "mix", f"has no effect with form {self.form}; leave it out"

    def stages(self, facts: Facts) -> list[Stage]:
        if self.form not in ("kl", "mse"):
            one_of_several(self, facts)
        return super().stages(facts)

    def needs(self, facts: Facts, stage: str) -> Needs:
        few: Literal["", "likeliest", "drawn"] = "drawn" if self.form == "kl" else "" if self.form == "mse" else "likeliest"
        return Needs(raw_logits=self.form == "mse", few=few, temperature=self.temperature)

    def terms(self, see: See) -> dict[str, Term]:
        return {"soft": self.soft(see)} | on_labels(see, self.hard_weight)

    def soft(self, see: See) -> Term:
        """The weighted distance to the teacher."""
        if self.form == "mse":
            return scaled_distance(see, see.student, see.teacher, 1.0, weight=self.soft_weight)
        return over_rows(self._distance, see.student, see.teacher, see, weight=self.soft_weight)

    def _distance(self, s: Tensor, t: Tensor, *, kind: str, allowed: Tensor | None) -> Tensor:
        if self.form == "kl":
            return losses.soft_targets(s, t, kind=kind, allowed=allowed, temperature=self.temperature)
        if self.form == "reverse_kl":
            return losses.divergence(t, s, temperature=self.temperature, allowed=allowed)
        of, mix = MIXED[self.form]
        return losses.divergence_to_mixture(s, t, of=of, mix=self.mix or mix, temperature=self.temperature, allowed=allowed)


def soft_and_label(see: See, *, temperature: float, soft_weight: float, hard_weight: float, who: str = "student") -> dict[str, Term]:
    """Distillation as its first paper has it, for the role `who`: the tempered distance to the teacher, and the labels."""
    distance = functools.partial(losses.soft_targets, temperature=temperature)
    out = {"soft": over_rows(distance, see(who), see.teacher, see, weight=soft_weight)} if soft_weight else {}
    return out | on_labels(see, hard_weight, who)
