"""What a process keeps between the runs of a study: data, encodings, and what teachers said of the test split."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from .. import config, records
from ..tasks._task import Data, Encoded, Task
from .judge import Judged


class Warm:
    """Each is found again by all that decides it, so that nothing is read, tokenised or judged twice."""

    def __init__(self) -> None:
        self._data: dict[str, Data] = {}
        self._encodings: dict[str, dict[tuple[str, str], Encoded]] = {}
        self._judged: dict[tuple[str, str, torch.dtype], Judged] = {}

    def data(self, task: Task) -> Data:
        """A task's data, read when it is first asked for."""
        key = _key(task)
        if key not in self._data:
            self._data[key] = task.load()
        return self._data[key]

    def encodings(self, task: Task) -> dict[tuple[str, str], Encoded]:
        """A task's rows by tokenizer and part; a workshop fills it."""
        return self._encodings.setdefault(_key(task), {})

    def judged(self, task: Task, weights: str, dtype: torch.dtype, judge: Callable[[], Judged]) -> Judged:
        """What the teacher of these weights says of the task's test split."""
        key = (_key(task), weights, dtype)
        if key not in self._judged:
            self._judged[key] = judge()
        return self._judged[key]


def _key(task: Any) -> str:
    return records.digest(config.dump(task))
