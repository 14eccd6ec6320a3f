"""Annealing-KD: match logits that are scaled up step by step, then learn the labels.

Source: Jafari, Rezagholizadeh, Sharma, Ghodsi 2021, arXiv:2104.07163; the authors' code in huawei-noah/Efficient-NLP.
Departures: T falls in equal shares of the stage's steps, where their code counts floored epochs and overshoots when they are
no multiple; the student kept is the best on dev.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from .. import schedules
from ..config import settings
from ..rows import Term
from ._annealed import Annealed, two_stages
from ._method import Facts, Method, Needs, See, Stage, Turn, on_labels


@settings
class Annealing(Annealed, Method):
    """Stage one: |z_S - phi(T) z_T|^2, T falling to 1; stage two: the labels, from the best student of stage one."""

    name = "annealing"

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
        levels = self.temperatures(first)

        def match(see: See) -> dict[str, Term]:
            phi = schedules.annealed(see.progress.step, see.progress.steps, levels)
            return {"match": self.distance(see, see.student, see.teacher, phi)}

        start: Literal["best", "last"] = "best" if self.reload else "last"
        return [
            Stage("anneal", (Turn(match),), first, **self.noted(levels, 1 / levels)),
            Stage("label", (Turn(on_labels),), second, teacher=None, start_from=start, optimizer=self.optimizer),
        ]
