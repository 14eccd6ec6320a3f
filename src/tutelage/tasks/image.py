"""Images with one label of several: digits, Fashion-MNIST, CIFAR-10 and CIFAR-100, .npz files, hub data sets.

Pixels stay bytes until their batch is made, so that memory holds a quarter of what floats would take.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from .. import losses
from ..config import Count, RowSetting, settings
from ..errors import ConfigError, DataError
from ..find import near
from ..rows import Batch, Rows, Seen, Term
from . import _cifar, _images, _metrics, _pixels
from ._images import Pictures, Source
from ._parts import cut_missing, leaks, place
from ._task import Data, Encoded, Split, Task, has_label

CutOff = RowSetting[Annotated[float, Field(gt=0, lt=1)]]
Channels = Annotated[tuple[float, ...], Field(min_length=1)]
NAMED = ("digits", "fashion_mnist")
TOKEN = 64
"""Pixels that count as one token: batches for inference hold images of so many pixels in all, and budgets in tokens count them."""


@settings
class Image(Task):
    """Labels for images of one size."""

    tokenized = False
    auto = "AutoModelForImageClassification"

    data: RowSetting[str] = "digits"
    """digits, fashion_mnist, a folder with CIFAR-10, CIFAR-100 or MNIST as published, an .npz file, or a hub name."""
    folder: RowSetting[str | None] = None
    """Where fashion_mnist's files are; null takes the place of Debian's package dataset-fashion-mnist."""
    labels: tuple[str, ...] = ()
    """Label names in the order of their numbers; empty takes the data's own, else the numbers."""
    train_arrays: RowSetting[tuple[str, str]] = ("x_train", "y_train")
    """Arrays of an .npz file that hold the training images and labels."""
    dev_arrays: RowSetting[tuple[str, str] | None] = None
    """Arrays for selection; null cuts dev from the training rows."""
    test_arrays: RowSetting[tuple[str, str] | None] = ("x_test", "y_test")
    """Arrays for the final result; null, and names that the file lacks, cut test from the training rows."""
    image: RowSetting[str] = "image"
    """Column of the images in a hub data set."""
    label: RowSetting[str] = "label"
    """Column of the label in a hub data set."""
    limit: RowSetting[Count | None] = None
    """Most training rows, for trials; dev and test stay whole."""
    dev_share: CutOff = 0.1
    """Share of rows cut off for dev by a hash of their pixels, so that equal images stay together."""
    test_share: CutOff = 0.1
    """Share of rows cut off for test in the same way, where the data has no test part."""
    mean: Literal["auto"] | Channels = "auto"
    """Mean of the pixels in [0, 1], one number a channel; auto takes that of the training rows, to 4 digits."""
    std: Literal["auto"] | Channels = "auto"
    """Standard deviation of the pixels, in the same way."""
    resize: Count | None = None
    """Pixels a side that models get, for models of another size; null leaves images as they are."""
    augment: bool = False
    """Move and mirror training images, drawn anew at every step; the teacher then runs live, on the same images."""
    crop: Annotated[int, Field(ge=0)] = 4
    """Most pixels that augment moves an image, down and across, over black."""
    flip: bool = True
    """Whether augment mirrors every second image left to right; leave it off where sides have a meaning, as in digits."""
    metric: Literal["accuracy", "macro_f1"] = "accuracy"
    """The metric that selects."""

    fidelity = ("agreement", "kl")

    @property
    def primary(self) -> str:
        return self.metric

    @property
    def metrics(self) -> tuple[str, ...]:
        """Every metric reported; the first selects."""
        return (self.metric, *(m for m in _metrics.USUAL["choice"] if m != self.metric))

    @property
    def varies(self) -> bool:
        return self.augment

    def faults(self) -> Iterator[tuple[str, str]]:
        for name, kind in (("folder", "fashion_mnist"), ("train_arrays", "npz"), ("dev_arrays", "npz"), ("test_arrays", "npz")):
            if getattr(self, name) != getattr(Image, name) and self._kind_of_data() != kind:
                yield name, f"has no effect: only {'.npz files have arrays' if kind == 'npz' else kind + ' is sought there'}; leave it out"
        for name in ("image", "label"):
            if getattr(self, name) != getattr(Image, name) and self._kind_of_data() != "hub":
                yield name, "has no effect: only hub data sets have columns; leave it out"
        for name in ("crop", "flip"):
            if getattr(self, name) != getattr(Image, name) and not self.augment:
                yield name, "has no effect without augment; leave it out"
        if self.augment and not self.crop and not self.flip:
            yield "augment", "has no effect with crop 0 and flip false; leave it out"
        if len(set(self.labels)) < len(self.labels):
            yield "labels", "names a label twice"
        if self.std != "auto" and min(self.std) <= 0:
            yield "std", f"must be above 0; got {list(self.std)}"
        if self.dev_share + self.test_share >= 1:
            yield "dev_share", f"{self.dev_share} and test_share {self.test_share} leave nothing to train on; lower them"

    def _kind_of_data(self) -> str:
        """'digits', 'fashion_mnist', 'npz', 'folder', 'hub', or '' for a word that names nothing."""
        if self.data in NAMED:
            return self.data
        if self.data.lower().endswith(".npz"):
            return "npz"
        if os.path.isdir(Path(self.data).expanduser()):
            return "folder"
        return "hub" if self.data.count("/") == 1 and self.data[0] not in "./~" else ""

    def _source(self) -> Source:
        """Where the images come from; DataError for a word that names nothing, and a folder without files."""
        kind, path = self._kind_of_data(), Path(self.data).expanduser()
        if kind == "digits":
            return _images.digits()
        if kind == "fashion_mnist":
            return _images.fashion(self.folder)
        if kind == "npz":
            arrays = {"train": self.train_arrays, "dev": self.dev_arrays, "test": self.test_arrays}
            return _images.npz(path, arrays, optional=("test",) if self.test_arrays == Image.test_arrays else ())
        if kind == "hub":
            return _images.hub(self.data, self.image, self.label, self.resize)
        if not kind:
            raise DataError(
                f"no images '{self.data}'{near(self.data, NAMED)} ({', '.join(NAMED)}, a folder, or an .npz file; "
                "a hub data set is written owner/name and needs a network and pip install 'tutelage[hub]')"
            )
        found = _images.idx(path) if "train" in _images.idx_files(path) else _cifar.find(path)
        if found is None:
            there = ", ".join(sorted(p.name for p in path.iterdir())[:8]) or "nothing"
            raise DataError(f"{path}: no training files of CIFAR-10, CIFAR-100 or MNIST; found {there}")
        return found

    def files(self) -> Iterator[Path]:
        yield from self._source().files

    def load(self) -> Data:
        """Read, cut and number the data; raises DataError with one sentence for whatever is wrong with it."""
        parts, names = self._source().read()
        known = self._known(parts, names)
        parts, notes = cut_missing(self, {name: part.numbered() for name, part in parts.items()}, "images", "pixels")
        notes += leaks(parts, "an image")
        have = np.bincount(parts["train"].labels, minlength=len(known))
        notes += [f"label '{known[k]}' has no training row" for k in np.flatnonzero(have == 0)]
        if self.limit is not None and self.limit < len(parts["train"]):
            notes.append(f"train: {self.limit} of {len(parts['train'])} rows, drawn by the hash of their pixels (task.limit)")
            parts["train"] = parts["train"].first(self.limit)
        mean, std = self._scale(parts["train"])
        return Data({n: _split(parts[n], mean, std) for n in sorted(parts, key=place)}, known, tuple(notes))

    def _known(self, parts: Mapping[str, Pictures], names: tuple[str, ...]) -> tuple[str, ...]:
        """Label names in the order of their numbers; every number of every part has one, and all images one size."""
        train = parts["train"]
        known = self.labels or names or _numbers(train)
        if len(known) < 2:
            raise DataError(f"{train.source}: one label only, '{known[0]}'; classifying takes two or more")
        for name, part in parts.items():
            wrong = np.flatnonzero(part.labels >= len(known))
            if len(wrong):
                where = f"{part.source}: row {wrong[0] + 1} of {name} has the label {part.labels[wrong[0]]}"
                raise DataError(f"{where}, and there are {len(known)} labels, numbered from 0; task.labels names them")
            if part.pixels.shape[1:] != train.pixels.shape[1:]:
                sizes = " and ".join(" x ".join(map(str, p.pixels.shape[1:])) for p in (train, part))
                raise DataError(f"{part.source}: images of train and {name} differ in size ({sizes}); all must be alike")
        return known

    def _scale(self, train: Pictures) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of each channel, float32; a channel without spread is divided by 1."""
        channels, out = train.pixels.shape[1], []
        counts = np.stack([np.bincount(train.pixels[:, c].ravel(), minlength=256) for c in range(channels)])
        values, weights = np.arange(256) / 255, counts / counts.sum(1, keepdims=True)
        mean = weights @ values
        std = np.sqrt(np.maximum(weights @ values**2 - mean**2, 0))
        found = {"mean": mean.round(4), "std": np.where(std.round(4) > 0, std.round(4), 1.0)}
        for name, own in found.items():
            given: Any = getattr(self, name)
            if given != "auto" and len(given) != channels:
                what = f"has {len(given)} numbers, and the images have {channels} channels; give one a channel"
                raise ConfigError([(f"task.{name}", what)])
            out.append(np.asarray(own if given == "auto" else given, dtype=np.float32))
        return out[0], out[1]

    def settled(self, data: Data) -> dict[str, Any]:
        """mean and std as they were found."""
        mean, std = _scale_of(data)
        return {"mean": mean, "std": std}

    def head(self, data: Data) -> dict[str, Any]:
        """What fits a head to the labels, and num_channels, image_size, image_mean and image_std for the model's configuration."""
        channels, height, width = data.splits["train"].columns["pixels"].shape[1:]
        height, width = (self.resize, self.resize) if self.resize else (height, width)
        mean, std = _scale_of(data)
        return {
            "num_labels": len(data.labels),
            "id2label": dict(enumerate(data.labels)),
            "label2id": {name: k for k, name in enumerate(data.labels)},
            "problem_type": "single_label_classification",
            "num_channels": channels,
            "image_size": height if height == width else [height, width],
            "image_mean": mean,
            "image_std": std,
        }

    def encode(self, split: Split, tokenizer: Any) -> Encoded:
        """Pixels as bytes, with mean and std of their channels beside each row; `view` makes floats of them."""
        columns = split.columns
        height, width = (self.resize, self.resize) if self.resize else columns["pixels"].shape[2:]
        fixed = {"pixel_values": columns["pixels"], "mean": columns["mean"], "std": columns["std"]}
        if self.resize:
            fixed["side"] = np.broadcast_to(np.int64(self.resize), (len(split),))
        lengths = np.full(len(split), max(1, height * width // TOKEN))
        return Encoded({}, lengths, split.gold, fixed=fixed)

    def view(self, batch: Batch, seeds: Sequence[int] | None = None) -> Batch:
        """Images as floats (rows, channels, H, W), scaled, and with `seeds` moved and mirrored.

        A displacement of the scaled pixels, before they are resized, is moved and mirrored along; no pixel leaves [0, 1] by it.
        """
        pixels, mean, std = (batch.inputs[name] for name in ("pixel_values", "mean", "std"))
        extra = dict(batch.extra)
        by = extra.pop("displacement", None)
        if seeds is not None and self.augment:
            pixels = _pixels.shifted(pixels, seeds, self.crop, self.flip)
            by = None if by is None else _pixels.shifted(by, seeds, self.crop, self.flip)
        if by is not None:
            extra["displaced"] = _pixels.scaled(pixels, mean, std, self.resize, by)
        inputs = {"pixel_values": _pixels.scaled(pixels, mean, std, self.resize)}
        return dataclasses.replace(batch, inputs=inputs, extra=extra)

    def rows(self, seen: Seen, batch: Batch) -> list[Rows]:
        return [Rows(seen.outputs["logits"], "choice", batch.gold)]

    def label_term(self, seen: Seen, batch: Batch, weight: float = 1.0) -> Term:
        """Sum of cross-entropies over labelled rows, counted in 'label'."""
        each = losses.label_loss(seen.outputs["logits"], batch.gold.clamp(min=0), kind="choice")
        return Term((each * batch.labelled).sum(), "label", weight)

    def predict(self, outputs: Mapping[str, np.ndarray], encoded: Encoded) -> np.ndarray:
        """Class numbers (rows,)."""
        return np.asarray(outputs["logits"]).argmax(-1)

    def score(self, predicted: np.ndarray, gold: np.ndarray) -> dict[str, float]:
        """Every metric over the rows that have a label, the one that selects first."""
        keep = has_label(gold)
        return {name: _metrics.measure(name, predicted[keep], gold[keep]) for name in self.metrics}


def _numbers(train: Pictures) -> tuple[str, ...]:
    """Names for labels that have none: their numbers from 0. Raises DataError where most numbers have no row."""
    found, most = np.unique(train.labels), int(train.labels.max())
    if most + 1 > 2 * len(found):
        shown = ", ".join(map(str, found[:5])) + (", ..." if len(found) > 5 else "")
        what = f"its {len(found)} labels are numbered with gaps up to {most} ({shown})"
        raise DataError(f"{train.source}: {what}; number them from 0, or name all with task.labels")
    return tuple(map(str, range(most + 1)))


def _split(part: Pictures, mean: np.ndarray, std: np.ndarray) -> Split:
    columns = {"pixels": part.pixels, **{k: np.broadcast_to(v, (len(part), len(v))) for k, v in (("mean", mean), ("std", std))}}
    return Split(columns, part.labels, part.ids.tolist(), part.source, total=part.total)


def _scale_of(data: Data) -> tuple[list[float], list[float]]:
    """Mean and standard deviation in the fewest digits that give the same float32."""
    columns = data.splits["train"].columns
    mean, std = ([float(str(x)) for x in columns[name][0]] for name in ("mean", "std"))
    return mean, std
