"""Route-constrained KD: the student learns from stored checkpoints of the teacher's own training, one after the other.

Source: Jin et al. 2019 (RCO), arXiv:1904.09149, as its abstract and later papers describe it.
Departures: anchors at equal distances only, not the greedy choice; the label term is ours to weigh. The budget is shared
equally among the anchors, and each has an optimizer of its own unless told otherwise.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from ..config import Count, NonNegative, Positive, settings
from ..errors import ConfigError
from ..rows import Term
from ._method import Facts, Method, See, Stage, Turn, cut
from .kd import soft_and_label

Terms = Callable[[See], dict[str, Term]]


@settings
class Rco(Method):
    """KD from each anchor on the teacher's route in order, the last being the finished teacher."""

    name = "rco"

    anchors: Count | None = None
    """How many of the stored checkpoints, at equal distances, the finished teacher included; null takes all."""
    temperature: Positive = 2.0
    """Divides both logits before the softmax; the term is multiplied by its square."""
    soft_weight: Positive = 1.0
    """Weight of the distance to the anchor."""
    hard_weight: NonNegative = 0.5
    """Weight of the label loss; 0 learns from the anchors alone."""
    optimizer: Literal["fresh", "continue"] = "fresh"
    """Whether each anchor has an optimizer and a course of the rate of its own."""

    def stages(self, facts: Facts) -> list[Stage]:
        return along_the_route(
            chosen(self.anchors, "anchors", facts, facts.steps), facts.steps, lambda place, of: self.terms, self.optimizer
        )

    def terms(self, see: See) -> dict[str, Term]:
        return soft_and_label(see, temperature=self.temperature, soft_weight=self.soft_weight, hard_weight=self.hard_weight)


def chosen(asked: int | None, setting: str, facts: Facts, steps: int) -> list[int]:
    """The numbers (1 the first) of the teacher's checkpoints to follow, the last always among them.

    Raises ConfigError where the teacher has none, fewer than asked, or more than there are `steps` to share out.
    """
    have = facts.checkpoints
    if have < 2:
        why = "follows checkpoints of the teacher's training, and the recipe keeps none"
        raise ConfigError(f"method: {why}; set teacher.checkpoints, or name folders in teacher.route")
    count = asked or have
    if count > have:
        raise ConfigError(f"method.{setting}: {count} checkpoints asked for; the teacher has {have}; keep more with teacher.checkpoints")
    if count > steps:
        raise ConfigError(f"method.{setting}: {count} checkpoints for {steps} optimizer steps; lower it or train longer")
    return [have - (count - 1 - i) * have // count for i in range(count)]


def along_the_route(
    numbers: list[int], steps: int, terms: Callable[[int, int], Terms], optimizer: Literal["fresh", "continue"]
) -> list[Stage]:
    """A stage for each checkpoint, equal shares of the steps; `terms(place, of)` gives a stage's terms."""
    parts = cut(steps, len(numbers))
    return [
        Stage(f"follow-{number}", (Turn(terms(place, len(numbers))),), part, teacher=f"teacher@{number}", optimizer=optimizer)
        for place, (number, part) in enumerate(zip(numbers, parts, strict=True), 1)
    ]
