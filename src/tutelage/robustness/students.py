"""A saved student that answers texts with probabilities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..engine import judge
from ..engine.forward import outputs
from ..engine.machine import Machine
from ..errors import ModelError
from ..models.load import tokenizer_digest, weights_digest
from ..records import digest, student_facts
from ..tasks import _metrics
from ..tasks._task import Split
from .reading import Text
from .suites import labels_texts


class Student:
    """A trained model with its task; `name` is what the table calls it, `precision` what it computes in."""

    def __init__(self, name: str, one: judge.Opened, machine: Machine, *, folder: str = "", precision: str = "auto"):
        self.name, self.folder, self.machine, self.precision = name, folder, machine, precision
        self.task, self.data, self.tokenizer, self.trained = one.task, one.data, one.loaded.tokenizer, one.known.get("task", {})
        self.known: Mapping[str, Any] = one.known
        self.model = one.loaded.model.to(machine.device).eval()
        self.labels = self.data.labels
        self.paired = "pair" in self.data.splits["test"].columns
        self.digest = digest(weights_digest(self.model), tokenizer_digest(self.tokenizer), self.task.max_length, list(self.labels))
        self.truncated = 0

    @classmethod
    def read(cls, name: str, folder: str, machine: Machine, like: Student | None = None) -> Student:
        """A saved one. A folder that names no task has that of the student `like`.

        Raises ModelError for a folder that there is not or that says nothing, and for a model that does not give texts one label of
        several.
        """
        if not (like or student_facts(Path(folder))):
            what = "does not say what its model was trained for" if Path(folder).is_dir() else "no such folder"
            raise ModelError(f"{folder}: {what}; name a student's folder that 'tutelage distill' made")
        one = judge.opened(folder, like=like.known if like else None)
        if not labels_texts(one.task):
            raise ModelError(f"{folder}: is no student that gives texts one label of several; leave it out")
        return cls(name, one, machine, folder=folder)

    def probabilities(self, texts: Sequence[Text], *, exact: bool = False) -> np.ndarray:
        """(texts, labels) in float32. `exact` computes in float32 whatever the student's precision.

        `truncated` is then how many of them were longer than the task's `max_length`.
        """
        pair = {"pair": [t[1] for t in texts]} if self.paired else {}
        first = [t[0] for t in texts] if self.paired else list(texts)
        split = Split({"text": first, **pair}, np.full(len(texts), -1), list(range(len(texts))))
        encoded = self.task.encode(split, self.tokenizer)
        self.truncated = encoded.truncated
        dtype = self.machine.precision("float32" if exact else self.precision)
        logits = outputs(self.model, encoded, self.task.outputs, self.machine, dtype, self.task.view)["logits"]
        return torch.from_numpy(logits).softmax(-1).numpy()

    def at_home(self) -> dict[str, object]:
        """Accuracy on the student's own test part with Wilson's interval, the share of its commonest label, and `at_chance`.

        A student is at chance where the interval does not lie above that share.
        """
        encoded = self.task.encode(self.data.splits["test"], self.tokenizer)
        judged = judge.on(self.model, encoded, self.task, self.machine, self.machine.precision(self.precision))
        found = accuracy(int((judged.predicted == judged.gold).sum()), len(judged.gold))
        majority = float(np.bincount(judged.gold).max() / len(judged.gold))
        return {**found, "majority": majority, "at_chance": found["low"] <= majority, "data": _source(self)}


def _source(student: Student) -> str:
    return str(student.trained.get("train") or student.trained.get("data") or "")


def accuracy(right: int, of: int) -> dict[str, float]:
    """The share of right rows with Wilson's 95 % interval."""
    low, high = _metrics.wilson(right, of, 0.95)
    return {"accuracy": right / of, "low": low, "high": high, "rows": of}


def named(folders: Sequence[str]) -> dict[str, str]:
    """A short name for each folder: its own, with as much of its path before it as tells it apart."""
    paths, depth = {Path(folder).resolve().parts: folder for folder in folders}, 1
    while len({parts[-depth:] for parts in paths}) < len(paths):
        depth += 1
    return {"/".join(parts[-depth:]): folder for parts, folder in paths.items()}
