"""Pro-KD: the student follows in the teacher's footsteps, with a temperature that falls (form mse), then learns the labels.

Source: Rezagholizadeh, Jafari et al. 2022, arXiv:2110.08532, of which the abstract alone was read: the student follows the
teacher's training instead of the finished teacher. The loss, the smoothing, the spacing and the budget are reconstructed
after Annealing-KD by the same authors; each is a setting, and no figure of the paper can be expected from the defaults.
Departures: unknown, see above.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Annotated, Literal

from pydantic import Field

from .. import losses, schedules
from ..config import Count, NonNegative, Positive, settings
from ..rows import Term
from ._annealed import Annealed, two_stages
from ._method import Facts, Method, Needs, RoleSpec, See, Stage, Turn, on_labels, over_rows
from .rco import along_the_route, chosen


@settings
class ProKd(Annealed, Method):
    """Stage one: the distance to the teacher as it was then, smoothed; stage two: the labels, from the best student."""

    name = "pro_kd"

    teacher: Literal["checkpoints", "online"] = "checkpoints"
    """Follow stored checkpoints of the teacher's training, or a teacher trained by turns with the student."""
    checkpoints: Count | None = None
    """How many of the stored checkpoints; null takes all."""
    turn: Count | None = None
    """Online: optimizer steps of a turn; null takes an epoch. The teacher's steps are not counted as the student's."""
    form: Literal["mse", "kl"] = "mse"
    """Squared distance of logits, or T^2 KL of tempered outputs."""
    smoothing: Literal["phi", "inverse", "none"] = "phi"
    """Form mse: the teacher's logits times phi(T) of Annealing-KD, divided by T falling evenly to 1, or as they are."""
    max_temperature: Count | None = None
    """Online with phi or inverse: T_max; null takes 10, or one a step where there are fewer steps. The run says and records it.
    Checkpoints have one temperature each."""
    temperature: Positive = 2.0
    """Form kl: divides both logits."""
    hard_weight: NonNegative = 0.0
    """Weight of the label loss in stage one."""
    label_share: Annotated[float, Field(gt=0, lt=1)] = 0.25
    """Share of the budget for stage two."""

    def faults(self) -> Iterator[tuple[str, str]]:
        online = self.teacher == "online"
        idle = {
            "checkpoints": (online and self.checkpoints is not None, "with teacher online"),
            "turn": (not online and self.turn is not None, "with stored checkpoints"),
            "smoothing": (self.form == "kl" and self.smoothing != "phi", "with form kl"),
            "reduction": (self.form == "kl" and self.reduction != "mean", "with form kl"),
            "temperature": (self.form == "mse" and self.temperature != 2.0, "with form mse"),
            "max_temperature": (
                self.max_temperature is not None and (not online or self.form == "kl" or self.smoothing == "none"),
                "with these settings",
            ),
        }
        yield from ((name, f"has no effect {why}; leave it out") for name, (wrong, why) in idle.items() if wrong)

    def needs(self, facts: Facts, stage: str) -> Needs:
        return Needs(raw_logits=self.form == "mse" and stage != "label")

    def roles(self, facts: Facts) -> dict[str, RoleSpec]:
        return {"guide": RoleSpec(start="teacher")} if self.teacher == "online" else {}

    def stages(self, facts: Facts) -> list[Stage]:
        first, second = two_stages(facts, self.label_share)
        label = Stage("label", (Turn(on_labels),), second, teacher=None, start_from=":best")
        if self.teacher == "checkpoints":
            numbers = chosen(self.checkpoints, "checkpoints", facts, first)

            def terms(place: int, of: int) -> Callable[[See], dict[str, Term]]:
                return functools.partial(self._follow, role="teacher", level=place, levels=of)

            return [*along_the_route(numbers, first, terms, "continue"), label]
        levels = self.temperatures(first)
        turn = min(self.turn or facts.steps_per_epoch, first)
        turns = (
            Turn(lambda see: {"guide": see.task.label_term(see("guide"), see.batch)}, role="guide", steps=turn),
            Turn(functools.partial(self._follow, role="guide", level=None, levels=levels), steps=turn),
        )
        whole, rest = divmod(first, turn)
        noted = self.noted(levels, 1 / levels) if self.form == "mse" and self.smoothing != "none" else {}
        return [Stage("follow", turns, 2 * turn * whole + (turn + rest if rest else 0), teacher=None, **noted), label]

    def _follow(self, see: See, role: str, level: int | None, levels: int) -> dict[str, Term]:
        guide = see.teacher if role == "teacher" else see(role)
        if self.form == "kl":
            distance = functools.partial(losses.soft_targets, temperature=self.temperature)
            out = {"follow": over_rows(distance, see.student, guide, see)}
        else:
            out = {"follow": self.distance(see, see.student, guide, self._scale(see, level, levels))}
        return out | on_labels(see, self.hard_weight)

    def _scale(self, see: See, level: int | None, levels: int) -> float:
        """What the guide's logits are multiplied by, at level 1 (the smoothest) to `levels` (as they are)."""
        phi = level / levels if level else schedules.annealed(see.progress.step, see.progress.steps, levels)
        return {"phi": phi, "inverse": 1 / (levels - round(phi * levels) + 1), "none": 1.0}[self.smoothing]
