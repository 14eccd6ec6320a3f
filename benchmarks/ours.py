"""Tutelage's own engine on a workload of `rivals.Work`: its loop, sampler and signal cache, timed like the rivals."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import rivals
import torch

from tutelage.engine import batches, course, optim
from tutelage.engine.loop import Job, Loop
from tutelage.engine.machine import Machine
from tutelage.engine.signals import Cache
from tutelage.engine.talk import Talk
from tutelage.engine.teacher import Member, Teacher
from tutelage.methods._method import Facts
from tutelage.methods.kd import Kd
from tutelage.recipe import Signals, Training
from tutelage.tasks._task import Encoded
from tutelage.tasks.classify import Classify


class Timed(Loop):
    """The loop without looks at dev: no rival takes any."""

    def _look(self, stage: Any) -> None:
        return


def encoded(rows: list[dict[str, Any]]) -> Encoded:
    """Rows as the engine takes them."""
    ids = np.concatenate([np.array(r["input_ids"], dtype=np.int32) for r in rows])
    return Encoded({"input_ids": ids}, np.array([len(r["input_ids"]) for r in rows]), np.array([r["labels"] for r in rows]))


def ours(work: rivals.Work, epochs: int, settings: dict[str, bool]) -> list[rivals.Epoch]:
    """Train with the engine and time every epoch, the cache's filling included in the first.

    The first epoch is the slice of what the engine's sampler draws from all rows; later ones draw anew from the slice's
    rows, for which signals are cached (a little more padding than a draw from all rows has).
    """
    bucket = 50 if settings["bucket"] else 0
    drawn = batches.epoch(work.lengths, work.batch, bucket=bucket, seed=work.seed, number=0)
    drawn = [b for b in drawn if len(b) == work.batch]
    work.whole.append(float(np.mean([work.lengths[b].max() for b in drawn])))
    kept = [drawn[i] for i in rivals.representative(drawn, work.lengths, work.keep, (work.seed, 0))]
    data = encoded([work.rows[i] for b in kept for i in b])
    first = list(np.arange(len(data)).reshape(work.keep, work.batch))
    precision = {True: "auto", False: "float32"}
    training = Training(epochs=epochs, batch_size=work.batch, learning_rate=rivals.RATE, clip=rivals.CLIP, warmup=0.0, decay="constant",
                        precision=precision[settings["student_bf16"]], bucket=bucket, select="last")  # fmt: skip
    machine, talk, task = Machine(threads=torch.get_num_threads()), Talk(), Classify(labels=("a", "b", "c"))
    signals = Signals(source="cached" if settings["cache"] else "live", precision=precision[settings["teacher_bf16"]])
    cache = Cache(Path(work.folder) / "signals", machine, talk)
    member = Member("teacher", lambda: work.teacher, "random", lambda: data, 0, "same")
    teacher = Teacher([member], signals, task, cache, machine)
    facts = Facts(
        steps=epochs * work.keep,
        steps_per_epoch=work.keep,
        depths={},
        widths={},
        heads={},
        kept_layers=None,
        checkpoints=0,
        task_kind="choice",
    )
    method, meter = Kd(temperature=rivals.TEMPERATURE, soft_weight=1.0, hard_weight=1.0), rivals.Meter(work)
    inner = course.order

    def order(*given: Any) -> Any:
        if given[-1] == 0:
            return [(data, b) for b in first]
        many = inner(*given)
        work.whole.append(float(np.mean([data.lengths[b].max() for _, b in many])))
        return many

    def mark(state: Any) -> None:
        if state.total % work.keep == 0:
            meter.mark("cache filled, then trained" if settings["cache"] and state.total == work.keep else "trained")

    job = Job("ours", method, task, training, work.seed, facts, {"student": work.student, "teacher": work.teacher},
              lambda role, stage: teacher.source(method.needs(facts, stage.name), 3), data, data, Path(work.folder) / "run",
              machine, talk, on_step=mark)  # fmt: skip
    plain = mock.patch.object(optim, "FUSED", False) if not settings["fused"] else contextlib.nullcontext()
    with mock.patch.object(course, "order", order), plain:
        loop = Timed(job)
        meter.begin()
        loop.run()
    return meter.epochs
