"""The unified attack: one pool of texts for all students, of which the teacher gets every one right."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from lookers import save_looker, sentiment
from parts import MARKS, WORDS, pair_tokenizer, save_tiny, sentences, tokenizer
from transformers import BertConfig, BertForMaskedLM

from tutelage.cli import main
from tutelage.engine.machine import Machine
from tutelage.engine.talk import Talk
from tutelage.robustness import suites, unified
from tutelage.robustness.students import Student


def call(*words: object):
    return CliRunner().invoke(main, ["robustness", *map(str, words)], catch_exceptions=False)


@pytest.fixture
def place(tmp_path):
    """A teacher that looks for all words, a student that knows half of them, one that is the teacher, and a generator."""
    half = {"negative": ["bad"], "positive": ["good"]}
    sentiment(tmp_path, "teacher"), sentiment(tmp_path, "half", half), sentiment(tmp_path, "same")
    torch.manual_seed(1)
    shape = BertConfig(vocab_size=len(WORDS), hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
                       max_position_embeddings=64)  # fmt: skip
    BertForMaskedLM(shape).save_pretrained(tmp_path / "masked")
    tokenizer().save_pretrained(tmp_path / "masked")
    return tmp_path


def settings(place: Path, *more: str) -> list[str]:
    own = (f"teacher={place / 'teacher'}", f"masked={place / 'masked'}", "steps=12", "rate=0.003", "examples=40", *more)
    return [f"unified.attack.{one}" for one in own]


def tried(place: Path, names: list[str], folder: str = "a", *more: str):
    machine = Machine(1)
    teacher = Student.read("teacher", str(place / "teacher"), machine)
    students = [Student.read(name, str(place / name), machine) for name in names]
    return unified.tried(suites.find(["unified"], settings(place, *more))[0], students, teacher, place / folder, Talk())


def test_all_students_face_the_same_texts_and_the_teachers_own_copy_gets_all_right(place):
    found = tried(place, ["half", "same"])
    assert len({len(cell["right"]) for cell in found.values()}) == 1 and found["half"]["rows"] <= 80
    assert found["same"]["accuracy"] == 1.0 and found["same"]["success"]["value"] == 0.0 and not found["same"]["examples"]
    assert found["half"]["accuracy"] < 1.0
    assert found["half"]["accuracy"] == pytest.approx(found["half"]["right"].mean())
    assert found["half"]["drop"] == pytest.approx(found["half"]["clean"] - found["half"]["accuracy"])


def test_the_attack_repeats_by_its_seed_and_keeps_what_it_wrote(place):
    once, again, _ = (tried(place, ["half"], *given)["half"] for given in (("a",), ("b",), ("c", "seed=4")))
    right = once.pop("right")
    assert np.array_equal(right, again.pop("right")) and once == again
    texts, same, other = (next((place / name).glob("unified-*/texts.json")) for name in "abc")
    assert texts.read_bytes() == same.read_bytes() != other.read_bytes()
    when = texts.stat().st_mtime_ns
    assert np.array_equal(tried(place, ["half"])["half"]["right"], right)
    assert texts.stat().st_mtime_ns == when


def test_the_generator_learns_to_part_them(place):
    said = (place / "half/tutelage.json").read_text()
    for seed, name in enumerate(("one", "two")):
        (save_tiny(place / name, depth=1, labels={0: "negative", 1: "positive"}, seed=seed) / "tutelage.json").write_text(said)
    machine = Machine(1)
    teacher, half = (Student.read(name, str(place / name), machine) for name in ("one", "two"))

    def distance(steps: int) -> float:
        said, more = Talk(), (f"steps={steps}", "rate=0.01", "mask=0.5")
        unified.tried(suites.find(["unified"], settings(place, *more))[0], [half], teacher, place / "a", said)
        [line] = [note for note in said.notes if "squared distance" in note]
        return float(line.split()[-4])

    assert distance(80) > 1.2 * distance(1)


def test_written_words_are_marked_beside_what_they_replace():
    assert unified._marked("the Good film", "the bad film") == ["the ", ["Good", "bad"], " ", "film "]
    assert unified._changed(unified._marked("the Good film was", "the bad film was")) == 0.25


def test_the_verb_shows_the_pool_and_a_teacher_without_a_task_has_the_students(place):
    (place / "teacher/tutelage.json").unlink()
    flags = [x for change in settings(place, "mask=0.6", "seed=8") for x in ("--set", change)]
    done = call(place / "half", place / "same", "--suite", "unified", *flags, "--out", place / "out")
    assert done.exit_code == 0, done.output
    assert "of them the teacher still gets right" in done.stderr and "Attack: unified" in done.stdout
    assert "unified: same less half" in done.stdout
    suite = json.loads((place / "out/robustness.json").read_text())["suites"]["unified"]
    assert suite["differences"][0]["difference"] == pytest.approx(1 - suite["students"]["half"]["accuracy"])
    assert "<ins>" in (place / "out/report.html").read_text()


def test_pairs_are_written_and_read_back_as_pairs(tmp_path):
    data = tmp_path / "pairs.jsonl"
    data.write_text("".join(json.dumps({"text": "the film", "second": r["text"], "label": r["label"]}) + "\n" for r in sentences(100)))
    task = {"data": str(data), "pair": "second"}
    words = {x: MARKS[x] for x in ("negative", "positive")}
    save_looker(tmp_path / "teacher", task, words, pairs=True)
    save_looker(tmp_path / "half", task, {"negative": ["bad"], "positive": ["good"]}, pairs=True)
    torch.manual_seed(1)
    shape = BertConfig(vocab_size=len(WORDS), hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
                       max_position_embeddings=64)  # fmt: skip
    BertForMaskedLM(shape).save_pretrained(tmp_path / "masked")
    masking = pair_tokenizer()
    masking.add_special_tokens({"mask_token": "[MASK]"})
    for name in ("teacher", "half", "masked"):
        masking.save_pretrained(tmp_path / name)
    tried(tmp_path, ["half"])
    [texts] = (tmp_path / "a").glob("unified-*/texts.json")
    pairs = json.loads(texts.read_text())["texts"]
    assert all(len(pair) == 2 and len(pair[0].split()) <= 2 for pair in pairs)


def test_what_does_not_fit_together_is_refused(place):
    assert "attack.teacher: must name the teacher's folder" in call(place / "half", "--suite", "unified").stderr
    flags = [x for change in settings(place, "queries=9") for x in ("--set", change)]
    assert "attack.queries: has no effect on an attack by unified" in call(place / "half", "--suite", "unified", *flags).stderr
    save_looker(place / "other", {"data": str(place / "reviews.jsonl"), "test_share": 0.3}, {x: MARKS[x] for x in ("negative", "positive")})
    flags = [x for change in settings(place) for x in ("--set", change)]
    done = call(place / "half", place / "other", "--suite", "unified", *flags, "--out", place / "out")
    assert done.exit_code == 2 and "other has other data than the teacher" in done.stderr
