"""Coreference: which spans of a document mean the same entity, found in one pass by a grid for every mention.

Rows are documents, without special tokens; the model sees them through windows (`models/one_pass.py`). A model's outputs are factors
of tokens, from which all scores follow (`coref/grid.py`). The metric is the CoNLL F1 of `coref/scores.py`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import Field

from ..config import Count, NonNegative, RowSetting, settings
from ..coref import formats, jsonlines, scores
from ..coref.documents import Document, Span, some
from ..errors import DataError, ModelError
from ..rows import Batch, Rows, Seen, Term
from . import _documents
from ._mentions import Places, documents_of, tokens_of
from ._parts import Part
from ._task import Data, Encoded, Split, Task

if TYPE_CHECKING:
    from torch import Tensor

    from ..coref.linking import Found

CutOff = RowSetting[Annotated[float, Field(gt=0, lt=1)]]


@settings
class Coreference(Task):
    """Clusters of the mentions of documents."""

    data: RowSetting[str | None] = None
    """A file of documents: JSON lines, CoNLL-2012 or CoNLL-U."""
    train: RowSetting[str | None] = None
    """Documents to train on, in place of data."""
    dev: RowSetting[str | None] = None
    """Documents for selection; else cut from the training documents."""
    test: RowSetting[str | None] = None
    """Documents for the final result; else cut from the training documents."""
    unlabelled: RowSetting[str | None] = None
    """Documents that the teacher alone judges; clusters that they have are not looked at."""
    limit: RowSetting[Count | None] = None
    """Most training documents, for trials."""
    dev_limit: RowSetting[Count | None] = None
    """Most documents of dev."""
    test_limit: RowSetting[Count | None] = None
    """Most documents of test."""
    dev_share: CutOff = 0.1
    """Share of documents cut off for dev by a hash of their text."""
    test_share: CutOff = 0.1
    """Share of documents cut off for test in the same way."""
    longest: RowSetting[Count] = 20000
    """Most words of a document; a longer one is refused, never cut."""
    widest: Annotated[int, Field(ge=1, le=200)] = 30
    """Most words of a mention that can be found."""
    size: Annotated[int, Field(ge=4, le=1024)] = 64
    """Width of the head's vectors."""
    proposals: Annotated[float, Field(gt=0, le=5)] = 0.3
    """Spans that are asked about, per word of a document."""
    threshold: Annotated[float, Field(allow_inf_nan=False)] | None = None
    """Clusters are joined while the score between them is above this; null takes what is best on dev, for each model."""
    linking: Literal["average", "best"] = "average"
    """How clusters come about: merged by the mean score between their mentions, or by each mention's best antecedent ("best")."""
    singletons: bool = False
    """Whether a mention that is alone in its cluster is learned, given and scored."""
    mention_weight: NonNegative = 1.0
    """Weight of the null query, which learns what is a mention at all, beside the queries."""

    kind = "binary"
    auto = "AutoModelForTokenClassification"
    outputs = {"factors": "token"}  # noqa: RUF012
    thresholds = tuple(x / 2 for x in range(-12, 9))
    """What dev chooses from."""

    @property
    def primary(self) -> str:
        return "conll_f1"

    @property
    def calibrates(self) -> bool:
        return self.threshold is None

    @property
    def policy(self) -> scores.Singletons:
        """What scores do with singletons."""
        return "keep" if self.singletons else "drop"

    def faults(self) -> Iterator[tuple[str, str]]:
        yield from _documents.faults(self)

    def files(self) -> Iterator[Path]:
        return _documents.files(self, Path.is_file)

    def load(self) -> Data:
        """Read the documents and cut what is missing; raises DataError, MissingExtra without scorch."""
        scores.needed()
        parts, notes = _documents.parts_of(self, self._part)
        if self.unlabelled:
            parts["transfer"] = self._part(self.unlabelled, bare=True)
        read = {name: documents_of(part.texts) for name, part in parts.items()}
        judged = {tuple(d.words) for name in ("dev", "test") for d in read[name]}
        if shared := sum(tuple(d.words) in judged for d in read.get("transfer", [])):
            notes.append(f"unlabelled: {shared} of {len(read['transfer'])} documents stand in dev or test too")
        splits = {}
        for name, part in parts.items():
            documents = read[name]
            if name in ("dev", "test") and (bare := [d.name for d in documents if d.clusters is None]):
                raise DataError(f"{part.source}: documents without clusters cannot be scored: {some(bare)}")
            wide = sum(b - a >= self.widest for d in documents for a, b in d.mentions)
            many = sum(len(d.mentions) for d in documents)
            if name == "train" and not many:
                raise DataError(f"{part.source}: holds no mention to learn from")
            if wide:
                notes.append(f"{name}: {wide} of {many} mentions are wider than {self.widest} words and cannot be found (task.widest)")
            gold = np.array([-1 if d.clusters is None else max(1, len(self._learned(d))) for d in documents], dtype=np.int64)
            splits[name] = Split({"document": part.texts}, gold, list(part.ids), part.source, total=part.total)
        return Data(splits, (), tuple(notes))

    def _part(self, data: str, bare: bool = False) -> Part:
        documents = formats.read(Path(data).expanduser())
        if bare:
            documents = [dataclasses.replace(one, clusters=None) for one in documents]
        for one in documents:
            if len(one.words) > self.longest:
                raise DataError(f"{data}: document {one.name} has {len(one.words)} words, more than task.longest={self.longest}; raise it")
        return Part(list(jsonlines.lines(documents)), None, None, list(range(1, len(documents) + 1)), data).numbered()

    def _learned(self, document: Document) -> list[tuple[int, int, int]]:
        """(first word, last word, number of the cluster from 1) of each mention that is learned."""
        chosen = [c for c in document.clusters or () if self.singletons or len(c) > 1]
        return sorted((a, b, n) for n, c in enumerate(chosen, 1) for a, b in c if b - a < self.widest)

    def head(self, data: Data) -> dict[str, Any]:
        return {"factors": self.width(data)}

    def width(self, data: Data) -> int:
        from ..coref import grid

        return grid.count(self.size, self.widest)

    def encode(self, split: Split, tokenizer: Any) -> Encoded:
        """Rows of token numbers. Extra columns: `word`, 1 + the word's number; `speaker`, 1 + the speaker's; and `cluster`, for the
        first token of a word and each width that of the span, 0 for none."""
        documents = documents_of(split.columns["document"])
        return self.rows_of(documents, tokenizer, split.gold)

    def rows_of(self, documents: Sequence[Document], tokenizer: Any, gold: np.ndarray) -> Encoded:
        """Documents as rows; raises ModelError for a tokenizer that does not say of which words its tokens are."""
        if not getattr(tokenizer, "is_fast", False):
            raise ModelError("task coreference: needs a tokenizer that tells words apart (tokenizer.json); name a model that has one")
        columns: dict[str, list[np.ndarray]] = {name: [] for name in ("input_ids", "word", "speaker", "cluster")}
        for one in documents:
            ids, word = tokens_of(one, tokenizer)
            first = np.searchsorted(word, np.arange(len(one.words)))
            cells = np.zeros((len(ids), self.widest), dtype=np.int32)
            for a, b, number in self._learned(one):
                cells[first[a], b - a] = number
            known = {who: n for n, who in enumerate(dict.fromkeys(w for w in one.speakers or () if w != "-"), 1)}
            who = np.array([known.get(w, 0) for w in one.speakers or [""] * len(one.words)], dtype=np.int32)
            made = {"input_ids": ids, "word": word + 1, "speaker": who[word], "cluster": cells}
            for name, column in made.items():
                columns[name].append(column)
        flat = {name: np.concatenate(many) for name, many in columns.items()}
        lengths = np.array([len(ids) for ids in columns["input_ids"]], dtype=np.int64)
        pad = {"input_ids": tokenizer.pad_token_id or 0}
        return Encoded({"input_ids": flat.pop("input_ids")}, lengths, gold, pad=pad, extra=flat, about=Places(list(documents)))

    def cut(self, encoded: Encoded) -> str:
        return ""

    def counts(self, encoded: Encoded, index: np.ndarray) -> dict[str, float]:
        """'label' counts mentions, 1 at least for a document with clusters; 'asked' half of the spans that are asked about, which is
        as many with clusters."""
        from ..coref import grid

        gold, documents = encoded.gold[index], encoded.about.documents
        proposed = [grid.proposed(len(documents[i].words), self.proposals) / 2 for i in index]
        return super().counts(encoded, index) | {
            "label": float(np.maximum(gold, 0).sum()),
            "asked": float(np.where(gold < 0, proposed, gold).sum()),
        }

    def factors(self, token: Tensor, first: Tensor, last: Tensor, speakers: Tensor) -> Any:
        """What follows from a document's tokens (tokens, numbers), by each word's first and last one and its speaker."""
        from ..coref import grid

        return grid.factors(token, first, last, speakers, size=self.size, widest=self.widest)

    def factored(self, seen: Seen, batch: Batch) -> list[tuple[Any, Any]]:
        """Each document's factors, and (words, widest) with the number of each span's cluster, 0 for none."""
        import torch

        if "factors" not in seen.memo:
            made = []
            for row, token in enumerate(seen.outputs["factors"]):
                word = batch.extra["word"][row]
                word = word[word > 0]
                steps = word[1:] != word[:-1]
                edge = torch.ones(1, dtype=torch.bool, device=word.device)
                first, last = torch.cat([edge, steps]).nonzero()[:, 0], torch.cat([steps, edge]).nonzero()[:, 0]
                f = self.factors(token, first, last, batch.extra["speaker"][row][first])
                made.append((f, batch.extra["cluster"][row][first]))
            seen.memo["factors"] = made
        return seen.memo["factors"]

    def rows(self, seen: Seen, batch: Batch) -> list[Rows]:
        """The null query's cells, a row a word, and the scores that each of some spans gives the others of its document.

        The spans are the gold mentions and as many of the best proposed ones that are none, or all proposed ones of a document
        without clusters. Who is looked at first, the student in all methods, proposes for everybody.
        """
        import torch

        from ..coref import grid

        documents = self.factored(seen, batch)
        if "asked" not in batch.memo:
            batch.memo["asked"] = [
                grid.asked(f.mentions, self.proposals, cluster)[:2] if labelled else self._unknown(f.mentions)
                for (f, cluster), labelled in zip(documents, batch.labelled.tolist(), strict=True)
            ]
        blocks, gold = [], []
        for (f, _), (spans, numbers) in zip(documents, batch.memo["asked"], strict=True):
            blocks.append(grid.scores(f, spans, spans))
            gold.append(numbers)
        most = max(1, *(len(b) for b in blocks))
        pad = torch.nn.functional.pad
        pairs = torch.cat([pad(b, (0, most - len(b))) for b in blocks])
        allowed = torch.cat([pad(~torch.eye(len(b), dtype=torch.bool, device=b.device), (0, most - len(b))) for b in blocks])
        same = torch.cat([pad(((g[:, None] == g[None]) & (g[:, None] > 0)).float(), (0, most - len(g))) for g in gold])
        cells = torch.cat([f.mentions for f, _ in documents])
        known = torch.cat([(cluster > 0).float() for _, cluster in documents])
        return [
            Rows(cells, self.kind, known, cells > grid.NEVER / 2, unit="asked", share=self.mention_weight),
            Rows(pairs, self.kind, same, allowed, unit="asked"),
        ]

    def _unknown(self, mentions: Tensor) -> tuple[Tensor, Tensor]:
        """All proposed spans, and that nobody knows their clusters."""
        from ..coref import grid

        spans = grid.proposals(mentions, self.proposals)
        return spans, spans.new_zeros(len(spans))

    def label_term(self, seen: Seen, batch: Batch, weight: float = 1.0) -> Term:
        """The loss of labelled documents, summed; counted in mentions."""
        total: Any = seen.outputs["factors"].sum() * 0
        for (f, cluster), labelled in zip(self.factored(seen, batch), batch.labelled.tolist(), strict=True):
            if labelled:
                total = total + self.loss(f, cluster)
        return Term(total, "label", weight)

    def loss(self, f: Any, cluster: Tensor) -> Tensor:
        """The queries' loss and the null query's on a document, summed; `cluster` (words, widest) numbers each span's, 0 for none."""
        from ..coref import grid

        found = grid.clusters_loss(f, *grid.asked(f.mentions, self.proposals, cluster), cluster)
        return found + self.mention_weight * grid.mentions_loss(f, cluster)

    def calibrated(self, outputs: Mapping[str, np.ndarray], encoded: Encoded) -> Coreference:
        """With the threshold of `thresholds` that gives the best CoNLL F1 on these documents."""
        right = encoded.about.documents
        said: list[list[Document]] = [[] for _ in self.thresholds]
        for one, (f, _) in zip(right, self._of_rows(outputs, encoded), strict=True):
            for documents, found in zip(said, self.decode(f, self.thresholds), strict=True):
                documents.append(dataclasses.replace(one, clusters=found.clusters))
        values = [float(scores.f1(scores.by_document(right, documents, self.policy), "conll")) for documents in said]
        return dataclasses.replace(self, threshold=self.thresholds[int(np.argmax(values))])

    def predict(self, outputs: Mapping[str, np.ndarray], encoded: Encoded) -> np.ndarray:
        """The documents with the clusters that were found, (documents,)."""
        out = np.empty(len(encoded), dtype=object)
        for i, (f, _) in enumerate(self._of_rows(outputs, encoded)):
            [found] = self.decode(f, [self.threshold or 0.0])
            out[i] = dataclasses.replace(encoded.about.documents[i], clusters=found.clusters)
        return out

    def _of_rows(self, outputs: Mapping[str, np.ndarray], encoded: Encoded) -> Iterator[tuple[Any, Any]]:
        import torch

        for row in range(len(encoded)):
            tokens = torch.from_numpy(outputs["factors"][encoded.starts[row] : encoded.starts[row + 1]])
            yield from self.factored(Seen({"factors": tokens[None]}), encoded.batch([row]))

    def resolve(self, seen: Seen, batch: Batch, given: Sequence[Sequence[Span] | None] | None = None) -> Iterator[Found]:
        """What the grids say of each document of a batch; of the `given` spans alone where a document has some."""
        import torch

        for (f, _), spans in zip(self.factored(seen, batch), given or [None] * len(batch.index), strict=True):
            asked = None if spans is None else torch.tensor(spans, dtype=torch.long, device=f.mentions.device).reshape(-1, 2)
            yield from self.decode(f, [self.threshold or 0.0], asked)

    def decode(self, f: Any, thresholds: Sequence[float], given: Tensor | None = None) -> list[Found]:
        """A document's clusters from its factors, at each threshold; those of the `given` spans (spans, 2) alone where there are some."""
        from ..coref import linking

        best = self.linking == "best"
        return linking.at_thresholds(f, thresholds, share=self.proposals, singletons=self.singletons, given=given, best=best)

    def truth(self, encoded: Encoded) -> np.ndarray:
        out = np.empty(len(encoded), dtype=object)
        out[:] = encoded.about.documents
        return out

    def score(self, predicted: np.ndarray, gold: np.ndarray) -> dict[str, float]:
        """CoNLL F1, and F1 of each of its parts, of LEA and of mentions."""
        found = scores.figures(scores.by_document(list(gold), list(predicted), self.policy))
        return {"conll_f1": found["conll_f1"], **{f"{m}_f1": found[m]["f1"] for m in ("muc", "b3", "ceafe", "lea", "mentions")}}

    def sums(self, predicted: np.ndarray, gold: np.ndarray) -> np.ndarray:
        return scores.conll_sums(scores.by_document(list(gold), list(predicted), self.policy))

    def items(self, predicted: np.ndarray, encoded: Encoded) -> list[dict[str, Any]]:
        """Each document's name, clusters and CoNLL F1."""
        out = []
        for right, said in zip(encoded.about.documents, predicted, strict=True):
            value = float(scores.f1(scores.by_document([right], [said], self.policy), "conll"))
            out.append({"document": right.name, "conll_f1": round(value, 5), "gold": right.clusters, "predicted": said.clusters})
        return out
