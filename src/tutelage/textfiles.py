"""Text files as every reader of data sees them, whatever their format: lines, values of JSON, and what is no text.

Files are UTF-8, a byte-order mark at their start is left off, and a name that ends in `.gz` is unpacked. A line ends at `\\n` or
`\\r\\n` and nowhere else. What cannot be read is a DataError: the file, the line, what is wrong, what to do.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import os
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from .errors import DataError
from .find import near

DEPTH = 100
"""Brackets within brackets that a value of JSON may have."""
UNPACKED = (1 << 28, 200)
"""A gzip file may unpack to so many bytes, or to so many times its size, whichever is more."""
_NO_TEXT = re.compile("[\x00\ud800-\udfff]")
_ESCAPED = re.compile(r"\\u(?:0000|[dD][89a-fA-F])")


def ending(path: Path | str) -> str:
    """The ending that says a file's format, in small letters: `.csv` of `A.CSV` and of `a.csv.gz`."""
    return Path(_unzipped(path)).suffix.lower()


def stem(path: Path | str) -> str:
    """The name of a file without its folder and endings: `train` of `data/train.csv.gz`."""
    return Path(_unzipped(path)).stem


def _unzipped(path: Path | str) -> str:
    name = Path(path).name
    return name[:-3] if name.lower().endswith(".gz") else name


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn what the system says of a file into one sentence."""
    try:
        yield
    except FileNotFoundError:
        folder = path.parent
        there = [p.name for p in folder.iterdir()] if folder.is_dir() else []
        where = near(path.name, there) if folder.is_dir() else f"; there is no folder {folder} either"
        raise DataError(f"{path}: no such file{where}") from None
    except (EOFError, zlib.error, gzip.BadGzipFile):
        raise DataError(f"{path}: is cut short or not gzip; fetch it again") from None
    except ValueError as fault:
        if "null byte" not in str(fault):
            raise
        raise DataError(f"{str(path)!r}: no name of a file holds a NUL") from None
    except OSError as fault:
        why = os.strerror(fault.errno).lower() if fault.errno else str(fault).split("\n")[0]
        raise DataError(f"{path}: cannot be read: {why}") from None


@contextlib.contextmanager
def opened(path: Path) -> Iterator[IO[bytes]]:
    """The bytes of a file, unpacked."""
    with reading(path), contextlib.ExitStack() as stack:
        if path.is_dir():
            raise DataError(f"{path}: a folder where a file is needed")
        plain: IO[bytes] = stack.enter_context(open(path, "rb"))
        if path.suffix.lower() == ".gz":
            plain = io.BufferedReader(_Unpacked(plain, path))
        yield plain


class _Unpacked(io.RawIOBase):
    """The bytes of a gzip file, up to `UNPACKED`."""

    def __init__(self, packed: IO[bytes], path: Path):
        self.inner, self.path, self.count = gzip.GzipFile(fileobj=packed), path, 0
        self.most = max(UNPACKED[0], UNPACKED[1] * path.stat().st_size)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        block = self.inner.read(len(buffer))
        self.count += len(block)
        if self.count > self.most:
            raise DataError(f"{self.path}: unpacks to more than {self.most >> 20:,} MiB; unpack it yourself if it is data")
        buffer[: len(block)] = block
        return len(block)


def raw_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Each line with its number from 1, undecoded, without its end."""
    with opened(path) as file:
        for number, line in enumerate(file, 1):
            yield number, line.removesuffix(b"\n").removesuffix(b"\r")


def lines(path: Path) -> Iterator[tuple[int, str]]:
    """Each line with its number from 1, without its end."""
    for number, line in raw_lines(path):
        yield number, decoded(line, path, number)


def content(path: Path) -> str:
    """The whole text of a file."""
    with opened(path) as file:
        whole = file.read()
    return decoded(whole, path)


def decoded(whole: bytes, where: Path | str, line: int = 1) -> str:
    """Bytes that begin on a line of a file as text; a byte-order mark on its first is left off."""
    try:
        text = whole.decode("utf-8-sig" if line == 1 else "utf-8")
    except UnicodeDecodeError as fault:
        at = line + whole.count(b"\n", 0, fault.start)
        raise DataError(f"{where}, line {at}: is not UTF-8 (byte {whole[fault.start]:#04x}); save the text as UTF-8") from None
    if (nul := whole.find(b"\0")) >= 0:
        at = line + whole.count(b"\n", 0, nul)
        raise DataError(f"{where}, line {at}: {no_text(text)}")
    return text


def no_text(text: str) -> str:
    """What of a string is no text, as a clause; nothing where all is."""
    found = _NO_TEXT.search(text)
    if not found:
        return ""
    if found[0] == "\0":
        return "holds a NUL (U+0000), which is no text; take it out, or save the file as UTF-8"
    half = ascii(found[0]).strip("'")
    return f"{half} is half a character; write the other half behind it, or leave it out"


def objects(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects of a file of JSON lines, each with its line; blank lines are passed over."""
    for number, line in raw_lines(path):
        if line.strip():
            yield number, object_of(line, path, number)


def object_of(line: bytes | str, path: Path | str, number: int) -> dict[str, Any]:
    """The object on a line of JSON lines."""
    row = value(line if isinstance(line, str) else decoded(line, path, number), path, number)
    if not isinstance(row, dict):
        raise DataError(f"{path}, line {number}: holds {kind(row)}; each line is one object {{...}}")
    return row


def kind(one: Any) -> str:
    """What a value is called in a sentence."""
    names = {list: "a list", dict: "an object", str: "a text", bool: f"{one}".lower(), int: "a number", float: "a number"}
    return "null" if one is None else names.get(type(one), f"a {type(one).__name__}")


def whole_value(path: Path) -> Any:
    """The value of a JSON file."""
    text = content(path)
    if not text.strip():
        raise DataError(f"{path}: the file is empty")
    return value(text, path)


def value(text: str, path: Path | str, line: int | None = None) -> Any:
    """The value that a text says in JSON: that of a line of a file, or else of the whole.

    Whole numbers are of 64 bits, texts hold neither NUL nor half a character, and brackets are at most `DEPTH` deep.
    """
    where = str(path) if line is None else f"{path}, line {line}"
    try:
        tree = _DECODER.decode(text)
    except json.JSONDecodeError as fault:
        if line is not None:
            raise DataError(f"{where}: not JSON: {fault.msg} at column {fault.colno}") from None
        at = f"line {fault.lineno}, column {fault.colno}"
        if fault.msg.startswith("Unterminated") or len(text[fault.pos :].strip()) < 8:
            raise DataError(f"{where}: the JSON stops in the middle ({at}); the file is cut short, fetch it again") from None
        raise DataError(f"{where}: not JSON: {fault.msg} at {at}") from None
    except RecursionError:
        raise DataError(f"{where}: {_DEEP}") from None
    except _TooLong as fault:
        raise DataError(f"{where}: holds a whole number of {fault} digits; write it as text") from None
    if text.count("[") + text.count("{") > DEPTH or _ESCAPED.search(text):
        _look(tree, where)
    return tree


_DEEP = f"brackets stand more than {DEPTH} deep within each other, which is no data; write the values flat"


class _TooLong(Exception):
    """A whole number beyond 64 bits."""


def _whole(digits: str) -> int:
    if len(digits) < 19 or (len(digits) < 21 and -(1 << 63) <= int(digits) < 1 << 63):
        return int(digits)
    raise _TooLong(f"{len(digits.lstrip('-')):,}")


_DECODER = json.JSONDecoder(parse_int=_whole)


def _look(tree: Any, where: str) -> None:
    """Raise DataError for what is too deep or no text."""
    ahead = [(tree, 1)]
    while ahead:
        one, depth = ahead.pop()
        if isinstance(one, str):
            if fault := no_text(one):
                raise DataError(f"{where}: {fault}")
        elif isinstance(one, list | dict):
            if depth > DEPTH:
                raise DataError(f"{where}: {_DEEP}")
            ahead += ((inner, depth + 1) for inner in one)
            if isinstance(one, dict):
                ahead += ((inner, depth + 1) for inner in one.values())
