"""The teacher as the loop meets it: one model or several, or a file of probabilities; live or cached."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .. import recipe as recipes
from ..errors import ConfigError, DataError
from ..methods._method import Needs
from ..models import anatomy
from ..rows import LAST_STATES
from ..tasks._task import Encoded, Task
from . import few
from .machine import Machine
from .signals import Averaged, Cache, Live, Source, Stored

MB = 1_000_000


@dataclasses.dataclass
class Member:
    """One teacher model: how to load it, its digest, and the training rows as its own tokenizer encodes them."""

    title: str
    load: Callable[[], Any]
    digest: str
    """Digest of its weights and configuration."""
    rows: Callable[[], Encoded]
    width: int
    tokenizer: str
    """Digest of its tokenizer."""


@dataclasses.dataclass
class Teacher:
    """Gives the signals a stage needs. Without members it speaks from `given`, a block of logits (rows, labels)."""

    members: list[Member]
    settings: recipes.Signals
    task: Task
    cache: Cache
    machine: Machine
    average: str = "logits"
    given: np.ndarray | None = None
    tested: np.ndarray | None = None
    """What the file of `given` says of the test rows, as logits (rows, labels), where they are cut from the same source."""
    route: tuple[Member, ...] = ()
    """The teacher's checkpoints in order, itself the last."""

    def at(self, role: str) -> Teacher:
        """The teacher that a role names: itself for 'teacher', one of its checkpoints for 'teacher@2'."""
        number = role.partition("@")[2]
        return dataclasses.replace(self, members=[self.route[int(number) - 1]]) if number else self

    def source(self, needs: Needs, numbers: int, words: int | None = None) -> Source:
        """Signals for these needs, which `refuse` let pass, outputs having so many numbers; `words` as in `Facts`."""
        if self.given is not None:
            return Stored({"logits": self.given}, {"logits": "example"}, np.zeros(1, dtype=np.int64), self.machine.device)
        many = [self._one(member, needs, numbers, words) for member in self.members]
        return many[0] if len(many) == 1 else Averaged(many, self.average, self.task.kind)

    def _one(self, member: Member, needs: Needs, numbers: int, words: int | None) -> Source:
        dtype = self.machine.precision(self.settings.precision)
        if needs.live or self.task.varies:
            return Live(member.load(), None, tuple(self.task.outputs), needs.teacher, self.machine, dtype)
        rows = member.rows()
        signals = dict(self.task.outputs) | {f"hidden:{i}": "token" for i in needs.teacher.hidden}
        if few_of(self.settings)[1]:
            signals = self._few(needs, signals, words)
        if self._cached(rows, needs, signals, numbers, member.width):
            return self.cache.fetch(rows, member.digest, signals, dtype, member.load, f"teacher signals ({member.title})", self.task.view)
        return Live(member.load(), rows, tuple(self.task.outputs), needs.teacher, self.machine, dtype, self.task.view)

    def _few(self, needs: Needs, signals: dict[str, str], words: int | None) -> dict[str, str]:
        """The signals with a few classes in place of last hidden states. Raises ConfigError where these are all."""
        kind, many = few_of(self.settings)
        size = words or len(anatomy.output_layer(self.members[0].load()))
        if kind == "likeliest" and many >= size:
            raise ConfigError(f"signals.top_k: {many} of a vocabulary of {size} keeps it all; take fewer, or leave it out")
        return {few.Few(kind, many, needs.temperature, words).name: "token"} | {k: v for k, v in signals.items() if k != LAST_STATES}

    def _cached(self, rows: Encoded, needs: Needs, signals: dict[str, str], numbers: int, width: int) -> bool:
        if needs.teacher.attention or needs.teacher.heads:
            return False
        tokens = int(rows.starts[-1])
        each = {"example": 4 * numbers * len(rows), "token": 4 * numbers * tokens}
        wide = {LAST_STATES: 4 * width * tokens} | {f"hidden:{i}": 2 * width * tokens for i in needs.teacher.hidden}
        wide |= {name: kept.size * tokens for name in signals if (kept := few.read(name))}
        size = sum(wide.get(name, each[kind]) for name, kind in signals.items())
        if self.settings.source == "auto" and size > self.settings.budget_mb * MB:
            if few_of(self.settings)[1]:
                raise ConfigError(
                    f"signals.budget_mb: {self.settings.budget_mb:,.0f} are fewer than the {size / MB:,.0f} MB of few classes; raise it"
                )
            self.cache.talk.say(
                f"teacher signals: {size / MB:,.0f} MB are over signals.budget_mb {self.settings.budget_mb:,.0f}; the teacher runs live"
            )
            return False
        return self.settings.source != "live"


def few_of(settings: recipes.Signals) -> tuple[str, int]:
    """Which few classes of a vocabulary the settings keep, and how many; 0 where they keep all."""
    return ("likeliest", settings.top_k) if settings.top_k else ("drawn", settings.draws or 0)


def refuse(given: recipes.Teacher, settings: recipes.Signals, task: Task, needs: Needs, same_tokens: Callable[[str], bool]) -> None:
    """Raise ConfigError where what a stage needs of teachers does not go with them, the settings, or the student's tokenizer.

    `same_tokens` says whether a model by name has that tokenizer. Opens no weights, so that nothing has been trained yet.
    """
    inside, names = bool(needs.teacher), given.models or (given.model or "",)
    if given.probabilities and (needs.raw_logits or inside):
        raise ConfigError("method: needs what a file of probabilities does not hold (raw logits or hidden states); give a teacher model")
    if given.probabilities and needs.same_tokens:
        raise ConfigError("method: shows the teacher rows that no file of probabilities knows; give a teacher model")
    if given.probabilities:
        return
    if len(names) > 1 and LAST_STATES in task.outputs:
        raise ConfigError("teacher.models: hidden states of several language models have no average; name one teacher.model")
    if (inside or needs.same_tokens) and len(names) > 1:
        what = "inner states" if inside else "view of rows that the method makes"
        raise ConfigError(f"method: needs a teacher's {what}, which several teachers cannot give as one; name one teacher.model")
    if needs.raw_logits and given.average == "probabilities":
        raise ConfigError("teacher.average: an average of probabilities has no raw logits, which the method matches; use logits")
    by_token = "token" in task.outputs.values()
    if task.tokenized and (by_token or inside or needs.same_tokens) and not all(same_tokens(name) for name in names):
        if by_token:
            what = "its outputs stand token by token, and teacher and student have different tokenizers or cut texts elsewhere"
            raise ConfigError(f"task: {what}; take a student with the teacher's tokenizer")
        what = "matches token by token, and teacher and student have different tokenizers or cut texts elsewhere"
        raise ConfigError(f"method: {what}; take a method on logits, such as kd")
    if settings.source == "cached":
        for stands, why in (
            (needs.live, "the method shows the teacher made rows alone, so nothing is cached"),
            (task.varies, "inputs are drawn anew at every step (task.augment), so nothing is cached"),
            (needs.teacher.attention or needs.teacher.heads, "what happens inside attention is not cached"),
        ):
            if stands:
                raise ConfigError(f"signals.source: {why}; use auto or live")
    kind, many = few_of(settings)
    if many and not needs.live and needs.few not in (kind, "drawn"):
        name, what = "top_k" if settings.top_k else "draws", f"the method takes more from the teacher than its {kind} next tokens"
        raise ConfigError(f"signals.{name}: {what}; leave it out, or take kd")


def read_probabilities(path: str, labels: tuple[str, ...], rows: int, ids: list[int], kind: str) -> np.ndarray:
    """A file of class probabilities as float32 logits (training rows, labels).

    A table has one column a label, by name; an .npy array stands in the task's label order. It has one row a row of the
    training data's source, in its order. Raises DataError for other shapes, labels or values.
    """
    from ..tasks import _arrays, _tables

    if kind == "value":
        raise ConfigError("teacher.probabilities: a task of values has no probabilities; name a teacher model")
    if path.endswith(".npy"):
        block: Any = _arrays.from_npy(Path(path))
        if block.ndim != 2 or block.shape[1] != len(labels) or block.dtype.kind not in "fiub":
            raise DataError(f"{path}: needs numbers of the shape (rows, {len(labels)}); found {block.dtype} of {block.shape}")
    else:
        table = _tables.read(path)
        missing = [x for x in labels if x not in table]
        if missing:
            raise DataError(
                f"{path}: has no column '{missing[0]}'; one column a label is needed: {', '.join(labels)}; found {', '.join(table)}"
            )
        try:
            block = np.stack([np.asarray(table[x], dtype=np.float64) for x in labels], axis=1)
        except (TypeError, ValueError) as fault:
            raise DataError(f"{path}: holds something that is not a number: {fault}") from None
    if len(block) != rows:
        raise DataError(f"{path}: holds {len(block)} rows; the training data's source has {rows}")
    bad = ~np.isfinite(block).all(1) | (block < 0).any(1) | (block > 1 + 1e-3).any(1)
    if kind == "choice":
        bad |= abs(block.sum(1) - 1) > 1e-3
    if bad.any():
        first = int(bad.argmax())
        raise DataError(f"{path}: row {first + 1} is not a row of probabilities ({block[first].tolist()}); {int(bad.sum())} such rows")
    block = torch.from_numpy(block[ids]).clamp(1e-7, 1 - 1e-7)
    return (block.log() if kind == "choice" else block.logit()).float().numpy()
