"""MiniLM's relations: how the last layer's queries, keys and values lie to each other, beside the outputs.

Source: Wang et al. 2021 (MiniLMv2), arXiv:2012.15828, section 3; the first form, attention and values, is Wang et al. 2020,
arXiv:2002.10957.
Departures: used while learning a task, with the outputs and labels beside it, where MiniLM distils before any task.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from .. import losses
from ..config import Count, NonNegative, Positive, settings
from ..errors import ConfigError
from ..rows import Inside, Term
from ._method import Facts, Method, Needs, See, Stage, Turn
from .hidden_states import heads_of, layers
from .kd import soft_and_label

STATES = {"q": 0, "k": 1, "v": 2}


@settings
class Relations(Method):
    """relation_weight * KL of relations + soft_weight * T^2 KL of outputs + hard_weight * label loss."""

    name = "relations"

    pairs: Annotated[tuple[Literal["qq", "kk", "vv", "qk"], ...], Field(min_length=1)] = ("qq", "kk", "vv")
    """Which states are related: qk and vv are MiniLM's first form, qq, kk and vv its second."""
    heads: Count | None = None
    """Relation heads that both sides' states are cut into; null takes the teacher's heads, or the student's where they fit better."""
    teacher_layer: Count | None = None
    """The teacher's layer, 1 the first; null the last. The student's is always its last."""
    relation_weight: Positive = 1.0
    """Weight of the sum over pairs; each is a mean over relation heads and tokens, in nats."""
    temperature: Positive = 2.0
    """Divides both logits of the outputs; the term is multiplied by its square."""
    soft_weight: NonNegative = 1.0
    """Weight of the distance of outputs."""
    hard_weight: NonNegative = 0.5
    """Weight of the label loss."""

    def faults(self) -> Iterator[tuple[str, str]]:
        if len(set(self.pairs)) < len(self.pairs):
            yield "pairs", "names a pair twice"
        if not self.soft_weight and self.temperature != 2.0:
            yield "temperature", "has no effect without soft_weight; leave it out"

    def needs(self, facts: Facts, stage: str) -> Needs:
        small, large = layers(facts)
        layer = self.teacher_layer or large
        if layer > large:
            raise ConfigError(f"method.teacher_layer: {layer} asked for; the teacher has {large}")
        return Needs(Inside(heads=(small,)), Inside(heads=(layer,)))

    def stages(self, facts: Facts) -> list[Stage]:
        layers(facts)
        known = heads_of(facts, "take method hidden_states with attention=false, or kd")
        heads = self.heads or next((h for h in (known["teacher"], known["student"]) if not any(w % h for w in facts.widths.values())), 1)
        if any(w % heads for w in facts.widths.values()):
            raise ConfigError(f"method.heads: {heads} relation heads do not divide the widths {sorted(facts.widths.values())}")
        return [Stage("train", (Turn(functools.partial(self._related, heads=heads)),), facts.steps)]

    def _related(self, see: See, heads: int) -> dict[str, Term]:
        [student], [teacher] = see.student.heads.values(), see.teacher.heads.values()
        mask = see.batch.inputs["attention_mask"]
        out: dict[str, Term] = {}
        for pair in self.pairs:
            small, large = ((side[STATES[pair[0]]], side[STATES[pair[1]]]) for side in (student, teacher))
            each = losses.relation_divergence(small, large, mask, heads)
            out[pair] = Term(each.sum(), "token", self.relation_weight)
        return out | soft_and_label(see, temperature=self.temperature, soft_weight=self.soft_weight, hard_weight=self.hard_weight)
