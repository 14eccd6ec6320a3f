"""Reading CSV, TSV, JSON, JSON lines and Parquet files into columns, and the sentences for what is wrong with them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from .. import textfiles
from ..errors import DataError
from ..find import near
from . import _delimited

FORMATS = (".csv", ".tsv", ".jsonl", ".json", ".parquet")
"""Endings of tables; those of text may be followed by .gz."""


@dataclasses.dataclass(frozen=True)
class Table:
    """Some columns of one file."""

    path: str
    columns: dict[str, list[Any]]
    """Values by column name; text of CSV and TSV stays text, labels too."""
    rows: list[int]
    """Row numbers as a user counts them: from 1, the header left out; line numbers in JSONL."""
    broken: int = 0
    """Rows left out for a wrong number of columns; only `read_plain` leaves any out."""
    note: str = ""
    """What a user should hear of how the file was read."""

    def fault(self, column: str, what: str, at: Sequence[int], mend: str = "") -> DataError:
        """A sentence about the rows numbered `at` (from 0) of a column, and what to do."""
        where = f"{self.path}, {word(self.path)} {self.rows[at[0]]}" if len(at) == 1 else self.path
        many = f" in {len(at)} of {len(self.rows)} {word(self.path)}s, first in {word(self.path)} {self.rows[at[0]]}" if len(at) > 1 else ""
        return DataError(f"{where}: column '{column}' {what}{many}{mend and f'; {mend}'}")


def word(path: str) -> str:
    """What one row of the file is called in messages, as `Table.rows` counts it."""
    return "line" if textfiles.ending(path) == ".jsonl" else "row"


def is_table(path: Path) -> bool:
    """Whether a file's name says that it is a table; Parquet is packed by itself."""
    ending = textfiles.ending(path)
    return ending in FORMATS and (ending != ".parquet" or path.suffix.lower() == ending)


def read(path: Path | str) -> dict[str, list[Any]]:
    """Every column of a table, by name; raises DataError as `read_table` does."""
    return read_table(Path(path), None).columns


def read_table(path: Path, wanted: Mapping[str, str] | None) -> Table:
    """Read the columns named in `wanted` (setting -> column; None for all) from a file whose ending says its format.

    CSV and TSV are read as `_delimited` says. A JSON file is a list of objects, or one object a line. Raises DataError for a file that
    is missing, empty, not readable or not of its format, for a missing column, and for a file without rows.
    """
    if not is_table(path):
        raise DataError(f"{path}: no format known for '{path.suffix}' files; give one of {', '.join(FORMATS)}")
    with textfiles.reading(path):
        if path.is_dir():
            raise DataError(f"{path}: a folder where a file is needed")
        if path.stat().st_size == 0:
            raise DataError(f"{path}: the file is empty")
    ending = textfiles.ending(path)
    if ending == ".parquet":
        table = _parquet(path, wanted)
    elif ending in (".csv", ".tsv"):
        table = _text(path, wanted, *(_delimited.csv if ending == ".csv" else _delimited.tsv)(path))
    else:
        table = of_objects(path, wanted, textfiles.objects(path) if ending == ".jsonl" else _json(path))
    if not table.rows:
        raise DataError(f"{path}: the file has no rows")
    return table


def read_plain(path: Path, wanted: Sequence[str], header: Sequence[str] | None = None) -> Table:
    """Read a benchmark's tab-separated file: no quoting, rows with a wrong number of columns left out and counted.

    `header` names the columns of a file without a header. Raises DataError as `read` does.
    """
    return _text(path, {name: name for name in wanted}, _delimited.plain(path), header=header, strict=False)


def texts(table: Table, column: str) -> list[str]:
    """The column as text; raises DataError for rows without text or with something else."""
    values = table.columns[column]
    _refuse(table, column, [is_missing(v) for v in values], "has no text")
    other = next((v for v in values if not isinstance(v, str)), None)
    _refuse(table, column, [not isinstance(v, str) for v in values], f"holds {textfiles.kind(other)}, which is not text")
    return values


def is_missing(value: Any) -> bool:
    """Whether a cell holds nothing: null, NaN (also spelled out), or blanks."""
    if isinstance(value, str):
        return not value.strip() or value.strip().lower() == "nan"
    return value is None or (isinstance(value, float) and value != value)


def _refuse(table: Table, column: str, bad: Sequence[bool], what: str) -> None:
    at = [i for i, one in enumerate(bad) if one]
    if at:
        raise table.fault(column, f"{what}; fill in or remove", at)


def check(path: Path | str, wanted: Mapping[str, str] | None, found: Sequence[str]) -> list[str]:
    """The wanted columns; raises DataError unless each (setting -> column) is found exactly once."""
    wanted = {name: name for name in found} if wanted is None else wanted
    for setting, name in wanted.items():
        if name not in found:
            ask = "" if setting == name else f"; name the right one with {setting}="
            raise DataError(f"{path}: no column '{name}'{near(name, found)} (columns: {', '.join(found)}){ask}")
        if list(found).count(name) > 1:
            raise DataError(f"{path}: {list(found).count(name)} columns are called '{name}'; rename all but one")
    return list(dict.fromkeys(wanted.values()))


def _text(
    path: Path,
    wanted: Mapping[str, str] | None,
    rows: Iterable[list[str]],
    note: str = "",
    header: Sequence[str] | None = None,
    strict: bool = True,
) -> Table:
    """The wanted columns of rows of text, the first of which is the header unless one is given."""
    ahead = iter(rows)
    names = [cell.strip() for cell in (header or next(ahead, []))]
    _delimited.hint(path, names, wanted)
    columns = {name: names.index(name) for name in check(path, wanted, names)}
    values: dict[str, list[Any]] = {name: [] for name in columns}
    number = broken = 0
    for row in ahead:
        if len(row) != len(names):
            broken += 1
            if strict:
                what = f"{len(row)} columns where the header has {len(names)}"
                raise DataError(f"{path}, row {number + 1}: {what}; {_delimited.MEND[textfiles.ending(path)]}")
            continue
        number += 1
        for name, i in columns.items():
            values[name].append(row[i])
    return Table(str(path), values, list(range(1, number + 1)), broken, note)


def _json(path: Path) -> Iterable[tuple[int, Any]]:
    """The rows of a JSON file: of a list of objects, or one a line."""
    text = textfiles.content(path)
    if text.lstrip().startswith("{"):
        return textfiles.objects(path)
    tree = textfiles.value(text, path)
    if not isinstance(tree, list):
        raise DataError(f"{path}: holds {textfiles.kind(tree)}; a table is a list of objects {{...}}, or one object a line")
    return enumerate(tree, 1)


def of_objects(path: Path, wanted: Mapping[str, str] | None, rows: Iterable[tuple[int, Any]]) -> Table:
    """The wanted columns of numbered objects; what an object lacks is None."""
    numbers, found = [], []
    for number, row in rows:
        if not isinstance(row, dict):
            raise DataError(f"{path}, {word(str(path))} {number}: holds {textfiles.kind(row)}; each row is an object {{...}}")
        numbers.append(number)
        found.append(row)
    names = list(dict.fromkeys(name for row in found for name in row))
    if not found:
        raise DataError(f"{path}: the file has no rows")
    columns = {name: [row.get(name) for row in found] for name in check(path, wanted, names)}
    return Table(str(path), columns, numbers)


def _parquet(path: Path, wanted: Mapping[str, str] | None) -> Table:
    values: dict[str, list[Any]] = {}
    for batch in parquet_batches(path, wanted):
        for name, column in batch.items():
            values.setdefault(name, []).extend(column)
    return Table(str(path), values, list(range(1, len(next(iter(values.values()), [])) + 1)))


def parquet_batches(path: Path, wanted: Mapping[str, str] | None, optional: Sequence[str] = (), size: int = 1 << 14) -> Iterator[dict]:
    """Some rows at a time, as columns by name, of the wanted columns (None for all); those in `optional` may be missing.

    Raises DataError for a file that is not Parquet, a missing column, and values that Python has no form for.
    """
    import pyarrow
    from pyarrow import parquet

    faults = (pyarrow.ArrowException, ValueError, NotImplementedError, OSError, OverflowError, LookupError)
    with textfiles.reading(path), open(path, "rb") as handle:
        try:
            file = parquet.ParquetFile(handle)
            found = file.schema_arrow.names
        except faults as fault:
            raise DataError(f"{path}: cannot be read as Parquet: {_first(fault)}") from None
        lacking = {name for name in optional if name not in found}
        names = check(path, None if wanted is None else {k: v for k, v in wanted.items() if v not in lacking}, found)
        name = ""
        try:
            for batch in file.iter_batches(batch_size=size, columns=names, use_threads=False):
                made = {}
                for name in names:
                    made[name] = batch.column(name).to_pylist()
                yield made
                name = ""
        except faults as fault:
            column = f"column '{name}' of type {file.schema_arrow.field(name).type} has values that are" if name else "has pages that are"
            raise DataError(f"{path}: {column} not to be read: {_first(fault)}") from None


def _first(fault: Exception) -> str:
    return str(fault).split("\n")[0][:200] or type(fault).__name__
