"""Rows of images, and where they come from: scikit-learn's digits, IDX files, .npz files, and the Hugging Face hub."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .. import textfiles
from ..errors import DataError
from ..find import near
from . import _arrays
from ._sources import load_hub

FASHION = Path("/usr/share/datasets/fashion-mnist")
"""Where Debian's package dataset-fashion-mnist puts its files."""
FASHION_LABELS = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
IDX = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
"""Names of the files of MNIST and its likes, without .gz."""


@dataclasses.dataclass(frozen=True)
class Pictures:
    """Images of one size with their labels."""

    pixels: np.ndarray
    """uint8, (rows, channels, height, width)."""
    labels: np.ndarray
    """Numbers of the labels, int64 (rows,)."""
    source: str
    """The file or data set, for messages and the record."""
    ids: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    """Places in the source, from 0, once `numbered`; a cut keeps them."""
    total: int = 0
    """Rows of the source."""

    def __len__(self) -> int:
        return len(self.pixels)

    def take(self, index: Sequence[int] | np.ndarray) -> Pictures:
        """The rows numbered `index` (from 0)."""
        index = np.asarray(index, dtype=np.int64)
        ids = self.ids[index] if len(self.ids) else self.ids
        return dataclasses.replace(self, pixels=self.pixels[index], labels=self.labels[index], ids=ids)

    def numbered(self) -> Pictures:
        """The rows numbered from 0, as all that the source has."""
        return dataclasses.replace(self, ids=np.arange(len(self)), total=len(self))

    def keys(self) -> np.ndarray:
        """(rows,) of uint64: a hash of each row's pixels."""
        made = (hashlib.sha256(row.tobytes()).digest()[:8] for row in np.ascontiguousarray(self.pixels))
        return np.array([int.from_bytes(x, "big") for x in made], dtype=np.uint64)

    def first(self, limit: int) -> Pictures:
        """At most `limit` rows, drawn by the hash of their pixels: the same rows whatever their order."""
        return self.take(np.sort(np.argsort(self.keys(), kind="stable")[:limit]))


Read = tuple[dict[str, Pictures], tuple[str, ...]]
"""Parts by name, and label names in the order of their numbers; no names where the source has none."""


@dataclasses.dataclass(frozen=True)
class Source:
    """Where images come from: local files, and how they are read."""

    files: tuple[Path, ...]
    read: Callable[[], Read]


def pictures(pixels: Any, labels: Any, source: str) -> Pictures:
    """Checked rows from arrays: uint8 (rows, H, W), (rows, H, W, C) or (rows, C, H, W), and whole numbers (rows,) or (rows, 1).

    Raises DataError for other types and shapes, no rows, and numbers below 0.
    """
    pixels, labels = np.asarray(pixels), np.asarray(labels)
    if pixels.dtype != np.uint8:
        raise DataError(f"{source}: its images are of type {pixels.dtype}; they must be uint8, 0 black to 255")
    if pixels.ndim == 3:
        pixels = pixels[:, None]
    elif pixels.ndim == 4 and pixels.shape[3] in (1, 3, 4):
        pixels = pixels.transpose(0, 3, 1, 2)
    elif pixels.ndim != 4 or pixels.shape[1] not in (1, 3, 4):
        wanted = "(rows, height, width) or (rows, height, width, channels)"
        raise DataError(f"{source}: its images have the shape {pixels.shape}; {wanted} is needed")
    labels = labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        raise DataError(f"{source}: its labels are {labels.dtype} of the shape {labels.shape}; one whole number a row is needed")
    if len(pixels) != len(labels):
        raise DataError(f"{source}: holds {len(pixels)} images and {len(labels)} labels; one label an image is needed")
    if not pixels.size:
        raise DataError(f"{source}: holds no images")
    if labels.max() >= 1 << 31:
        row = int(labels.argmax())
        raise DataError(f"{source}: row {row + 1} has the label {labels[row]}; labels are numbered from 0 without gaps")
    if labels.min() < 0:
        raise DataError(f"{source}: row {int(labels.argmin()) + 1} has the label {labels.min()}; labels are numbered from 0")
    return Pictures(np.ascontiguousarray(pixels), labels.astype(np.int64), source)


def digits() -> Source:
    """The 1,797 handwritten digits of 8 x 8 pixels that scikit-learn carries, from 17 steps of grey to 256."""

    def read() -> Read:
        from sklearn.datasets import load_digits

        found = load_digits()
        pixels = np.rint(found.images * (255 / 16)).astype(np.uint8)
        return {"train": pictures(pixels, found.target, "digits (scikit-learn)")}, tuple("0123456789")

    return Source((), read)


def idx_files(folder: Path) -> dict[str, tuple[Path, Path]]:
    """Images and labels of each part that a folder holds as IDX files, with or without .gz."""
    out = {}
    for part, names in IDX.items():
        found = [next((p for n in (name, f"{name}.gz") if (p := folder / n).is_file()), None) for name in names]
        if found[0] and found[1]:
            out[part] = (found[0], found[1])
    return out


def idx(folder: Path, names: tuple[str, ...] = (), title: str = "") -> Source:
    """MNIST or a data set in its form."""
    files = idx_files(folder)

    def read() -> Read:
        parts = {k: pictures(_idx(a, 3), _idx(b, 1), title or str(folder)) for k, (a, b) in files.items()}
        return parts, names

    return Source(tuple(p for pair in files.values() for p in pair), read)


def fashion(folder: str | None) -> Source:
    """Fashion-MNIST as Debian's package dataset-fashion-mnist carries it, or from a folder; DataError where it is not."""
    place = Path(folder).expanduser() if folder else FASHION
    if "train" not in idx_files(place):
        what = "" if folder else "; install Debian's package dataset-fashion-mnist, or name the folder of its files with task.folder"
        raise DataError(f"task.data=fashion_mnist: {place} holds no {IDX['train'][0]}.gz{what}")
    return idx(place, FASHION_LABELS, "fashion_mnist")


def _idx(path: Path, dimensions: int) -> np.ndarray:
    """An IDX file of bytes: two zeros, the type 8, the number of dimensions, their sizes (big-endian), the values."""
    with textfiles.opened(path) as file:
        content = file.read()
    head = 4 + 4 * dimensions
    if content[:4] != bytes((0, 0, 8, dimensions)) or len(content) < head:
        raise DataError(f"{path}: is no IDX file of bytes in {dimensions} dimension{'s' if dimensions > 1 else ''}; fetch it again")
    shape = tuple(int(x) for x in np.frombuffer(content[4:head], dtype=">u4"))
    if len(content) - head != np.prod(shape):
        raise DataError(f"{path}: is cut short: {len(content) - head:,} of {int(np.prod(shape)):,} bytes; fetch it again")
    return np.frombuffer(content, dtype=np.uint8, offset=head).reshape(shape)


def npz(path: Path, arrays: Mapping[str, tuple[str, str] | None], optional: Sequence[str] = ()) -> Source:
    """An .npz file; `arrays` names the arrays of images and labels of each part, `optional` parts that may be missing.

    An array `classes` of texts holds the label names. No pickle is run.
    """

    def read() -> Read:
        there, known = _arrays.from_npz(path, [*(name for pair in arrays.values() for name in pair or ()), "classes"])
        parts = {}
        for part, pair in arrays.items():
            lost = [name for name in pair or () if name not in there]
            if lost and part not in optional:
                hint = near(lost[0], known) or f"; task.{part}_arrays names them"
                raise DataError(f"{path}: has no array '{lost[0]}' (arrays: {', '.join(known)}){hint}")
            if pair and not lost:
                parts[part] = pictures(there[pair[0]], there[pair[1]], str(path))
        return parts, _arrays.texts(there.get("classes", np.zeros(0)))

    return Source((path,), read)


def hub(name: str, image: str, label: str, side: int | None) -> Source:
    """A data set of the Hugging Face hub, written owner/name or owner/name:configuration; `side` resizes its images.

    Raises MissingExtra without `datasets`, and DataError with one sentence for whatever the hub refuses.
    """

    def read() -> Read:
        found = load_hub(name)
        parts, names = {}, tuple(getattr(found["train"].features.get(label), "names", None) or ())
        for part, rows in found.items():
            parts[part] = _hub_part(f"{name} {part}", rows, image, label, side)
        return parts, names

    return Source((), read)


def _hub_part(source: str, rows: Any, image: str, label: str, side: int | None) -> Pictures:
    for setting, column in (("image", image), ("label", label)):
        if column not in rows.column_names:
            raise DataError(f"{source}: no column '{column}' (columns: {', '.join(rows.column_names)}); task.{setting} names it")
    made = []
    for row in rows[image]:
        row = row if row.mode in ("L", "RGB") else row.convert("RGB")
        made.append(np.asarray(row.resize((side, side)) if side else row))
    shapes = sorted({m.shape for m in made})
    if len(shapes) > 1:
        raise DataError(f"{source}: its images differ in size or channels ({shapes[0]}, {shapes[-1]}); task.resize makes their sizes one")
    return pictures(np.stack(made) if made else np.zeros((0, 1, 1), np.uint8), np.asarray(rows[label]), source)
