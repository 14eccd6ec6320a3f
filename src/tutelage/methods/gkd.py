"""Language models that learn from written text: the student's own, judged by the teacher, or the teacher's.

Source: Agarwal et al. 2024 (GKD), arXiv:2306.13649, algorithm 1; Kim and Rush 2016 (sequence-level distillation),
arXiv:1606.07947, section 3.2.
Departures: prompts are the beginnings of the task's own texts; which steps learn from written text is spread evenly, not drawn;
the teacher's text is sampled (sampling 0: its greedy text), where Kim and Rush take the best beam.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from ..config import Count, NonNegative, Positive, settings
from ..rows import Term
from ._method import Augment, Facts, Made, Needs, See, Stage, Turn, one_of_several
from .kd import Kd


@settings
class Gkd(Kd):
    """soft_weight * distance to the teacher, + hard_weight * the text's own tokens, on text that student or teacher wrote."""

    name = "gkd"
    writes_text = True

    temperature: Positive = 1.0
    """Divides both logits before the softmax; the term is multiplied by its square. Not for form mse."""
    soft_weight: NonNegative = 1.0
    """Weight of the distance to the teacher."""
    hard_weight: NonNegative = 0.0
    """Weight of the cross-entropy on the text's own tokens. With writer teacher, soft_weight 0 and hard_weight 1 it is
    sequence-level distillation. The student's own text never counts."""
    form: Literal["kl", "reverse_kl", "jsd", "skewed_kl", "skewed_reverse_kl", "mse"] = "jsd"
    """As in kd."""
    writer: Literal["student", "teacher"] = "student"
    """student: on-policy, written anew at each step; teacher: all rows, written once and kept."""
    share: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Writer student: share of steps that learn from its text; the others learn from the text as it is."""
    prompt: Annotated[float, Field(ge=0, lt=1)] = 0.25
    """Share of each text that is kept as the prompt, its first token at the least; only what is written after it is learned."""
    sampling: NonNegative = 1.0
    """Temperature of the writer; 0 takes the likeliest token."""
    every: Count | None = None
    """Writer teacher: epochs after which it writes anew; null keeps its first text."""

    def faults(self) -> Iterator[tuple[str, str]]:
        yield from super().faults()
        student = self.writer == "student"
        if not self.soft_weight and not self.hard_weight:
            yield "", "learns nothing; give soft_weight or hard_weight"
        elif student and not self.soft_weight:
            yield "soft_weight", "must be above 0 with writer student, whose own text is no label"
        elif not self.soft_weight:
            for name in ("temperature", "form"):
                if getattr(self, name) != getattr(Gkd, name):
                    yield name, "has no effect with soft_weight 0; leave it out"
        if student and self.hard_weight and self.share == 1:
            yield "hard_weight", "has no effect with writer student and share 1; lower share, or leave it out"
        if student and self.every is not None:
            yield "every", "has no effect with writer student, which writes at each step; leave it out"
        if not student and self.share != 1:
            yield "share", "has no effect with writer teacher, who writes all rows anew; leave it out"

    def needs(self, facts: Facts, stage: str) -> Needs:
        return Needs(raw_logits=self.form == "mse", same_tokens=True, live=self.writer == "teacher" or self.share == 1)

    def stages(self, facts: Facts) -> list[Stage]:
        one_of_several(self, facts)
        made = Augment(self._teach, every=self.every or facts.epochs + 1) if self.writer == "teacher" else None
        return [Stage("train", (Turn(self.terms),), facts.steps, augment=made)]

    def _teach(self, see: See) -> Made:
        batch = see.rewritten("teacher", kept=self.prompt, temperature=self.sampling).batch
        return Made({"input_ids": batch.inputs["input_ids"], "target": batch.extra["target"]})

    def terms(self, see: See) -> dict[str, Term]:
        step = see.progress.step
        if self.writer == "student" and int((step + 1) * self.share) > int(step * self.share):
            return {"soft": self.soft(see.rewritten("student", kept=self.prompt, temperature=self.sampling))}
        return super().terms(see)
