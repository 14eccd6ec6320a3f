"""Parts of a data set before their labels are numbered, and the cut of one part into several."""

from __future__ import annotations

import dataclasses
import hashlib
import unicodedata
from collections.abc import Callable, Mapping, Sequence, Sized
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np

from ..errors import ConfigError, DataError


@dataclasses.dataclass(frozen=True)
class Part:
    """Rows of one or more files, with labels by name."""

    texts: list[str]
    pairs: list[str] | None
    labels: list[Any] | None
    """A name, a list of names or a number a row; None where the part has no labels."""
    rows: list[int]
    """Row numbers as a user counts them in the file, from 1."""
    source: str
    """The file or data set, for messages and the record."""
    note: str = ""
    ids: Sequence[int] = ()
    """Places in the source, from 0, once `numbered`; a cut keeps them."""
    total: int = 0
    """Rows of the source."""

    def __len__(self) -> int:
        return len(self.texts)

    def take(self, index: Sequence[int] | np.ndarray) -> Part:
        """The rows numbered `index` (from 0)."""
        pick = [int(i) for i in index]
        names = ("texts", "pairs", "labels", "rows", "ids")
        columns: dict[str, Any] = {name: getattr(self, name) for name in names}
        changes: dict[str, Any] = {k: [v[i] for i in pick] if v else v for k, v in columns.items()}
        return dataclasses.replace(self, **changes)

    def numbered(self) -> Part:
        """The rows numbered from 0, as all that the source has."""
        return dataclasses.replace(self, ids=range(len(self)), total=len(self))

    def keys(self) -> np.ndarray:
        """(rows,) of uint64: a hash of each row's text and pair, the same for texts that differ in case or blanks only."""
        both = zip(self.texts, self.pairs, strict=True) if self.pairs is not None else ((t,) for t in self.texts)
        return np.array([key(row) for row in both], dtype=np.uint64)

    def first(self, limit: int) -> Part:
        """At most `limit` rows, drawn by the hash of their text: the same rows whatever the order of the file."""
        return self.take(np.sort(np.argsort(self.keys(), kind="stable")[:limit]))


def key(row: tuple[str, ...]) -> int:
    """A hash of texts, the same for texts that differ in case or blanks only; below 2^64."""
    plain = "\x00".join(" ".join(unicodedata.normalize("NFKC", text).casefold().split()) for text in row)
    return int.from_bytes(hashlib.sha256(plain.encode("utf-8", "surrogatepass")).digest()[:8], "big")


@dataclasses.dataclass(frozen=True)
class Source:
    """Where the parts of a data set come from; a part is read when its function is called."""

    parts: Mapping[str, Callable[[], Part]]
    files: Mapping[str, tuple[Path, ...]]
    """Local files of each part."""
    labels: tuple[str, ...] = ()
    """Label names in order, where the source fixes them."""
    notes: tuple[str, ...] = ()


def joined(parts: Sequence[Part]) -> Part:
    """Several parts of the same columns as one; row numbers stay those of each file."""
    if len(parts) == 1:
        return parts[0]
    pairs = None if parts[0].pairs is None else [x for p in parts for x in p.pairs or ()]
    labels = None if parts[0].labels is None else [x for p in parts for x in p.labels or ()]
    return Part(
        [x for p in parts for x in p.texts],
        pairs,
        labels,
        [x for p in parts for x in p.rows],
        " + ".join(p.source for p in parts),
        "; ".join(p.note for p in parts if p.note),
    )


def labelled_and_bare(train: Part, beside: Part | None) -> tuple[Part, Part | None]:
    """The rows of train that have a label; and those that have none, then the rows `beside` train's source, as one part.

    The second is numbered through train's source and then the other's.
    """
    bare = [i for i, label in enumerate(train.labels or ()) if label is None]
    parts = [dataclasses.replace(train.take(bare), labels=None)] if bare else []
    if beside is not None:
        parts.append(dataclasses.replace(beside, ids=[train.total + i for i in beside.ids]))
    if not parts:
        return train, None
    both = dataclasses.replace(joined(parts), ids=[i for p in parts for i in p.ids], total=train.total + len(beside or ()))
    kept = set(bare)
    return train.take([i for i in range(len(train)) if i not in kept]) if bare else train, both


def relabelled(part: Part, rename: Mapping[str, str], drop: Sequence[str]) -> Part:
    """A part with labels of other names, without the rows of labels in `drop`."""
    if part.labels is None or not (rename or drop):
        return part
    rows = [label if isinstance(label, list) else [label] for label in part.labels]
    keep = [i for i, names in enumerate(rows) if not set(names) & set(drop)]
    made = [list(dict.fromkeys(rename.get(name, name) for name in rows[i])) for i in keep]
    several = any(isinstance(label, list) for label in part.labels)
    return dataclasses.replace(part.take(keep), labels=made if several else [name for [name] in made])


class Rows(Protocol):
    """Rows that can be cut: of text or of images."""

    @property
    def source(self) -> str: ...
    def __len__(self) -> int: ...
    def keys(self) -> np.ndarray: ...
    def take(self: R, index: Sequence[int] | np.ndarray) -> R: ...


R = TypeVar("R", bound=Rows)


def cut(part: R, shares: Mapping[str, float]) -> dict[str, R]:
    """Cut parts off by the hash of each row's content; what is left is 'train'.

    Rows of equal content go to the same part, and a row's part does not depend on the other rows or their order;
    only a part that would be empty takes the row that lies next to it. A part is its share of all different rows in
    expectation, not exactly.
    """
    return {name: part.take(index) for name, index in cut_keys(part.keys(), shares).items()}


def cut_keys(keys: np.ndarray, shares: Mapping[str, float]) -> dict[str, np.ndarray]:
    """The numbers of the rows of each part by their hashes (rows,), as `cut` has it; 'train' first."""
    high, left = 0.0, np.ones(len(keys), dtype=bool)
    out = {}
    for name, share in shares.items():
        high += share
        mine = left & (keys / 2.0**64 < high)
        if left.any() and not mine.any():
            mine = keys == keys[left].min()
        out[name] = np.flatnonzero(mine)
        left &= ~mine
    return {"train": np.flatnonzero(left), **out}


def missing_shares(task: Any, parts: Mapping[str, Any]) -> dict[str, float]:
    """What share of train to cut off for each of test and dev that the data lacks, by the task's settings of that name.

    Raises ConfigError for a share that is set though the data has the part.
    """
    for name in ("dev", "test"):
        share = f"{name}_share"
        if name in parts and getattr(task, share) != getattr(type(task), share):
            raise ConfigError([(f"task.{share}", f"has no effect: the data has a {name} part; leave it out")])
    return {name: getattr(task, f"{name}_share") for name in ("test", "dev") if name not in parts}


def cut_missing(task: Any, parts: dict[str, R], what: str, by: str) -> tuple[dict[str, R], list[str]]:
    """All parts, those that the data lacks cut from train by a hash of each row's content, and a note that says so.

    `what` names the rows, as in 'texts', `by` what is hashed. Raises DataError for too few different rows, and as `missing_shares` does.
    """
    shares = missing_shares(task, parts)
    if not shares:
        return parts, []
    whole = parts["train"]
    made = cut(whole, shares)
    if not all(len(part) for part in made.values()):
        why = f"too few different {what} to cut {' and '.join(shares)} from its {len(whole)} rows"
        raise DataError(f"{whole.source}: {why}; name files with task.dev= and task.test=")
    return {**parts, **made}, [cut_note(whole, made, shares, by)]


def cut_note(whole: Sized, made: Mapping[str, Sized], shares: Mapping[str, float], by: str, rows: str = "training rows") -> str:
    """A sentence that says which parts were cut from the training rows by a hash of their `by`."""
    sizes = ", ".join(f"{name} {len(made[name])}" for name in ("train", "dev", "test") if name in made)
    words = " and ".join(f"{name} ({shares[name]:.0%})" for name in ("dev", "test") if name in shares)
    return f"{words} cut from the {len(whole)} {rows} by a hash of their {by}: {sizes}"


def leaks(parts: Mapping[str, Any], what: str = "a text") -> list[str]:
    """A sentence for each part whose rows have a content, such as a text (and pair), that stands in 'train' too."""
    train = parts["train"].keys()
    out = []
    for name, part in parts.items():
        if name.startswith(("dev", "test")):
            shared = int(np.isin(part.keys(), train).sum())
            out += [f"{name}: {shared} of {len(part)} rows have {what} that stands in train too"] if shared else []
    return out


def place(part: str) -> tuple[int, str]:
    """Sorts the names of parts: train, dev, test, others."""
    order = ("train", "dev", "test")
    return (order.index(part) if part in order else len(order), part)
