"""CIFAR-10 and CIFAR-100 in the files that they are published in: flat binaries, or pickles of Python.

Pickles are read by an unpickler that makes arrays and plain values alone (`_arrays`).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from .. import textfiles
from ..errors import DataError
from ._arrays import unpickled
from ._images import Pictures, Read, Source, pictures

PIXELS = 3 * 32 * 32
INSIDE = ("cifar-10-batches-bin", "cifar-10-batches-py", "cifar-100-binary", "cifar-100-python")
"""Folders that the published archives hold."""
BINARY = {
    10: {"train": [f"data_batch_{i}.bin" for i in range(1, 6)], "test": ["test_batch.bin"]},
    100: {"train": ["train.bin"], "test": ["test.bin"]},
}
PICKLED = {
    10: {"train": [f"data_batch_{i}" for i in range(1, 6)], "test": ["test_batch"]},
    100: {"train": ["train"], "test": ["test"]},
}
NAMES = {10: ("batches.meta.txt", "batches.meta", b"label_names"), 100: ("fine_label_names.txt", "meta", b"fine_label_names")}
"""Files that name the labels, as text and as pickle, and the pickle's key."""


def find(folder: Path) -> Source | None:
    """CIFAR in a folder or in the folder that its archive holds; None where there is none."""
    for place in (folder, *(folder / name for name in INSIDE)):
        for layouts, reader in ((BINARY, _binary), (PICKLED, _pickled)):
            for classes, parts in layouts.items():
                if all((place / name).is_file() for name in parts["train"]):
                    return _source(place, classes, parts, reader)
    return None


def _source(folder: Path, classes: int, parts: dict[str, list[str]], reader: Callable[[Path, int], tuple[Any, Any]]) -> Source:
    files = {part: [folder / n for n in names] for part, names in parts.items() if all((folder / n).is_file() for n in names)}

    def read() -> Read:
        return {part: _part(many, classes, reader, folder) for part, many in files.items()}, _names(folder, classes)

    return Source(tuple(p for many in files.values() for p in many), read)


def _part(files: list[Path], classes: int, reader: Callable[[Path, int], tuple[Any, Any]], folder: Path) -> Pictures:
    pixels, labels = [], []
    for path in files:
        block, numbers = reader(path, classes)
        wrong = np.flatnonzero((numbers < 0) | (numbers >= classes))
        if len(wrong):
            found = f"row {wrong[0] + 1} has the label {numbers[wrong[0]]}"
            raise DataError(f"{path}: {found}, and CIFAR-{classes} has 0 to {classes - 1}; fetch it again")
        pixels.append(block.reshape(-1, 3, 32, 32))
        labels.append(numbers)
    return pictures(np.concatenate(pixels), np.concatenate(labels), f"CIFAR-{classes} ({folder.name})")


def _binary(path: Path, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Records of one label byte (CIFAR-100: a coarse and a fine one) and 3,072 pixels."""
    head = 1 if classes == 10 else 2
    content = np.frombuffer(path.read_bytes(), dtype=np.uint8)
    if not len(content) or len(content) % (head + PIXELS):
        raise DataError(f"{path}: is cut short: {len(content):,} bytes are not whole records of {head + PIXELS:,}; fetch it again")
    rows = content.reshape(-1, head + PIXELS)
    return rows[:, head:], rows[:, head - 1].astype(np.int64)


def _pickled(path: Path, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """A mapping with `data`, uint8 (rows, 3072), and `labels` or `fine_labels`, a list of numbers."""
    found = unpickled(path)
    keys = ("data", "labels" if classes == 10 else "fine_labels")
    tree = {k.decode("latin1") if isinstance(k, bytes) else k: v for k, v in found.items()} if isinstance(found, dict) else {}
    lost = [k for k in keys if k not in tree]
    if lost:
        raise DataError(f"{path}: has no '{lost[0]}' (keys: {', '.join(map(str, tree)) or 'none'}); it is no batch of CIFAR-{classes}")
    data = tree["data"]
    if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.ndim != 2 or data.shape[1] != PIXELS:
        shape = f"{data.dtype} {data.shape}" if isinstance(data, np.ndarray) else type(data).__name__
        raise DataError(f"{path}: its data are {shape}; uint8 (rows, {PIXELS}) is needed; fetch it again")
    try:
        labels = np.asarray(tree[keys[1]], dtype=np.int64)
    except (TypeError, ValueError, OverflowError):
        labels = np.zeros(0, dtype=np.int64)
    if labels.shape != (len(data),):
        raise DataError(f"{path}: needs {len(data)} labels, one number an image; fetch it again")
    return data, labels


def _names(folder: Path, classes: int) -> tuple[str, ...]:
    """The label names that lie beside the batches; numbers where none do."""
    text, other, key = NAMES[classes]
    names: list[str] = []
    if (folder / text).is_file():
        names = [line.strip() for _, line in textfiles.lines(folder / text) if line.strip()]
    elif (folder / other).is_file():
        found = unpickled(folder / other)
        given = (found.get(key) or found.get(key.decode()) or []) if isinstance(found, dict) else []
        names = [x.decode("latin1") if isinstance(x, bytes) else str(x) for x in given]
    return tuple(names) if len(names) == classes else tuple(map(str, range(classes)))
