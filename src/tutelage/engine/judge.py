"""A model on a split: metrics with an interval, per-example results, and paired comparisons."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .. import config, records
from ..errors import ConfigError, DataError
from ..find import find, near
from ..models import anatomy
from ..models.load import Loaded, open_config, open_model
from ..rows import LAST_STATES
from ..tasks import _metrics
from ..tasks._task import Data, Encoded, Split, Task
from . import fits
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
    items: list[dict[str, Any]] | None = None
    """What the task keeps of each item, where it is not labels and outputs; with a `row` of its own where items are not the source's."""

    def rows(self, split: Split | None, labels: tuple[str, ...]) -> Iterator[dict[str, Any]]:
        """One record an example: its row in the source, and gold and predicted label with raw outputs or what the task keeps."""
        first = next(iter(self.raw.values()))
        for i in range(len(self.predicted)):
            if self.items is not None:
                item = self.items[i]
                yield item if "row" in item else {"row": split.ids[i] if split else i, **item}
                continue
            yield {
                "row": split.ids[i] if split else i,
                "gold": _named(self.gold[i], labels), "predicted": _named(self.predicted[i], labels),
                "outputs": [round(float(x), 5) for x in np.ravel(first[i])],
            }  # fmt: skip


def _named(value: Any, labels: tuple[str, ...]) -> Any:
    if np.ndim(value):
        return [labels[i] for i in np.flatnonzero(value)]
    return labels[int(value)] if labels else round(float(value), 5)


def on(model: Any, encoded: Encoded, task: Task, machine: Machine, dtype: torch.dtype, *, dev: Encoded | None = None) -> Judged:
    """Run a model over a split and score it, by settings that a task chooses for it on dev."""
    chosen: dict[str, Any] = {}
    if task.calibrates and dev is not None:
        before, task = config.dump(task), task.calibrated(seen_by(model, dev, task, machine, dtype), dev)
        chosen = {"calibrated": {k: v for k, v in config.dump(task).items() if before[k] != v}}
    raw = seen_by(model, encoded, task, machine, dtype)
    predicted, gold = task.predict(raw, encoded), task.truth(encoded)
    return Judged(raw, predicted, gold, _metrics.interval(task, predicted, gold) | chosen, task.items(predicted, encoded))


def seen_by(model: Any, encoded: Encoded, task: Task, machine: Machine, dtype: torch.dtype) -> dict[str, np.ndarray]:
    """What a model says of a split, as far as the task's metrics need it."""
    shown = task.shown if task.judged else None
    return outputs(model, encoded, task.judged or task.outputs, machine, dtype, task.view, shown)


def compare(task: Task, a: str, b: str, judged: dict[str, Judged]) -> dict[str, Any]:
    """The difference a - b of the primary metric on the same examples, with a paired bootstrap interval."""
    found = _metrics.paired_difference(task, judged[a].predicted, judged[b].predicted, judged[a].gold)
    return {"a": a, "b": b, **found}


@dataclasses.dataclass(frozen=True)
class Opened:
    """A saved model with the task that it is scored on and that task's data."""

    task: Any
    data: Data
    loaded: Loaded
    known: Mapping[str, Any]
    """What its folder says of its training: task, labels, record; empty for another model."""

    def encoded(self, part: str) -> Encoded:
        """A part of the data; raises ConfigError where there is none of that name."""
        if part not in self.data.splits:
            raise ConfigError(f"--split: no part '{part}'{near(part, self.data.splits)} ({', '.join(self.data.splits)})")
        return self.task.encode(self.data.splits[part], self.loaded.tokenizer)


def opened(student: str, changes: tuple[str, ...] = (), like: Mapping[str, Any] | None = None) -> Opened:
    """A saved model on its own task, or on one that `key=value` settings of the task change.

    `like` is what another's folder says, for a folder that says nothing. Raises ConfigError for a folder that names no task
    while neither `changes` nor `like` does, and for an unknown part; DataError for labels that the model does not know.
    """
    known = records.student_facts(Path(student)) or like or {}
    changes = tuple(of_task(change) for change in changes)
    tree = config.override({k: v for k, v in known.get("task", {}).items() if k not in ("unlabelled", "limit")}, changes)
    if not tree:
        raise ConfigError(f"{student}: does not say which task it was trained for; name the data, for example data=reviews.csv")
    name = tree.pop("kind", "classify")
    if "." in name and name not in sys.modules and not any(change.startswith("kind=") for change in changes):
        why = f"names a task of its own, whose code is imported only where you ask for it; if you trust {name}, add task.kind={name}"
        raise ConfigError(f"{student}: its tutelage.json {why} (in Python: import it first)")
    own = tree.get("data") if any(c.startswith("data=") for c in changes) else None
    if own and Path(own).expanduser().is_file() and hasattr(find("tasks", name), "train"):
        tree = {k: v for k, v in tree.items() if k not in ("data", "dev_share", "test_share")} | dict.fromkeys(
            ("train", "dev", "test"), own
        )
    if known.get("labels") and (own or "test=" in " ".join(changes)):
        tree["labels"] = tree.get("labels") or known["labels"]
    task: Any = config.build(find("tasks", name), tree)
    data = task.load()
    loaded = open_model(student, task.head(data), auto=task.auto, labels=data.labels, text=task.tokenized)
    if LAST_STATES in task.outputs:
        anatomy.check_language_model(loaded.model)
    if loaded.new_head and not task.head(data):
        raise DataError(f"{student}: has no trained head for the task {name}; name a model that was trained on it")
    if loaded.new_head:
        named = ", ".join(str(x) for x in open_config(student).id2label.values())
        wanted = ", ".join(data.labels) or "one value"
        mend = "name the data's in order with labels=[...], or map them with rename={...} and drop=[...]"
        raise DataError(f"{student}: its labels ({named}) are not the data's ({wanted}); {mend}")
    return Opened(task, data, loaded, known)


def of_task(change: str) -> str:
    """A change of a task's setting, written as in a recipe or without `task.` before it."""
    return f"data={change[5:]}" if change.startswith("task=") else change.removeprefix("task.")


def evaluate(student: str, changes: tuple[str, ...], split: str | None, examples: Path | None) -> dict[str, Any]:
    """Score a saved model on a part of its task, the test part without `split`; a data file is taken whole.

    Raises as `opened` does.
    """
    one, part, machine = opened(student, changes), split or "test", Machine()
    encoded = one.encoded(part)
    fits.try_out(student, one.loaded.model, encoded, one.task)
    judged = on(one.loaded.model.to(machine.device), encoded, one.task, machine, machine.precision("auto"))
    if examples:
        records.write_rows(examples, judged.rows(one.data.splits[part], one.data.labels))
    return {"name": one.task.primary, "split": part, "truncated": encoded.truncated, **judged.facts}
