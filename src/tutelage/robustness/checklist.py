"""CheckList: minimum functionality, invariance and direction, as failure rates by test, capability and type.

Source: Ribeiro, Wu, Guestrin, Singh 2020, arXiv:2005.04118.
Departures: the released suites pickle what a test expects as Python functions; here it is declared by the suite's file,
and a test of which nothing is declared is left out and named. A case fails as soon as one of its texts does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .reading import Behaviour, Case
from .students import Student, accuracy
from .suites import Expectation, Suite

Verdict = bool | None
"""Whether a case passes; None where it does not count."""
NOTHING: dict[str, Any] = {"accuracy": None, "low": None, "high": None, "rows": 0}


def tried(student: Student, suite: Suite, tests: Sequence[Behaviour]) -> dict[str, Any]:
    """Failure rates of every test with Wilson's interval, summed by capability and type, the share of cases passed, and
    tests left out with the reason."""
    own = {suite.labels[x] for x in student.labels}
    left_out = {test.name: why for test in tests if (why := _unfit(test, suite, own))}
    usable = [test for test in tests if test.name not in left_out]
    found = student.probabilities([text for test in usable for case in test.cases for text in case.texts])
    rows: list[dict[str, Any]] = []
    shown, at = [], 0
    for test in usable:
        verdicts = []
        for case in test.cases:
            verdicts.append(judged(test, case, found[at : at + len(case.texts)], suite, student.labels))
            at += len(case.texts)
        counted = [v for v in verdicts if v is not None]
        if not counted:
            left_out[test.name] = "none of its cases counts for this student"
            continue
        if False in verdicts:
            texts = test.cases[verdicts.index(False)].texts[:3]
            shown.append({"test": test.name, "texts": [x if isinstance(x, str) else " | ".join(x) for x in texts]})
        rows.append({"test": test.name, "type": test.type, "capability": test.capability, **failure(counted.count(False), len(counted))})
    groups = []
    for capability, kind in sorted({(row["capability"], row["type"]) for row in rows}):
        mine = [row for row in rows if (row["capability"], row["type"]) == (capability, kind)]
        groups.append({"capability": capability, "type": kind, **_sum(mine)})
    whole = _sum(rows) if rows else None
    passed = accuracy(whole["cases"] - whole["failed"], whole["cases"]) if whole else NOTHING
    return {**passed, "groups": groups, "tests": rows, "left_out": left_out, "failures": shown, "truncated": student.truncated}


def _sum(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return failure(sum(row["failed"] for row in rows), sum(row["cases"] for row in rows))


def failure(failed: int, cases: int) -> dict[str, Any]:
    """A failure rate with Wilson's interval."""
    found = accuracy(failed, cases)
    return {"failure": found["accuracy"], "low": found["low"], "high": found["high"], "failed": failed, "cases": cases}


def _unfit(test: Behaviour, suite: Suite, own: set[str]) -> str:
    """Why a student cannot be tried on a test, or nothing."""
    expected = suite.expected(test.name)
    if expected is not None:
        lost = [x for x in expected.labels if x != expected.unless and suite.labels[x] not in own]
        return f"expects the label {', '.join(lost)}, which the student lacks" if lost else ""
    if test.type == "INV":
        return ""
    if test.type == "DIR" or any(x is None for case in test.cases for x in case.labels):
        return "the suite's file does not say what it expects"
    lost = sorted({str(x) for case in test.cases for x in case.labels} - own)
    return f"expects the label {', '.join(lost)} of its file, which the student lacks" if lost else ""


def judged(test: Behaviour, case: Case, p: np.ndarray, suite: Suite, labels: Sequence[str]) -> Verdict:
    """Whether a case passes by the student's probabilities (texts, labels), the original first."""
    expected = suite.expected(test.name)
    said = p.argmax(-1)
    if expected is not None:
        return _declared(expected, p, said, list(labels), suite.tolerance)
    if test.type == "INV":
        moved = np.abs(p[:, said[0]] - p[0, said[0]])
        return bool(np.all((said == said[0]) | (moved <= suite.tolerance)))
    return all(suite.labels[labels[k]] == wanted for k, wanted in zip(said, case.labels, strict=True))


def _declared(expected: Expectation, p: np.ndarray, said: np.ndarray, labels: list[str], tolerance: float) -> Verdict:
    first = labels[said[0]]
    if (expected.where is not None and first != expected.where) or first == expected.unless:
        return None
    looked = said[1:] if expected.changed else said
    if expected.label is not None:
        return bool(np.all(looked == labels.index(expected.label)))
    if expected.other_than is not None:
        return bool(np.all(looked != labels.index(expected.other_than)))
    if expected.confidence is not None:
        change = p[1:, said[0]] - p[0, said[0]]
        return bool(np.all((change if expected.confidence == "up" else -change) + tolerance >= 0))
    gap = p[:, labels.index(expected.toward or "")] - p[:, labels.index(expected.away or "")]
    return bool(np.all(gap[1:] - gap[0] + tolerance >= 0))
