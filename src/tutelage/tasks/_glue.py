"""The nine tasks of GLUE in their official files: where they lie, their columns, label names and metrics.

Source: Wang et al. 2019, arXiv:1804.07461, table 1; the integer order of labels is that of the Hugging Face data set.
"""

from __future__ import annotations

import dataclasses
import functools
import os
from pathlib import Path

from ..errors import DataError
from ._parts import Part, Source, joined
from ._tables import is_missing, read_plain

Files = tuple[tuple[str, ...], ...]


@dataclasses.dataclass(frozen=True)
class Glue:
    """One task's files."""

    folder: str
    text: str
    pair: str | None
    label: str
    labels: dict[str, str]
    """Label in the file -> name, in order; empty for scores."""
    metrics: tuple[str, ...] = ("accuracy",)
    """The benchmark's own, the one that selects first."""
    train: Files = (("train.tsv",),)
    """Choices; the first whose files are all there is read."""
    test: Files = (("dev.tsv",),)
    mismatched: Files = ()
    header: tuple[str, ...] | None = None
    """Names for the columns of files without a header."""


_RTE = {"entailment": "entailment", "not_entailment": "not_entailment"}
TASKS = {
    "cola": Glue(
        "CoLA", "text", None, "label", {"0": "unacceptable", "1": "acceptable"}, ("mcc",),
        train=(("train.tsv",), ("in_domain_train.tsv",)),
        test=(("dev.tsv",), ("in_domain_dev.tsv", "out_of_domain_dev.tsv")),
        header=("source", "label", "mark", "text"),
    ),
    "sst2": Glue("SST-2", "sentence", None, "label", {"0": "negative", "1": "positive"}),
    "mrpc": Glue(
        "MRPC", "#1 String", "#2 String", "Quality", {"0": "not_equivalent", "1": "equivalent"}, ("f1", "accuracy"),
        train=(("train.tsv",), ("msr_paraphrase_train.txt",)),
        test=(("dev.tsv",), ("msr_paraphrase_test.txt",)),
    ),
    "qqp": Glue(
        "QQP", "question1", "question2", "is_duplicate", {"0": "not_duplicate", "1": "duplicate"}, ("f1", "accuracy")
    ),
    "stsb": Glue("STS-B", "sentence1", "sentence2", "score", {}, ("pearson", "spearman")),
    "mnli": Glue(
        "MNLI", "sentence1", "sentence2", "gold_label", {x: x for x in ("entailment", "neutral", "contradiction")},
        test=(("dev_matched.tsv",),), mismatched=(("dev_mismatched.tsv",),),
    ),
    "qnli": Glue("QNLI", "question", "sentence", "label", _RTE),
    "rte": Glue("RTE", "sentence1", "sentence2", "label", _RTE),
    "wnli": Glue("WNLI", "sentence1", "sentence2", "label", {"0": "not_entailment", "1": "entailment"}),
}  # fmt: skip


def source(name: str, folder: str | None) -> Source:
    """The parts of a GLUE task: 'train' from its train part, 'test' (and 'test_mismatched') from its dev part.

    Files are sought in `folder`, else in the folder named by TUTELAGE_DATA; raises DataError where they are not.
    """
    task = TASKS[name]
    place = _place(name, task, folder)
    wanted = {"train": task.train, "test": task.test, **({"test_mismatched": task.mismatched} if task.mismatched else {})}
    files = {part: _choose(name, place, choices) for part, choices in wanted.items()}
    mismatched = "; the mismatched dev part is test_mismatched" if task.mismatched else ""
    note = f"{name}: GLUE's dev part serves as test, because the labels of its test part are not public{mismatched}"
    if any("msr_paraphrase" in p.name for p in files["test"]):
        note = f"{name}: the corpus's own test part serves as test"
    parts = {part: functools.partial(_read_all, name, task, paths) for part, paths in files.items()}
    return Source(parts, files, tuple(task.labels.values()), (note,))


def _place(name: str, task: Glue, folder: str | None) -> Path:
    given = folder or os.environ.get("TUTELAGE_DATA")
    if not given:
        raise DataError(f"task.data={name}: needs GLUE's files; name their folder with task.folder= or TUTELAGE_DATA")
    root = Path(given).expanduser()
    places = [root / task.folder, root / "glue" / task.folder, root / "nlu" / task.folder]
    found = next((p for p in places if os.path.isdir(p)), None)
    if found is None:
        which = "task.folder" if folder else "TUTELAGE_DATA"
        sought = f"{root}/{{, glue/, nlu/}}{task.folder}"
        raise DataError(f"task.data={name}: no folder {sought}; {which} must name the folder that holds {task.folder}")
    if not os.access(found, os.R_OK | os.X_OK):
        raise DataError(f"{found}: the folder cannot be read; check its permissions")
    return found


def _choose(name: str, place: Path, choices: Files) -> tuple[Path, ...]:
    for choice in choices:
        if all((place / file).is_file() for file in choice):
            return tuple(place / file for file in choice)
    wanted = " or ".join(" and ".join(choice) for choice in choices)
    there = ", ".join(sorted(p.name for p in place.iterdir())) or "nothing"
    raise DataError(f"{place}: no {wanted} for {name} (there: {there}); other files go into task.train and task.test")


def _read_all(name: str, task: Glue, paths: tuple[Path, ...]) -> Part:
    return joined([_read(name, task, path) for path in paths])


def _read(name: str, task: Glue, path: Path) -> Part:
    """Rows without text or with no label of the task are left out and counted, as lines with missing columns are."""
    wanted = [x for x in (task.text, task.pair, task.label) if x is not None]
    table = read_plain(path, wanted, task.header)
    columns = table.columns
    texts, labels = columns[task.text], [x.strip() for x in columns[task.label]]
    pairs = columns[task.pair] if task.pair else None
    good = [i for i, text in enumerate(texts) if text.strip() and (pairs is None or pairs[i].strip())]
    if task.labels:
        good = [i for i in good if labels[i] in task.labels]
        made: list[str | float] = [task.labels.get(label, "") for label in labels]
    else:
        good = [i for i in good if not is_missing(labels[i])]
        made = [0.0 if is_missing(label) else _score(path, i, label) for i, label in enumerate(labels)]
    if not good:
        raise DataError(f"{path}: no row has both text and a label of {name}; is this the file of another part?")
    lost = len(texts) - len(good) + table.broken
    note = f"{path.name}: {lost} of {lost + len(good)} rows left out for missing columns, text or label" if lost else ""
    return Part(texts, pairs, made, table.rows, str(path), note).take(good)


def _score(path: Path, index: int, label: str) -> float:
    try:
        return float(label)
    except ValueError:
        raise DataError(f"{path}, row {index + 1}: '{label}' where a score is expected") from None
