"""How closely a student matches its teacher on a split: how often both predict the same, and how far their outputs lie apart.

Source: agreement and KL as measures of fidelity, Stanton et al. 2021, arXiv:2106.05945. What models put out when they were scored is
enough; nothing runs again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from .. import losses
from ..tasks import _metrics
from ..tasks._task import Encoded, Task
from . import batches
from .signals import Stored, averaged
from .teacher import Teacher

Outputs = Mapping[str, np.ndarray]


def of_students(
    task: Task, outputs: Mapping[str, Outputs], encoded: Mapping[str, Encoded], teachers: Sequence[str], teacher: Teacher
) -> dict[str, dict[str, Any]]:
    """What `measure` finds of each model that is no teacher; `outputs` and `encoded` are by model, of the same split.

    A model whose tokens are not the teachers' is left out where outputs stand token by token, and all are where a file of
    probabilities does not know the split.
    """
    if not task.fidelity or not (teachers or teacher.tested is not None):
        return {}
    theirs = {"logits": teacher.tested} if teacher.tested is not None else together(task, [outputs[k] for k in teachers], teacher.average)
    by_token = "token" in (task.judged or task.outputs).values()
    return {
        key: measure(task, own, theirs, encoded[key])
        for key, own in outputs.items()
        if key not in teachers and not (by_token and any(encoded[k] is not encoded[key] for k in teachers))
    }


def together(task: Task, teachers: Sequence[Outputs], over: str) -> Outputs:
    """Several teachers' outputs as one, averaged as their signals are; those of a single one as they are."""
    if len(teachers) == 1:
        return teachers[0]
    stacks = {name: torch.stack([torch.from_numpy(one[name]) for one in teachers]) for name in task.outputs}
    return {name: averaged(stack, over, task.kind).numpy() for name, stack in stacks.items()}


def measure(task: Task, student: Outputs, teacher: Outputs, encoded: Encoded) -> dict[str, dict[str, Any]]:
    """The measures that `task.fidelity` names, each a mean over items or rows with its interval: value, low, high, level, method, rows.

    'agreement' is the share of items with the same prediction; 'kl' KL(teacher || student) at temperature 1 in nats a row, of several
    labels at once their sum; 'mse' the squared difference of predicted numbers.
    """
    out = {}
    for name in task.fidelity:
        each = task.agreed(student, teacher, encoded) if name == "agreement" else distances(task, student, teacher, encoded)
        out[name] = _metrics.mean_with_interval(each)
    return out


def distances(task: Task, student: Outputs, teacher: Outputs, encoded: Encoded) -> np.ndarray:
    """(rows,) The distillation distance of each row at temperature 1, its kinds of rows of logits by their shares."""
    out = np.zeros(len(encoded))
    for index in batches.canonical(encoded.lengths):
        batch = encoded.batch(index)
        seen = (Stored(dict(one), dict(task.outputs), encoded.starts, torch.device("cpu")).of(batch) for one in (student, teacher))
        for mine, theirs in zip(*(task.rows(one, batch) for one in seen), strict=True):
            assert isinstance(mine.logits, torch.Tensor) and isinstance(theirs.logits, torch.Tensor)
            out[index] += mine.share * losses.soft_targets(mine.logits, theirs.logits, kind=mine.kind, allowed=mine.allowed).numpy()
    return out
