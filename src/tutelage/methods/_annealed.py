"""What methods share that match logits whose scale rises step by step: Annealing-, Combined-, Continuation- and Pro-KD."""

from __future__ import annotations

from typing import Any, Literal

from ..config import Count, settings
from ..errors import ConfigError
from ..rows import Seen, Term
from ._method import Facts, See, scaled_distance

MOST = 10
"""Temperatures where no number is given, as many as the papers took."""


@settings
class Annealed:
    """How many temperatures there are, and what a row's squared distance is."""

    max_temperature: Count | None = None
    """T_max, the number of temperatures; null takes 10, or one a step where there are fewer steps. The run says and records it."""
    reduction: Literal["mean", "sum"] = "mean"
    """Over classes, a row's squared distance is the mean, as in the authors' code of Annealing-KD and Combined-KD, or the sum."""

    def distance(self, see: See, student: Seen, teacher: Seen, phi: float, *, margin: float = 0.0, weight: float = 1.0) -> Term:
        """The distance to the teacher's logits times phi, beyond a margin times phi."""
        return scaled_distance(see, student, teacher, phi, margin=margin, weight=weight, reduction=self.reduction)

    def temperatures(self, many: int, unit: str = "optimizer steps") -> int:
        """T_max, where T falls over so many steps or epochs; raises ConfigError where there are fewer of them than temperatures."""
        given = self.max_temperature
        if given is not None and given > many:
            raise ConfigError(
                f"method.max_temperature: {given} temperatures are more than the {many} {unit} they are for; lower it or train longer"
            )
        return given or min(MOST, many)

    def noted(self, levels: int, lowest: float) -> dict[str, Any]:
        """What a stage says of its temperatures, as settings of `Stage`; `lowest` is the first and smallest phi."""
        why = "method.max_temperature: phi is 1 from the start, so the teacher's logits are never scaled; train longer, or set it to 1"
        warned = self.max_temperature is None and lowest == 1
        return {"settled": {"max_temperature": levels}, "warnings": (why,) if warned else ()}


def two_stages(facts: Facts, label_share: float) -> tuple[int, int]:
    """The budget's steps before and in the label stage, at least one each where there are two."""
    if facts.steps < 2:
        raise ConfigError("method: has two stages, and the budget is a single optimizer step; train longer")
    second = min(max(1, round(label_share * facts.steps)), facts.steps - 1)
    return facts.steps - second, second
