"""Teacher-free regularisation: a virtual teacher that is nearly sure of every label.

Source: Yuan, Tay, Li, Wang, Feng 2020, arXiv:1909.11723, section 4; as compared in Jafari et al. 2023, arXiv:2205.12428.
Departures: both sides are tempered and the loss has no multiplier; the published code takes a softmax of probabilities over
T and multiplies by up to 100. The study's settings were not recovered: ours are defaults, not its.
"""

from __future__ import annotations

import functools
from typing import Annotated

from pydantic import Field

from .. import losses
from ..config import Positive, settings
from ..rows import Term
from ._method import Facts, Method, See, Stage, on_labels, one_of_several, over_labelled


@settings
class TfReg(Method):
    """(1 - alpha) * label loss + alpha * T^2 KL(virtual teacher || student)."""

    name = "tf_reg"
    uses_teacher = False

    alpha: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Weight of the virtual teacher."""
    correct: Annotated[float, Field(ge=0.9, lt=1)] = 0.99
    """Probability that the virtual teacher gives the true class; the other classes share the rest."""
    temperature: Positive = 4.0
    """Divides logits on both sides; the term is multiplied by its square."""

    def stages(self, facts: Facts) -> list[Stage]:
        one_of_several(self, facts)
        return super().stages(facts)

    def terms(self, see: See) -> dict[str, Term]:
        virtual = functools.partial(losses.virtual_teacher, correct=self.correct, temperature=self.temperature)
        return on_labels(see, 1 - self.alpha) | {"virtual": over_labelled(virtual, see.student, see, weight=self.alpha)}
