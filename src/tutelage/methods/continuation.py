"""Continuation-KD: from a smoothed teacher within a margin to the labels, in one course.

Source: Jafari, Kobyzev, Rezagholizadeh, Poupart, Ghodsi 2022, arXiv:2212.05998, equations 3 to 8 and algorithm 1.
Departures: the paper gives no value of the margin m, prints the squared norm and calls it a mean square, and does not say whether
the hinge is a row's: here the distance is a mean over classes unless set otherwise, the hinge is taken row by row, and m is a share
of the mean squared norm of the teacher's logits. T falls by steps, or by algorithm 1, where it stays at 1 instead of passing it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from .. import schedules
from ..config import settings
from ..errors import ConfigError
from ..rows import Term
from ._annealed import Annealed
from ._method import Facts, Method, Needs, Progress, See, Stage, Turn, on_labels, within_margin


@settings
class Continuation(Annealed, Method):
    """psi * label loss + (1 - psi) * max(0, |z_S - phi(T) z_T|^2 - m phi(T)), psi rising, T falling to 1."""

    name = "continuation"

    margin: Annotated[float, Field(ge=0, lt=1)] = 0.01
    """m, as a share of the mean squared norm of the teacher's logits, of training rows; 0 is the plain distance."""
    labels: Literal["glue", "images", "ramp", "step"] = "glue"
    """psi: the paper's course for GLUE (eq. 8) or images (eq. 7); 'ramp' rises evenly, 'step' jumps from 0 to 1 at label_from."""
    label_from: Annotated[float, Field(gt=0, le=1)] | None = None
    """Share of the budget from which psi is 1, for ramp and step."""
    temperature: Literal["equal", "algorithm"] = "equal"
    """T falls in equal shares of the steps in anneal_share, or at the epochs that algorithm 1 names, of which T_max cannot have more."""
    anneal_share: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Share of the budget in which T falls to 1, for temperature equal."""

    def faults(self) -> Iterator[tuple[str, str]]:
        free = self.labels in ("ramp", "step")
        if free and self.label_from is None:
            yield "label_from", f"is needed with labels {self.labels}: the share of the budget from which psi is 1"
        if not free and self.label_from is not None:
            yield "label_from", f"has no effect with labels {self.labels}; leave it out"
        if self.temperature == "algorithm" and self.anneal_share != 1.0:
            yield "anneal_share", "has no effect with temperature algorithm; leave it out"

    def needs(self, facts: Facts, stage: str) -> Needs:
        return Needs(raw_logits=True, scale=self.reduction if self.margin else "")

    def stages(self, facts: Facts) -> list[Stage]:
        if self.temperature == "algorithm":
            levels = self.temperatures(facts.epochs, "epochs")
        else:
            levels = self.temperatures(max(1, round(self.anneal_share * facts.steps)))
        if self.label_from is None and facts.epochs < 2:
            raise ConfigError(f"method.labels: the course '{self.labels}' is for 2 epochs or more; train longer, or take ramp or step")

        def terms(see: See) -> dict[str, Term]:
            psi, phi = self.psi(see.progress), self.phi(see.progress, levels)
            out = on_labels(see, psi)
            if psi < 1:
                margin = self.margin * see.scale
                out["match"] = self.distance(see, see.student, see.teacher, phi, margin=margin, weight=1 - psi)
                if margin:
                    out["inactive"] = within_margin(see, see.student, see.teacher, phi, margin=margin, reduction=self.reduction)
            return out

        first = self.phi(Progress("train", 0, facts.steps, 0, facts.epochs), levels)
        return [Stage("train", (Turn(terms),), facts.steps, **self.noted(levels, first))]

    def psi(self, at: Progress) -> float:
        """The share of the label loss."""
        if self.label_from is None:
            return schedules.label_share(at.epoch + 1, at.epochs, self.labels)
        edge = round(self.label_from * at.steps)
        if self.labels == "step":
            return float(at.step >= edge)
        return min(1.0, at.step / max(1, edge))

    def phi(self, at: Progress, levels: int) -> float:
        """The scale of the teacher's logits and of the margin."""
        if self.temperature == "algorithm":
            return schedules.algorithm_1(at.epoch + 1, at.epochs, levels)
        return schedules.annealed(at.step, round(self.anneal_share * at.steps), levels)
