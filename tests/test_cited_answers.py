"""Judged answers as a language task: who is learned, what is predicted, and how long quotes give way."""

from __future__ import annotations

import json
import math

import decoders
import numpy as np
import parts
import pytest

import tutelage
from tutelage import config
from tutelage.cited import hagrid
from tutelage.errors import ConfigError, DataError
from tutelage.tasks._packing import NO_TARGET
from tutelage.tasks.cited_answers import CitedAnswers

TEMPLATE = (
    "{% for m in messages %}{{ m.role == 'user' and 'the' or 'a' }} {{ m.content }} {% endfor %}{% if add_generation_prompt %}a {% endif %}"
)


def tokenizer():
    words = parts.tokenizer()
    words.chat_template = TEMPLATE
    return words


def question(number: int, *answers: dict, quote: str = "the film was good") -> hagrid.Question:
    quotes = [{"idx": 0, "docid": "x#0", "text": quote}]
    return hagrid.Question.model_validate({"query_id": str(number), "query": "the plot was", "quotes": quotes, "answers": list(answers)})


def answer(text="good film", informative=1, attributable=1, kind="short") -> dict:
    return {"answer": text, "answer_type": kind, "informative": informative, "attributable": attributable}


@pytest.fixture
def file(tmp_path):
    many = [question(i, answer(), answer("bad plot", attributable=None), answer("poor cast", informative=0)) for i in range(40)]
    hagrid.write(many, tmp_path / "judged.jsonl")
    return tmp_path / "judged.jsonl"


def task(file, **changes):
    return config.build(CitedAnswers, {"data": str(file), "dev_share": 0.2, "test_share": 0.2, **changes})


@pytest.mark.parametrize(("labels", "each"), [("both", 1), ("informative", 2), ("any", 3)])
def test_which_answers_are_learned_and_parts_are_cut_by_question(file, labels, each):
    made = task(file, labels=labels)
    data = made.load()
    ids = [{json.loads(text)["query_id"] for text in split.columns["text"]} for split in data.splits.values()]
    assert sum(map(len, ids)) == 40 == len(set.union(*ids))
    assert sum(len(made.encode(split, tokenizer())) for split in data.splits.values()) == 40 * each


def test_the_answer_alone_is_predicted_behind_its_prompt(file):
    made = task(file)
    encoded = made.encode(made.load().splits["train"], tokenizer())
    batch = encoded.batch(np.arange(2))
    target = batch.extra["target"][0]
    words = tokenizer().convert_ids_to_tokens([int(t) + NO_TARGET for t in target if t > 0])
    assert words == ["good", "film"]
    at = int((target > 0).nonzero()[0, 0])
    before = int(batch.inputs["input_ids"][0, at])
    assert tokenizer().convert_ids_to_tokens([before]) == ["a"], "the first is predicted from the turn's head"
    assert batch.inputs["position_ids"][0, : int(encoded.lengths[0])].tolist() == list(range(int(encoded.lengths[0])))


def test_long_quotes_give_way_and_are_told(tmp_path):
    hagrid.write([question(i, answer(), quote="very " * 400) for i in range(30)], tmp_path / "long.jsonl")
    made = task(tmp_path / "long.jsonl", tokens=200)
    encoded = made.encode(made.load().splits["train"], tokenizer())
    assert encoded.truncated == len(encoded) and 190 < encoded.lengths.max() <= 200
    assert (encoded.extra["target"] > 0).sum() == 2 * len(encoded), "the answer is whole"
    assert made.cut(encoded) == f"quotes of {len(encoded)} of {len(encoded)} answers were cut to fit task.tokens=200"


def test_a_run_from_judged_answers_to_a_student(file, tmp_path):
    decoders.model(vocab_size=len(parts.WORDS), num_hidden_layers=2).save_pretrained(tmp_path / "tiny")
    tokenizer().save_pretrained(tmp_path / "tiny")
    recipe = {
        "task": {"kind": "cited_answers", "data": str(file), "dev_share": 0.2, "test_share": 0.2}, "threads": 1, "measure": False,
        "teacher": {"model": str(tmp_path / "tiny"), "train": {"epochs": 1, "learning_rate": 3e-3}},
        "student": {"surgery": [{"kind": "echo_attention", "layers": {1: 0}}]}, "method": {"kind": "kd"},
        "train": {"epochs": 1, "learning_rate": 3e-3, "batch_size": 8},
    }  # fmt: skip
    run = tutelage.distill(recipe, out=tmp_path / "run", store=tmp_path / "store")
    assert math.isfinite(run.record["models"]["kd"]["test"]["primary"])


def test_what_is_refused(file, tmp_path):
    hagrid.write([question(i, answer(informative=0)) for i in range(30)], tmp_path / "bad.jsonl")
    with pytest.raises(DataError, match=r"holds no answer that is judged as task.labels=both asks"):
        task(tmp_path / "bad.jsonl").load()
    (tmp_path / "broken.jsonl").write_text("{\n")
    with pytest.raises(DataError, match=r"line 1: not JSON"):
        task(tmp_path / "broken.jsonl").load()
    with pytest.raises(ConfigError, match=r"has no chat template"):
        task(file).encode(task(file).load().splits["train"], parts.tokenizer())
    with pytest.raises(ConfigError, match=r"chat: has no effect on cited answers"):
        task(file, chat="messages")
