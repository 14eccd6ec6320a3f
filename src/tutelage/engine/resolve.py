"""Coreference with a saved student: texts in, clusters out."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from transformers import PreTrainedModel

from .. import config, records
from ..coref.documents import Document, Span, of_text
from ..errors import DataError, ModelError
from ..models.load import open_model
from ..tasks.coreference import Coreference as Task
from .forward import move, through
from .machine import Machine

KIND = "coreference"


@dataclasses.dataclass(frozen=True)
class Resolved:
    """A document with the clusters that were found."""

    document: Document
    mentions: Mapping[Span, float]
    """The score of each clustered span as a mention; above 0 more likely one than not."""
    proposed: tuple[Span, ...]
    """The spans that were asked about."""


class Coreference:
    """A trained model that resolves documents, a batch at a time; documents do not see each other.

    >>> resolver = Coreference.from_pretrained("runs/coref-ontogum/run/student")  # doctest: +SKIP
    >>> [found] = resolver.predict(["Ada wrote to Lovelace. She answered."])  # doctest: +SKIP
    >>> found.document.character_clusters  # doctest: +SKIP
    """

    def __init__(self, model: PreTrainedModel, tokenizer: Any, task: Task, machine: Machine):
        self.model, self.tokenizer, self.task, self.machine = model, tokenizer, task, machine

    @classmethod
    def from_pretrained(cls, path: str | Path, *, threads: int | None = None, **settings: Any) -> Coreference:
        """A student's folder; `settings` change those of its task (singletons, threshold, proposals, longest).

        Raises ModelError for a model of another task, ConfigError for settings that do not exist.
        """
        machine, tree = Machine(threads), dict(records.student_facts(Path(path)).get("task", {}))
        if tree.pop("kind", None) != KIND:
            raise ModelError(f"{path}: is no student of the task coreference; name the folder 'student' of such a run")
        task: Task = config.build(Task, {**tree, **settings})
        loaded = open_model(str(path), task.head(None), auto=task.auto)  # type: ignore[arg-type]
        if loaded.new_head:
            raise ModelError(f"{path}: its head has other sizes than its task says; name the folder as it was written")
        return cls(loaded.model.to(machine.device).eval(), loaded.tokenizer, task, machine)

    def predict(self, texts: str | Sequence[str | Document], *, given: bool = False) -> list[Resolved]:
        """Each text or document with its clusters, in the order given; `given` clusters the mentions that documents have.

        Raises DataError for a text without a word, one longer than task.longest, and given mentions where there are none.
        """
        many = [texts] if isinstance(texts, str) else list(texts)
        documents = [of_text(f"text {n}", one) if isinstance(one, str) else one for n, one in enumerate(many, 1)]
        for one in documents:
            if len(one.words) > self.task.longest:
                raise DataError(f"document {one.name}: has {len(one.words)} words, more than {self.task.longest}; raise longest")
            if given and not one.mentions:
                raise DataError(f"document {one.name}: has no mentions to cluster; leave out 'given', and mentions are found")
        if not documents:
            return []
        bare = [dataclasses.replace(one, clusters=None) for one in documents]
        encoded = self.task.rows_of(bare, self.tokenizer, np.full(len(bare), -1, dtype=np.int64))
        out: list[Resolved | None] = [None] * len(documents)
        dtype = self.machine.precision("auto")
        for rows, seen in through(self.model, encoded, self.task.outputs, self.machine, dtype):
            seen.outputs = {name: value.float() for name, value in seen.outputs.items()}
            spans = [documents[i].mentions if given else None for i in rows]
            for i, found in zip(rows, self.task.resolve(seen, move(encoded.batch(rows), self.machine.device), spans), strict=True):
                done = dataclasses.replace(documents[i], clusters=found.clusters)
                out[i] = Resolved(done, found.mentions, found.proposed)
        return [one for one in out if one is not None]
