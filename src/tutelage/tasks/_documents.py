"""Tasks whose rows are whole documents of one or three files: reading them, and cutting what is missing of dev and test."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ..errors import DataError
from ._parts import Part, cut, cut_note, leaks, missing_shares


def faults(task: Any) -> Iterator[tuple[str, str]]:
    """What is wrong with a task's settings data, train, dev, test and their shares."""
    if (task.data is None) == (task.train is None):
        yield "data", "names the text, or task.train does; give exactly one of the two"
    if task.dev_share + task.test_share >= 1:
        yield "dev_share", f"{task.dev_share} and test_share {task.test_share} leave nothing to train on; lower them"
    for name in ("dev", "test"):
        if getattr(task, name) and getattr(task, f"{name}_share") != getattr(type(task), f"{name}_share"):
            yield f"{name}_share", f"has no effect: task.{name} is given; leave it out"


def parts_of(task: Any, read: Callable[[str], Part]) -> tuple[dict[str, Part], list[str]]:
    """Train, dev and test with what a user should hear of them; missing ones are cut off train by a hash of each document's text.

    Raises DataError for too few documents to cut from.
    """
    parts = {"train": read(task.train or task.data or "")}
    parts |= {name: read(own) for name in ("dev", "test") if (own := getattr(task, name))}
    notes = [*(part.note for part in parts.values() if part.note), *leaks(parts, "a document")]
    if shares := missing_shares(task, parts):
        whole = parts["train"]
        if len(whole) < 20:
            what = f"{len(whole)} documents are too few to cut {' and '.join(shares)} from"
            raise DataError(f"{whole.source}: {what}; name texts for them with task.dev= and task.test=")
        made = cut(whole, shares)
        parts |= made
        notes.append(cut_note(whole, made, shares, "text", "documents"))
    for name, most in (("train", task.limit), ("dev", task.dev_limit), ("test", task.test_limit)):
        if most is not None and most < len(parts[name]):
            setting = "limit" if name == "train" else f"{name}_limit"
            notes.append(f"{name}: {most} of {len(parts[name])} documents, drawn by the hash of their text (task.{setting})")
            parts[name] = parts[name].first(most)
    return {name: parts[name] for name in ("train", "dev", "test")}, notes


def files(task: Any, is_plain: Callable[[Path], bool]) -> Iterator[Path]:
    """Local files the documents come from."""
    for name in dict.fromkeys((task.train or task.data, task.dev, task.test, getattr(task, "unlabelled", None))):
        if name and os.path.exists(path := Path(name).expanduser()):
            yield from sorted(f for f in path.rglob("*") if is_plain(f)) if path.is_dir() else (path,)
