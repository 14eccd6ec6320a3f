"""EchoAtt's two stages: hidden states at block ends, the teacher's outputs and its first guesses; then the text itself.

Source: EchoAtt, arXiv:2409.14595, section 3.2 (equations of L_I, L_S and L_H, and the weights 0.25, 0.25 and 0.5).
Departures: the squared error is a mean over width and predicted tokens, the paper prints a squared norm; the paper prints KL
with the student first, direction and temperature are settings here; a block ends where the last layer echoes its source.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from .. import losses
from ..config import NonNegative, Positive, settings
from ..errors import ConfigError
from ..rows import Inside, Sparse, Term
from ._method import Facts, Method, Needs, See, Stage, Turn, on_labels, one_of_several, over_rows

if TYPE_CHECKING:
    from torch import Tensor


@settings
class Echo(Method):
    """Stage one: hidden_weight * squared error of hidden states + soft_weight * KL + guess_weight * CE; stage two: the labels."""

    name = "echo"

    label_share: Annotated[float, Field(ge=0, lt=1)] = 0.2
    """Share of the budget for stage two; the paper's is a quarter of an epoch after one whole epoch."""
    hidden_weight: NonNegative = 0.25
    """Weight of the squared error of hidden states at block ends."""
    soft_weight: NonNegative = 0.25
    """Weight of the divergence of outputs."""
    guess_weight: NonNegative = 0.5
    """Weight of the cross-entropy on the teacher's most likely token."""
    direction: Literal["student_first", "teacher_first"] = "student_first"
    """student_first is KL(student || teacher), as the paper prints it; teacher_first is the usual one."""
    temperature: Positive = 1.0
    """Divides both logits of the divergence, which is multiplied by its square; the paper names none."""
    trained: Literal["all", "echoes"] = "all"
    """What learns in stage one: everything, or only the layers whose attention echoes. What rests shares a live teacher's memory."""
    layers: tuple[Annotated[int, Field(ge=1)], ...] = ()
    """Layers whose outputs are matched, 1 the first; empty takes the ends of the plan's blocks."""

    def faults(self) -> Iterator[tuple[str, str]]:
        if not self.hidden_weight + self.soft_weight + self.guess_weight:
            yield "", "learns nothing in stage one; give one of its weights"
        if self.layers and not self.hidden_weight:
            yield "layers", "has no effect with hidden_weight 0; leave it out"
        if self.temperature != 1.0 and not self.soft_weight:
            yield "temperature", "has no effect with soft_weight 0; leave it out"

    def ends(self, facts: Facts) -> tuple[int, ...]:
        """The matched layers. Raises ConfigError for a student without echoes, and for layers that one side lacks."""
        last: dict[int, int] = {}
        for echo, source in facts.echoes.items():
            last[source] = max(echo + 1, last.get(source, 0))
        ends = self.layers or tuple(sorted(last.values()))
        if not ends:
            raise ConfigError("method.layers: the student has no echoing layers whose ends could be matched; name layers, or take kd")
        depth = min((facts.depths.get(role, max(ends)) for role in ("student", "teacher")), default=max(ends))
        if max(ends) > depth:
            raise ConfigError(f"method.layers: layer {max(ends)} asked for; the models have {depth}")
        return ends

    def needs(self, facts: Facts, stage: str) -> Needs:
        if stage != "echo":
            return Needs()
        inside = Inside(hidden=self.ends(facts) if self.hidden_weight else ())
        return Needs(student=inside, teacher=inside, few="likeliest", temperature=self.temperature)

    def stages(self, facts: Facts) -> list[Stage]:
        one_of_several(self, facts)
        second = min(round(self.label_share * facts.steps), facts.steps - 1)
        match = functools.partial(self._match, ends=self.ends(facts) if self.hidden_weight else ())
        only = functools.partial(_within, set(facts.echoes)) if self.trained == "echoes" else None
        if only and not facts.echoes:
            raise ConfigError("method.trained: the student has no echoing layers to train alone; leave it out")
        stages = [Stage("echo", (Turn(match, only=only),), facts.steps - second, select=not second)]
        return [*stages, Stage("label", (Turn(self.terms),), second, teacher=None)] if second else stages

    def _match(self, see: See, ends: tuple[int, ...]) -> dict[str, Term]:
        student, teacher, out = see.student, see.teacher, {}
        if ends:
            real = see.task.real(see.batch)
            gaps = [(student.hidden[i][real].float() - teacher.hidden[i][real].float()).square().mean(-1).sum() for i in ends]
            out["hidden"] = Term(sum(gaps[1:], gaps[0]), "token", self.hidden_weight / len(ends))
        if self.soft_weight:
            out["soft"] = over_rows(self._distance, student, teacher, see, weight=self.soft_weight)
        if self.guess_weight:
            out["guess"] = over_rows(_guess, student, teacher, see, weight=self.guess_weight, of_few=_guess_of_few)
        return out

    def _distance(self, s: Tensor, t: Tensor, *, kind: str, allowed: Tensor | None) -> Tensor:
        if self.direction == "student_first":
            s, t = t, s
        return losses.divergence(s, t, temperature=self.temperature, allowed=allowed)

    def terms(self, see: See) -> dict[str, Term]:
        return on_labels(see)


def _within(layers: set[int], name: str) -> bool:
    """Whether a parameter belongs to one of these layers."""
    found = re.search(r"\blayers\.(\d+)\.", name)
    return found is not None and int(found[1]) in layers


def _guess(s: Tensor, t: Tensor, *, kind: str, allowed: Tensor | None) -> Tensor:
    """Cross-entropy on the teacher's most likely class; ties go to the first."""
    best = (t if allowed is None else t.masked_fill(~allowed, float("-inf"))).argmax(-1)
    return losses.label_loss(s, best, kind="choice", allowed=allowed)


def _guess_of_few(s: Tensor, t: Sparse) -> Tensor:
    """The same where the teacher is known by its likeliest classes, the first of which it is."""
    return losses.label_loss(s, t.ids[..., 0], kind="choice")
