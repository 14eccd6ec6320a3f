"""What names a training in the store: everything that determines the weights it ends in."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import transformers

from .. import __version__, config, records
from ..find import code_files
from ..methods._method import Facts, Method
from ..models.load import model_digest, tokenizer_digest
from ..recipe import Training
from ..tasks._task import Encoded, Task
from .teacher import Teacher

if TYPE_CHECKING:
    from .workshop import Start, Workshop

FORMAT = 2


def name_of(
    shop: Workshop, method: Method, start: Start, training: Training, seed: int, rows: Encoded, facts: Facts,
    teacher: Teacher | None, anchors: int,
) -> str:  # fmt: skip
    """The name of one role's training: a digest of its settings, code, start, data, teacher and surroundings."""
    route = teacher.route if teacher and any("@" in (s.teacher or "") for s in method.stages(facts)) else ()
    named = [Path(spec.start) for spec in method.roles(facts).values()]
    dev, machine = shop.encoded(start.tokenizer, "dev"), shop.machine
    return records.digest(
        {
            "format": FORMAT,
            "version": __version__,
            "method": [config.dump(method), code_digests(type(method).__module__)],
            "named": [records.file_digest(f) for place in named if place.is_dir() for f in sorted(place.glob("*.safetensors"))],
            "training": config.dump(training),
            "seed": seed,
            "anchors": anchors,
            "facts": dataclasses.asdict(facts),
            "task": task_facts(shop.task),
            "start": [model_digest(start.model), tokenizer_digest(start.tokenizer)],
            "rows": [rows.digest, rows.gold_digest],
            "dev": [dev.digest, dev.gold_digest],
            "labels": shop.data.labels,
            "teacher": [[m.digest, m.tokenizer] for m in (*teacher.members, *route)] + [teacher.average, config.dump(shop.recipe.signals)]
            if teacher
            else None,
            "given": records.digest(teacher.given.tobytes()) if teacher and teacher.given is not None else None,
            "dtype": str(machine.precision(training.precision)),
            "device": machine.device.type, "threads": machine.threads, "processes": machine.processes,
            "torch": torch.__version__, "transformers": transformers.__version__,
        }
    )[:24]  # fmt: skip


def task_facts(task: Task) -> dict[str, Any]:
    """What of a task names a training beside its rows: every setting that does more than select rows, what follows from
    those that do, and its code."""
    rows = config.row_settings(type(task))
    return {
        "settings": {name: value for name, value in config.dump(task).items() if name not in rows},
        "kind": task.kind,
        "metrics": task.metrics,
        "code": code_digests(type(task).__module__),
    }


@functools.cache
def code_digests(module: str) -> list[str]:
    """Digests of the files that decide what a part does, by its module's name; read once."""
    return sorted(records.file_digest(file) for file in code_files(module))
