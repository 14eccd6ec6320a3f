"""A model on a split: metrics with an interval, per-example results, and paired comparisons."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from ..tasks import _metrics
from ..tasks._task import Encoded, Split, Task
from .forward import outputs
from .machine import Machine


@dataclasses.dataclass
class Judged:
    """What a model said of every row of a split, and how good that is."""

    raw: dict[str, np.ndarray]
    predicted: np.ndarray
    gold: np.ndarray
    facts: dict[str, Any]
    """metrics, primary, low, high, level, method, rows."""

    def rows(self, split: Split | None, labels: tuple[str, ...]) -> Iterator[dict[str, Any]]:
        """One record an example: its row in the source, gold and predicted label, raw outputs."""
        first = next(iter(self.raw.values()))
        for i in range(len(self.predicted)):
            yield {
                "row": split.ids[i] if split else i,
                "gold": _named(self.gold[i], labels), "predicted": _named(self.predicted[i], labels),
                "outputs": [round(float(x), 5) for x in np.ravel(first[i])],
            }  # fmt: skip


def _named(value: Any, labels: tuple[str, ...]) -> Any:
    if np.ndim(value):
        return [labels[i] for i in np.flatnonzero(value)]
    return labels[int(value)] if labels else round(float(value), 5)


def on(model: Any, encoded: Encoded, task: Task, machine: Machine, dtype: torch.dtype) -> Judged:
    """Run a model over a split and score it."""
    raw = outputs(model, encoded, task.outputs, machine, dtype)
    predicted = task.predict(raw)
    return Judged(raw, predicted, encoded.gold, _metrics.interval(task, predicted, encoded.gold))


def compare(task: Task, a: str, b: str, judged: dict[str, Judged]) -> dict[str, Any]:
    """The difference a - b of the primary metric on the same examples, with a paired bootstrap interval."""
    found = _metrics.paired_difference(task, judged[a].predicted, judged[b].predicted, judged[a].gold)
    return {"a": a, "b": b, **found}
