"""Decoupled KD: what the teacher says of the true class and what it says of the others, weighed apart.

Source: Zhao, Cui, Song, Qiu, Liang 2022, arXiv:2203.08679, equation 7.
Departures: no warm-up of the weight; a row without a label takes the teacher's own class as the true one.
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
class Dkd(Method):
    """hard_weight * label loss + T^2 (target_weight * true-class KL + others_weight * KL among the other classes)."""

    name = "dkd"

    temperature: Positive = 4.0
    """Divides both logits before the softmax; the terms are multiplied by its square."""
    target_weight: NonNegative = 1.0
    """alpha, of the true class against the rest."""
    others_weight: NonNegative = 2.0
    """beta, of the distribution among the other classes."""
    hard_weight: NonNegative = 1.0
    """Weight of the label loss."""

    def stages(self, facts: Facts) -> list[Stage]:
        one_of_several(self, facts)
        if facts.labels in (1, 2):
            raise ConfigError("method: 'dkd' has nothing to decouple with fewer than three classes, its second part is always 0; take kd")
        return super().stages(facts)

    def terms(self, see: See) -> dict[str, Term]:
        golds = iter([rows.gold for rows in see.task.rows(see.student, see.batch)])

        def distance(s: Tensor, t: Tensor, *, kind: str, allowed: Tensor | None) -> Tensor:
            gold = next(golds)
            said = losses.log_probabilities(t, allowed).argmax(-1)
            truth = said if gold is None else gold.where(gold >= 0, said)
            weights = {"target": self.target_weight, "others": self.others_weight}
            return losses.decoupled(s, t, truth, temperature=self.temperature, allowed=allowed, **weights)

        return {"soft": over_rows(distance, see.student, see.teacher, see)} | on_labels(see, self.hard_weight)
