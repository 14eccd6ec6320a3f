"""Passages to answer from: a docid, a title and a text each, streamed from JSON lines, Parquet or a folder of text files.

JSON lines are MIRACL's form: {"docid": "12#0", "title": "River", "text": "It flows."}.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from .. import textfiles
from ..errors import DataError
from ..tasks._tables import parquet_batches

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
        if os.path.isdir(self.path):
            rows = _files(self.path)
        elif (ending := textfiles.ending(self.path)) in FORMATS:
            rows = {".jsonl": _jsonl, ".parquet": _parquet}[ending](self.path)
        elif os.path.exists(self.path):
            raise DataError(f"{self.path}: no format known for '{self.path.suffix}' files; give {', '.join(FORMATS)} or a folder of texts")
        else:
            raise DataError(f"{self.path}: no such file or folder of passages")
        seen: set[str] = set()
        for where, row in rows:
            if isinstance(row, DataError):
                yield where, str(row)
                continue
            one = _passage(row)
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
        if fault := textfiles.no_text(value):
            return f"its {name}: {fault}"
    return Passage(docid, title, text)  # type: ignore[arg-type]


def _jsonl(path: Path) -> Iterator[tuple[str, Mapping[str, Any] | DataError]]:
    for number, line in textfiles.raw_lines(path):
        if line.strip():
            yield f"{path}, line {number}", _or_fault(textfiles.object_of, line, path, number)


def _or_fault(read: Callable[..., Any], *given: Any) -> Any:
    """What a reader gives, or the fault that it raises."""
    try:
        return read(*given)
    except DataError as fault:
        return fault


def _parquet(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    number = 0
    for batch in parquet_batches(path, {name: name for name in ("docid", "title", "text")}, optional=("title",), size=1024):
        for row in zip(*batch.values(), strict=True):
            number += 1
            yield f"{path}, row {number}", dict(zip(batch, row, strict=True))


def _files(folder: Path) -> Iterator[tuple[str, Mapping[str, Any] | DataError]]:
    for here, inner, names in os.walk(folder):
        inner[:] = sorted(name for name in inner if not name.startswith("."))
        for name in sorted(names):
            if name.startswith("."):
                continue
            path = Path(here) / name
            text = _or_fault(textfiles.content, path)
            yield str(path), text if isinstance(text, DataError) else {"docid": path.relative_to(folder).as_posix(), "text": text}
