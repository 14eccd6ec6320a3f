"""TinyBERT's task distillation: attention scores and hidden states through learned maps, then the teacher's outputs.

Source: Jiao et al. 2020 (TinyBERT), arXiv:1909.10351, equations 7 to 10, and its public task_distill.py.
Departures: no augmented data; means run over real tokens alone, theirs over padded places too; a map between equal widths
starts as the identity, and each pair of layers has its own; both weights of stage two are ours; one recipe setting trains both stages.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from .. import losses
from ..config import NonNegative, Positive, settings
from ..errors import ConfigError
from ..rows import Inside, Term
from ._method import Facts, Method, Needs, See, Stage, Turn
from .kd import soft_and_label

if TYPE_CHECKING:
    from torch import Tensor, nn


@settings
class HiddenStates(Method):
    """Stage one: squared error of hidden states and attention scores; stage two: T^2 KL of outputs, and labels."""

    name = "hidden_states"

    inner_share: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """Share of the budget for stage one."""
    attention: bool = True
    """Whether stage one matches attention scores; both sides need as many heads."""
    temperature: Positive = 1.0
    """Stage two: divides both logits before the softmax; the term is multiplied by its square."""
    soft_weight: NonNegative = 1.0
    """Stage two: weight of the distance of outputs."""
    hard_weight: NonNegative = 0.0
    """Stage two: weight of the label loss."""

    def faults(self) -> Iterator[tuple[str, str]]:
        if not self.soft_weight and self.temperature != type(self).temperature:
            yield "temperature", "has no effect without soft_weight; leave it out"
        if not self.soft_weight and not self.hard_weight:
            yield "soft_weight", "leaves stage two nothing to learn from beside hard_weight 0; raise one of them"

    def pairs(self, facts: Facts) -> list[tuple[int, int]]:
        """Layers of student and teacher that are matched, 0 the embeddings: spread evenly over the teacher's."""
        small, large = layers(facts)
        return [(i, round(i * large / small)) for i in range(small + 1)]

    def needs(self, facts: Facts, stage: str) -> Needs:
        if stage != "inner":
            return Needs()
        pairs = self.pairs(facts)
        heads = pairs[1:] if self.attention else []
        if self.attention and len(set(heads_of(facts, "set method.attention to false").values())) > 1:
            raise ConfigError(
                f"method.attention: the student has {facts.heads['student']} heads, the teacher {facts.heads['teacher']}; "
                "set it to false, or take method relations"
            )
        student, teacher = (Inside(tuple(p[side] for p in pairs), heads=tuple(p[side] for p in heads)) for side in (0, 1))
        return Needs(student, teacher)

    def maps(self, facts: Facts) -> dict[str, nn.Module]:
        from torch import nn

        small, large = facts.widths["student"], facts.widths["teacher"]
        made = {str(i): nn.Linear(small, large, bias=False) for i, _ in self.pairs(facts)}
        if small == large:
            for layer in made.values():
                nn.init.eye_(layer.weight)
        return dict(made)

    def stages(self, facts: Facts) -> list[Stage]:
        first = min(max(1, round(self.inner_share * facts.steps)), max(1, facts.steps - 1))
        match = functools.partial(self._match, pairs=self.pairs(facts))
        stages = [Stage("inner", (Turn(match),), first, select=False)]
        return [*stages, Stage("outputs", (Turn(self.terms),), facts.steps - first)] if facts.steps > first else stages

    def _match(self, see: See, pairs: list[tuple[int, int]]) -> dict[str, Term]:
        student, teacher, mask = see.student, see.teacher, see.task.real(see.batch)
        hidden: Tensor | int = 0
        for small, large in pairs:
            gap = see.maps[str(small)](student.hidden[small]).float() - teacher.hidden[large].float()
            hidden = hidden + ((gap**2).mean(-1) * mask).sum()
        out = {"hidden": Term(hidden, "token")}  # type: ignore[arg-type]
        if self.attention:
            score = sum(losses.score_distance(student.heads[s][:2], teacher.heads[t][:2], mask).sum() for s, t in pairs[1:])
            out["attention"] = Term(score)  # type: ignore[arg-type]
        return out

    def terms(self, see: See) -> dict[str, Term]:
        return soft_and_label(see, temperature=self.temperature, soft_weight=self.soft_weight, hard_weight=self.hard_weight)


def layers(facts: Facts) -> tuple[int, int]:
    """Layers of student and teacher; ConfigError for models whose layers are not known, and where the student has more."""
    if not {"student", "teacher"} <= set(facts.depths):
        raise ConfigError("method: looks into layers, and one of the two models is of a family whose layers are not known; take kd")
    small, large = facts.depths["student"], facts.depths["teacher"]
    if small > large:
        raise ConfigError(f"method: the student has {small} layers, more than the teacher's {large}; take a method on logits, such as kd")
    return small, large


def heads_of(facts: Facts, mend: str) -> Mapping[str, int]:
    """Attention heads of student and teacher; ConfigError with `mend` where they cannot be looked at."""
    if not {"student", "teacher"} <= set(facts.heads):
        raise ConfigError(f"method: compares attention heads, which models that see a document by windows do not show; {mend}")
    return facts.heads
