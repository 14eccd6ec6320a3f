"""Running text as documents: plain files, folders of them, tables with a text column, and the packaged reviews."""

from __future__ import annotations

import json
from pathlib import Path

from .. import textfiles
from ..errors import DataError
from . import _sources, _tables

PLAIN = (".txt", ".text", ".md", ".raw", ".tokens")


def documents(data: str, column: str = "text") -> list[str]:
    """The texts that `data` names, none empty: a plain file is one document, a table has one a row, a folder one a file.

    Plain files may be gzipped. Raises DataError for what is missing, unreadable, or without text.
    """
    path = Path(data).expanduser()
    if comes_along(data):
        return _sources.movies(data).parts["train"]().texts
    if path.is_dir():
        files = sorted(f for f in path.rglob("*") if f.is_file() and is_plain(f))
        out = [textfiles.content(f) for f in files]
        if not files:
            raise DataError(f"{path}: holds no text files ({', '.join(PLAIN)})")
    elif is_plain(path):
        out = [textfiles.content(path)]
    else:
        if not path.exists() and not _tables.is_table(path):
            known = ", ".join((*_sources.MOVIES, "a text file", "a table", "a folder of text files"))
            raise DataError(f"no text '{data}'{_sources.near(data, _sources.MOVIES)} ({known})")
        table = _tables.read_table(path, {"column": column})
        out = [t for t in table.columns[column] if isinstance(t, str)]
    out = [text for text in out if text.strip()]
    if not out:
        raise DataError(f"{data}: holds no text")
    return out


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
