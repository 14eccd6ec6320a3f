"""The rows of a suite: labelled texts in the files' own labels, and the cases of CheckList tests."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from .. import textfiles
from ..errors import DataError
from ..find import near
from ..tasks import _glue, _sources, _tables
from ..tasks._parts import Part
from . import suites
from .suites import Suite

TYPES = ("MFT", "INV", "DIR")
Text = str | tuple[str, str]


def labelled(suite: Suite) -> Part:
    """Every labelled row of a suite, at most `limit` of them; rows of labels in `drop` are left out.

    Raises DataError for what cannot be read and for a label that the suite does not map.
    """
    part = _read(suite).numbered()
    labels = [str(x) for x in part.labels or ()]
    keep = [i for i, label in enumerate(labels) if label not in suite.drop]
    mapped = set(suite.labels.values())
    for i in keep:
        if labels[i] not in mapped:
            where = f"{part.source}, {_tables.word(part.source)} {part.rows[i]}"
            named = ", ".join(dict.fromkeys(suite.labels.values()))
            hint = near(labels[i], mapped) or "; map it in labels, or name it in drop"
            raise DataError(f"suite {suite.name}: {where}: label '{labels[i]}' is not among those it maps to ({named}){hint}")
    if not keep:
        raise DataError(f"suite {suite.name}: {part.source} has no row with a label that it maps to")
    part = dataclasses.replace(part.take(keep), labels=[labels[i] for i in keep])
    return part.first(suite.limit) if suite.limit and suite.limit < len(part) else part


def _read(suite: Suite) -> Part:
    if suite.format == "movies":
        return _sources.movies(suite.path or "").parts["train"]()
    if suite.format == "glue":
        return _glue.source(suite.path or "", None).parts[suite.part or "test"]()
    path = suites.place(suite)
    if suite.format == "table":
        return _sources.read_part(path, _sources.Columns(suite.text, suite.pair, suite.label, "classes", "|", ()))
    if suite.format == "lines":
        return _lines(suite, path)
    wanted = [x for x in (suite.text, suite.pair, suite.label) if x]
    if suite.format == "plain":
        table = _tables.read_plain(path, wanted)
        return _part(suite, table)
    tree = textfiles.whole_value(path)
    if not isinstance(tree, dict) or not isinstance(tree.get(suite.part), list):
        named = ", ".join(tree) if isinstance(tree, dict) else "none"
        raise DataError(f"suite {suite.name}: {path} has no part '{suite.part}' (parts: {named})")
    return _part(suite, _tables.of_objects(path, {x: x for x in wanted}, enumerate(tree[suite.part], 1)))


def _part(suite: Suite, table: _tables.Table) -> Part:
    pairs = _tables.texts(table, suite.pair) if suite.pair else None
    labels = [str(x).strip() for x in table.columns[suite.label]]
    return Part(_tables.texts(table, suite.text), pairs, labels, table.rows, table.path)


def _lines(suite: Suite, folder: Path) -> Part:
    """Parallel files, a text or a label a line; blank lines are texts that are missing."""
    columns = {}
    for name in (x for x in (suite.text, suite.pair, suite.label) if x):
        columns[name] = [line.strip() for _, line in textfiles.lines(folder / name)]
    sizes = {name: len(column) for name, column in columns.items()}
    if len(set(sizes.values())) != 1:
        told = ", ".join(f"{name} {n:,}" for name, n in sizes.items())
        raise DataError(f"suite {suite.name}: the files of {folder} have different numbers of lines ({told})")
    return _part(suite, _tables.Table(str(folder), columns, list(range(1, sizes[suite.text] + 1))))


@dataclasses.dataclass(frozen=True)
class Case:
    """Texts that are looked at together, the original first, and the label in the files of each; None where it has none."""

    texts: list[Text]
    labels: list[str | None]


@dataclasses.dataclass(frozen=True)
class Behaviour:
    """A CheckList test."""

    name: str
    type: str
    capability: str
    cases: list[Case]


def tests(suite: Suite) -> list[Behaviour]:
    """The tests of a CheckList suite in JSON lines, plain or compressed by gzip: name, type, capability, labels, data.

    A case is a text (a pair of texts where the suite names `pair`) or a list of these; labels are one for all cases, one a
    case, or one a text. Raises DataError with the line for what is not so.
    """
    path = suites.place(suite)
    out = []
    for number, row in textfiles.objects(path):
        try:
            out.append(_test(suite, row))
        except (ValueError, LookupError, TypeError) as fault:
            raise DataError(f"suite {suite.name}: {path}, line {number}: is no CheckList test: {fault!r}") from None
    if not out:
        raise DataError(f"suite {suite.name}: {path} has no tests")
    return out


def _test(suite: Suite, row: dict[str, Any]) -> Behaviour:
    if row["type"] not in TYPES:
        raise ValueError(f"type '{row['type']}' is none of {', '.join(TYPES)}")
    given, cases = row.get("labels"), []
    for i, item in enumerate(row["data"][: suite.limit]):
        one = isinstance(item if not suite.pair else item[0], str)
        texts = [_text(x, bool(suite.pair)) for x in ([item] if one else item)]
        labels = given[i] if isinstance(given, list) else given
        each = labels if isinstance(labels, list) else [labels] * len(texts)
        if len(each) != len(texts):
            each = [None] * len(texts)
        cases.append(Case(texts, [None if x is None else str(x) for x in each]))
    return Behaviour(row["name"], row["type"], row["capability"], cases)


def _text(item: Any, pair: bool) -> Text:
    if not pair:
        if not isinstance(item, str):
            raise ValueError(f"{item!r} where a text is expected")
        return item
    first, second = item
    return str(first), str(second)
