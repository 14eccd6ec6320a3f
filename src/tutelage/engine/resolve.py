"""Coreference with a saved student: texts in, clusters out."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel

from .. import config, records
from ..coref import scores
from ..coref.documents import Document, Span, of_text
from ..errors import DataError, ModelError
from ..models.load import open_model
from ..rows import Batch, Seen
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
            self._short(one)
            if given and not one.mentions:
                raise DataError(f"document {one.name}: has no mentions to cluster; leave out 'given', and mentions are found")
        if not documents:
            return []
        out: list[Resolved | None] = [None] * len(documents)
        for rows, seen, batch in self._seen(documents):
            spans = [documents[i].mentions if given else None for i in rows]
            for i, found in zip(rows, self.task.resolve(seen, batch, spans), strict=True):
                done = dataclasses.replace(documents[i], clusters=found.clusters)
                out[i] = Resolved(done, found.mentions, found.proposed)
        return [one for one in out if one is not None]

    def _seen(self, documents: Sequence[Document]) -> Iterator[tuple[list[int], Seen, Batch]]:
        """Which documents, what the model shows of them, and their batch."""
        bare = [dataclasses.replace(one, clusters=None) for one in documents]
        encoded = self.task.rows_of(bare, self.tokenizer, np.full(len(bare), -1, dtype=np.int64))
        for rows, seen in through(self.model, encoded, self.task.outputs, self.machine, self.machine.precision("auto")):
            seen.outputs = {name: value.float() for name, value in seen.outputs.items()}
            yield list(rows), seen, move(encoded.batch(rows), self.machine.device)

    def diagnose(self, documents: Sequence[Document]) -> dict[str, Any]:
        """Where points are lost on documents with clusters: CoNLL F1 by how mentions are had and how they are linked.

        `rows`: first the model as it is. Then the mentions it finds and those the documents have ("gold"), merged and by best antecedents,
        each at the threshold that is best on these very documents. Last the spans it asked about ("asked") and the mentions it found,
        linked without a fault and wrong ones left out, which is the best that linking could do. `recall` is the share of mentions
        that were asked about. Singletons count as they did in training.
        Raises DataError for documents without clusters, and as `predict` does.
        """
        for one in documents:
            self._short(one)
            if one.clusters is None:
                raise DataError(f"document {one.name}: has no clusters to be held against; name documents whose mentions are known")
        own = self.task
        cuts = sorted({*own.thresholds, own.threshold or 0.0})
        ways = {(had, how): dataclasses.replace(own, linking=how) for had in ("found", "gold") for how in ("average", "best")}
        said: dict[tuple[str, str], list[list[Document]]] = {way: [[] for _ in cuts] for way in ways}
        right: list[Document] = []
        asked: list[Sequence[Span]] = []
        for rows, seen, batch in self._seen(documents):
            for i, (f, _) in zip(rows, own.factored(seen, batch), strict=True):
                spans = torch.tensor(_counted(documents[i], own.singletons), dtype=torch.long, device=f.mentions.device).reshape(-1, 2)
                for (had, how), task in ways.items():
                    found = task.decode(f, cuts, spans if had == "gold" else None)
                    for many, its in zip(said[had, how], found, strict=True):
                        many.append(dataclasses.replace(documents[i], clusters=its.clusters))
                    if had == "found":
                        proposed = found[0].proposed
                right.append(documents[i])
                asked.append(proposed)

        def row(had: str, how: str, at: float | None, many: Sequence[Document]) -> dict[str, Any]:
            value = float(scores.f1(scores.by_document(right, many, own.policy), "conll"))
            return {"mentions": had, "linking": how, "threshold": at, "conll_f1": value}

        mine = said["found", own.linking][cuts.index(own.threshold or 0.0)]
        out = [row("found", own.linking, own.threshold or 0.0, mine)]
        for (had, how), by_cut in said.items():
            out.append(max((row(had, how, *one) for one in zip(cuts, by_cut, strict=True)), key=lambda r: r["conll_f1"]))
        for had, spans_of in (("found", [one.mentions for one in mine]), ("asked", asked)):
            out.append(row(had, "faultless", None, [_within(one, spans) for one, spans in zip(right, spans_of, strict=True)]))
        mentions = [_counted(one, own.singletons) for one in right]
        held = sum(len({*one} & {*spans}) for one, spans in zip(mentions, asked, strict=True))
        recall = held / sum(map(len, mentions)) if any(mentions) else None
        return {"rows": out, "recall": recall, "singletons": own.policy, "documents": len(right)}

    def _short(self, one: Document) -> None:
        if len(one.words) > self.task.longest:
            raise DataError(f"document {one.name}: has {len(one.words)} words, more than {self.task.longest}; raise longest")


def _counted(one: Document, singletons: bool) -> list[Span]:
    """The mentions of clusters that count, in the order of the text."""
    return sorted(span for cluster in one.clusters or () if singletons or len(cluster) > 1 for span in cluster)


def _within(one: Document, spans: Iterable[Span]) -> Document:
    """The document with those of its mentions that are among the spans."""
    kept = set(spans)
    parts = (tuple(span for span in cluster if span in kept) for cluster in one.clusters or ())
    return dataclasses.replace(one, clusters=tuple(part for part in parts if part))
