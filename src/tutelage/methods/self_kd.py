"""Self-KD: the student learns from a fine-tuned copy of itself.

Source: Yuan, Tay, Li, Wang, Feng 2020, arXiv:1909.11723, section 4; as compared in Jafari et al. 2023, arXiv:2205.12428.
Departures: no multiplier. The copy is fine-tuned with a budget as large as the student's, which is not counted as the student's.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from ..config import Positive, settings
from ..rows import Term
from ._method import Facts, Method, RoleSpec, See, Stage, Turn, on_labels
from .kd import soft_and_label


@settings
class SelfKd(Method):
    """(1 - alpha) * label loss + alpha * T^2 KL(fine-tuned copy || student), from the same start as the copy."""

    name = "self_kd"
    uses_teacher = False

    alpha: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Weight of the distance to the copy."""
    temperature: Positive = 2.0
    """Divides logits on both sides; the term is multiplied by its square."""

    def roles(self, facts: Facts) -> dict[str, RoleSpec]:
        return {"copy": RoleSpec(start="student")}

    def stages(self, facts: Facts) -> list[Stage]:
        return [
            Stage("copy", (Turn(lambda see: on_labels(see, who="copy"), role="copy"),), facts.steps, teacher=None),
            Stage("train", (Turn(self.terms),), facts.steps, teacher="copy"),
        ]

    def terms(self, see: See) -> dict[str, Term]:
        return soft_and_label(see, temperature=self.temperature, soft_weight=self.alpha, hard_weight=1 - self.alpha)
