"""The contract of a task: its data, how rows become model inputs, what labels mean, and its metric."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..records import digest
from ..rows import Batch, Rows, Seen, Term

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclasses.dataclass(frozen=True)
class Split:
    """One part of the data in columns."""

    columns: Mapping[str, Any]
    """Columns by role: lists of texts ('text', and 'pair' for pairs), or arrays (rows, ...)."""
    gold: np.ndarray
    """Class numbers (rows,), 0/1 rows of labels (rows, labels), numbers (rows,), or spans (rows, 2); -1 or NaN: no label."""
    ids: list[int]
    """Row numbers in the source, 0 first."""
    source: str = ""
    weight: np.ndarray | None = None
    """Weight of each label in the label loss, float32 in the shape of `gold`; None weighs all alike."""
    total: int = 0
    """Rows of the source that `ids` count."""
    about: Any = None
    """What the task knows of the whole data, for its own use."""

    def __len__(self) -> int:
        return len(self.ids)


@dataclasses.dataclass(frozen=True)
class Data:
    """All parts of a task, and what its labels are called."""

    splits: dict[str, Split]
    """'train', 'dev', 'test', and 'transfer' for unlabelled rows where there are any."""
    labels: tuple[str, ...]
    """Label names in order; the contract between teacher and student. Empty for regression."""
    notes: tuple[str, ...] = ()
    """What a user should hear about the data: rows dropped, splits cut."""

    @property
    def digest(self) -> str:
        """SHA-256 over every text or array, label and label weight of every part."""
        parts: list[Any] = [list(self.labels)]
        for name, split in sorted(self.splits.items()):
            arrays = {k: v for k, v in sorted(split.columns.items()) if isinstance(v, np.ndarray)}
            texts = {k: v for k, v in split.columns.items() if k not in arrays}
            parts += [name, texts, np.ascontiguousarray(split.gold).tobytes()]
            for key, column in arrays.items():
                parts += [key, str(column.dtype), list(column.shape), _bytes(column)]
            if split.weight is not None:
                parts.append(np.ascontiguousarray(split.weight).tobytes())
        return digest(*parts)


def has_label(gold: np.ndarray) -> np.ndarray:
    """(rows,) of bool: whether the row has a label, neither -1 nor NaN (None in an array of objects)."""
    if gold.dtype == object:
        return np.array([one is not None for one in gold], dtype=bool)
    first = gold.reshape(len(gold), -1)[:, 0] if len(gold) else gold
    return ~np.isnan(first) if np.issubdtype(first.dtype, np.floating) else first >= 0


def _bytes(column: np.ndarray) -> memoryview | bytes:
    return np.ascontiguousarray(column).data.cast("B") if column.size else b""


class Encoded:
    """Rows ready for a model, in columns: ragged ones of shape (tokens, ...) a row and fixed ones of shape (...) a row.

    Batches are padded to their own longest row. Nothing is padded or turned into a tensor before its batch is made.
    `extra` columns are ragged, padded with 0 and no model inputs: the task finds them in `Batch.extra`. `beside` columns are
    fixed and stand there too. `about` is what predictions and truths are made from where rows are not the items that are
    scored; it has a `digest` and `join(other)`.
    """

    def __init__(
        self,
        ragged: Mapping[str, np.ndarray],
        lengths: np.ndarray,
        gold: np.ndarray,
        *,
        fixed: Mapping[str, np.ndarray] | None = None,
        pad: Mapping[str, int] | None = None,
        mask: bool = True,
        truncated: int = 0,
        weight: np.ndarray | None = None,
        extra: Mapping[str, np.ndarray] | None = None,
        beside: Mapping[str, np.ndarray] | None = None,
        about: Any = None,
    ):
        self.ragged, self.fixed, self.extra, self.about = dict(ragged), dict(fixed or {}), dict(extra or {}), about
        self.beside = dict(beside or {})
        self.lengths, self.gold = np.asarray(lengths, dtype=np.int64), gold
        self.starts = np.concatenate([[0], np.cumsum(self.lengths)]).astype(np.int64)
        self.pad, self.mask, self.truncated, self.weight = dict(pad or {}), mask, truncated, weight

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def labelled(self) -> np.ndarray:
        """(rows,) of bool: whether the row has a label."""
        return has_label(self.gold)

    @property
    def digest(self) -> str:
        """SHA-256 over the model inputs (not the labels): what a teacher's signal depends on besides the teacher."""
        parts: list[Any] = [_bytes(self.lengths)]
        for name in sorted(self.ragged | self.fixed):
            column = (self.ragged | self.fixed)[name]
            parts += [name, str(column.dtype), list(column.shape[1:]), _bytes(column)]
        return digest(*parts)

    @property
    def gold_digest(self) -> str:
        """SHA-256 over what is learned and scored: labels, their weights, extra columns, and what predictions are made from."""
        extra = [part for name in sorted(self.extra) for part in (name, _bytes(self.extra[name]))]
        extra += [] if self.weight is None else [_bytes(self.weight)]
        return digest(_bytes(self.gold), *extra, "" if self.about is None else self.about.digest)

    def join(self, other: Encoded) -> Encoded:
        """These rows, then the other's."""
        ragged, fixed, extra = (
            {k: np.concatenate([v, theirs[k]]) for k, v in mine.items()}
            for mine, theirs in ((self.ragged, other.ragged), (self.fixed, other.fixed), (self.extra, other.extra))
        )
        lengths, gold = np.concatenate([self.lengths, other.lengths]), np.concatenate([self.gold, other.gold])
        weight = None if self.weight is None or other.weight is None else np.concatenate([self.weight, other.weight])
        assert (weight is None) == (self.weight is None) == (other.weight is None), "rows with and without label weights"
        truncated = self.truncated + other.truncated
        about = None if self.about is None else self.about.join(other.about)
        return Encoded(
            ragged, lengths, gold, fixed=fixed, pad=self.pad, mask=self.mask, truncated=truncated, weight=weight, extra=extra, about=about
        )

    def batch(self, index: Sequence[int] | np.ndarray) -> Batch:
        """The rows of `index` as tensors, padded on the right to the longest of them."""
        import torch

        index = np.asarray(index, dtype=np.int64)
        lengths = self.lengths[index]
        width = int(lengths.max()) if len(index) else 0
        inputs: dict[str, Tensor] = {}
        extra: dict[str, Tensor] = {}
        filled = np.arange(width)[None, :] < lengths[:, None]
        for into, columns in ((inputs, self.ragged), (extra, self.extra)):
            for name, column in columns.items():
                dtype = np.int64 if np.issubdtype(column.dtype, np.integer) else column.dtype
                block = np.full((len(index), width, *column.shape[1:]), self.pad.get(name, 0), dtype=dtype)
                block[filled] = np.concatenate([column[self.starts[i] : self.starts[i + 1]] for i in index])
                into[name] = torch.from_numpy(block)
        for into, columns in ((inputs, self.fixed), (extra, self.beside)):
            for name, column in columns.items():
                into[name] = torch.from_numpy(np.ascontiguousarray(column[index]))
        if self.ragged and self.mask:
            inputs["attention_mask"] = torch.from_numpy(filled.astype(np.int64))
        gold, weight = self.gold[index], None if self.weight is None else torch.from_numpy(self.weight[index])
        return Batch(inputs, torch.from_numpy(gold), torch.from_numpy(has_label(gold)), torch.from_numpy(index), weight, extra)


class Task:
    """Data, labels and metric. `outputs` names what a model of this task puts out, an example or a token each.

    Rows are what a model is fed with; items are what is predicted and scored. They are the same unless a task says
    otherwise, as where one question is put to several windows of a long text.
    """

    is_part = False
    outputs: Mapping[str, str] = {"logits": "example"}
    kind: str = "choice"
    """'choice', 'binary' (several labels at once) or 'value' (regression): what a row of logits means."""
    auto: str = "AutoModelForSequenceClassification"
    """The class of transformers that loads a model of this task."""
    tokenized = True
    """Whether rows are text that a tokenizer encodes."""
    judged: Mapping[str, str] | None = None
    """What looks at dev and test keep of a model in place of its outputs, an example or a token each; `shown` makes it."""
    less_is_better = False
    """Whether the primary metric is better where it is less."""
    fidelity: Sequence[str] = ()
    """How a student's match with its teacher is measured: 'agreement' of predictions (`agreed`), and 'kl' or 'mse', the distance of
    `rows`, which then are one an example."""

    @property
    def varies(self) -> bool:
        """Whether the inputs of a training row are drawn anew at every step, so that a teacher's signals cannot be stored."""
        return False

    def load(self) -> Data:
        """Read the data; raises DataError."""
        raise NotImplementedError

    def files(self) -> Iterator[Path]:
        """Local files the data comes from, for the record."""
        return iter(())

    def head(self, data: Data) -> dict[str, Any]:
        """Keyword arguments of `from_pretrained` that fit a model's head to the labels; empty for a head without labels."""
        raise NotImplementedError

    def width(self, data: Data) -> int:
        """Numbers that one output of an example or a token has, the last hidden states aside."""
        return max(1, len(data.labels))

    def settled(self, data: Data) -> dict[str, Any]:
        """Settings whose values `load` found in the data; they are kept with a student, for other data is judged by them."""
        return {}

    def encode(self, split: Split, tokenizer: Any) -> Encoded:
        """Rows as they are stored; `tokenizer` is None where `tokenized` is False."""
        raise NotImplementedError

    def view(self, batch: Batch, seeds: Sequence[int] | None = None) -> Batch:
        """Stored rows as model inputs; in training with a seed for each row, from which alone its random changes are drawn.

        Where inputs are continuous, an extra column `displacement` in the shape and units of the stored input becomes the column
        `displaced`: the input moved by it, within the values that it can have, under the same changes.
        """
        return batch

    def counts(self, encoded: Encoded, index: np.ndarray) -> dict[str, float]:
        """Items of an optimizer step by unit, from the data alone: 'example', 'token', 'label' and the task's own."""
        rows, tokens = float(len(index)), float(encoded.lengths[index].sum())
        return {"example": rows, "token": tokens, "label": float(encoded.labelled[index].sum())}

    def real(self, batch: Batch) -> Tensor:
        """(rows, tokens) of bool: the tokens that count in 'token'."""
        return batch.inputs["attention_mask"].bool()

    def rows(self, seen: Seen, batch: Batch) -> list[Rows]:
        """The outputs as rows of logits."""
        raise NotImplementedError

    def label_term(self, seen: Seen, batch: Batch, weight: float = 1.0) -> Term:
        """The label loss as a term."""
        raise NotImplementedError

    def cut(self, encoded: Encoded) -> str:
        """What a user should hear of rows that `encoded.truncated` counts."""
        limit = getattr(self, "max_length", None)
        return f"{encoded.truncated} of {len(encoded)} texts are longer than {limit} tokens and were cut (task.max_length)"

    def shown(self, seen: Seen, batch: Batch) -> Mapping[str, Tensor]:
        """What `judged` names, from a batch's outputs."""
        raise NotImplementedError

    @property
    def calibrates(self) -> bool:
        """Whether `calibrated` chooses settings for each model."""
        return False

    def calibrated(self, outputs: Mapping[str, np.ndarray], encoded: Encoded) -> Task:
        """This task with the settings of `predict` that are best for a model, by its outputs on dev."""
        return self

    def predict(self, outputs: Mapping[str, np.ndarray], encoded: Encoded) -> np.ndarray:
        """Predictions from raw outputs, one an item: class numbers, 0/1 rows, numbers, or texts.

        Outputs of a token each stand end to end, those of row i from `encoded.starts[i]` to `encoded.starts[i + 1]`.
        """
        raise NotImplementedError

    def truth(self, encoded: Encoded) -> np.ndarray:
        """What is right, one an item."""
        return encoded.gold

    def agreed(self, outputs: Mapping[str, np.ndarray], others: Mapping[str, np.ndarray], encoded: Encoded) -> np.ndarray:
        """(items,) Values whose mean is the share of predictions that two models have in common, by what each put out."""
        same = self.predict(outputs, encoded) == self.predict(others, encoded)
        return same.reshape(len(same), -1).all(-1).astype(np.float64)

    def score(self, predicted: np.ndarray, gold: np.ndarray) -> dict[str, float]:
        """Every metric of the task by name, in natural units (accuracy in [0, 1])."""
        raise NotImplementedError

    def each(self, predicted: np.ndarray, gold: np.ndarray) -> np.ndarray | None:
        """The primary metric's value of each item, (items,), where the metric is their mean and has no closed form."""
        return None

    def sums(self, predicted: np.ndarray, gold: np.ndarray) -> np.ndarray | None:
        """(items, columns) whose sums make the primary metric (`_metrics.OF_SUMS`), where it is no mean over items and no closed form."""
        return None

    def items(self, predicted: np.ndarray, encoded: Encoded) -> list[dict[str, Any]] | None:
        """What to keep of each item in the per-example results; None keeps labels and raw outputs."""
        return None

    @property
    def primary(self) -> str:
        """The metric that selects; more is better."""
        raise NotImplementedError

    @property
    def metrics(self) -> tuple[str, ...]:
        """Every metric reported whose choice depends on settings; the first selects."""
        return (self.primary,)

    def build_fresh(self, config: Any) -> nn.Module | None:
        """A model with random weights for a configuration of the task's own, or None for transformers' Auto classes."""
        return None
