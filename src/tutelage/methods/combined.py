"""Combined-KD: Annealing-KD's stages with MATE-KD's generator in the first.

Source: Li, Rashid, Jafari, Sharma, Ghodsi, Rezagholizadeh 2021, arXiv:2109.05696; the authors' code in huawei-noah/Efficient-NLP.
Departures: the generator rests in stage two, where theirs runs without effect; dropout is on unless set otherwise (their loop
leaves the student in eval mode after its first look at dev).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Annotated, Literal

from pydantic import Field

from .. import schedules
from ..config import settings
from ..rows import Seen, Term
from ._annealed import Annealed, two_stages
from ._generator import Adversary
from ._method import Facts, Method, Needs, See, Stage, Turn, on_labels


@settings
class Combined(Annealed, Adversary, Method):
    """Stage one: the annealed distance on texts as they are and as the generator wrote them, half each; stage two: labels."""

    name = "combined"

    label_share: Annotated[float, Field(gt=0, lt=1)] = 0.25
    """Share of the budget for stage two."""
    form: Literal["roberta", "bert"] = "roberta"
    """The published RoBERTa script, or its BERT script: half label loss, half distance on texts as they are, nothing written."""
    dropout: bool = True
    """False trains the student without dropout, as the published loop does by accident."""

    def faults(self) -> Iterator[tuple[str, str]]:
        if self.form == "bert":
            for field in dataclasses.fields(Adversary):
                if getattr(self, field.name) != field.default:
                    yield field.name, "has no effect with form bert, which uses nothing that a generator writes; leave it out"

    def roles(self, facts: Facts) -> dict:
        return super().roles(facts) if self.form == "roberta" else {}

    def needs(self, facts: Facts, stage: str) -> Needs:
        return Needs(raw_logits=stage == "anneal", same_tokens=self.form == "roberta")

    def stages(self, facts: Facts) -> list[Stage]:
        first, second = two_stages(facts, self.label_share)
        levels = self.temperatures(first)

        def learn(see: See, written: Callable[[], dict[str, Seen]]) -> dict[str, Term]:
            phi = schedules.annealed(see.progress.step, see.progress.steps, levels)
            if self.form == "bert":
                other = on_labels(see, 0.5)
            else:
                seen = written()
                other = {"written": self.distance(see, seen["student"], seen["teacher"], phi, weight=0.5)}
            return other | {"match": self.distance(see, see.student, see.teacher, phi, weight=0.5)}

        def apart(see: See, student: Seen, teacher: Seen, weight: float) -> Term:
            return self.distance(see, student, teacher, 1.0, weight=weight)

        turns: tuple[Turn, ...] = (Turn(lambda see: learn(see, dict)),)
        if self.form == "roberta":
            turns, first = self.turns(facts, apart, learn), self.length(first)
        turns = (*turns[:-1], dataclasses.replace(turns[-1], dropout=self.dropout))
        before = self.preparation(facts) if self.form == "roberta" else []
        label = Turn(on_labels, dropout=self.dropout)
        anneal = Stage("anneal", turns, first, **self.noted(levels, 1 / levels))
        return [*before, anneal, Stage("label", (label,), second, teacher=None, start_from="best")]
