"""Passages to answer from: a docid, a title and a text each, streamed from JSON lines, Parquet or a folder of text files.

JSON lines are MIRACL's form: {"docid": "12#0", "title": "River", "text": "It flows."}.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..errors import DataError
from ..tasks._tables import check, sentences

FORMATS = (".jsonl", ".parquet")
SHOWN = 1000
"""Faults that are kept word for word; all are counted."""


@dataclasses.dataclass(frozen=True)
class Passage:
    """What an answer may cite. `docid` is not empty, nor is `text`; `title` may be."""

    docid: str
    title: str
    text: str


class Passages:
    """The passages of a file or a folder, read anew by each iteration, never held as a whole; `len` counts them.

    A `.jsonl` or `.parquet` file has docid and text, and may have title and anything else. Every file of a folder, but for hidden
    ones, is a passage without a title, its docid the path below the folder. Broken lines, docids that came before and passages
    without text are faults: `faults` holds the first SHOWN as sentences, `faulty` counts all.

    Raises DataError for a source that is missing or unreadable, or holds no passages; and for the first fault, before any passage
    is given out, unless `skip` leaves such lines out.
    """

    def __init__(self, path: str | Path, *, skip: bool = False):
        self.path, self.skip = Path(path), skip
        self.faults: list[str] = []
        self.faulty, self._count = 0, 0
        for _, one in self._checked():
            if isinstance(one, Passage):
                self._count += 1
            else:
                self.faulty += 1
                self.faults += [one][: SHOWN - len(self.faults)]
        if self.faulty and not skip:
            more = f" (the first of {self.faulty} faults)" if self.faulty > 1 else ""
            raise DataError(f"{self.faults[0]}{more}; nothing was read, mend it or leave such passages out with skip")
        if not self._count:
            raise DataError(f"{self.path}: holds no passages" + (f"; {self.faults[0]}" if self.faults else ""))

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Passage]:
        for where, one in self._checked():
            if isinstance(one, Passage):
                yield one
            elif not self.skip:
                raise DataError(f"{where}: the source changed while it was read; start again")

    def _checked(self) -> Iterator[tuple[str, Passage | str]]:
        """Each passage, or what is wrong with it; and where it stands."""
        if self.path.is_dir():
            rows = _files(self.path)
        elif self.path.suffix.lower() in FORMATS:
            rows = {".jsonl": _jsonl, ".parquet": _parquet}[self.path.suffix.lower()](self.path)
        elif self.path.exists():
            raise DataError(f"{self.path}: no format known for '{self.path.suffix}' files; give {', '.join(FORMATS)} or a folder of texts")
        else:
            raise DataError(f"{self.path}: no such file or folder of passages")
        seen: set[str] = set()
        for where, row in rows:
            one = row if isinstance(row, str) else _passage(row)
            if isinstance(one, Passage) and one.docid in seen:
                one = f"docid '{one.docid}' came before; give each passage its own"
            if isinstance(one, Passage):
                seen.add(one.docid)
            yield where, one if isinstance(one, Passage) else f"{where}: {one}"


def _passage(row: Mapping[str, Any]) -> Passage | str:
    """A row as a passage, or what is wrong with it."""
    docid, title, text = (row.get(name) for name in ("docid", "title", "text"))
    title = "" if title is None else title
    for name, value in (("docid", docid), ("text", text)):
        if value is None or (isinstance(value, str) and not value.strip()):
            return f"has no {name}"
    for name, value in (("docid", docid), ("title", title), ("text", text)):
        if not isinstance(value, str):
            return f"its {name} is a {type(value).__name__}; write it as text"
        if not _encodes(value):
            return f"its {name} holds half of a surrogate pair, which is no text"
    return Passage(docid, title, text)  # type: ignore[arg-type]


def _encodes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _jsonl(path: Path) -> Iterator[tuple[str, Mapping[str, Any] | str]]:
    with sentences(path), open(path, "rb") as handle:
        for number, line in enumerate(handle, 1):
            if line.strip():
                yield f"{path}, line {number}", _line(line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line)


def _line(line: bytes) -> Mapping[str, Any] | str:
    try:
        row = json.loads(line.decode())
    except UnicodeDecodeError as fault:
        return f"not UTF-8 at byte {fault.start + 1}"
    except json.JSONDecodeError as fault:
        return f"not JSON ({fault.msg}, column {fault.colno})"
    except (RecursionError, ValueError) as fault:
        return f"not JSON ({fault})"
    return row if isinstance(row, dict) else f"holds a {type(row).__name__}; each line is one object {{...}}"


def _parquet(path: Path) -> Iterator[tuple[str, Mapping[str, Any] | str]]:
    from pyarrow import parquet

    with sentences(path), parquet.ParquetFile(path) as file:
        found = file.schema_arrow.names
        names = check(path, {name: name for name in ("docid", "title", "text") if name != "title" or name in found}, found)
        number = 0
        for batch in file.iter_batches(batch_size=1024, columns=names, use_threads=False):
            for row in batch.to_pylist():
                number += 1
                yield f"{path}, row {number}", row


def _files(folder: Path) -> Iterator[tuple[str, Mapping[str, Any] | str]]:
    for here, inner, names in os.walk(folder):
        inner[:] = sorted(name for name in inner if not name.startswith("."))
        for name in sorted(names):
            if name.startswith("."):
                continue
            path = Path(here) / name
            try:
                row: Mapping[str, Any] | str = {"docid": path.relative_to(folder).as_posix(), "text": path.read_text(encoding="utf-8-sig")}
            except UnicodeDecodeError as fault:
                row = f"not UTF-8 at byte {fault.start + 1}"
            except OSError as fault:
                row = f"cannot be read: {os.strerror(fault.errno).lower() if fault.errno else fault}"
            yield str(path), row
