"""Where a step stands in its method's course: whose turn it is, which rate. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence

from .. import schedules
from ..methods._method import Stage
from ..recipe import Training


def turn_at(stage: Stage, step: int) -> int:
    """The number of the turn that takes step `step` of a stage; turns follow each other in a cycle."""
    place = step % sum(t.steps for t in stage.turns)
    for number, turn in enumerate(stage.turns):
        if place < turn.steps:
            return number
        place -= turn.steps
    raise AssertionError("a turn has at least one step")


def own_steps(stage: Stage, number: int, step: int) -> int:
    """How many of the first `step` steps of a stage turn `number` takes."""
    cycles, place = divmod(step, sum(t.steps for t in stage.turns))
    before, steps = sum(t.steps for t in stage.turns[:number]), stage.turns[number].steps
    return cycles * steps + min(max(0, place - before), steps)


def rate(stages: Sequence[Stage], number: int, step: int, training: Training) -> float:
    """The learning rate of a step. Each turn's optimizer has a course of its own over the steps that it takes itself; stages
    that continue an optimizer share one course with the one before.
    """
    turn = turn_at(stages[number], step)
    first = last = number
    while first > 0 and stages[first].optimizer == "continue":
        first -= 1
    while last + 1 < len(stages) and stages[last + 1].optimizer == "continue":
        last += 1
    whole = [own_steps(s, turn, s.steps) for s in stages[first : last + 1]]
    done, total = sum(whole[: number - first]) + own_steps(stages[number], turn, step), sum(whole)
    peak = stages[number].turns[turn].learning_rate or training.peak
    return schedules.learning_rate(done, total, peak=peak, warmup=training.warmup, decay=training.decay)
