"""Questions whose answers are spans of a text (SQuAD 1.1 and 2.0), some perhaps without an answer.

A question and its text are read in windows that overlap; the model says of every token how well an answer starts and
ends there. Rows are windows, items are questions. Metrics are those of SQuAD's official script.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from .. import losses, textfiles
from ..config import Count, RowSetting, settings
from ..errors import DataError
from ..rows import Batch, Rows, Seen, Sparse, States, Term
from . import _sources, _squad, _squad_metrics, _windows
from ._parts import cut_keys, key, missing_shares, place
from ._squad import Part
from ._task import Data, Encoded, Split, Task

CutOff = RowSetting[Annotated[float, Field(gt=0, lt=1)]]
OUTPUTS = {"start_logits": "token", "end_logits": "token"}


@settings
class SpanQa(Task):
    """Answers as spans of a text."""

    data: RowSetting[str | None] = None
    """A SQuAD file of version 1.1 or 2.0 (JSON), or a hub name with SQuAD's columns."""
    train: RowSetting[str | None] = None
    """A SQuAD file of training questions, in place of data."""
    dev: RowSetting[str | None] = None
    """A SQuAD file for selection; else cut from the training questions."""
    test: RowSetting[str | None] = None
    """A SQuAD file for the final result; else cut from the training questions."""
    max_length: Annotated[int, Field(ge=16)] = 384
    """Most tokens of a window, question and special tokens included."""
    stride: Annotated[int, Field(ge=0)] = 128
    """Tokens of text that a window shares with the one before."""
    max_answer: Count = 30
    """Most tokens of an answer that is given."""
    n_best: Count = 20
    """Starts and ends of a window that are paired: this many of each."""
    null_threshold: Annotated[float, Field(allow_inf_nan=False)] = 0.0
    """No answer is given where its score is more than this above the best answer's; only where some question has none."""
    limit: RowSetting[Count | None] = None
    """Most training questions, for trials; dev and test stay whole."""
    dev_share: CutOff = 0.1
    """Share of articles cut off for dev by a hash of their title, so that no article is in two parts."""
    test_share: CutOff = 0.1
    """Share of articles cut off for test in the same way."""

    kind = "choice"
    auto = "AutoModelForQuestionAnswering"
    outputs = OUTPUTS
    fidelity = ("agreement", "kl")

    @property
    def primary(self) -> str:
        return "f1"

    def faults(self) -> Iterator[tuple[str, str]]:
        if not self.data and not self.train:
            yield "data", "names no questions; give a SQuAD file, task.data=train-v2.0.json"
        if self.data and self.train:
            yield "data", "has no effect beside task.train; leave it out"
        if self.stride >= self.max_length // 2:
            yield "stride", f"{self.stride} leaves no room in windows of {self.max_length} tokens; below {self.max_length // 2}"
        if self.dev_share + self.test_share >= 1:
            yield "dev_share", f"{self.dev_share} and test_share {self.test_share} leave nothing to train on; lower them"
        for name in ("dev", "test"):
            if getattr(self, name) and getattr(self, f"{name}_share") != getattr(SpanQa, f"{name}_share"):
                yield f"{name}_share", f"has no effect: task.{name} is a file; leave it out"

    def files(self) -> Iterator[Path]:
        named = (self.train or (self.data if self.data and not _is_hub(self.data) else None), self.dev, self.test)
        yield from dict.fromkeys(Path(file).expanduser() for file in named if file)

    def load(self) -> Data:
        """Read and cut the questions; raises DataError with one sentence for whatever is wrong with them."""
        parts = {name: read() for name, read in self._sources().items()}
        notes = _shared(parts)
        nullable = any(not q.answers for part in parts.values() for q in part.questions)
        if self.null_threshold and not nullable:
            notes.append("task.null_threshold has no effect here: every question has an answer")
        parts, said = self._cut(parts)
        if self.limit is not None and self.limit < len(parts["train"]):
            said.append(f"train: {self.limit} of {len(parts['train'])} questions, drawn by the hash of their text (task.limit)")
            parts["train"] = parts["train"].first(self.limit)
        if nullable:
            counts = {name: sum(not q.answers for q in part.questions) for name, part in parts.items()}
            said.append(f"questions without an answer: {', '.join(f'{name} {counts[name]}' for name in sorted(parts, key=place))}")
        return Data({name: parts[name].split(nullable) for name in sorted(parts, key=place)}, (), (*notes, *said))

    def _sources(self) -> dict[str, Callable[[], Part]]:
        """How each part is read; files of their own stand in place of the data's parts."""
        whole = self.train or self.data or ""
        if not self.train and _is_hub(whole):
            read = {p: functools.partial(_squad.from_hub, rows, f"{whole} {p}") for p, rows in _sources.load_hub(whole).items()}
        else:
            read = {"train": functools.partial(_squad.read, Path(whole).expanduser())}
        own = {name: getattr(self, name) for name in ("dev", "test")}
        return {**read, **{name: functools.partial(_squad.read, Path(file).expanduser()) for name, file in own.items() if file}}

    def _cut(self, parts: dict[str, Part]) -> tuple[dict[str, Part], list[str]]:
        """Cut what is missing of dev and test from train, whole articles at a time."""
        shares = missing_shares(self, parts)
        if not shares:
            return parts, []
        whole = parts["train"]
        hashes = np.array([key((title,)) for title in whole.titles], dtype=np.uint64)
        made = {name: whole.take(index) for name, index in cut_keys(hashes, shares).items()}
        articles = {name: len(set(part.titles)) for name, part in made.items()}
        if not all(articles.values()):
            what = f"too few articles to cut {' and '.join(shares)} from its {len(set(whole.titles))}"
            raise DataError(f"{whole.source}: {what}; name files with task.dev= and task.test=")
        words = " and ".join(f"{name} ({shares[name]:.0%})" for name in ("dev", "test") if name in shares)
        sizes = ", ".join(f"{n} {len(made[n])} questions of {articles[n]} articles" for n in ("train", "dev", "test") if n in made)
        return {**parts, **made}, [f"{words} cut from the {len(set(whole.titles))} articles by a hash of their title: {sizes}"]

    def head(self, data: Data) -> dict[str, Any]:
        """Nothing: starts and ends are the same for all data."""
        return {}

    def encode(self, split: Split, tokenizer: Any) -> Encoded:
        return _windows.encode(_squad.of_split(split), tokenizer, self.max_length, self.stride, bool(split.about))

    def cut(self, encoded: Encoded) -> str:
        asked = len(encoded.about.questions)
        return f"{encoded.truncated} of {asked} questions are longer than {_windows.MOST} tokens or half a window and were cut"

    def rows(self, seen: Seen, batch: Batch) -> list[Rows]:
        """Starts and ends of each window, half a row each, over the tokens of the text and the one that stands for no answer."""
        allowed = batch.extra["answerable"]
        return [Rows(seen.outputs[name], self.kind, batch.gold[:, i], allowed, share=0.5) for i, name in enumerate(OUTPUTS)]

    def label_term(self, seen: Seen, batch: Batch, weight: float = 1.0) -> Term:
        """Sum over labelled windows of the mean of the start's and the end's cross-entropy, counted in 'label'."""
        keep = batch.labelled
        total: Any = 0
        for rows in self.rows(seen, batch):
            assert rows.gold is not None and rows.allowed is not None and not isinstance(rows.logits, States | Sparse)
            each = losses.label_loss(rows.logits[keep], rows.gold[keep], kind=self.kind, allowed=rows.allowed[keep])
            total = total + rows.share * each.sum()
        return Term(total, "label", weight)

    def predict(self, outputs: Mapping[str, np.ndarray], encoded: Encoded) -> np.ndarray:
        """The answer to each question, (questions,) of text; '' for none."""
        start, end = (np.asarray(outputs[name]) for name in OUTPUTS)
        given = {name: getattr(self, name) for name in ("n_best", "max_answer", "null_threshold")}
        return _windows.answers(start, end, encoded, **given)

    def truth(self, encoded: Encoded) -> np.ndarray:
        """The right answers to each question, (questions,) of tuples of text; empty where there is none."""
        out = np.empty(len(encoded.about.questions), dtype=object)
        for i, question in enumerate(encoded.about.questions):
            out[i] = tuple(text for text, _ in question.answers)
        return out

    def score(self, predicted: np.ndarray, gold: np.ndarray) -> dict[str, float]:
        """Mean F1 and exact match over questions, in [0, 1]."""
        exact = [_squad_metrics.best(_squad_metrics.exact, said, right) for said, right in zip(predicted, gold, strict=True)]
        return {"f1": float(self.each(predicted, gold).mean()), "exact_match": float(np.mean(exact))}

    def each(self, predicted: np.ndarray, gold: np.ndarray) -> np.ndarray:
        """F1 of each question."""
        return np.array([_squad_metrics.best(_squad_metrics.f1, said, right) for said, right in zip(predicted, gold, strict=True)])

    def items(self, predicted: np.ndarray, encoded: Encoded) -> list[dict[str, Any]]:
        """Each question's id, right answers, predicted answer and its scores."""
        out = []
        for question, said, right in zip(encoded.about.questions, predicted, self.truth(encoded), strict=True):
            scores = {m.__name__: _squad_metrics.best(m, said, right) for m in (_squad_metrics.f1, _squad_metrics.exact)}
            out.append({"id": question.id, "gold": list(right), "predicted": said, "f1": scores["f1"], "exact_match": scores["exact"]})
        return out


def _is_hub(data: str) -> bool:
    """Whether `data` is a hub name; raises DataError for a word that names nothing."""
    path = Path(data).expanduser()
    if os.path.exists(path) or textfiles.ending(path) == ".json" or data.startswith((".", "/", "~")):
        return False
    if data.count("/") != 1:
        raise DataError(f"task.data={data}: no such file; give a SQuAD file (.json), or a hub data set as owner/name")
    return True


def _shared(parts: Mapping[str, Part]) -> list[str]:
    """A sentence for each given part that has articles of train."""
    train, out = set(parts["train"].titles), []
    for name, part in parts.items():
        both = train & set(part.titles)
        if name != "train" and both:
            out.append(f"{name}: {len(both)} of {len(set(part.titles))} articles stand in train too")
    return out
