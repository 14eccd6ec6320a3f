"""Single sentences and pairs: one class of several, several labels at once, or a number; the nine GLUE tasks among them.

Texts longer than `max_length` tokens are cut and counted. Metrics come from scikit-learn and scipy.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from .. import losses
from ..config import Count, Positive, RowSetting, settings
from ..errors import ConfigError, DataError
from ..find import near
from ..rows import Batch, Rows, Seen, Term
from . import _glue, _labels, _metrics, _sources
from ._parts import Part, Source, cut_missing, labelled_and_bare, leaks, place, relabelled
from ._tables import word
from ._task import Data, Encoded, Split, Task, has_label
from ._text import encode_texts

CutOff = RowSetting[Annotated[float, Field(gt=0, lt=1)]]
KINDS = {"classes": "choice", "labels": "binary", "value": "value"}
PROBLEMS = {
    "choice": "single_label_classification",
    "binary": "multi_label_classification",
    "value": "regression",
}


@settings
class Classify(Task):
    """Labels for single texts or pairs of texts."""

    data: RowSetting[str] = "rotten_tomatoes"
    """rotten_tomatoes, imdb, a GLUE task (cola sst2 mrpc qqp stsb mnli qnli rte wnli), a file, a folder, or a hub name."""
    train: RowSetting[str | None] = None
    """A file of training rows, in place of data."""
    dev: RowSetting[str | None] = None
    """A file of rows for selection; else cut from the training rows."""
    test: RowSetting[str | None] = None
    """A file of rows for the final result; else cut from the training rows."""
    unlabelled: RowSetting[str | None] = None
    """A file of texts without labels that the teacher alone judges."""
    folder: RowSetting[str | None] = None
    """Where GLUE's files are; null takes the folder named by TUTELAGE_DATA."""
    text: RowSetting[str] = "text"
    """Column of the text in files of your own."""
    pair: RowSetting[str | None] = None
    """Column of the second text, for pairs."""
    label: RowSetting[str] = "label"
    """Column of the label."""
    target: Literal["classes", "labels", "value"] = "classes"
    """One class of several, several labels at once, or a number (regression)."""
    separator: RowSetting[str] = "|"
    """Between the labels of one cell, for target labels in CSV and TSV."""
    labels: tuple[str, ...] = ()
    """Label names in order; empty sorts those of the training rows (as numbers where they are numbers)."""
    rename: RowSetting[dict[str, str]] = dataclasses.field(default_factory=dict)
    """Labels in the data by other names, {data's: task's}; several may become one."""
    drop: RowSetting[tuple[str, ...]] = ()
    """Labels in the data whose rows are left out."""
    class_weights: Literal["balanced"] | dict[str, Positive] | None = None
    """Weights of labels in the label loss: balanced, or label: weight, where 1 is left out."""
    max_length: Annotated[int, Field(ge=8)] = 128
    """Most tokens of a row; what is longer is cut and counted."""
    limit: RowSetting[Count | None] = None
    """Most training rows, for trials; dev and test stay whole."""
    dev_share: CutOff = 0.1
    """Share of rows cut off for dev by a hash of their text, so that equal texts stay together."""
    test_share: CutOff = 0.1
    """Share of rows cut off for test in the same way."""
    metric: str = "auto"
    """The metric that selects; auto takes the benchmark's own, else accuracy, micro_f1 or pearson."""

    @property
    def kind(self) -> str:  # type: ignore[override]
        """'choice', 'binary' or 'value'."""
        return "value" if self._glue and not self._glue.labels else KINDS[self.target]

    @property
    def fidelity(self) -> tuple[str, ...]:  # type: ignore[override]
        return ("mse",) if self.kind == "value" else ("agreement", "kl")

    @property
    def primary(self) -> str:
        return self.metrics[0]

    @property
    def metrics(self) -> tuple[str, ...]:
        """Every metric reported; the first selects."""
        usual = self._glue.metrics if self._glue else _metrics.USUAL[self.kind]
        return usual if self.metric == "auto" else (self.metric, *(m for m in usual if m != self.metric))

    @property
    def _glue(self) -> _glue.Glue | None:
        return None if self.train else _glue.TASKS.get(self.data)

    @property
    def _columns(self) -> _sources.Columns:
        target: _labels.Target = "value" if self.kind == "value" else self.target
        return _sources.Columns(self.text, self.pair, self.label, target, self.separator, self.labels)

    def faults(self) -> Iterator[tuple[str, str]]:
        own = [n for n in ("train", "dev", "test", "unlabelled") if getattr(self, n)]
        yield from self._data_faults(own)
        if self.kind == "value":
            for name in ("class_weights", "labels", "rename", "drop"):
                if getattr(self, name):
                    yield name, "has no effect on numbers (regression); leave it out"
        if self.separator != "|" and self.target != "labels":
            yield "separator", "has no effect without target labels; leave it out"
        if not self.separator:
            yield "separator", "is empty; give the text between two labels, such as |"
        if self.pair == self.text:
            yield "pair", f"is the column of the text, '{self.text}'; name the column of the second text"
        if len(set(self.labels)) < len(self.labels):
            yield "labels", "names a label twice"
        elif len(self.labels) == 1 and self.target == "classes":
            yield "labels", f"has one name, '{self.labels[0]}'; classes are two or more"
        if self.dev_share + self.test_share >= 1:
            yield "dev_share", f"{self.dev_share} and test_share {self.test_share} leave nothing to train on; lower them"
        known = [m for m in _metrics.METRICS[self.kind] if m != "rmse"]
        if self.metric not in ("auto", *known):
            yield "metric", f"no metric '{self.metric}' that selects here{near(self.metric, known)} (auto, {', '.join(known)})"

    def _data_faults(self, own: Sequence[str]) -> Iterator[tuple[str, str]]:
        """Settings that the choice of data leaves without effect."""
        named = self.data in _sources.NAMED and not self.train
        if self.train and self.data != Classify.data:
            yield "data", "has no effect beside task.train; leave it out"
        if self.folder and not self._glue:
            yield "folder", "has no effect: only GLUE's tasks are sought there; leave it out"
        for name, users in (("text", own), ("pair", own), ("label", [n for n in own if n != "unlabelled"])):
            if named and not users and getattr(self, name) != getattr(Classify, name):
                yield name, f"has no effect: {self.data} has its own columns; leave it out"
        if named and self.target not in ("classes", "value" if self.kind == "value" else "classes"):
            yield "target", f"has no effect: {self.data} sets its own; leave it out"
        for name in ("dev", "test"):
            share = f"{name}_share"
            if getattr(self, share) != getattr(Classify, share) and (getattr(self, name) or (name == "test" and self._glue)):
                why = f"task.{name} is a file" if getattr(self, name) else "GLUE's dev part is the test part"
                yield share, f"has no effect: {why}; leave it out"

    def files(self) -> Iterator[Path]:
        if not self.train and _sources.kind(self.data) == "hub":
            yield from (Path(f).expanduser() for f in (self.dev, self.test, self.unlabelled) if f)
        else:
            yield from dict.fromkeys(path for paths in self._source().files.values() for path in paths)

    def _source(self) -> Source:
        """The source of `data`, with the parts given as files of their own in place of its own."""
        found = Source({}, {}) if self.train else _sources.find(self.data, self._columns, self.folder)
        parts, files = dict(found.parts), dict(found.files)
        for part, file in (("train", self.train), ("dev", self.dev), ("test", self.test), ("transfer", self.unlabelled)):
            if file:
                path = Path(file).expanduser()
                parts[part] = functools.partial(
                    _sources.read_part, path, self._columns, labelled=part != "transfer", sparse=part == "train"
                )
                files[part] = (path,)
        return dataclasses.replace(found, parts=parts, files=files)

    def load(self) -> Data:
        """Read, cut and number the data; raises DataError with one sentence for whatever is wrong with it."""
        source = self._source()
        parts = {name: read().numbered() for name, read in source.parts.items()}
        self._check_pairs(parts)
        notes = [*source.notes, *(part.note for part in parts.values() if part.note), *self._unmet(parts)]
        parts = {name: relabelled(part, self.rename, self.drop) for name, part in parts.items()}
        whole, file = parts["train"], parts.pop("transfer", None)
        parts["train"], bare = labelled_and_bare(whole, file)
        if few := len(whole) - len(parts["train"]):
            notes.append(f"train: {few} of {len(whole)} rows have no label; the teacher alone judges them")
        if not len(parts["train"]) and not {"dev", "test"} <= set(parts):
            raise DataError(f"{whole.source}: no row has a label, and dev and test need some; name files with task.dev= and task.test=")
        parts, said = cut_missing(self, parts, "texts", "text")
        parts |= {"transfer": bare} if bare is not None else {}
        notes += said + leaks(parts)
        known = self._known(parts, source)
        if self.kind == "choice" and "f1" in self.metrics and len(known) != 2:
            raise ConfigError([("task.metric", f"f1 is for two classes, here are {len(known)}; take macro_f1")])
        if known:
            notes += _labels.alike(known)
            have = _labels.counted(parts["train"].labels or ())
            notes += [f"label '{label}' has no training row" for label in known if not have[label]]
        if self.limit is not None and self.limit < len(parts["train"]):
            notes.append(f"train: {self.limit} of {len(parts['train'])} rows, drawn by the hash of their text (task.limit)")
            parts["train"] = parts["train"].first(self.limit)
        return Data(self._splits(parts, known), known, tuple(notes))

    def _unmet(self, parts: Mapping[str, Part]) -> list[str]:
        """A note for each label of rename and drop that no row has."""
        if not (self.rename or self.drop):
            return []
        have = {name for part in parts.values() for name in _labels.counted(x for x in part.labels or () if x is not None)}
        named = dict.fromkeys(self.rename, "rename") | dict.fromkeys(self.drop, "drop")
        return [f"task.{how}: no row has the label '{label}'{near(label, have)}" for label, how in named.items() if label not in have]

    def _check_pairs(self, parts: Mapping[str, Part]) -> None:
        without = [n for n, p in parts.items() if (p.pairs is None) != (parts["train"].pairs is None)]
        if without:
            part = without[0]
            what = "has no second text" if parts[part].pairs is None else "has a second text"
            raise DataError(f"{parts[part].source}: {part} {what}, unlike train ({parts['train'].source}); set task.pair to match")

    def _known(self, parts: Mapping[str, Part], source: Source) -> tuple[str, ...]:
        """Label names in order; every label of every part is among them."""
        if self.kind == "value":
            return ()
        train = parts["train"]
        own = tuple(dict.fromkeys(self.rename.get(x, x) for x in source.labels if x not in self.drop))
        found = (parts["train"],) if len(train) else (parts["dev"], parts["test"])
        known = self.labels or own or _labels.order(_labels.counted(x for part in found for x in part.labels or ()))
        if own and set(known) != set(own):
            have = ", ".join(own)
            raise DataError(f"task.labels: {self.data} has the labels {have}; name these, in any order, or leave it out")
        if self.kind == "choice" and len(known) < 2:
            raise DataError(f"{train.source}: one label only, '{known[0]}'; classifying takes two or more")
        if not known:
            raise DataError(f"{train.source}: no training row has a label; is '{self.label}' the right column?")
        whose = "task.labels" if self.labels else f"the labels of {self.data if own else 'train' if len(train) else 'dev and test'}"
        for name, part in parts.items():
            odd = _labels.unknown(part.labels or (), known)
            if odd:
                label, at = odd
                hint = near(label, known) or "; mend it, name every label in task.labels, or rename or drop it (task.rename, task.drop)"
                many = f" of {name} ({len(at)} rows)" if len(at) > 1 else f" of {name}"
                where = f"{part.source}, {word(part.source)} {part.rows[at[0]]}"
                raise DataError(f"{where}: label '{label}'{many} is not among {whose} ({', '.join(known)}){hint}")
        return known

    def _splits(self, parts: Mapping[str, Part], known: tuple[str, ...]) -> dict[str, Split]:
        target = self._columns.target
        golds = {n: _labels.gold(p.labels, known, target, len(p)) for n, p in parts.items()}
        weights = None
        if self.class_weights is not None:
            weights = _labels.class_weights(self.class_weights, known, golds["train"])
        splits = {}
        for name in sorted(parts, key=place):
            part = parts[name]
            columns = {"text": part.texts} | ({"pair": part.pairs} if part.pairs is not None else {})
            weight = None if weights is None else _labels.row_weights(weights, golds[name])
            splits[name] = Split(columns, golds[name], list(part.ids), part.source, weight, part.total)
        return splits

    def head(self, data: Data) -> dict[str, Any]:
        """num_labels, id2label, label2id and problem_type for AutoModelForSequenceClassification."""
        names = data.labels or ("value",)
        return {
            "num_labels": len(names),
            "id2label": dict(enumerate(names)),
            "label2id": {name: k for k, name in enumerate(names)},
            "problem_type": PROBLEMS[self.kind],
        }

    def encode(self, split: Split, tokenizer: Any) -> Encoded:
        return encode_texts(split, tokenizer, self.max_length)

    def counts(self, encoded: Encoded, index: np.ndarray) -> dict[str, float]:
        """As every task's, but 'label' counts rows by the weight of their class where classes have weights."""
        counts = super().counts(encoded, index)
        if encoded.weight is None or self.kind != "choice":
            return counts
        labelled = has_label(encoded.gold[index])
        return counts | {"label": float(encoded.weight[index][labelled].sum(dtype=np.float64))}

    def rows(self, seen: Seen, batch: Batch) -> list[Rows]:
        return [Rows(seen.outputs["logits"], self.kind, batch.gold)]

    def label_term(self, seen: Seen, batch: Batch, weight: float = 1.0) -> Term:
        """Sum of label losses over labelled rows, counted in 'label'.

        A class's weight multiplies its rows; of several labels at once, a label's weight multiplies its loss where it applies.
        """
        logits = seen.outputs["logits"]
        gold = batch.gold.clamp(min=0) if self.kind == "choice" else batch.gold.nan_to_num()
        if self.class_weights is None or (batch.weight is None and not batch.labelled.any()):
            each = losses.label_loss(logits, gold, kind=self.kind)
        else:
            assert batch.weight is not None, "the batch lost the weights of its labels"
            if self.kind == "choice":
                each = losses.label_loss(logits, gold, kind=self.kind) * batch.weight
            else:
                cells = losses.label_loss(logits.reshape(-1, 1), gold.reshape(-1, 1), kind="binary").reshape(gold.shape)
                each = (cells * batch.weight).sum(-1)
        return Term((each * batch.labelled).sum(), "label", weight)

    def predict(self, outputs: Mapping[str, np.ndarray], encoded: Encoded) -> np.ndarray:
        """Class numbers (rows,), 0/1 rows of labels (rows, labels), or float values (rows,)."""
        logits = np.asarray(outputs["logits"])
        if self.kind == "value":
            return logits[:, 0]
        return logits.argmax(-1) if self.kind == "choice" else (logits > 0).astype(np.int64)

    def score(self, predicted: np.ndarray, gold: np.ndarray) -> dict[str, float]:
        """Every metric over the rows that have a label, the one that selects first."""
        keep = has_label(gold)
        return {name: _metrics.measure(name, predicted[keep], gold[keep]) for name in self.metrics}
