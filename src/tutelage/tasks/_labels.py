"""Labels: from cells to names, their order, the numbers models learn, and their weights."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from ..errors import DataError
from ..find import near
from ._tables import Table, is_missing

Target = Literal["classes", "labels", "value"]


def cells(table: Table, column: str, target: Target, separator: str, known: Sequence[str], *, sparse: bool = False) -> list[Any]:
    """The column's labels: a name a row, a list of names a row (target 'labels'), or a number a row (target 'value').

    `sparse` gives None for a cell that holds none. Else such cells raise DataError, naming the file, the first row and how many
    there are.
    """
    values = table.columns[column]
    if sparse:
        nothing = _nothing if target == "labels" else is_missing
        keep = [i for i, v in enumerate(values) if not nothing(v)]
        some = dataclasses.replace(table, columns={column: [values[i] for i in keep]}, rows=[table.rows[i] for i in keep])
        found = dict(zip(keep, cells(some, column, target, separator, known) if keep else (), strict=True))
        return [found.get(i) for i in range(len(values))]
    if target == "labels":
        return _several(table, column, values, separator, known)
    empty = [i for i, v in enumerate(values) if is_missing(v)]
    if empty:
        hint = "rows without labels go into a file of their own, task.unlabelled"
        raise table.fault(column, f"has no label; fill in or remove ({hint})", empty)
    if target == "value":
        made = [_number(v) for v in values]
        wrong = [i for i, v in enumerate(made) if v is None]
        if wrong:
            raise table.fault(column, f"holds {values[wrong[0]]!r} where target 'value' needs a finite number", wrong)
        return made
    lists = [i for i, v in enumerate(values) if not isinstance(v, str | int | float | bool)]
    if lists:
        raise table.fault(column, f"holds a {type(values[lists[0]]).__name__}; lists of labels need task.target=labels", lists)
    written = [i for i, v in enumerate(values) if _is_list(v)]
    if len(written) == len(values):
        raise table.fault(column, f"holds lists written as text, such as {values[0]!r}", written, "several labels need task.target=labels")
    return [name(v) for v in values]


def name(value: Any) -> str:
    """A label's name: text without blanks around it; 1.0 is called '1'."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value).strip()


def _number(value: Any) -> float | None:
    try:
        made = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return made if math.isfinite(made) else None


def _several(table: Table, column: str, values: list[Any], separator: str, known: Sequence[str]) -> list[list[str]]:
    """Lists of names; 0/1 flags become names where `known` names the labels."""
    nothing = [i for i, v in enumerate(values) if _nothing(v)]
    if nothing:
        raise table.fault(column, "has no label; write an empty list or empty text where none applies", nothing)
    listed = [i for i, v in enumerate(values) if isinstance(v, list | tuple)]
    if listed and len(listed) < len(values):
        odd = [i for i, v in enumerate(values) if not isinstance(v, list | tuple)]
        raise table.fault(column, "holds a single value where other rows hold lists", odd)
    if not listed:
        _check_separator(table, column, [str(v) for v in values], separator)
        rows = [[name(x) for x in str(v).split(separator) if x.strip()] for v in values]
    elif known and not {"0", "1"} & set(known) and all(x in (0, 1) for v in values for x in v) and any(values):
        wrong = [i for i, v in enumerate(values) if len(v) != len(known)]
        if wrong:
            found = f"holds {len(values[wrong[0]])} flags where task.labels names {len(known)} labels"
            raise table.fault(column, found, wrong)
        rows = [[known[k] for k, flag in enumerate(v) if flag] for v in values]
    else:
        rows = [[name(x) for x in v if not is_missing(x)] for v in values]
    twice = [i for i, row in enumerate(rows) if len(set(row)) < len(row)]
    if twice:
        raise table.fault(column, f"names a label twice ({rows[twice[0]]}); flags of 0 and 1 need task.labels for their names", twice)
    return rows


def _is_list(value: Any) -> bool:
    return isinstance(value, str) and len(value) > 1 and value.strip()[:1] + value.strip()[-1:] in ("[]", "()", "{}")


def _check_separator(table: Table, column: str, values: list[str], separator: str) -> None:
    """Raise DataError for cells that hold several labels in another way than with the separator: lists written as text, and names
    parted by a comma or a semicolon, which show where parts of one cell stand in another too."""
    mend = f"write a{separator}b, or lists in JSONL"
    written = [i for i, v in enumerate(values) if _is_list(v)]
    if written:
        raise table.fault(column, f"holds a list written as text, {values[written[0]]!r}", written, mend)
    if any(separator in v for v in values):
        return
    for mark in {",", ";"} - {separator}:
        parts = Counter(part.strip() for v in set(values) for part in set(v.split(mark)))
        odd = [i for i, v in enumerate(values) if mark in v and any(parts[part.strip()] > 1 for part in v.split(mark))]
        if odd:
            what = f"holds several labels parted by '{mark}', {values[odd[0]]!r}"
            raise table.fault(column, what, odd, f"{mend}, or say task.separator='{mark}'")


def alike(known: Sequence[str]) -> list[str]:
    """A sentence for labels whose names differ in case or blanks alone."""
    found: dict[str, list[str]] = {}
    for label in known:
        found.setdefault(" ".join(label.casefold().split()), []).append(label)
    names = [" and ".join(f"'{label}'" for label in labels) for labels in found.values() if len(labels) > 1]
    return [f"labels {same} differ in case or blanks alone; each is a label of its own, write them alike if they are one" for same in names]


def _nothing(value: Any) -> bool:
    """Whether a cell of several labels is not filled in; empty text says that none applies."""
    return value is None or (isinstance(value, float) and value != value)


def order(values: Iterable[str]) -> tuple[str, ...]:
    """Label names sorted: as numbers where all of them are numbers, else by letters."""
    found = sorted(set(values))
    numbers = {v: _number(v) for v in found}
    return tuple(found if None in numbers.values() else sorted(found, key=lambda v: (numbers[v], v)))


def gold(labels: Sequence[Any] | None, known: Sequence[str], target: Target, rows: int) -> np.ndarray:
    """What a model learns: int64 class numbers (rows,), float32 0/1 (rows, labels), or float32 values (rows,).

    -1 or NaN where there is no label (`labels` None). Every name must be in `known`.
    """
    number = {label: k for k, label in enumerate(known)}
    if target == "labels":
        out = np.full((rows, len(known)), np.nan if labels is None else 0.0, dtype=np.float32)
        for i, names in enumerate(labels or ()):
            out[i, [number[x] for x in names]] = 1.0
        return out
    if target == "value":
        return np.full(rows, np.nan, dtype=np.float32) if labels is None else np.array(labels, dtype=np.float32)
    return np.full(rows, -1) if labels is None else np.array([number[x] for x in labels], dtype=np.int64)


def unknown(labels: Sequence[Any], known: Sequence[str]) -> tuple[str, list[int]] | None:
    """The first label that `known` lacks, and the numbers (from 0) of the rows that have it."""
    have = set(known)
    for row in labels:
        for label in [row] if isinstance(row, str) else row:
            if label not in have:
                return label, [i for i, other in enumerate(labels) if label == other or (not isinstance(other, str) and label in other)]
    return None


def class_weights(given: Literal["balanced"] | Mapping[str, float], known: Sequence[str], train: np.ndarray) -> np.ndarray:
    """Weight of each label in the label loss, float32 (labels,); `train` is the gold of the training rows.

    'balanced' for one class of several: rows / (classes * rows of the class), as scikit-learn has it. For several labels
    at once a weight multiplies the loss where the label applies, and 'balanced' is rows without it / rows with it.
    A label without rows weighs 1. Raises DataError for a name that is not a label.
    """
    if isinstance(given, Mapping):
        for label in given:
            if label not in known:
                raise DataError(f"task.class_weights: no label '{label}'{near(label, known)} (labels: {', '.join(known)})")
        return np.array([given.get(label, 1.0) for label in known], dtype=np.float32)
    if train.ndim == 2:
        have, lack = train.sum(0), (1 - train).sum(0)
        weights = np.divide(lack, have, out=np.ones_like(have), where=have > 0)
        return np.where(lack > 0, weights, 1.0).astype(np.float32)
    have = np.bincount(train, minlength=len(known)).astype(np.float64)
    return np.divide(have.sum(), (have > 0).sum() * have, out=np.ones_like(have), where=have > 0).astype(np.float32)


def row_weights(weights: np.ndarray, gold: np.ndarray) -> np.ndarray:
    """Weight of each label of each row, in the shape of `gold`; 0 where there is no label."""
    if gold.ndim == 2:
        return np.where(np.isnan(gold), 0.0, np.where(gold == 1, weights, 1.0)).astype(np.float32)
    return np.where(gold >= 0, weights[gold], 0.0).astype(np.float32)


def counted(labels: Iterable[Any]) -> Counter[str]:
    """Rows of each label."""
    return Counter(x for row in labels for x in ([row] if isinstance(row, str) else row))
