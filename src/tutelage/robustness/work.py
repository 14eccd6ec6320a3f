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
from ..errors import ConfigError, DataError
from ..report import robustness as report
from . import checklist, reading, scoring, suites, unified
from .attacking import Attacker
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
    students = [Student(name, folder, machine) for name, folder in named(folders).items()]
    _check(students, found)
    read = {suite.name: _read(suite, students, talk) for suite in found}
    named_by = records.digest([s.digest for s in students], [s.name for s in found])
    place = out or Path("runs") / f"robustness-{named_by[:8]}"
    with records.locked(place):
        facts = _facts(students, found, read, place, talk)
        records.write_json(place / "robustness.json", facts)
        report.write(facts, place / "report.html")
    return {**facts, "report": str(place / "report.html")}


def _facts(students: Sequence[Student], found: Sequence[Suite], read: dict[str, Any], place: Path, talk: Talk) -> dict[str, Any]:
    facts: dict[str, Any] = {"began": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"), "students": {}, "suites": {}}
    with talk.task("own test part", len(students)) as advance:
        for student in students:
            facts["students"][student.name] = {"folder": student.folder, "labels": list(student.labels), **student.at_home()}
            advance(1, student.name)
    for suite in found:
        cells = _cells(suite, students, read[suite.name], place / "attacks", talk)
        facts["suites"][suite.name] = _column(suite, cells, read[suite.name], facts["students"])
    return facts | {"surroundings": records.surroundings(), "settings": {s.name: config.dump(s) for s in found}}


def _check(students: Sequence[Student], found: Sequence[Suite]) -> None:
    """Refuse, all at once, students that suites are not for, and texts where pairs are needed."""
    faults = []
    for suite in found:
        for student in students:
            why = suites.check(suite, student.name, student.labels, student.trained)
            if not why and not suite.attack and bool(suite.pair) != student.paired:
                reads, has = ("pairs of texts", "single texts")[:: 1 if student.paired else -1]
                why = f"suite {suite.name}: has {has}, and {student.name} reads {reads}; leave one of them out"
            faults += [("", why)] if why else []
    if faults:
        raise ConfigError(faults)


def _read(suite: Suite, students: Sequence[Student], talk: Talk) -> Any:
    if suite.attack:
        return suite.attack.teacher and Student("teacher", suite.attack.teacher, students[0].machine, students[0])
    if suite.kind == "checklist":
        return reading.tests(suite)
    part = reading.labelled(suite)
    reach = [{suite.labels[x] for x in student.labels} for student in students]
    for student, mapped in zip(students, reach, strict=True):
        if lost := sorted(set(part.labels or ()) - mapped):
            what = f"suite {suite.name}: {part.source} has the label {', '.join(lost)}, which no label of {student.name} maps to"
            raise DataError(f"{what} ({', '.join(student.labels)}); map it in labels, or name it in drop")
    if len(part) < part.total:
        talk.say(f"{suite.name}: {len(part):,} of {part.total:,} rows")
    return part


def _cells(suite: Suite, students: Sequence[Student], read: Any, folder: Path, talk: Talk) -> dict[str, dict[str, Any]]:
    """What every student comes to on a suite, by name; `read` is its teacher, its tests or its rows."""
    if suite.attack and suite.attack.by == "unified":
        return unified.tried(suite, students, read, folder, talk)
    if suite.attack:
        attacker = Attacker(suite, folder, talk)
        return {student.name: attacker.tried(student) for student in students}
    tried = checklist.tried if suite.kind == "checklist" else scoring.tried
    out: dict[str, dict[str, Any]] = {}
    with talk.task(suite.name, len(students)) as advance:
        for student in students:
            out[student.name] = tried(student, suite, read)
            advance(1, student.name)
    return out


def _column(suite: Suite, cells: dict[str, dict[str, Any]], read: Any, home: Mapping[str, Any]) -> dict[str, Any]:
    """The students on one suite: ranks, what each loses from home, and differences on the same rows."""
    rights = {name: cell.pop("right") for name, cell in cells.items() if "right" in cell}
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
