"""Arrays out of .npz files and pickles, without running what a pickle may ask for.

A pickle can run code when it is read. These are read by an unpickler that makes arrays and plain values and refuses all else.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any

import numpy as np

from .. import textfiles
from ..errors import DataError


def from_npy(path: Path) -> np.ndarray:
    """The array of an .npy file. Raises DataError for what is none; no pickle is read."""
    if not os.path.isfile(path):
        raise DataError(f"{path}: no such file")
    try:
        found = np.load(path, allow_pickle=False)
    except Exception as fault:
        raise DataError(f"{path}: cannot be read as an array ({_first(fault)}); fetch it again") from None
    if not isinstance(found, np.ndarray):
        raise DataError(f"{path}: holds arrays by name (.npz); one array is needed, numpy.save makes it")
    return found


def from_npz(path: Path, wanted: Iterable[str]) -> tuple[dict[str, np.ndarray], list[str]]:
    """Those of the wanted arrays that a file has, and the names of all. Raises DataError for what is no such file or is damaged."""
    if not os.path.isfile(path):
        raise DataError(f"{path}: no such file")
    try:
        found = np.load(path, allow_pickle=False)
        if not isinstance(found, np.lib.npyio.NpzFile):
            raise DataError(f"{path}: is one array (.npy); images and labels stand in one file by name, numpy.savez makes it")
        with found as file:
            size = sum(member.file_size for member in file.zip.infolist())  # type: ignore[union-attr,misc]
            if size > max(4 * textfiles.UNPACKED[0], textfiles.UNPACKED[1] * path.stat().st_size):
                raise DataError(f"{path}: unpacks to {size >> 20:,} MiB, more than {textfiles.UNPACKED[1]} times its size")
            return {name: _member(file, name) for name in wanted if name in file.files}, list(file.files)
    except DataError:
        raise
    except Exception as fault:
        raise DataError(f"{path}: is cut short or damaged ({_first(fault)}); fetch it again") from None


def _member(file: Any, name: str) -> np.ndarray:
    with file.zip.open(f"{name}.npy") as member:
        version = np.lib.format.read_magic(member)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(member)
        if not dtype.hasobject:
            return file[name]
        made = unpickled(file.zip.filename, member)
    if not isinstance(made, np.ndarray) or made.shape != shape:
        raise ValueError(f"array '{name}' is none")
    return made


def texts(array: np.ndarray) -> tuple[str, ...]:
    """The texts of an array (texts,): of numpy's text type, of bytes in UTF-8, or of objects that are such; none for another."""
    if array.ndim != 1:
        return ()
    found = [one.decode(errors="replace") if isinstance(one, bytes) else one for one in array.tolist()]
    return tuple(found) if all(isinstance(one, str) for one in found) else ()


def _latin1(text: str, encoding: str = "latin1") -> bytes:
    """What `_codecs.encode` does where Python 2's byte strings are written for Python 3, and nothing else of it."""
    return text.encode("latin1")


def _allowed() -> dict[tuple[str, str], Any]:
    from numpy._core import multiarray, numeric

    made: dict[tuple[str, str], Any] = {("_codecs", "encode"): _latin1, ("numpy", "ndarray"): np.ndarray, ("numpy", "dtype"): np.dtype}
    for core in ("numpy.core", "numpy._core"):
        made[f"{core}.multiarray", "_reconstruct"] = multiarray._reconstruct  # type: ignore[attr-defined]
        made[f"{core}.multiarray", "scalar"] = multiarray.scalar  # type: ignore[attr-defined]
        made[f"{core}.numeric", "_frombuffer"] = numeric._frombuffer  # type: ignore[attr-defined]
    return made


class _Arrays(pickle.Unpickler):
    """Makes arrays, numbers, texts, lists and mappings; a pickle that names anything else is refused before it is called."""

    def find_class(self, module: str, name: str) -> Any:
        if (found := _allowed().get((module, name))) is None:
            raise _Forbidden(f"{module}.{name}")
        return found


class _Forbidden(Exception):
    """A pickle names what is neither an array nor a plain value."""


def unpickled(path: Path | str, file: IO[bytes] | None = None) -> Any:
    """What a pickle holds, or the one that an open file goes on with. Raises DataError for what is none, or asks for more than arrays."""
    try:
        if file is not None:
            return _Arrays(file, encoding="bytes").load()
        with open(path, "rb") as handle:
            return _Arrays(handle, encoding="bytes").load()
    except _Forbidden as fault:
        raise DataError(f"{path}: asks for {fault}, which arrays and plain values do not need; not read, as it could run code") from None
    except Exception as fault:
        raise DataError(f"{path}: is cut short or no pickle ({_first(fault)}); fetch it again") from None


def _first(fault: Exception) -> str:
    return str(fault).split("\n")[0][:100] or type(fault).__name__
