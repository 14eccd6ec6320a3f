"""Labelled suites: a student's accuracy by the suite's own labels, and what sets it apart from its own data and from other students."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..tasks import _metrics
from ..tasks._parts import Part
from ..tasks.classify import Classify
from .reading import Text
from .students import Student, accuracy
from .suites import Suite


def texts(part: Part, paired: bool) -> list[Text]:
    """The rows as texts or pairs."""
    return list(zip(part.texts, part.pairs or (), strict=True)) if paired else list(part.texts)


def folded(probabilities: np.ndarray, labels: Sequence[str], suite: Suite) -> tuple[np.ndarray, list[str]]:
    """Probabilities of the student's labels (rows, labels) added up to those of the suite (rows, its labels), and their names.

    So a student of three inferences is judged on two: what it gives to neutral and to contradiction counts together.
    """
    names = list(dict.fromkeys(suite.labels[x] for x in labels))
    out = np.zeros((len(probabilities), len(names)), np.float32)
    for k, label in enumerate(labels):
        out[:, names.index(suite.labels[label])] += probabilities[:, k]
    return out, names


def tried(student: Student, suite: Suite, part: Part) -> dict[str, Any]:
    """A student on the rows of a suite: accuracy with its interval, and `right` (rows,) of bool for comparisons.

    Rows whose label no label of the student maps to are counted as missed.
    """
    found = student.probabilities(texts(part, student.paired))
    sums, names = folded(found, student.labels, suite)
    said = np.array(names)[sums.argmax(-1)]
    right = said == np.array(part.labels)
    return {**accuracy(int(right.sum()), len(right)), "truncated": student.truncated, "right": right}


def drop(home: Mapping[str, Any], away: Mapping[str, Any]) -> dict[str, float]:
    """Accuracy lost from the student's own test part, with an interval of two independent shares.

    Source: Newcombe 1998, Statistics in Medicine 17, method 10, from Wilson's intervals. The rows are different ones, so the
    difference is not a paired one.
    """
    a, b = home["accuracy"], away["accuracy"]
    low = a - b - math.hypot(a - home["low"], away["high"] - b)
    high = a - b + math.hypot(home["high"] - a, b - away["low"])
    return {"drop": a - b, "drop_low": low, "drop_high": high}


def apart(a: np.ndarray, b: np.ndarray) -> dict[str, Any]:
    """Accuracy of right answers `a` (rows,) less that of `b` on the same rows, with a paired bootstrap interval."""
    ones = np.ones(len(a), dtype=np.int64)
    return _metrics.paired_difference(Classify(metric="accuracy"), a.astype(np.int64), b.astype(np.int64), ones)


def rank(cells: Mapping[str, dict[str, Any]], key: str, chance: Mapping[str, bool]) -> None:
    """Number the students of a column by `key`, the best 1 and equal ones alike; None for students at chance at home."""
    able = {name: cell[key] for name, cell in cells.items() if not chance[name] and cell.get(key) is not None}
    for name, cell in cells.items():
        cell["rank"] = 1 + sum(x > able[name] for x in able.values()) if name in able else None
