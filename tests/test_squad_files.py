"""SQuAD's files: what is read, what is refused, and how parts are cut."""

from __future__ import annotations

import json
import re

import pytest
from parts import articles
from spans import task, write

from tutelage.errors import ConfigError, DataError
from tutelage.tasks import _squad


def one_paragraph(context: str, *questions: dict) -> dict:
    return {"version": "1.1", "data": [{"title": "t", "paragraphs": [{"context": context, "qas": list(questions)}]}]}


GOOD = {"id": "q1", "question": "plot?", "answers": [{"text": "good", "answer_start": 4}]}


# ---- reading


def test_questions_are_read_with_their_articles_contexts_and_answers(tmp_path):
    part = _squad.read(write(tmp_path / "d.json", articles(3)))
    assert len(part) == 6 and part.titles == ["Article 0"] * 2 + ["Article 1"] * 2 + ["Article 2"] * 2
    assert all(q.context[start : start + len(text)] == text for q in part.questions for text, start in q.answers)
    split = part.split(False)
    assert _squad.of_split(split) == part.questions
    assert [split.columns["context"][i][a:b] for i, (a, b) in enumerate(split.gold)] == [q.answers[0][0] for q in part.questions]


@pytest.mark.parametrize(
    ("tree", "sentence"),
    [
        ("", "the file is empty"),
        ("question,answer\n", "not JSON: Expecting value at line 1"),
        (json.dumps(articles(3))[:-40], "the file is cut short"),
        (json.dumps(articles(3))[:700], "the file is cut short"),
        ("[1, 2]", "has no list 'data'; a SQuAD file is"),
        ({"data": [{"title": "t"}]}, "article 1: has no list 'paragraphs'"),
        ({"data": [{"title": "t", "paragraphs": [{"qas": []}]}]}, "article 1: has no text 'context'"),
        (one_paragraph("the good plot", {"question": "plot?", "answers": []}), "has no text 'id'"),
        ({"version": "1.1", "data": []}, "holds no question"),
        (one_paragraph("the good plot"), "holds no question"),
        (one_paragraph("the good plot", GOOD, GOOD), "the id 'q1' stands at more than one question"),
        (
            one_paragraph("the bad plot", GOOD),
            "question 'q1': its answer 'good' is not at character 4 of its context ('bad ' stands there)",
        ),
        (one_paragraph("the", GOOD), "question 'q1': its answer 'good' is not at character 4 of its context (the context has 3"),
        (one_paragraph("the good plot", GOOD | {"answers": [{"text": "good", "answer_start": -9}]}), "is not at character -9"),
        (
            one_paragraph("the good plot", GOOD | {"answers": [{"text": " ", "answer_start": 3}]}),
            "question 'q1': has an answer without text",
        ),
        (one_paragraph("the good plot", GOOD | {"answers": []}), "question 'q1': has no answer; mark it is_impossible"),
        (one_paragraph("the good plot", GOOD | {"is_impossible": True}), "question 'q1': is marked is_impossible and has an answer"),
    ],
)
def test_what_is_wrong_with_a_file_is_one_sentence_that_names_it(tree, sentence, tmp_path):
    path = write(tmp_path / "d.json", tree)
    with pytest.raises(DataError, match=re.escape(sentence)) as fault:
        task(data=str(path)).load()
    assert str(fault.value).startswith(str(path)) and "\n" not in str(fault.value)


def test_what_is_no_file_is_one_sentence(tmp_path):
    with pytest.raises(DataError, match=r"no such file; did you mean 'train\.json'"):
        write(tmp_path / "train.json", articles(3))
        task(data=str(tmp_path / "trian.json")).load()
    with pytest.raises(DataError, match="a folder where a file is needed"):
        task(data=str(tmp_path)).load()
    with pytest.raises(DataError, match="no such file; give a SQuAD file"):
        task(data="squad").load()
    (tmp_path / "latin.json").write_bytes('{"data": "é"}'.encode("latin-1"))
    with pytest.raises(DataError, match=r"latin.json, line 1: is not UTF-8 \(byte 0xe9\)"):
        task(data=str(tmp_path / "latin.json")).load()


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"data": None}, "data: names no questions"),
        ({"train": "t.json"}, "data: has no effect beside task.train"),
        ({"stride": 12}, "stride: 12 leaves no room in windows of 24 tokens; below 12"),
        ({"dev_share": 0.6, "test_share": 0.5}, "leave nothing to train on"),
        ({"dev": "d.json", "dev_share": 0.2}, "dev_share: has no effect: task.dev is a file"),
    ],
)
def test_settings_without_sense_are_refused(settings, sentence):
    with pytest.raises(ConfigError, match=sentence):
        task(**settings)


def test_a_hub_data_set_has_the_same_questions(tmp_path):
    part = _squad.read(write(tmp_path / "d.json", articles(4, unanswerable=True)))
    table = [
        {
            "id": q.id, "title": q.title, "context": q.context, "question": q.text,
            "answers": {"text": [t for t, _ in q.answers], "answer_start": [s for _, s in q.answers]},
        }
        for q in part.questions
    ]  # fmt: skip
    datasets = pytest.importorskip("datasets")
    assert _squad.from_hub(datasets.Dataset.from_list(table), "own/squad train").questions == part.questions
    with pytest.raises(DataError, match="no column 'title'"):
        _squad.from_hub(datasets.Dataset.from_list(table).remove_columns("title"), "own/squad train")


# ---- parts


def test_no_article_is_in_two_parts_and_other_articles_move_none(tmp_path):
    whole = articles(40)
    data = task(data=str(write(tmp_path / "d.json", whole)), dev_share=0.2, test_share=0.2).load()
    titles = {name: set(split.columns["title"]) for name, split in data.splits.items()}
    assert list(titles) == ["train", "dev", "test"] and sum(map(len, titles.values())) == 40 == len(set.union(*titles.values()))
    assert "cut from the 40 articles by a hash of their title" in data.notes[0]
    fewer = {**whole, "data": list(reversed(whole["data"][:30]))}
    again = task(data=str(write(tmp_path / "e.json", fewer)), dev_share=0.2, test_share=0.2).load()
    assert all(set(split.columns["title"]) <= titles[name] for name, split in again.splits.items())


def test_too_few_articles_to_cut_are_refused(tmp_path):
    with pytest.raises(DataError, match="too few articles to cut test and dev from its 2"):
        task(data=str(write(tmp_path / "d.json", articles(2)))).load()


def test_files_of_their_own_are_kept_and_shared_articles_are_said(tmp_path):
    files = {name: str(write(tmp_path / f"{name}.json", articles(5, seed=i))) for i, name in enumerate(("train", "dev", "test"))}
    made = task(data=None, **files)
    data = made.load()
    assert [len(split) for split in data.splits.values()] == [10, 10, 10]
    assert data.notes[:2] == ("dev: 5 of 5 articles stand in train too", "test: 5 of 5 articles stand in train too")
    assert [str(p) for p in made.files()] == list(files.values())


def test_a_limit_takes_the_same_questions_whatever_the_order_of_the_file(tmp_path):
    whole = articles(20)
    turned = {**whole, "data": whole["data"][::-1]}
    ids = [set(task(data=str(write(tmp_path / "d.json", tree)), limit=7).load().splits["train"].columns["id"]) for tree in (whole, turned)]
    assert ids[0] == ids[1] and len(ids[0]) == 7
