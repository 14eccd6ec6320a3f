"""Suites on which one student after another is tried; what they read, and the models that attack, are the same for all."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..engine.talk import Talk
from ..tasks._task import Data
from . import checklist, reading, scoring
from .attacking import Attacker
from .students import Student
from .suites import Suite, check


class Battery:
    """The suites `found`; `heads` is the folder of heads that attacks train for themselves."""

    def __init__(self, found: Sequence[Suite], heads: Path, talk: Talk):
        self.suites, self.heads, self.talk = found, heads, talk
        self._attackers: dict[str, Attacker] = {}

    @functools.cached_property
    def read(self) -> dict[str, Any]:
        """Rows or tests by suite. Raises ConfigError or DataError for files that are missing or cannot be read."""
        out: dict[str, Any] = {}
        for suite in (s for s in self.suites if not s.attack):
            out[suite.name] = reading.tests(suite) if suite.kind == "checklist" else reading.labelled(suite)
            if suite.kind != "checklist" and len(out[suite.name]) < out[suite.name].total:
                self.talk.say(f"{suite.name}: {len(out[suite.name]):,} of {out[suite.name].total:,} rows")
        return out

    def faults(self, name: str, data: Data, trained: Mapping[str, Any]) -> list[str]:
        """Why the student `name` of a task's data cannot be tried, a sentence a suite; `trained` are the task's settings.

        Raises what `read` does.
        """
        labels, paired = data.labels, "pair" in data.splits["test"].columns
        found = [why for suite in self.suites if (why := check(suite, name, labels, trained, paired))]
        for suite in self.suites if not found else ():
            rows = set() if suite.attack or suite.kind == "checklist" else set(self.read[suite.name].labels or ())
            if lost := sorted(rows - {suite.labels.get(label) for label in labels}):
                source, own = self.read[suite.name].source, f"which no label of {name} maps to ({', '.join(labels)})"
                found.append(f"suite {suite.name}: {source} has the label {', '.join(lost)}, {own}; map it in labels, or name it in drop")
        return found

    def tried(self, suite: Suite, student: Student, folder: Path) -> dict[str, Any]:
        """What a student comes to on a suite: accuracy with its interval and what belongs to the suite's kind.

        `right` is (rows,) of bool, but of a CheckList. An attack keeps in `folder` what has ended, and goes on behind it.
        """
        if suite.attack:
            if suite.name not in self._attackers:
                self._attackers[suite.name] = Attacker(suite, self.heads, self.talk)
            return self._attackers[suite.name].tried(student, folder)
        return (checklist.tried if suite.kind == "checklist" else scoring.tried)(student, suite, self.read[suite.name])

    def whole(self, student: Student) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """A student on every suite, by name: what `tried` says, and `right` apart; nothing stays on disk."""
        found: dict[str, Any] = {}
        with tempfile.TemporaryDirectory() as place:
            for suite in self.suites:
                found[suite.name] = self.tried(suite, student, Path(place))
        return found, {name: facts.pop("right") for name, facts in found.items() if "right" in facts}
