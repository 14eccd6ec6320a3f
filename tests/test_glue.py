"""The nine GLUE tasks in their official files, made here in small, and the real ones where TUTELAGE_DATA has them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tutelage import config
from tutelage.errors import DataError
from tutelage.tasks.classify import Classify

MNLI = [
    "index", "promptID", "pairID", "genre", "sentence1_binary_parse", "sentence2_binary_parse", "sentence1_parse",
    "sentence2_parse", "sentence1", "sentence2",
]  # fmt: skip
STSB = ["index", "genre", "filename", "year", "old_index", "source1", "source2", "sentence1", "sentence2", "score"]
YES = ("entailment", "not_entailment")
MRPC = ["Quality", "#1 ID", "#2 ID", "#1 String", "#2 String"]
QQP = ["id", "qid1", "qid2", "question1", "question2", "is_duplicate"]
LAYOUTS: dict[str, tuple] = {
    # name: folder, columns of train, columns of dev, label, dev's file, values in the file, names in order
    "sst2": ("SST-2", ["sentence", "label"], None, "dev.tsv", ["0", "1"], ("negative", "positive")),
    "mrpc": ("MRPC", MRPC, None, "dev.tsv", ["0", "1"], ("not_equivalent", "equivalent")),
    "qqp": ("QQP", QQP, None, "dev.tsv", ["0", "1"], ("not_duplicate", "duplicate")),
    "stsb": ("STS-B", STSB, None, "dev.tsv", ["0.000", "3.800"], ()),
    "mnli": (
        "MNLI", [*MNLI, "label1", "gold_label"], [*MNLI, "label1", "label2", "label3", "label4", "label5", "gold_label"],
        "dev_matched.tsv", ["entailment", "neutral", "contradiction"], ("entailment", "neutral", "contradiction"),
    ),
    "qnli": ("QNLI", ["index", "question", "sentence", "label"], None, "dev.tsv", YES, YES),
    "rte": ("RTE", ["index", "sentence1", "sentence2", "label"], None, "dev.tsv", YES, YES),
    "wnli": ("WNLI", ["index", "sentence1", "sentence2", "label"], None, "dev.tsv", ["0", "1"], ("not_entailment", "entailment")),
}  # fmt: skip
LABELS = ("label", "Quality", "is_duplicate", "score", "gold_label")


def classify(**settings) -> Classify:
    return config.build(Classify, settings)


def write(path: Path, columns: list[str], values: list[str], rows: int) -> None:
    """Rows whose every cell says its column and row, labels apart."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = ["\t".join(columns)]
    lines += ["\t".join(values[i % len(values)] if c in LABELS else f'"{path.stem} {c} {i}' for c in columns) for i in range(rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


@pytest.mark.parametrize("place", ["", "glue", "nlu"])
@pytest.mark.parametrize("name", LAYOUTS)
def test_official_files_are_read_by_their_headers_and_without_quoting(tmp_path, monkeypatch, name, place):
    folder, train, dev, file, values, labels = LAYOUTS[name]
    home = tmp_path / place / folder
    write(home / "train.tsv", train, values, 60)
    write(home / file, dev or train, values, 12)
    write(home / "dev_mismatched.tsv", dev or train, values, 9)
    monkeypatch.setenv("TUTELAGE_DATA", str(tmp_path))
    task = classify(data=name)
    data = task.load()
    assert data.labels == labels
    assert len(data.splits["train"]) + len(data.splits["dev"]) == 60 and len(data.splits["test"]) == 12
    test = data.splits["test"]
    text, pair = next(c for c in ("sentence", "#1 String", "question1", "sentence1", "question") if c in train), None
    if name != "sst2":
        pair = next(c for c in ("#2 String", "question2", "sentence2", "sentence") if c in train)
    text = "question" if name == "qnli" else text
    stem = file.removesuffix(".tsv")
    assert test.columns["text"][:2] == [f'"{stem} {text} 0', f'"{stem} {text} 1']
    assert test.columns.get("pair", [None])[0] == (pair and f'"{stem} {pair} 0')
    assert test.gold[:4].tolist() == pytest.approx([0.0, 3.8, 0.0, 3.8] if name == "stsb" else [i % len(values) for i in range(4)])
    assert task.kind == ("value" if name == "stsb" else "choice")
    assert ("test_mismatched" in data.splits) == (name == "mnli")
    assert any("GLUE's dev part serves as test" in note for note in data.notes)
    assert any(note.startswith("dev (10%) cut from the 60 training rows") for note in data.notes)
    assert {p.parent for p in task.files()} == {home}


@pytest.mark.parametrize("raw", [False, True])
def test_cola_has_four_columns_and_no_header_in_either_of_its_layouts(tmp_path, raw):
    home = tmp_path / "CoLA"
    home.mkdir()
    rows = [f'gj04\t{i % 2}\t{"*" * (1 - i % 2)}\t"The {i} sailors.' for i in range(40)]
    (home / ("in_domain_train.tsv" if raw else "train.tsv")).write_text("\n".join(rows))
    (home / ("in_domain_dev.tsv" if raw else "dev.tsv")).write_text("x\t1\t\tOne.\ny\t0\t*\tTwo.\n")
    if raw:
        (home / "out_of_domain_dev.tsv").write_text("z\t1\t\tThree.\n")
    data = classify(data="cola", folder=str(tmp_path)).load()
    assert data.labels == ("unacceptable", "acceptable")
    assert data.splits["test"].columns["text"] == ["One.", "Two.", "Three."][: 2 + raw]
    assert data.splits["test"].gold.tolist() == [1, 0, 1][: 2 + raw]
    assert len(data.splits["train"]) + len(data.splits["dev"]) == 40


def test_mrpc_is_read_from_the_corpus_own_files_with_their_byte_order_mark(tmp_path):
    columns = LAYOUTS["mrpc"][1]
    for part, rows in (("train", 30), ("test", 5)):
        file = tmp_path / "MRPC" / f"msr_paraphrase_{part}.txt"
        write(file, columns, ["0", "1"], rows)
        file.write_text("\ufeff" + file.read_text(), encoding="utf-8")
    data = classify(data="mrpc", folder=str(tmp_path)).load()
    assert len(data.splits["test"]) == 5 and data.labels == ("not_equivalent", "equivalent")
    assert any("the corpus's own test part serves as test" in note for note in data.notes)


def test_broken_lines_of_a_benchmark_are_left_out_and_said(tmp_path):
    home = tmp_path / "QQP"
    columns = LAYOUTS["qqp"][1]
    write(home / "train.tsv", columns, ["0", "1"], 40)
    write(home / "dev.tsv", columns, ["0", "1"], 6)
    with open(home / "train.tsv", "a") as handle:
        handle.write("1\t2\t3\tcut short\n1\t2\t3\tone\t\t1\n1\t2\t3\tone\ttwo\t-\n")
    data = classify(data="qqp", folder=str(tmp_path)).load()
    assert len(data.splits["train"]) + len(data.splits["dev"]) == 40
    assert "train.tsv: 3 of 43 rows left out for missing columns, text or label" in data.notes


def test_files_that_are_not_where_they_should_be_are_named(tmp_path, monkeypatch):
    monkeypatch.delenv("TUTELAGE_DATA", raising=False)
    with pytest.raises(DataError, match=r"task.data=rte: needs GLUE's files; name their folder with task.folder= or TUTELAGE_DATA"):
        classify(data="rte").load()
    with pytest.raises(DataError, match=r"no folder .*/\{, glue/, nlu/\}RTE; task.folder must name the folder that holds RTE"):
        classify(data="rte", folder=str(tmp_path)).load()
    write(tmp_path / "RTE" / "dev.tsv", LAYOUTS["rte"][1], ["entailment"], 3)
    with pytest.raises(DataError, match=r"RTE: no train.tsv for rte \(there: dev.tsv\); other files go into task.train"):
        classify(data="rte", folder=str(tmp_path)).load()


def test_a_test_part_without_labels_is_not_taken_for_one_with(tmp_path):
    write(tmp_path / "RTE" / "train.tsv", LAYOUTS["rte"][1], ["entailment", "not_entailment"], 9)
    write(tmp_path / "RTE" / "dev.tsv", ["index", "sentence1", "sentence2"], [], 3)
    with pytest.raises(DataError, match=r"dev.tsv: no column 'label' \(columns: index, sentence1, sentence2\)"):
        classify(data="rte", folder=str(tmp_path)).load()
    write(tmp_path / "RTE" / "dev.tsv", LAYOUTS["rte"][1], ["-"], 3)
    with pytest.raises(DataError, match=r"dev.tsv: no row has both text and a label of rte"):
        classify(data="rte", folder=str(tmp_path)).load()


REAL = {"cola": (8551, 1043), "sst2": (67349, 872), "mrpc": (3668, 408), "stsb": (5749, 1500), "rte": (2490, 277), "wnli": (635, 71)}


@pytest.mark.parametrize("name", REAL)
def test_the_real_files_have_their_published_sizes(name):
    if not os.environ.get("TUTELAGE_DATA"):
        pytest.skip("TUTELAGE_DATA names no folder with GLUE's files")
    try:
        data = classify(data=name).load()
    except DataError as fault:
        pytest.skip(str(fault))
    train, test = REAL[name]
    assert len(data.splits["train"]) + len(data.splits["dev"]) == train and len(data.splits["test"]) == test
    assert not any("left out" in note for note in data.notes)
