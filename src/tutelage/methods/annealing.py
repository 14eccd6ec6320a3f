"""Annealing-KD: match logits that are scaled up step by step, then learn the labels.

Source: Jafari, Rezagholizadeh, Sharma, Ghodsi 2021, arXiv:2104.07163; the authors' code in huawei-noah/Efficient-NLP.
Departures: the distance is a sum over classes (their code: a mean); T falls in equal shares of the stage's steps, where
their code counts floored epochs and overshoots when they are no multiple; the student kept is the best on dev.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from .. import schedules
from ..config import Count, settings
from ..errors import ConfigError
from ..rows import Term
from ._method import Facts, Method, Needs, See, Stage, Turn, on_labels, scaled_distance

MOST = 10
"""Temperatures where no number is given: one an epoch, and no more than the papers took."""


@settings
class Annealing(Method):
    """Stage one: |z_S - phi(T) z_T|^2, T falling to 1; stage two: the labels, from the best student of stage one."""

    name = "annealing"

    max_temperature: Count | None = None
    """T_max, the number of temperatures; null takes one an epoch of stage one, 10 at most."""
    label_share: Annotated[float, Field(gt=0, lt=1)] = 0.25
    """Share of the budget for stage two."""
    reload: bool = True
    """Whether stage two starts from the best student of stage one; false goes on from the last."""
    optimizer: Literal["fresh", "continue"] = "fresh"
    """Whether stage two has an optimizer and a course of the rate of its own."""

    def faults(self) -> Iterator[tuple[str, str]]:
        if self.reload and self.optimizer == "continue":
            yield "optimizer", "continue keeps moments of other weights than those that reload puts back; set reload to false"

    def needs(self, facts: Facts, stage: str) -> Needs:
        return Needs(raw_logits=stage == "anneal")

    def stages(self, facts: Facts) -> list[Stage]:
        first, second = two_stages(facts, self.label_share)
        levels = temperatures(self.max_temperature, first, facts)
        match = functools.partial(matched, levels=levels)
        start: Literal["best", "last"] = "best" if self.reload else "last"
        return [
            Stage("anneal", (Turn(match),), first),
            Stage("label", (Turn(on_labels),), second, teacher=None, start_from=start, optimizer=self.optimizer),
        ]


def two_stages(facts: Facts, label_share: float) -> tuple[int, int]:
    """The budget's steps before and in the label stage, at least one each where there are two."""
    if facts.steps < 2:
        raise ConfigError("method: has two stages, and the budget is a single optimizer step; train longer")
    second = min(max(1, round(label_share * facts.steps)), facts.steps - 1)
    return facts.steps - second, second


def temperatures(given: int | None, steps: int, facts: Facts) -> int:
    """T_max; raises ConfigError where a temperature would last less than an epoch."""
    epochs = max(1, steps // facts.steps_per_epoch)
    if given is not None and given > epochs:
        raise ConfigError(
            f"method.max_temperature: {given} temperatures are more than the {epochs} whole epochs they are for; lower it or train longer"
        )
    return given or min(MOST, epochs)


def matched(see: See, levels: int) -> dict[str, Term]:
    """The distance to the teacher's logits, scaled by phi of where the stage stands."""
    phi = schedules.annealed(see.progress.step, see.progress.steps, levels)
    return {"match": scaled_distance(see, see.student, see.teacher, phi)}
