"""DIST: match the teacher's relations, between a row's classes and between a class's rows, by correlation.

Source: Huang, You, Wang, Qian, Xu 2022, arXiv:2205.10536, equations 6 to 10.
Departures: with two classes the correlation between a row's classes is only a sign, so such tasks are refused.
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
class Dist(Method):
    """hard_weight * label loss + T^2 (inter_weight * distance within rows + intra_weight * distance within columns)."""

    name = "dist"

    temperature: Positive = 4.0
    """Divides both logits before the softmax; the terms are multiplied by its square."""
    inter_weight: NonNegative = 1.0
    """beta, of 1 - correlation over the classes of each row, a mean over rows."""
    intra_weight: NonNegative = 1.0
    """gamma, of 1 - correlation over the rows of each class, a mean over classes; it compares the rows of a whole step."""
    hard_weight: NonNegative = 1.0
    """Weight of the label loss."""

    @property
    def whole_step(self) -> bool:
        return self.intra_weight > 0

    def stages(self, facts: Facts) -> list[Stage]:
        one_of_several(self, facts)
        if not facts.labels:
            raise ConfigError("method: 'dist' compares rows by classes that all of them have, and this task's have none in common; take kd")
        if facts.labels <= 2:
            raise ConfigError("method: 'dist' has only the sign of a correlation to match with fewer than three classes; take kd")
        return super().stages(facts)

    def terms(self, see: See) -> dict[str, Term]:
        def inter(s: Tensor, t: Tensor, *, kind: str, allowed: Tensor | None) -> Tensor:
            s, t = (losses.log_probabilities(x, allowed, self.temperature).exp() for x in (s, t))
            return losses.correlation_distance(s, t, allowed)

        def intra(s: Tensor, t: Tensor, *, kind: str, allowed: Tensor | None) -> Tensor:
            s, t = (losses.log_probabilities(x, allowed, self.temperature).exp().T for x in (s, t))
            each = losses.correlation_distance(s, t, None if allowed is None else allowed.T)
            return each.mean()[None] * s.shape[1]

        square, out = self.temperature**2, {}
        if self.inter_weight:
            out["inter"] = over_rows(inter, see.student, see.teacher, see, weight=self.inter_weight * square)
        if self.intra_weight:
            whole = over_rows(intra, see.student, see.teacher, see, weight=self.intra_weight * square)
            out["intra"] = Term(whole.sum, whole.unit, whole.weight, "step")
        return out | on_labels(see, self.hard_weight)
