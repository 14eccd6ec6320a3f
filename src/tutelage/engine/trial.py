"""One trial of a study: a recipe's student, trained and tested in a warm process, without a folder of its own."""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from .. import config, records
from ..errors import ConfigError, RunError
from ..models.trust import trusting
from ..recipe import Recipe
from . import judge
from .checkpoint import State
from .distill import Run
from .machine import Machine
from .talk import Talk
from .warm import Warm


@dataclasses.dataclass(frozen=True)
class Trial:
    """What a trial found."""

    facts: dict[str, Any]
    """Plain data: the metric, scores on dev and test, digests, steps, rate; `seconds` and `where` are not part of what is found."""
    examples: dict[str, np.ndarray]
    """What the student said of each test item: `each`, its values of the metric, or `predicted` and `gold`."""
    students: tuple[Path, ...]
    """Folders that its students' trainings left in the store."""
    student: judge.Opened
    """The trained student with its task and data."""


def trial(
    recipe: Recipe, *, store: Path, warm: Warm, talk: Talk, patience: float, on_step: Callable[[State], None] = lambda state: None
) -> Trial:
    """Train and test a recipe's student. Raises ConfigError where the data has no test split.

    A student that another process trains is waited for so many seconds of `patience`, then trained beside it.
    """
    machine = Machine(recipe.threads)
    run = Run(recipe, store, machine, talk, on_step, warm)
    run.shop.patience = patience
    if "test" not in run.data.splits:
        raise ConfigError("task: has no test split, and a study compares on test; name one")
    with trusting((*recipe.trusted, str(store))):
        judged = run.examples()
    key = list(run.models)[-1]
    model, mine = run.models[key], judged[key]
    each = recipe.task.each(mine.predicted, mine.gold)
    each = recipe.task.sums(mine.predicted, mine.gold) if each is None else each
    examples = {"predicted": mine.predicted, "gold": mine.gold} if each is None else {"each": np.asarray(each, dtype=np.float64)}
    surroundings = records.surroundings()
    return Trial(
        facts={
            "metric": recipe.task.primary, "kind": recipe.task.kind, "dev": model["dev"], "test": model["test"]["metrics"],
            "score": model["test"]["primary"], "rows": model["test"]["rows"], "weights": model["weights"], "data": run.data.digest,
            "parameters": model["parameters"], "fidelity": model["fidelity"],
            "teacher": {k: v["test"]["primary"] for k, v in run.models.items() if v["role"] == "teacher"},
            "steps": model["training"]["steps"], "best_step": model["training"]["best_step"],
            "learning_rate": model["training"]["learning_rate"],
            "seconds": {k: round(v, 2) for k, v in run.times().items()},
            "where": {
                "processor": surroundings["processor"], "device": machine.device.type, "threads": machine.threads,
                "precision": model["training"]["precision"], "torch": surroundings["versions"].get("torch"),
                "tutelage": surroundings["versions"].get("tutelage"),
            },
        },
        examples=examples,
        student=judge.Opened(recipe.task, run.data, run.loaded[key], {"task": config.dump(recipe.task), "labels": list(run.data.labels)}),
        students=tuple(trained.folder for trained in run.students),
    )  # fmt: skip


def forget(students: tuple[Path, ...]) -> None:
    """Remove what students' trainings left in the store; what another process is at stays."""
    for folder in students:
        with contextlib.suppress(RunError), records.locked(folder.parent):
            shutil.rmtree(folder, ignore_errors=True)
