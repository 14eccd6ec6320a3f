"""Reading CSV, TSV, JSONL and Parquet files into columns, and the sentences for what is wrong with them."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import DataError
from ..find import near

FORMATS = (".csv", ".tsv", ".jsonl", ".parquet")


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

    def fault(self, column: str, what: str, at: Sequence[int]) -> DataError:
        """A sentence about the rows numbered `at` (from 0) of a column."""
        where = f"{self.path}, {word(self.path)} {self.rows[at[0]]}" if len(at) == 1 else self.path
        many = f" in {len(at)} of {len(self.rows)} {word(self.path)}s, first in {word(self.path)} {self.rows[at[0]]}" if len(at) > 1 else ""
        return DataError(f"{where}: column '{column}' {what}{many}")


def word(path: str) -> str:
    """What one row of the file is called in messages, as `Table.rows` counts it."""
    return "line" if path.endswith(".jsonl") else "row"


def read(path: Path | str) -> dict[str, list[Any]]:
    """Every column of a table, by name; raises DataError as `read_table` does."""
    return read_table(Path(path), None).columns


def read_table(path: Path, wanted: Mapping[str, str] | None) -> Table:
    """Read the columns named in `wanted` (setting -> column; None for all) from a file whose ending says its format.

    TSV is read as the format is defined: only tabs and line ends separate, quotes are plain text. Raises DataError for
    a file that is missing, empty, not readable or not of its format, for a missing column, and for a file without rows.
    """
    readers = {".csv": _csv, ".tsv": _tsv, ".jsonl": _jsonl, ".parquet": _parquet}
    if path.suffix.lower() not in readers:
        raise DataError(f"{path}: no format known for '{path.suffix}' files; give one of {', '.join(FORMATS)}")
    with sentences(path):
        if path.is_dir():
            raise DataError(f"{path}: a folder where a file is needed")
        if path.stat().st_size == 0:
            raise DataError(f"{path}: the file is empty")
        table = readers[path.suffix.lower()](path, wanted)
    if not table.rows:
        raise DataError(f"{path}: the file has no rows")
    return table


def read_plain(path: Path, wanted: Sequence[str], header: Sequence[str] | None = None) -> Table:
    """Read a benchmark's tab-separated file: no quoting, rows with a wrong number of columns left out and counted.

    `header` names the columns of a file without a header. Raises DataError as `read` does.
    """
    with sentences(path):
        return _delimited(path, {name: name for name in wanted}, "\t", header, strict=False)


def texts(table: Table, column: str) -> list[str]:
    """The column as text; raises DataError for rows without text or with something else."""
    values = table.columns[column]
    _refuse(table, column, [is_missing(v) for v in values], "has no text")
    _refuse(table, column, [not isinstance(v, str) for v in values], "holds something that is not text")
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


@contextlib.contextmanager
def sentences(path: Path) -> Iterator[None]:
    """Turn what a reader raises into one sentence."""
    try:
        yield
    except FileNotFoundError:
        folder = path.parent
        there = [p.name for p in folder.iterdir()] if folder.is_dir() else []
        where = near(path.name, there) if folder.is_dir() else f"; there is no folder {folder} either"
        raise DataError(f"{path}: no such file{where}") from None
    except OSError as fault:
        why = os.strerror(fault.errno).lower() if fault.errno else str(fault).split("\n")[0]
        raise DataError(f"{path}: cannot be read: {why}") from None
    except (ValueError, NotImplementedError) as fault:
        kind = {".parquet": "Parquet"}.get(path.suffix.lower(), f"{path.suffix[1:].upper()} in UTF-8")
        raise DataError(f"{path}: cannot be read as {kind}: {str(fault).splitlines()[0]}") from None


def _csv(path: Path, wanted: Mapping[str, str] | None) -> Table:
    return _delimited(path, wanted, ",")


def _tsv(path: Path, wanted: Mapping[str, str] | None) -> Table:
    return _delimited(path, wanted, "\t")


def _delimited(
    path: Path,
    wanted: Mapping[str, str] | None,
    delimiter: str,
    header: Sequence[str] | None = None,
    strict: bool = True,
) -> Table:
    import pyarrow
    from pyarrow import csv as reader

    quoted = delimiter == ","
    names = list(header) if header else _header(path, delimiter)
    columns = check(path, wanted, names)
    bad: list[Any] = []

    def leave_out(row: Any) -> str:
        bad.append(row)
        return "skip"

    # Rows are read under numbers for names, so that the header is row 0 and two columns may share a name.
    keys = [str(i) for i in range(len(names))]
    keep = {name: keys[names.index(name)] for name in columns}
    made = reader.read_csv(
        path,
        reader.ReadOptions(use_threads=False, column_names=keys, block_size=1 << 24),
        reader.ParseOptions(
            delimiter=delimiter,
            quote_char='"' if quoted else False,
            newlines_in_values=quoted,
            invalid_row_handler=leave_out,
        ),
        reader.ConvertOptions(column_types=dict.fromkeys(keys, pyarrow.string()), include_columns=list(keep.values())),
    )
    if bad and strict:
        row, hint = bad[0], "put quotes around text that holds commas" if quoted else "take tabs out of the text"
        number = f", row {row.number - 1}" if row.number else ""
        raise DataError(f"{path}{number}: {row.actual_columns} columns where the header has {row.expected_columns}; {hint}")
    made = made if header else made.slice(1)
    values = {name: made.column(key).to_pylist() for name, key in keep.items()}
    return Table(str(path), values, list(range(1, made.num_rows + 1)), len(bad))


def _header(path: Path, delimiter: str) -> list[str]:
    with open(path, encoding="utf-8-sig", newline="") as handle:
        if delimiter == ",":
            cells = next((row for row in csv.reader(handle) if row), [])
        else:
            cells = next((line.rstrip("\r\n") for line in handle if line.strip()), "").split(delimiter)
    return [cell.strip() for cell in cells]


def _jsonl(path: Path, wanted: Mapping[str, str] | None) -> Table:
    rows: list[dict[str, Any]] = []
    numbers: list[int] = []
    with open(path, encoding="utf-8-sig") as handle:
        for number, line in enumerate(handle, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line.rstrip())
            except json.JSONDecodeError as fault:
                raise DataError(f"{path}, line {number}: not JSON: {fault.msg} at column {fault.colno}") from None
            if not isinstance(row, dict):
                raise DataError(f"{path}, line {number}: holds a {type(row).__name__}; each line is one object {{...}}")
            rows.append(row)
            numbers.append(number)
    names = list(dict.fromkeys(name for row in rows for name in row))
    columns = {name: [row.get(name) for row in rows] for name in check(path, wanted, names)} if rows else {}
    return Table(str(path), columns, numbers)


def _parquet(path: Path, wanted: Mapping[str, str] | None) -> Table:
    from pyarrow import parquet

    with open(path, "rb") as handle, parquet.ParquetFile(handle) as file:
        names = check(path, wanted, file.schema_arrow.names)
        made = file.read(columns=names)
    return Table(str(path), {name: made.column(name).to_pylist() for name in names}, list(range(1, made.num_rows + 1)))
