"""Teacher-assistant KD: a model of a size in between learns from the teacher, then teaches the student.

Source: Mirzadeh et al. 2020, arXiv:1902.03393, and its public code.
Departures: one assistant; the two terms' weights are free; the distance is a sum over classes, theirs a mean over elements.
The assistant has a budget as large as the student's, which is not counted as the student's.
"""

from __future__ import annotations

from collections.abc import Iterator

from ..config import Count, NonNegative, Positive, settings
from ..errors import ConfigError
from ..rows import Term
from ._method import Facts, Method, RoleSpec, See, Stage, Turn
from .kd import soft_and_label


@settings
class Takd(Method):
    """KD from teacher to assistant, then KD from the assistant's best to the student."""

    name = "takd"

    assistant: str | None = None
    """The assistant by name or folder; null takes layers of the teacher's model before it was fine-tuned."""
    layers: Count | None = None
    """Layers of such an assistant, evenly spaced; null takes the middle between student and teacher."""
    temperature: Positive = 2.0
    """Divides both logits before the softmax; the term is multiplied by its square."""
    soft_weight: Positive = 1.0
    """Weight of the distance to the one who teaches."""
    hard_weight: NonNegative = 0.5
    """Weight of the label loss; 0 learns from the one who teaches alone."""

    def faults(self) -> Iterator[tuple[str, str]]:
        if self.assistant and self.layers:
            yield "layers", "has no effect beside an assistant by name; leave it out"

    def roles(self, facts: Facts) -> dict[str, RoleSpec]:
        if self.assistant:
            return {"assistant": RoleSpec(start=self.assistant, setting="assistant")}
        if not {"student", "teacher"} <= set(facts.depths):
            raise ConfigError("method.assistant: the layers of student and teacher are not known here; name a model of a size in between")
        small, large = facts.depths["student"], facts.depths["teacher"]
        layers = self.layers or (small + large) // 2
        if layers > large:
            raise ConfigError(f"method.layers: {layers} asked for; the teacher has {large}")
        return {"assistant": RoleSpec(start="teacher", layers=layers)}

    def stages(self, facts: Facts) -> list[Stage]:
        return [
            Stage("assistant", (Turn(lambda see: self._learn(see, "assistant"), role="assistant"),), facts.steps),
            Stage("train", (Turn(self.terms),), facts.steps, teacher="assistant"),
        ]

    def terms(self, see: See) -> dict[str, Term]:
        return self._learn(see, "student")

    def _learn(self, see: See, who: str) -> dict[str, Term]:
        return soft_and_label(see, who=who, temperature=self.temperature, soft_weight=self.soft_weight, hard_weight=self.hard_weight)
