"""The table of many students side by side: as a page, and in the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

from . import page, table, words

Facts = Mapping[str, Any]
TAKEN = ("Before", "Under attack", "Success rate", "Queries", "Words changed", "Cosine")
HEADS = {"out_of_domain": "other domain", "advglue": "AdvGLUE", "checklist": "CheckList, cases passed", "attack": "under attack"}


def write(facts: Facts, path: Path) -> None:
    """Write the page of what `tutelage.robustness.work.compare` found. Texts of examples are shown as text, whatever they hold."""
    heads, body = cells(facts)
    shown = {
        "kind": "robustness",
        "title": "Robustness of " + (f"{len(facts['students'])} students" if len(facts["students"]) > 1 else next(iter(facts["students"]))),
        "verdict": verdict(facts),
        "when": facts["began"],
        "heads": heads,
        "rows": body,
        "notes": notes(facts),
        "differences": [(name, one, difference(one)) for name, suite in facts["suites"].items() for one in suite.get("differences", ())],
        "checklists": [_checklist(name, suite) for name, suite in facts["suites"].items() if suite["kind"] == "checklist"],
        "attacks": [(name, *attacked(suite)) for name, suite in facts["suites"].items() if suite["kind"] == "attack"],
        "broken": [(name, student, cell["examples"]) for name, suite in facts["suites"].items() if suite["kind"] == "attack"
                   for student, cell in suite["students"].items() if cell["examples"]],
        "made": [(name, _line(suite)) for name, suite in facts["suites"].items()],
    }  # fmt: skip
    page.render("robustness.html.jinja", shown, path)


def cells(facts: Facts) -> tuple[list[table.Cell], list[list[table.Cell]]]:
    """The table's heads and rows, each cell with its detail."""
    heads: list[table.Cell] = [("Student", ""), ("Own test", "interval")]
    heads += [(name, HEADS[suite["kind"]]) for name, suite in facts["suites"].items()]
    body = []
    for name, home in facts["students"].items():
        line: list[table.Cell] = [(name, "at chance, not ranked" if home["at_chance"] else ""), (_share(home), _between(home))]
        for suite in facts["suites"].values():
            cell = suite["students"][name]
            rank = f"rank {cell['rank']}, " if cell["rank"] and len(facts["students"]) > 1 else ""
            lost = f"{rank}{words.gap('accuracy', -cell['drop'], unit=False)}" if words.known(cell.get("drop")) else rank.removesuffix(", ")
            line.append((_share(cell), " ".join(x for x in (_between(cell), f"({lost})" if lost else "") if x)))
        body.append(line)
    return heads, body


def _share(cell: Facts) -> str:
    return words.value("accuracy", cell["accuracy"])


def _between(cell: Facts) -> str:
    return words.span(words.value("accuracy", cell["low"]), words.value("accuracy", cell["high"])).removesuffix(" %")


def verdict(facts: Facts) -> str:
    """Who holds best on each suite, and who was at chance at home."""
    out = []
    for name, suite in facts["suites"].items():
        best = [student for student, cell in suite["students"].items() if cell["rank"] == 1]
        if best and len(facts["students"]) > 1:
            cell = suite["students"][best[0]]
            what = {"checklist": "passes most cases of", "attack": "holds best under"}.get(suite["kind"], "is right most often on")
            out.append(f"{' and '.join(best)} {what} {name} ({_share(cell)})")
        elif best:
            out.append(f"{name}: {_share(suite['students'][best[0]])}")
    flagged = [name for name, home in facts["students"].items() if home["at_chance"]]
    if flagged:
        out.append(f"{', '.join(flagged)} {'is' if len(flagged) == 1 else 'are'} at chance on the own test part and not ranked")
    return "; ".join(out) + "."


def notes(facts: Facts) -> list[str]:
    """What the table's figures mean, and what was left out."""
    kinds = {suite["kind"] for suite in facts["suites"].values()}
    out = ["Intervals are Wilson's, 95 %, and tell how sure a figure is for other rows of the same kind."]
    if kinds & {"out_of_domain", "advglue"}:
        out.append(
            "In brackets: points gained (+) or lost from the student's own test part. These are other rows than the suite's, so this "
            "difference is not paired; differences of students on one suite are."
        )
    if "attack" in kinds:
        out.append("Under attack: rows of the own test part that stay right; in brackets, points lost on these same rows.")
    for name, suite in facts["suites"].items():
        if "majority" in suite:
            out.append(f"{name}: {suite['rows']:,} of {suite['total']:,} rows; always giving the commonest label would be right in "
                       f"{words.value('accuracy', suite['majority'])}.")  # fmt: skip
        for student, cell in suite["students"].items():
            if cell.get("truncated"):
                out.append(f"{name}: {cell['truncated']:,} texts are longer than {student} reads and were cut.")
            if cell.get("wanted", 0) > cell["rows"]:
                out.append(f"{name}: {cell['rows']:,} of {cell['wanted']:,} rows of {student} were done in time; the same command goes on.")
        out += dict.fromkeys(head_note(name, cell) for cell in suite["students"].values() if cell.get("perplexity"))
    for student, home in facts["students"].items():
        if home["at_chance"]:
            share, where = words.value("accuracy", home["majority"]), f"its interval on its own test part ({_between(home)} %)"
            out.append(f"{student}: {where} does not lie above the commonest label's share, {share}.")
    return out


def head_note(name: str, cell: Facts) -> str:
    """That a masked language model's head was trained here, and its perplexity."""
    told = f"{cell['perplexity']:.1f} on masked tokens of the dev part"
    return f"{name}: {cell['masked']} has no head of a masked language model; one tied to its embeddings was trained, perplexity {told}."


def difference(one: Facts) -> str:
    """A paired difference in words."""
    return f"{words.difference(one)}, so {words.finding(one)}"


def _line(suite: Facts) -> str:
    parts = [suite["summary"], f"{suite['source']}, {suite['rows']:,} rows" if "source" in suite else ""]
    return "; ".join(x for x in parts if x)


def _checklist(name: str, suite: Facts) -> dict[str, Any]:
    """Failure rates by capability and type of every student, with the tests that failed first and those left out."""
    students = suite["students"]
    rows = dict.fromkeys((g["capability"], g["type"]) for cell in students.values() for g in cell["groups"])
    body: list[list[table.Cell]] = []
    for capability, kind in rows:
        line: list[table.Cell] = [(f"{capability}, {kind}", "")]
        for cell in students.values():
            [*mine] = [g for g in cell["groups"] if (g["capability"], g["type"]) == (capability, kind)]
            line.append(
                (words.value("accuracy", mine[0]["failure"]), f"{mine[0]['failed']:,} of {mine[0]['cases']:,}")
                if mine
                else (words.NONE, "")
            )
        body.append(line)
    return {
        "name": name,
        "heads": [("Capability, type of test", ""), *((student, "") for student in students)],
        "rows": body,
        "left_out": [f"{student}: {test}: {why}" for student, cell in students.items() for test, why in cell["left_out"].items()],
        "failures": [(student, one["test"], one["texts"]) for student, cell in students.items() for one in cell["failures"]],
    }


def attacked(suite: Facts) -> tuple[list[table.Cell], list[list[table.Cell]]]:
    """What an attack took, a line a student: heads and rows."""
    heads = [(h, "") for h in ("Student", *TAKEN)]
    body: list[list[table.Cell]] = []
    for name, cell in suite["students"].items():
        success = cell["success"] and {**cell["success"], "accuracy": cell["success"]["value"]}
        details = [f"{cell['rows']:,} rows", _between(cell), _between(success) if success else "", "", "", ""]
        values = taken(cell, success["value"] if success else None)
        body.append([(name, ""), *zip(values, details, strict=True)])
    return heads, body


def taken(cell: Facts, success: float | None) -> list[str]:
    """What an attack took of a student, as text in the order of `TAKEN`."""
    shares = (words.value("accuracy", x) for x in (cell["clean"], cell["accuracy"], success))
    queries = f"{cell['queries']:.0f}" if words.known(cell["queries"]) else words.NONE
    cosine = f"{cell['similarity']:.3f}" if words.known(cell["similarity"]) else words.NONE
    return [*shares, queries, words.value("accuracy", cell["changed"]), cosine]


def show(facts: Facts, file: TextIO | None = None) -> None:
    """Print the table, failure rates of CheckList, and what figures mean."""
    heads, body = cells(facts)
    table.grid(heads, body, file=file)
    for name, suite in facts["suites"].items():
        if suite["kind"] == "checklist":
            one = _checklist(name, suite)
            table.grid([(f"Fails in {name}", ""), *one["heads"][1:]], one["rows"], file=file)
        if suite["kind"] == "attack":
            (_, *heads), body = attacked(suite)
            table.grid([(f"Attack: {name}", ""), *heads], body, file=file)
    for name, suite in facts["suites"].items():
        for pair in suite.get("differences", ()):
            print(f"{name}: {pair['a']} less {pair['b']}: {difference(pair)}", file=file)
    for note in notes(facts):
        print(note, file=file)
