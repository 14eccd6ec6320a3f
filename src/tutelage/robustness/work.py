"""Many students side by side: each on its own test part, then on every suite; figures, JSON and a page."""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from .. import config, records
from ..engine.machine import Machine
from ..engine.talk import Talk
from ..errors import ConfigError
from ..report import robustness as report
from . import scoring, suites, unified
from .battery import Battery
from .students import Student, named
from .suites import Suite


def compare(
    folders: Sequence[str],
    asked: Sequence[str],
    changes: Iterable[str] = (),
    *,
    out: Path | None = None,
    threads: int | None = None,
    talk: Talk | None = None,
) -> dict[str, Any]:
    """Try every student on every suite, and write `robustness.json` and `report.html` into the folder `out`.

    Suites and `changes` are written as `suites.find` has it. Everything is checked before anything is computed; what is wrong
    is raised as ConfigError or DataError. Students at chance on their own test part are flagged and not ranked.
    """
    talk, found = talk or Talk(), suites.find(asked, changes)
    machine = Machine(threads)
    students = [Student.read(name, folder, machine) for name, folder in named(folders).items()]
    named_by = records.digest([s.digest for s in students], [s.name for s in found])
    place = out or Path("runs") / f"robustness-{named_by[:8]}"
    battery = Battery(found, place / "attacks", talk)
    faults = [why for student in students for why in battery.faults(student.name, student.data, student.trained)]
    if faults:
        raise ConfigError([("", why) for why in faults])
    teachers = {s.name: Student.read("teacher", s.attack.teacher, machine, students[0]) for s in found if s.attack and s.attack.teacher}
    with records.locked(place):
        facts = _facts(students, battery, teachers)
        records.write_json(place / "robustness.json", facts)
        report.write(facts, place / "report.html")
    return {**facts, "report": str(place / "report.html")}


def _facts(students: Sequence[Student], battery: Battery, teachers: Mapping[str, Student]) -> dict[str, Any]:
    facts: dict[str, Any] = {"began": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"), "students": {}, "suites": {}}
    with battery.talk.task("own test part", len(students)) as advance:
        for student in students:
            facts["students"][student.name] = {"folder": student.folder, "labels": list(student.labels), **student.at_home()}
            advance(1, student.name)
    for suite in battery.suites:
        cells = _cells(suite, students, battery, teachers)
        facts["suites"][suite.name] = _column(suite, cells, battery.read.get(suite.name), facts["students"])
    return facts | {"surroundings": records.surroundings(), "settings": {s.name: config.dump(s) for s in battery.suites}}


def _cells(suite: Suite, students: Sequence[Student], battery: Battery, teachers: Mapping[str, Student]) -> dict[str, dict[str, Any]]:
    """What every student comes to on a suite, by name."""
    if suite.name in teachers:
        return unified.tried(suite, students, teachers[suite.name], battery.heads, battery.talk)
    if suite.attack:
        return {student.name: battery.tried(suite, student, battery.heads) for student in students}
    out: dict[str, dict[str, Any]] = {}
    with battery.talk.task(suite.name, len(students)) as advance:
        for student in students:
            out[student.name] = battery.tried(suite, student, battery.heads)
            advance(1, student.name)
    return out


def _column(suite: Suite, cells: dict[str, dict[str, Any]], read: Any, home: Mapping[str, Any]) -> dict[str, Any]:
    """The students on one suite: ranks, what each loses from home, and differences on the same rows."""
    rights = {name: cell.pop("right") for name, cell in cells.items() if "right" in cell}
    if suite.attack and suite.attack.by != "unified":
        rights = {}  # rows that a search did not reach differ by student
    scoring.rank(cells, "accuracy", {name: row["at_chance"] for name, row in home.items()})
    out: dict[str, Any] = {"kind": suite.kind, "summary": suite.summary, "students": cells}
    if rights and not suite.attack:
        for name in rights:
            cells[name] |= scoring.drop(home[name], cells[name])
        counted = Counter(read.labels)
        out |= {"source": read.source, "rows": len(read), "total": read.total, "majority": max(counted.values()) / len(read)}
    if rights:
        first, *others = rights
        out["differences"] = [{"a": name, "b": first, **scoring.apart(rights[name], rights[first])} for name in others]
    return out
