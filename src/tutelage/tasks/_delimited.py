"""Rows of CSV and TSV files, each a list of cells of text, and the sentences for rows that are no such.

CSV: a cell may stand in quotes, and a quote inside them is written twice; lines and commas within quotes are text (RFC 4180). A quote
inside a cell that does not begin with one is text. TSV: tabs and line ends part cells and rows, and quotes are text, unless the file
as a whole is quoted as a spreadsheet writes it.
"""

from __future__ import annotations

import contextlib
import csv as parser
import io
import itertools
import re
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from .. import textfiles
from ..errors import DataError

Rows = Iterator[list[str]]
MEND = {".csv": "put quotes around text that holds commas", ".tsv": "take tabs out of the text"}
_CELL = re.compile(r'(?:"(?P<quoted>(?:[^"]++|"")*+)"|(?P<plain>[^"\t\n][^\t\n]*+|))(?P<end>\t|\r?\n|\Z)')
_SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "bars", ",": "commas"}
_LIMIT = threading.Lock()
_BLOCK = 4096
"""Rows that are parsed at a time."""


def hint(path: Path, header: Sequence[str], wanted: Mapping[str, str] | None) -> None:
    """Raise DataError for a header of one cell that holds the wanted columns, parted by something else."""
    own = "," if textfiles.ending(path) == ".csv" else "\t"
    for mark, name in _SEPARATORS.items():
        if len(header) == 1 and mark != own and (parts := header[0].split(mark))[1:]:
            named = set((wanted or {}).values())
            if header[0] not in named and (not named or named & {part.strip().strip('"') for part in parts}):
                what = f"its columns are parted by {name}; a {textfiles.ending(path)} file has {_SEPARATORS[own]}"
                other = ".tsv" if mark == "\t" else ".csv"
                raise DataError(f"{path}: {what}; save it with them" + (f", or as {other}" if other != textfiles.ending(path) else ""))


def csv(path: Path) -> tuple[Rows, str]:
    """The rows of a CSV file, blank lines left out, and no note."""
    return _csv(path, textfiles.content(path)), ""


def _csv(path: Path, text: str) -> Rows:
    reader = parser.reader(io.StringIO(text, newline="\n"), strict=True)
    count = line = 0
    more = True
    while more:
        block: list[list[str]] = []
        fault = None
        with _any_length():
            try:
                for row in itertools.islice(reader, _BLOCK):
                    block.append(row)
                    line = reader.line_num
            except parser.Error as found:
                fault = found
        more = len(block) == _BLOCK
        for row in filter(None, block):
            count += 1
            yield row
        if fault:
            where = f"{path}, row {count}" if count else f"{path}, header"
            raise DataError(f"{where} (line {line + 1}): {_why(str(fault), text, line)}")


def _why(said: str, text: str, line: int) -> str:
    if "new-line" in said:
        return "a carriage return stands outside of quotes; save the file with line feeds, or put quotes around the text"
    begun = text.split("\n", line + 1)[line] if text else ""
    guarded = ' (not as \\")' if '\\"' in begun else ""
    return (
        f"a quote begins a text that does not end as it should; behind its closing quote comes a comma or the line's end, and a quote "
        f'inside is written twice, ""{guarded}'
    )


@contextlib.contextmanager
def _any_length() -> Iterator[None]:
    """Cells of any length; the limit is the whole process's."""
    with _LIMIT:
        before = parser.field_size_limit(sys.maxsize)
        try:
            yield
        finally:
            parser.field_size_limit(before)


def plain(path: Path) -> Rows:
    """The rows of a TSV file whose quotes are text, blank lines left out."""
    for _, line in textfiles.lines(path):
        if line:
            yield line.split("\t")


def tsv(path: Path) -> tuple[Rows, str]:
    """The rows of a TSV file, its quotes taken off where the whole file is quoted, and a note of texts in quotes."""
    text = textfiles.content(path)
    cells = list(_cells(text)) if text.startswith('"') or '\t"' in text or '\n"' in text else []
    rows = plain(path)
    if _is_quoted(cells):
        return ([cell.replace('""', '"') for cell, _ in row] for row in cells), f"{path.name}: quotes around its cells are left off"
    many = sum(any(cell[:1] == cell[-1:] == '"' and cell.count('"') == 2 for cell in row) for row in plain(path)) if '"' in text else 0
    said = f"{path.name}: {many} rows have cells in quotes, which are read as part of the text; leave them off, or save the file as CSV"
    return rows, said if many else ""


def _cells(text: str) -> Iterator[list[tuple[str, bool]]]:
    """Each row's cells and whether they stand in quotes, as if the file were quoted; ends early where it is not."""
    place, row = 0, []
    for found in _CELL.finditer(text):
        if found.start() != place:
            yield [('"', False)]
            return
        place, quoted = found.end(), found["quoted"] is not None
        row.append((found["quoted"] if quoted else found["plain"].removesuffix("\r"), quoted))
        if found["end"] != "\t":
            if row != [("", False)]:
                yield row
            row = []


def _is_quoted(rows: Sequence[Sequence[tuple[str, bool]]]) -> bool:
    """Whether cells are quoted by a rule: those that hold quotes, tabs, line ends or commas, or whole columns. No other cell may hold
    a quote, so a file of texts with quotes of their own is none."""
    bare = [cell for row in rows for cell, quoted in row if not quoted]
    inside = [cell for row in rows for cell, quoted in row if quoted]
    if not inside or any('"' in cell for cell in bare):
        return False
    if any('""' in cell or "\t" in cell or "\n" in cell for cell in inside):
        return True
    columns = list(itertools.zip_longest(*rows[1:], fillvalue=("", False)))
    whole = [column for column in columns if any(quoted for _, quoted in column)]
    if all(all(quoted for _, quoted in column) for column in whole) and len(rows) > 2:
        return True
    return all("," in cell for cell in inside) and not any("," in cell for column in whole for cell, quoted in column if not quoted)
