"""Images: every source in small, their cut and scale, what augmentation draws, and whole trainings on them."""

from __future__ import annotations

import dataclasses
import gzip
import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from toys import Bench, Stop, stop_at

from tutelage import config, recipe, textfiles
from tutelage.engine.distill import distill
from tutelage.engine.judge import evaluate
from tutelage.engine.machine import Machine
from tutelage.engine.signals import Cache, Live
from tutelage.engine.talk import Talk
from tutelage.errors import ConfigError, DataError
from tutelage.find import find
from tutelage.models import resnet
from tutelage.models.export import export
from tutelage.recipe import Training
from tutelage.rows import Inside
from tutelage.seeds import by_row
from tutelage.tasks import _images
from tutelage.tasks.image import Image


def image(**settings) -> Image:
    return config.build(Image, settings)


def draw(rows: int, *shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (rows, *shape), dtype=np.uint8)


# ---- sources


def write_idx(path: Path, values: np.ndarray, zipped: bool = True) -> None:
    content = bytes((0, 0, 8, values.ndim)) + np.array(values.shape, dtype=">u4").tobytes() + values.tobytes()
    path.write_bytes(gzip.compress(content) if zipped else content)


def mnist(folder: Path, zipped: bool = True, labels: int = 10) -> Path:
    folder.mkdir(exist_ok=True)
    for part, rows, seed in (("train", 60, 0), ("t10k", 12, 1)):
        end = ".gz" if zipped else ""
        write_idx(folder / f"{part}-images-idx3-ubyte{end}", draw(rows, 6, 6, seed=seed), zipped)
        write_idx(folder / f"{part}-labels-idx1-ubyte{end}", (np.arange(rows) % labels).astype(np.uint8), zipped)
    return folder


def cifar(folder: Path, classes: int, pickled: bool) -> Path:
    """Batches of 12 rows in the published layout."""
    folder.mkdir(parents=True, exist_ok=True)
    train = [f"data_batch_{i}" for i in range(1, 6)] if classes == 10 else ["train"]
    test = "test_batch" if classes == 10 else "test"
    for number, name in enumerate([*train, test]):
        pixels, labels = draw(12, 3072, seed=number), [(number + i) % classes for i in range(12)]
        if pickled:
            key = b"labels" if classes == 10 else b"fine_labels"
            (folder / name).write_bytes(pickle.dumps({b"data": pixels, key: labels, b"batch_label": b"x"}, protocol=2))
        else:
            heads = [np.array([[7] * (classes == 100) + [k]], dtype=np.uint8) for k in labels]
            (folder / f"{name}.bin").write_bytes(b"".join(h.tobytes() + p.tobytes() for h, p in zip(heads, pixels, strict=True)))
    return folder


def npz(path: Path, rows: int = 60, **changes) -> Path:
    arrays = {
        "x_train": draw(rows, 6, 5, 3),
        "y_train": np.arange(rows) % 3,
        "x_test": draw(9, 6, 5, 3, seed=1),
        "y_test": np.arange(9) % 3,
    }
    np.savez_compressed(path, **{k: v for k, v in (arrays | changes).items() if v is not None})
    return path


def test_digits_are_cut_by_their_pixels_into_parts_that_share_no_image():
    data = image().load()
    sizes = {k: len(v) for k, v in data.splits.items()}
    assert sum(sizes.values()) == 1797 and list(sizes) == ["train", "dev", "test"] and data.labels == tuple("0123456789")
    assert 130 < sizes["dev"] < 230 and 130 < sizes["test"] < 230
    seen = [{row.tobytes() for row in s.columns["pixels"]} for s in data.splits.values()]
    assert not (seen[0] & seen[1] or seen[0] & seen[2] or seen[1] & seen[2])
    assert data.splits["train"].columns["pixels"].max() == 255 and sorted(i for s in data.splits.values() for i in s.ids) == list(
        range(1797)
    )
    assert data.digest == image().load().digest != image(mean=[0.1]).load().digest


@pytest.mark.parametrize("zipped", [True, False])
def test_idx_files_are_read_as_fashion_mnist_and_as_a_folder(tmp_path, zipped):
    mnist(tmp_path, zipped)
    named, folder = image(data="fashion_mnist", folder=str(tmp_path)).load(), image(data=str(tmp_path)).load()
    assert named.labels[:2] == ("T-shirt/top", "Trouser") and folder.labels == tuple("0123456789")
    assert np.array_equal(folder.splits["test"].columns["pixels"], draw(12, 6, 6, seed=1)[:, None])
    assert folder.splits["test"].gold.tolist() == [i % 10 for i in range(12)]
    assert len(named.splits["train"]) + len(named.splits["dev"]) == 60
    assert {p.parent for p in image(data=str(tmp_path)).files()} == {tmp_path} and len(list(image(data=str(tmp_path)).files())) == 4


@pytest.mark.parametrize("classes", [10, 100])
@pytest.mark.parametrize("pickled", [False, True])
def test_cifar_is_read_from_binaries_and_pickles_alike(tmp_path, classes, pickled):
    inside = {(10, False): "cifar-10-batches-bin", (10, True): "cifar-10-batches-py", (100, False): "cifar-100-binary"}
    cifar(tmp_path / inside.get((classes, pickled), "."), classes, pickled)
    data = image(data=str(tmp_path)).load()
    number = 5 if classes == 10 else 1
    test = data.splits["test"]
    assert np.array_equal(test.columns["pixels"], draw(12, 3072, seed=number).reshape(12, 3, 32, 32))
    assert test.gold.tolist() == [(number + i) % classes for i in range(12)]
    assert len(data.splits["train"]) + len(data.splits["dev"]) == 12 * number and data.labels == tuple(map(str, range(classes)))


def test_cifars_label_names_come_from_the_files_beside_it(tmp_path):
    names = ["plane", "car", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
    cifar(tmp_path / "py", 10, True)
    (tmp_path / "py" / "batches.meta").write_bytes(pickle.dumps({b"label_names": [n.encode() for n in names]}, protocol=2))
    cifar(tmp_path / "bin", 10, False)
    (tmp_path / "bin" / "batches.meta.txt").write_text("\n".join(names) + "\n\n")
    assert image(data=str(tmp_path / "py")).load().labels == image(data=str(tmp_path / "bin")).load().labels == tuple(names)


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_arrays_pickled_by_every_protocol_are_read(tmp_path, protocol):
    cifar(tmp_path, 100, True)
    pixels = np.asfortranarray(draw(12, 3072, seed=9)) if protocol == 5 else draw(12, 3072, seed=9)
    (tmp_path / "train").write_bytes(pickle.dumps({"data": pixels, "fine_labels": np.arange(12)}, protocol=protocol))
    parts, _ = image(data=str(tmp_path))._source().read()
    assert np.array_equal(parts["train"].pixels.reshape(12, -1), pixels)


def test_an_npz_file_is_read_by_the_names_of_its_arrays(tmp_path):
    rows = {"a": draw(40, 4, 4, seed=2), "b": np.arange(40)[:, None] % 2, "classes": np.array(["no", "yes"])}
    path = npz(tmp_path / "x.npz")
    data = image(data=str(path)).load()
    assert data.splits["test"].columns["pixels"].shape == (9, 3, 6, 5)
    assert np.array_equal(data.splits["test"].columns["pixels"][2, 1], draw(9, 6, 5, 3, seed=1)[2, :, :, 1])
    other = npz(tmp_path / "y.npz", **rows, x_test=None, y_test=None, x_train=None, y_train=None)
    data = image(data=str(other), train_arrays=["a", "b"]).load()
    assert data.labels == ("no", "yes") and set(data.splits) == {"train", "dev", "test"}
    assert data.notes[0].startswith("dev (10%) and test (10%) cut from the 40 training rows by a hash of their pixels")


def test_limit_draws_the_same_training_rows_whatever_their_order(tmp_path):
    back = {"x_train": draw(60, 6, 5, 3)[::-1], "y_train": (np.arange(60) % 3)[::-1]}
    one = image(data=str(npz(tmp_path / "a.npz")), limit=20).load().splits["train"].columns["pixels"]
    two = image(data=str(npz(tmp_path / "b.npz", **back)), limit=20).load().splits["train"].columns["pixels"]
    assert len(one) == 20 and {r.tobytes() for r in one} == {r.tobytes() for r in two}


def test_a_hub_data_set_is_read_by_its_columns_and_resized(monkeypatch):
    datasets = pytest.importorskip("datasets")
    pictures = pytest.importorskip("PIL.Image")
    many = [pictures.fromarray(one) for one in (*draw(30, 8, 8, 3), *draw(30, 6, 9, 3))]
    features = datasets.Features({"img": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"])})
    made = datasets.Dataset.from_dict({"img": many, "label": [0, 1] * 30}, features=features)
    monkeypatch.setattr(datasets, "load_dataset", lambda name, which: datasets.DatasetDict({"train": made}))
    data = image(data="owner/pets", image="img", resize=4).load()
    assert data.labels == ("cat", "dog") and data.splits["train"].columns["pixels"].shape[1:] == (3, 4, 4)
    with pytest.raises(DataError, match=r"owner/pets train: its images differ in size .* task.resize makes their sizes one"):
        image(data="owner/pets", image="img").load()
    with pytest.raises(DataError, match=r"no column 'image' \(columns: img, label\); task.image names it"):
        image(data="owner/pets").load()


# ---- what a user can get wrong


class Evil:
    """Pickled, it asks for a command to be run."""

    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self):
        return os.system, (f"touch {self.mark}",)


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-50])


def harmed(kind: str, folder: Path) -> str:
    """Data with one fault; returns what task.data is."""
    if kind.startswith("idx"):
        mnist(folder, zipped=kind != "idx plain")
        if kind == "idx labels":
            write_idx(folder / "train-labels-idx1-ubyte.gz", np.zeros(59, dtype=np.uint8))
        elif kind == "idx other":
            write_idx(folder / "train-images-idx3-ubyte.gz", draw(60, 6))
        else:
            cut_short(folder / ("train-images-idx3-ubyte" + ("" if kind == "idx plain" else ".gz")))
        return str(folder)
    if kind.startswith(("binary", "pickle")):
        cifar(folder, 10, kind.startswith("pickle"))
        name = folder / ("data_batch_2.bin" if kind.startswith("binary") else "data_batch_2")
        content = {
            "binary empty": b"",
            "binary label": bytes([11]) + bytes(3072),
            "pickle evil": pickle.dumps({"data": Evil(folder / "mark")}),
            "pickle keys": pickle.dumps({"data": draw(2, 3072)}),
            "pickle shape": pickle.dumps({"data": draw(2, 100), "labels": [0, 1]}),
            "pickle labels": pickle.dumps({"data": draw(2, 3072), "labels": ["a", "b"]}),
            "pickle negative": pickle.dumps({"data": draw(2, 3072), "labels": [0, -1]}),
        }.get(kind, name.read_bytes()[:-50])
        name.write_bytes(content)
        return str(folder)
    if kind == "folder":
        (folder / "readme").write_text("")
        return str(folder)
    changes = {
        "npz key": {"x_train": None},
        "npz floats": {"x_train": np.zeros((60, 6, 5, 3))},
        "npz shape": {"x_train": draw(60, 6, 5, 7)},
        "npz labels": {"y_train": np.zeros(60)},
        "npz negative": {"y_train": np.arange(60) - 1},
        "npz rows": {"y_train": np.arange(59)},
        "npz empty": {"x_train": draw(0, 6, 5, 3), "y_train": np.zeros(0, dtype=int)},
        "npz sizes": {"x_test": draw(9, 5, 5, 3)},
        "npz range": {"y_test": np.arange(9)},
        "npz one": {"y_train": np.zeros(60, dtype=int)},
        "npz same": {"x_train": np.zeros((60, 6, 5, 3), np.uint8)},
        "npz objects": {"x_train": np.array([{}] * 60)},
        "npz evil": {"classes": np.array([Evil(folder / "mark")] * 3)},
        "npz gaps": {"y_train": np.arange(60) % 3 * 300_000_003},
        "npz huge": {"y_train": np.arange(60, dtype=np.uint64) + (1 << 63)},
    }
    path = npz(folder / "x.npz", **changes.get(kind, {}))
    if kind == "npz short":
        cut_short(path)
    if kind == "npz array":
        with open(path, "wb") as file:
            np.save(file, draw(9, 6, 5))
    if kind == "npz flags":
        content = bytearray(path.read_bytes())
        content[6] = content[content.rindex(b"PK\x01\x02") + 8] = 0xFF
        path.write_bytes(content)
    return str(path)


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        ("idx", r"train-images-idx3-ubyte.gz: is cut short or not gzip; fetch it again"),
        ("idx plain", r"train-images-idx3-ubyte: is cut short: 2,110 of 2,160 bytes; fetch it again"),
        ("idx labels", r"holds 60 images and 59 labels; one label an image is needed"),
        ("idx other", r"train-images-idx3-ubyte.gz: is no IDX file of bytes in 3 dimensions; fetch it again"),
        ("binary", r"data_batch_2.bin: is cut short: 36,826 bytes are not whole records of 3,073; fetch it again"),
        ("binary empty", r"data_batch_2.bin: is cut short: 0 bytes"),
        ("binary label", r"data_batch_2.bin: row 1 has the label 11, and CIFAR-10 has 0 to 9; fetch it again"),
        ("pickle", r"data_batch_2: is cut short or no pickle \(.*\); fetch it again"),
        (
            "pickle evil",
            r"data_batch_2: asks for (posix|nt).system, which arrays and plain values do not need; not read, as it could run code",
        ),
        ("pickle keys", r"data_batch_2: has no 'labels' \(keys: data\); it is no batch of CIFAR-10"),
        ("pickle shape", r"data_batch_2: its data are uint8 \(2, 100\); uint8 \(rows, 3072\) is needed"),
        ("pickle labels", r"data_batch_2: needs 2 labels, one number an image"),
        ("pickle negative", r"data_batch_2: row 2 has the label -1, and CIFAR-10 has 0 to 9"),
        ("folder", r"no training files of CIFAR-10, CIFAR-100 or MNIST; found readme"),
        ("npz short", r"x.npz: is cut short or damaged \(.*\); fetch it again"),
        ("npz objects", r"x.npz: its images are of type object; they must be uint8, 0 black to 255"),
        ("npz evil", r"x.npz: asks for (posix|nt).system, which arrays and plain values do not need; not read, as it could run code"),
        ("npz array", r"x.npz: is one array \(.npy\); images and labels stand in one file by name, numpy.savez makes it"),
        ("npz flags", r"x.npz: is cut short or damaged \(.*\); fetch it again"),
        (
            "npz gaps",
            r"x.npz: its 3 labels are numbered with gaps up to 600000006 \(0, 300000003, 600000006\); number them from 0, or name",
        ),
        ("npz huge", r"x.npz: row 60 has the label 9223372036854775867; labels are numbered from 0 without gaps"),
        ("npz key", r"x.npz: has no array 'x_train' \(arrays: y_train, x_test, y_test\); did you mean 'y_train'\?"),
        ("npz floats", r"x.npz: its images are of type float64; they must be uint8, 0 black to 255"),
        ("npz shape", r"its images have the shape \(60, 6, 5, 7\); \(rows, height, width\) or \(rows, height, width, channels\) is needed"),
        ("npz labels", r"x.npz: its labels are float64 of the shape \(60,\); one whole number a row is needed"),
        ("npz negative", r"x.npz: row 1 has the label -1; labels are numbered from 0"),
        ("npz rows", r"x.npz: holds 60 images and 59 labels"),
        ("npz empty", r"x.npz: holds no images"),
        ("npz sizes", r"images of train and test differ in size \(3 x 6 x 5 and 3 x 5 x 5\); all must be alike"),
        ("npz range", r"row 4 of test has the label 3, and there are 3 labels, numbered from 0; task.labels names them"),
        ("npz one", r"x.npz: one label only, '0'; classifying takes two or more"),
        ("npz same", r"x.npz: too few different images to cut dev from its 60 rows"),
    ],
)
def test_data_that_cannot_be_used_is_one_sentence(tmp_path, kind, sentence):
    with pytest.raises(DataError, match=sentence) as fault:
        image(data=harmed(kind, tmp_path)).load()
    assert "\n" not in str(fault.value) and not (tmp_path / "mark").exists()


@pytest.mark.parametrize("dtype", ["U", "S", object])
def test_label_names_of_an_npz_file_may_be_texts_bytes_or_objects(tmp_path, dtype):
    path = npz(tmp_path / "x.npz", classes=np.array(["cat", "dog", "fox"], dtype=dtype))
    assert image(data=str(path)).load().labels == ("cat", "dog", "fox")


def test_an_npz_file_that_unpacks_to_more_than_data_do_is_refused(tmp_path, monkeypatch):
    path = npz(tmp_path / "x.npz", more=np.zeros(1 << 23, np.uint8))
    monkeypatch.setattr(textfiles, "UNPACKED", (1 << 20, 10))
    with pytest.raises(DataError, match=r"x.npz: unpacks to 8 MiB, more than 10 times its size"):
        image(data=str(path)).load()


def test_data_that_is_not_there_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(_images, "FASHION", tmp_path)
    with pytest.raises(DataError, match=r"holds no train-images-idx3-ubyte.gz; install Debian's package dataset-fashion-mnist, or name"):
        image(data="fashion_mnist").load()
    with pytest.raises(DataError, match=r"no images 'digit'; did you mean 'digits'\?"):
        image(data="digit").load()
    with pytest.raises(DataError, match=r"gone.npz: no such file"):
        image(data=str(tmp_path / "gone.npz")).load()


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"folder": "x"}, "folder: has no effect: only fashion_mnist is sought there"),
        ({"train_arrays": ["a", "b"]}, r"train_arrays: has no effect: only .npz files have arrays"),
        ({"label": "y"}, "label: has no effect: only hub data sets have columns"),
        ({"flip": False}, "flip: has no effect without augment"),
        ({"augment": True, "flip": False, "crop": 0}, "augment: has no effect with crop 0 and flip false"),
        ({"std": [0.0]}, "std: must be above 0"),
        ({"labels": ["a", "a"]}, "labels: names a label twice"),
        ({"dev_share": 0.6, "test_share": 0.5}, "dev_share: 0.6 and test_share 0.5 leave nothing"),
    ],
)
def test_settings_without_effect_or_sense_are_refused(settings, sentence):
    with pytest.raises(ConfigError, match=sentence):
        image(**settings)


def test_settings_that_the_data_refute_are_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"task.mean: has 3 numbers, and the images have 1 channels; give one a channel"):
        image(mean=[0.1, 0.2, 0.3]).load()
    with pytest.raises(ConfigError, match=r"task.test_share: has no effect: the data has a test part"):
        image(data=str(npz(tmp_path / "x.npz")), test_share=0.2).load()


# ---- from pixels to inputs


def test_scale_is_that_of_the_training_rows_and_given_numbers_win(tmp_path):
    data = image(data=str(npz(tmp_path / "x.npz"))).load()
    train, test = data.splits["train"], data.splits["test"]
    values = train.columns["pixels"] / 255
    assert np.allclose(train.columns["mean"][0], values.mean((0, 2, 3)), atol=6e-5)
    assert np.allclose(test.columns["std"][3], values.std((0, 2, 3)), atol=6e-5)
    task = image(data=str(tmp_path / "x.npz"), mean=[0.5, 0.4, 0.3], std=[0.2, 0.1, 0.5])
    encoded = task.encode(task.load().splits["test"], None)
    seen = task.view(encoded.batch([4])).inputs
    want = (draw(9, 6, 5, 3, seed=1)[4].transpose(2, 0, 1) / 255 - np.array([0.5, 0.4, 0.3])[:, None, None]) / np.array([0.2, 0.1, 0.5])[
        :, None, None
    ]
    assert set(seen) == {"pixel_values"} and np.allclose(seen["pixel_values"][0], want, atol=1e-5)
    assert encoded.fixed["pixel_values"].dtype == np.uint8 and task.settled(task.load()) == {
        "mean": [0.5, 0.4, 0.3],
        "std": [0.2, 0.1, 0.5],
    }
    assert task.head(task.load())["image_size"] == [6, 5]


def test_resizing_is_done_when_a_batch_is_made_and_changes_what_a_cache_is_named_by(tmp_path):
    path = str(npz(tmp_path / "x.npz"))
    plain, large = image(data=path), image(data=path, resize=12)
    one, two = (t.encode(t.load().splits["test"], None) for t in (plain, large))
    seen = large.view(two.batch([0, 5])).inputs["pixel_values"]
    own = plain.view(one.batch([0, 5])).inputs["pixel_values"]
    want = torch.nn.functional.interpolate(own, size=(12, 12), mode="bilinear", antialias=True)
    assert seen.shape == (2, 3, 12, 12) and torch.allclose(seen, want) and one.digest != two.digest
    assert large.head(large.load())["image_size"] == 12


def test_augmentation_crops_and_mirrors_as_a_loop_over_rows_does():
    task = image(augment=True, crop=2, mean=[0.0], std=[1.0])
    encoded = task.encode(task.load().splits["dev"], None)
    rows = list(range(40))
    seeds = by_row(7, rows)
    got = task.view(encoded.batch(rows), seeds).inputs["pixel_values"] * 255
    flipped, places = 0, set()
    for row, seed in zip(rows, seeds, strict=True):
        picture = np.pad(encoded.fixed["pixel_values"][row, 0], 2)
        found = [(d, a, f) for d in range(5) for a in range(5) for f in (0, 1)
                 if np.allclose(picture[d : d + 8, a : a + 8][:, :: -1 if f else 1], got[row, 0], atol=1e-3)]  # fmt: skip
        assert ((seed >> 1) % 5, (seed >> 24) % 5, seed % 2) in found, "the row's own seed says where"
        flipped += seed % 2
        places.add(((seed >> 1) % 5, (seed >> 24) % 5))
    assert 10 < flipped < 30 and len(places) > 12


def test_a_rows_draw_does_not_depend_on_its_batch():
    task = image(augment=True)
    encoded = task.encode(task.load().splits["dev"], None)
    together = task.view(encoded.batch([3, 9, 5]), by_row(1, [3, 9, 5])).inputs["pixel_values"]
    alone = task.view(encoded.batch([5]), by_row(1, [5])).inputs["pixel_values"]
    later = task.view(encoded.batch([5]), by_row(2, [5])).inputs["pixel_values"]
    assert torch.equal(together[2], alone[0]) and not torch.equal(alone, later)
    assert torch.equal(task.view(encoded.batch([5])).inputs["pixel_values"], image().view(encoded.batch([5]), [1]).inputs["pixel_values"])


# ---- trainings


class Plain(torch.nn.Module):
    """Two layers without normalisation."""

    def __init__(self, seed: int):
        super().__init__()
        torch.manual_seed(seed)
        self.inner, self.outer = torch.nn.Conv2d(1, 4, 3, padding=1), torch.nn.Linear(4 * 64, 3)
        self.seen: list[torch.Tensor] = []

    def forward(self, pixel_values):
        self.seen.append(pixel_values)
        return {"logits": self.outer(torch.relu(self.inner(pixel_values)).flatten(1))}


def network(seed: int, name: str = "resnet8"):
    torch.manual_seed(seed)
    return resnet.ConvNetForImageClassification(resnet.named(name, num_labels=3, num_channels=1, image_size=8))


def bench(folder: Path, method: str = "kd", augment: bool = True, **changes) -> Bench:
    task = image(augment=augment, crop=2) if augment else image()
    split = task.load().splits["dev"]
    encoded = task.encode(split, None)
    encoded.gold = encoded.gold % 3
    few = {k: v[:40] for k, v in encoded.fixed.items()}
    rows = type(encoded)({}, encoded.lengths[:40], encoded.gold[:40], fixed=few)
    plain = Training(steps=6, batch_size=8, learning_rate=1e-2, precision="float32", optimizer="sgd", clip=None, warmup=0.0)
    known = {"method": find("methods", method)(), "training": plain, "task": task, "data": rows, "dev": rows, "source": "auto"}
    return Bench(folder, **{**known, "student": Plain(2), "teacher": Plain(1), **changes})


@pytest.mark.parametrize("method", ["kd", "finetune"])
@pytest.mark.parametrize("micro", [1, 3])
def test_micro_batches_change_nothing_under_augmentation(tmp_path, method, micro):
    whole = bench(tmp_path / "a", method).run()
    made = bench(tmp_path / "b", method)
    made.training = dataclasses.replace(made.training, micro_batch=micro)
    cut = made.run()
    assert all(torch.allclose(whole[k], cut[k], atol=2e-6) for k in whole)
    still = bench(tmp_path / "c", method, augment=False).run()
    assert not all(torch.allclose(whole[k], still[k], atol=1e-4) for k in whole), "augmentation must reach the student"


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_resume_is_exact_with_batch_normalisation_and_augmentation(tmp_path, optimizer):
    def make(where: str, save: float = 1e9) -> Bench:
        training = Training(epochs=3, batch_size=8, learning_rate=1e-2, precision="float32", optimizer=optimizer)
        return bench(tmp_path / where, training=training, student=network(2), teacher=network(1), autosave=save)

    whole = make("a").run()
    with pytest.raises(Stop):
        make("b", 0.0).run(stop_at(7))
    resumed = make("b", 0.0).run()
    assert "student.body.stem.1.running_var" in whole and all(torch.equal(whole[k], resumed[k]) for k in whole)


def test_under_augmentation_teacher_and_student_see_the_same_images(tmp_path):
    made = bench(tmp_path)
    looks = []
    inner = made.teacher.forward
    made.teacher.forward = lambda pixel_values: (looks.append(pixel_values), inner(pixel_values))[1]
    made.run()
    taught = [x for x in made.student.seen if x.requires_grad is False and len(x) == 8][: len(looks)]
    assert len(looks) == 6 and all(any(torch.equal(x, y) for y in taught) for x in looks)
    assert not torch.equal(looks[0], looks[5])
    with pytest.raises(ConfigError, match=r"signals.source: inputs are drawn anew at every step \(task.augment\), so nothing is cached"):
        made = small(task={"kind": "image", "limit": 300, "augment": True}, signals={"source": "cached"})
        distill(made, out=tmp_path / "run", store=tmp_path / "store")
    assert not (tmp_path / "store" / "trainings").exists()


def test_without_augmentation_cached_and_live_signals_are_equal(tmp_path):
    made = bench(tmp_path, augment=False)
    machine, teacher = Machine(threads=1), made.teacher.eval()
    stored = Cache(tmp_path / "s", machine, Talk()).fetch(
        made.data, "w", {"logits": "example"}, torch.float32, lambda: teacher, "t", made.task.view
    )
    batch = made.task.view(made.data.batch([3, 30, 1]))
    for rows in (made.data, None):
        live = Live(teacher, rows, ("logits",), Inside(), machine, torch.float32, made.task.view)
        assert torch.allclose(live.of(batch).outputs["logits"], stored.of(batch).outputs["logits"], atol=1e-5)
    live, cached = (bench(tmp_path / s, augment=False, source=s).run() for s in ("live", "cached"))
    assert all(torch.allclose(live[k], cached[k], atol=1e-5) for k in live)


def small(**changes) -> dict:
    training = {"epochs": 2, "batch_size": 32, "optimizer": "sgd", "learning_rate": 0.05}
    return {
        "name": "small", "task": {"kind": "image", "limit": 300}, "teacher": {"model": "resnet8", "train": training},
        "student": "plane2", "method": {"kind": "kd"}, "compare": ["finetune"], "train": training, "threads": 1, "measure": False,
        **changes,
    }  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    return distill(small(), out=folder / "run", store=folder / "store")


def test_a_whole_distillation_learns_and_its_student_is_scored_alike_again(run):
    models = run.record["models"]
    assert models["teacher"]["test"]["primary"] > 0.5 and models["kd"]["test"]["primary"] > 0.5
    assert models["kd"]["layers"] == 3 and models["teacher"]["layers"] == 8
    again = evaluate(str(run.student), (), None, None)
    assert again["metrics"]["accuracy"] == pytest.approx(models["kd"]["test"]["primary"])
    settled = run.record["data"]["settled"]
    assert json.loads((run.student / "tutelage.json").read_text())["task"]["mean"] == settled["mean"] and 0.2 < settled["mean"][0] < 0.4


def test_other_images_are_scored_by_the_scale_of_training(run, tmp_path):
    digits, _ = image()._source().read()
    pixels, labels = digits["train"].pixels[:200, 0], digits["train"].labels[:200]
    np.savez(tmp_path / "same.npz", x_train=pixels, y_train=labels, x_test=pixels, y_test=labels)
    np.savez(tmp_path / "dark.npz", x_train=pixels // 8, y_train=labels, x_test=pixels, y_test=labels)
    same, dark = (evaluate(str(run.student), (f"data={tmp_path / name}",), None, None) for name in ("same.npz", "dark.npz"))
    assert same["rows"] == 200 and same["metrics"] == dark["metrics"] and same["metrics"]["accuracy"] > 0.5


def test_card_and_report_speak_of_images(run):
    card = (run.student / "README.md").read_text()
    assert "pipeline_tag: image-classification" in card and "base_model" not in card
    assert "An image classifier of" in card and "random weights in the shape of plane2" in card and "a resnet8, trained on the task" in card
    assert "Texts cut" not in run.report.read_text()


def test_the_cards_code_says_what_the_student_says(run, tmp_path, monkeypatch, capsys):
    pictures = pytest.importorskip("PIL.Image")
    task = image()
    split = task.load().splits["test"]
    pictures.fromarray(split.columns["pixels"][0, 0]).save(tmp_path / "image.png")
    [code] = (run.student / "README.md").read_text().split("```python\n")[1:]
    monkeypatch.chdir(tmp_path)
    exec(code.split("```")[0].replace("path/to/this/folder", str(run.student)), {})
    rows = [json.loads(line) for line in (run.folder / "examples-kd.jsonl").read_text().splitlines()]
    assert capsys.readouterr().out.strip() == rows[0]["predicted"]


def test_a_student_is_exported_and_agrees_also_as_int8(run, tmp_path):
    ort = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    facts = export(run.student, tmp_path / "onnx", int8=True, rows=(1, 2), seconds=0.02, threads=1)
    session = ort.InferenceSession(tmp_path / "onnx" / "model.onnx", providers=["CPUExecutionProvider"])
    x = torch.randn(7, 1, 8, 8)
    model = resnet.ConvNetForImageClassification.from_pretrained(run.student).eval()
    with torch.inference_mode():
        assert np.abs(session.run(["logits"], {"pixel_values": x.numpy()})[0] - model(x).logits.numpy()).max() < 1e-4
    assert facts["inputs"] == ["pixel_values"] and facts["files"]["model-int8.onnx"]["agreement"] > 0.8
    with pytest.raises(ConfigError, match="texts: have no effect on a model for images"):
        export(run.student, tmp_path / "other", texts=["a"])


def test_another_augmentation_is_another_training_and_runs_live(tmp_path):
    augmented = small(task={"kind": "image", "limit": 64, "augment": True, "flip": False, "crop": 1}, compare=[])
    result = distill(augmented, ["train.epochs=1", "teacher.train.epochs=1"], out=tmp_path / "a", store=tmp_path / "store")
    assert result.record["signals"]["source"] == "live"
    plain = distill(augmented, ["train.epochs=1", "teacher.train.epochs=1", "task.crop=2"], out=tmp_path / "b", store=tmp_path / "store")
    assert plain.record["models"]["kd"]["weights"] != result.record["models"]["kd"]["weights"]


def test_the_recipe_that_comes_along_is_accepted():
    made = recipe.load(Path(__file__).parents[1] / "recipes" / "digits.yaml")
    assert made.student.model == "resnet8" and made.train == made.teacher.train and isinstance(made.task, Image)


@pytest.mark.parametrize(("name", "rows", "labels"), [("cifar10", (8000, 2000), 10), ("cifar100", (4000, 1000), 100)])
def test_real_subsets_of_cifar_have_their_sizes_and_scale(name, rows, labels):
    path = Path(os.environ.get("TUTELAGE_DATA") or "/nowhere") / "vision" / f"{name}_subset.npz"
    if not path.exists():
        pytest.skip("TUTELAGE_DATA names no folder with vision/*_subset.npz")
    data = image(data=str(path)).load()
    assert len(data.splits["train"]) + len(data.splits["dev"]) == rows[0] and len(data.splits["test"]) == rows[1]
    assert len(data.labels) == labels and not data.labels[0].isdigit()
    published = {"cifar10": [0.4914, 0.4822, 0.4465], "cifar100": [0.5071, 0.4865, 0.4409]}[name]
    assert image(data=str(path)).settled(data)["mean"] == pytest.approx(published, abs=0.01)


def test_the_real_fashion_mnist_has_its_published_sizes():
    if not _images.idx_files(_images.FASHION):
        pytest.skip("Debian's package dataset-fashion-mnist is not installed")
    data = image(data="fashion_mnist").load()
    assert len(data.splits["train"]) + len(data.splits["dev"]) == 60000 and len(data.splits["test"]) == 10000
    assert np.bincount(data.splits["test"].gold).tolist() == [1000] * 10
