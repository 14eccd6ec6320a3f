"""Running text as documents: plain files, folders of them, tables with a text column, and the packaged reviews."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

from .. import textfiles
from ..errors import DataError
from . import _sources, _tables
from ._parts import Part

PLAIN = (".txt", ".text", ".md", ".raw", ".tokens")


def documents(data: str, column: str = "text") -> Part:
    """The texts that `data` names, none empty: a plain file is one document, a table has one a row, a folder one a file.

    Plain files may be gzipped. Rows of a table without text are left out and noted. Raises DataError for what is missing, unreadable,
    without text, or holds something else than text.
    """
    path = Path(data).expanduser()
    if comes_along(data):
        return dataclasses.replace(_sources.movies(data).parts["train"](), labels=None)
    if os.path.isdir(path):
        files = sorted(f for f in path.rglob("*") if f.is_file() and is_plain(f))
        found = Part([textfiles.content(f) for f in files], None, None, list(range(1, len(files) + 1)), data)
        if not files:
            raise DataError(f"{path}: holds no text files ({', '.join(PLAIN)})")
    elif is_plain(path):
        found = Part([textfiles.content(path)], None, None, [1], data)
    else:
        if not os.path.exists(path) and not _tables.is_table(path):
            known = ", ".join((*_sources.MOVIES, "a text file", "a table", "a folder of text files"))
            raise DataError(f"no text '{data}'{_sources.near(data, _sources.MOVIES)} ({known})")
        found = _rows(_tables.read_table(path, {"column": column}), column)
    if not any(text.strip() for text in found.texts):
        raise DataError(f"{data}: holds no text")
    return found.take([i for i, text in enumerate(found.texts) if text.strip()])


def _rows(table: _tables.Table, column: str) -> Part:
    """A document a row that has text; the note tells how many have none."""
    values, what = table.columns[column], _tables.word(table.path)
    full = [i for i, one in enumerate(values) if not _tables.is_missing(one)]
    first = next((row for row, one in zip(table.rows, values, strict=True) if _tables.is_missing(one)), None)
    lost = f"{Path(table.path).name}: {len(values) - len(full)} of {len(values)} {what}s have no text in column '{column}' and are left out"
    notes = [table.note, f"{lost}, first {what} {first}" if first else ""]
    kept = dataclasses.replace(table, columns={column: [values[i] for i in full]}, rows=[table.rows[i] for i in full])
    return Part(_tables.texts(kept, column), None, None, kept.rows, table.path, "; ".join(filter(None, notes)))


def comes_along(data: str) -> bool:
    """Whether a name is that of a packaged text."""
    return data in _sources.MOVIES


def is_plain(path: Path) -> bool:
    """Whether a file's name says that it is running text."""
    return textfiles.ending(path) in PLAIN


def chats(data: str, column: str) -> list[str]:
    """The chats of a JSON-lines or Parquet table as JSON text, each a list of {role, content} with an assistant's turn.

    Raises DataError for a row that is no chat.
    """
    table = _tables.read_table(Path(data).expanduser(), {"task.chat": column})
    out = []
    for number, turns in zip(table.rows, table.columns[column], strict=True):
        good = isinstance(turns, list) and all(isinstance(t, dict) and isinstance(t.get("content"), str) and t.get("role") for t in turns)
        if not good or not any(t["role"] == "assistant" for t in turns):
            what = "is no chat, a list of {role, content} with a turn of the assistant"
            raise DataError(f"{data}, {_tables.word(data)} {number}: column '{column}' {what}")
        out.append(json.dumps([{"role": t["role"], "content": t["content"]} for t in turns]))
    return out
