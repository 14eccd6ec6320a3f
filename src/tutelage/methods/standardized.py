"""Logit standardisation: KD on logits of mean 0 and deviation 1, so that only their shape is matched.

Source: Sun, Ren, Li, Wang, Cao 2024, arXiv:2403.01427.
Departures: the two weights are free, as in kd. The deviation is over K classes; torchdistill's is over K - 1, so that its
temperature T is T sqrt(K / (K - 1)) here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .. import losses
from ..config import NonNegative, Positive, settings
from ..errors import ConfigError
from ..rows import Term
from ._method import Facts, Method, See, Stage, on_labels, one_of_several, over_rows

if TYPE_CHECKING:
    from torch import Tensor


@settings
class Standardized(Method):
    """hard_weight * label loss + soft_weight * T^2 KL of standardised logits."""

    name = "standardized"

    temperature: Positive = 2.0
    """Divides the standardised logits of both sides; the term is multiplied by its square."""
    soft_weight: Positive = 1.0
    """Weight of the distance to the teacher."""
    hard_weight: NonNegative = 0.5
    """Weight of the label loss; 0 learns from the teacher alone."""

    def stages(self, facts: Facts) -> list[Stage]:
        one_of_several(self, facts)
        if facts.labels in (1, 2):
            raise ConfigError("method: 'standardized' leaves fewer than three classes no more than a sign, which has no gradient; take kd")
        return super().stages(facts)

    def terms(self, see: See) -> dict[str, Term]:
        def distance(s: Tensor, t: Tensor, *, kind: str, allowed: Tensor | None) -> Tensor:
            s, t = (losses.standardized(x, allowed) for x in (s, t))
            return losses.divergence(s, t, temperature=self.temperature, allowed=allowed)

        return {"soft": over_rows(distance, see.student, see.teacher, see, weight=self.soft_weight)} | on_labels(see, self.hard_weight)
