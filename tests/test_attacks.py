"""Attacks: searches against students whose mind is known, batches that change nothing, budgets, resuming, and what the page shows."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from lookers import save_looker, sentiment
from parts import MARKS, WORDS, save_tiny_reader, sentences, tokenizer
from transformers import BertConfig, BertForMaskedLM

from tutelage import config, records
from tutelage.cli import main
from tutelage.engine.machine import Machine
from tutelage.engine.talk import Talk
from tutelage.robustness import attacks, rounds, suites
from tutelage.robustness.attacking import Attacker
from tutelage.robustness.attacks import Words
from tutelage.robustness.filling import Filler
from tutelage.robustness.students import Student
from tutelage.robustness.suites import Attack


def call(*words: object):
    return CliRunner().invoke(main, ["robustness", *map(str, words)], catch_exceptions=False)


def answer(search, ask, fill=lambda place: [], alike=lambda pair: 1.0):
    """Carry one search to its end with functions of single items."""
    heard = None
    try:
        while True:
            kind, items = search.send(heard)
            heard = [{"ask": ask, "fill": fill, "alike": alike}[kind](item) for item in items]
    except StopIteration as end:
        return end.value


def good_is_positive(text: str) -> np.ndarray:
    return np.array([0.1, 0.9]) if "good" in text else np.array([0.8, 0.2])


def test_words_are_what_the_text_is_made_of():
    for text in ("It's  a well-made film, isn't it?", "", "...", "one", " \ud83d\ude00 no_one "):
        assert str(Words.of(text)) == text
    assert Words.of("It's  a well-made film!").words == ("It's", "a", "well-made", "film")
    assert Words.of("a b c d e").around(2, "[M]", 1) == " b [M] d "


def test_the_word_that_matters_is_replaced_and_nothing_else():
    attack = config.build(Attack, {"by": "words"})
    found = answer(attacks.words("The plot was good, the cast dull.", 1, attack), good_is_positive, lambda place: ["plot", "great", "poor"])
    # one for the text, one for each of plot, good, cast, dull; then three for the first word of the order, which is 'good'.
    assert (found.status, found.queries, found.changed, found.words) == ("broken", 8, 1, 7)
    assert found.pieces == ("The plot was ", ("good", "plot"), ", the cast dull.")


def test_candidates_that_are_not_alike_are_not_asked_about():
    attack = config.build(Attack, {"by": "words", "similarity": 0.9, "changes": 1.0})
    alike = lambda pair: 0.95 if "fine" in pair[1] else 0.5
    found = answer(attacks.words("a good film", 1, attack), good_is_positive, lambda place: ["bad", "fine"], alike)
    assert (found.status, found.pieces[1], found.similarity) == ("broken", ("good", "fine"), 0.95)
    held = answer(attacks.words("a good film", 1, attack), good_is_positive, lambda place: ["bad"], lambda pair: 0.5)
    assert (held.status, held.queries) == ("held", 3)


def test_a_text_that_is_wrong_from_the_start_is_not_attacked():
    for search in attacks.SEARCHES.values():
        found = answer(search("a bad film", 1, config.build(Attack, {})), good_is_positive)
        assert (found.status, found.queries, found.changed) == ("wrong", 1, 0)


@pytest.mark.parametrize("by", attacks.SEARCHES)
@pytest.mark.parametrize("queries", [1, 2, 7, 30])
def test_no_search_asks_more_than_its_budget(by, queries):
    asked = []
    search = attacks.SEARCHES[by]("the quick brown fox jumps over some lazy dogs", 1, config.build(Attack, {"by": by, "queries": queries}))
    found = answer(search, lambda text: asked.append(text) or np.array([0.2, 0.8]), lambda place: ["cat", "hound"])
    assert found.status == "held" and found.queries == len(asked) <= queries


def test_typing_errors_are_the_seeds_and_change_the_fewest_words_that_mislead():
    attack = config.build(Attack, {"by": "characters", "changes": 1.0})
    text = "some good film that many people liked"
    one, two = (answer(attacks.characters(text, 1, attack), good_is_positive) for _ in range(2))
    assert one == two and one.status == "broken" and one.changed == 1 and one.pieces[1][0] == "good"
    other = answer(attacks.characters(text, 1, config.build(Attack, {"by": "characters", "changes": 1.0, "seed": 5})), good_is_positive)
    assert other.status == "broken" and other != one
    many = answer(
        attacks.characters(text, 1, attack), lambda t: np.array([0.1, 0.9] if sum(w in text.split() for w in t.split()) > 4 else [0.9, 0.1])
    )
    assert many.changed == 3


def test_stop_words_and_contractions_of_them_are_left_alone():
    assert [w for w in ("it's", "not", "t", "The", "serious", "film", "isn\u2019t", "rock'n'roll") if attacks.carries(w)] == [
        "serious", "film", "rock'n'roll",
    ]  # fmt: skip


def test_capitals_are_kept():
    loud = lambda text: np.array([0.1, 0.9] if "GOOD" in text else [0.9, 0.1])
    assert answer(attacks.words("GOOD one", 1, config.build(Attack, {})), loud, lambda place: ["poor"]).pieces[1] == ("GOOD", "POOR")


def test_rounds_answer_all_of_a_kind_at_once_and_each_search_its_own():
    calls = []

    def counting(n: int):
        total = 0
        for kind in ("ask", "fill", "ask"):
            heard = yield kind, list(range(n))
            total += sum(heard)
        return attacks.Found("held", total, n)

    double = lambda items: calls.append(len(items)) or [2 * x for x in items]
    done = dict(rounds.carry(((n, counting(n)) for n in range(6)), {"ask": double, "fill": double}, width=4))
    assert {n: found.queries for n, found in done.items()} == {n: 3 * n * (n - 1) for n in range(6)}
    assert calls[:2] == [6, 6] and len(calls) < 18


def test_no_round_begins_after_the_time():
    def endless():
        while True:
            yield "ask", [1]

    assert list(rounds.carry([(0, endless())], {"ask": lambda items: items}, width=1, seconds=0.05)) == []


@pytest.fixture(scope="module")
def masked(tmp_path_factory) -> Path:
    """A masked language model with its head, random: what it offers follows from the seed."""
    folder = tmp_path_factory.mktemp("masked") / "model"
    torch.manual_seed(1)
    BertForMaskedLM(BertConfig(vocab_size=len(WORDS), hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
                               max_position_embeddings=64)).save_pretrained(folder)  # fmt: skip
    tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def encoder(tmp_path_factory) -> Path:
    return save_tiny_reader(tmp_path_factory.mktemp("encoder") / "model")


@pytest.fixture
def words(masked, encoder):
    """Settings of the suite `words` with tiny models."""
    return [f"words.attack.{x}" for x in (f"masked={masked}", f"encoder={encoder}", "similarity=0.2", "changes=1.0", "examples=24")]


def test_a_masked_model_offers_whole_words_and_no_stop_words(masked):
    from transformers import AutoModelForMaskedLM

    filler = Filler(AutoModelForMaskedLM.from_pretrained(masked), tokenizer(), Machine(1), None)
    places = [(Words.of("the plot was good"), 3), (Words.of("a film"), 1), (Words.of("the cast is very very poor and bad"), 6)]
    offered = filler(places, 20)
    assert all(sorted(many) == sorted(["good", "bad", "fine", "poor", "film", "plot", "cast", "scene"]) for many in offered)
    assert offered == [filler([one], 20)[0] for one in places], "a place's words do not depend on the others"


@pytest.mark.parametrize("name", ["words", "characters"])
def test_one_by_one_and_all_at_once_find_the_same(tmp_path, words, name):
    changes = words if name == "words" else ["characters.attack.examples=24"]
    student, [suite] = Student.read("s", str(sentiment(tmp_path)), Machine(1)), suites.find([name], changes)
    together, single = (Attacker(suite, tmp_path / place, Talk(), width=width) for place, width in (("a", 64), ("b", 1)))
    found, other = together.tried(student, tmp_path / "a"), single.tried(student, tmp_path / "b")
    right, same = found.pop("right"), other.pop("right")
    assert found == other and np.array_equal(right, same)
    assert right.mean() == found["accuracy"]
    assert found["clean"] == 1.0 and found["rows"] == 24
    assert found["success"]["value"] == pytest.approx(1 - found["accuracy"]) and found["success"]["value"] > 0.3


def test_an_attack_goes_on_behind_what_has_ended(tmp_path, words, monkeypatch):
    student, [suite] = Student.read("s", str(sentiment(tmp_path)), Machine(1)), suites.find(["words"], words)
    whole = Attacker(suite, tmp_path / "a", Talk()).tried(student, tmp_path / "a")
    attacker = Attacker(suite, tmp_path / "b", Talk(), width=2)
    asked = student.probabilities

    def interrupted(texts, *, exact=False):
        if any((tmp_path / "b").glob("*.jsonl")) and len(records.rows(next((tmp_path / "b").glob("*.jsonl")))) >= 5:
            raise KeyboardInterrupt
        return asked(texts, exact=exact)

    monkeypatch.setattr(student, "probabilities", interrupted)
    with pytest.raises(KeyboardInterrupt):
        attacker.tried(student, tmp_path / "b")
    [file] = (tmp_path / "b").glob("*.jsonl")
    done = file.read_text()
    file.write_text(done + '{"key": "cut sh')
    count = []
    monkeypatch.setattr(student, "probabilities", lambda texts, *, exact=False: count.append(len(texts)) or asked(texts, exact=exact))
    again = attacker.tried(student, tmp_path / "b")
    assert np.array_equal(again.pop("right"), whole.pop("right")) and again == whole
    rows = {row["key"]: row["queries"] for row in records.rows(file)}
    kept = {json.loads(line)["key"] for line in done.splitlines()}
    assert len(kept) >= 5 and sum(count) == sum(n for key, n in rows.items() if key not in kept)


def test_time_that_runs_out_is_said_and_the_next_call_goes_on(tmp_path, words):
    looker = sentiment(tmp_path)
    flags = [x for change in words for x in ("--set", change)]
    done = call(looker, "--suite", "words", *flags, "--set", "words.attack.seconds=0.000001", "--out", tmp_path / "out")
    assert done.exit_code == 0 and "0 of 24 rows of looker were done in time" in done.stdout
    done = call(looker, "--suite", "words", *flags, "--out", tmp_path / "out", "--json")
    assert json.loads(done.stdout)["suites"]["words"]["students"]["looker"]["rows"] == 24


def test_the_page_marks_what_was_changed_and_reads_no_text_as_markup(tmp_path, words):
    data = tmp_path / "reviews.jsonl"
    rows = [{**r, "text": f"<script>x</script> {r['text']}"} for r in sentences(200)]
    data.write_text("".join(json.dumps(r) + "\n" for r in rows))
    looker = save_looker(tmp_path / "looker", {"data": str(data)}, {x: MARKS[x] for x in ("negative", "positive")})
    flags = [x for change in words for x in ("--set", change)]
    done = call(looker, "--suite", "words", "--suite", "characters", *flags, "--out", tmp_path / "out")
    assert done.exit_code == 0 and "Attack: words" in done.stdout
    page = (tmp_path / "out/report.html").read_text()
    assert "<del>" in page and "<ins>" in page and "<script" not in page and "&lt;script&gt;" in page


def test_the_second_text_of_a_pair_is_attacked(tmp_path, words):
    data = tmp_path / "pairs.jsonl"
    rows = [{"text": "the film", "second": r["text"], "label": {"negative": "no", "positive": "yes"}[r["label"]]} for r in sentences(100)]
    data.write_text("".join(json.dumps(r) + "\n" for r in rows))
    task = {"data": str(data), "pair": "second", "labels": ["no", "yes"]}
    looker = save_looker(tmp_path / "looker", task, {"no": MARKS["negative"], "yes": MARKS["positive"]}, pairs=True)
    student, [suite] = Student.read("s", str(looker), Machine(1)), suites.find(["words"], words)
    found = Attacker(suite, tmp_path / "a", Talk()).tried(student, tmp_path / "a")
    texts = {tuple(r["second"].split()) for r in rows}
    assert found["success"]["value"] > 0.5
    for pieces in found["examples"]:
        before = "".join(p if isinstance(p, str) else p[0] for p in pieces)
        assert tuple(before.split()) in texts


def test_an_encoder_without_a_head_gets_one_trained_once_and_its_perplexity_is_reported(tmp_path, encoder, tiny_teacher):
    looker = sentiment(tmp_path)
    flags = [
        x
        for change in (f"masked={tiny_teacher}", "prepare=40", f"encoder={encoder}", "similarity=0", "examples=8")
        for x in ("--set", f"words.attack.{change}")
    ]
    done = call(looker, "--suite", "words", *flags, "--out", tmp_path / "out", "--json")
    perplexity = json.loads(done.stdout)["suites"]["words"]["students"]["looker"]["perplexity"]
    assert 1 < perplexity < len(WORDS), "better than a guess among all words"
    [head] = (tmp_path / "out/attacks").glob("masked-*/model/perplexity.json")
    when = head.stat().st_mtime_ns
    again = call(looker, "--suite", "words", *flags, "--out", tmp_path / "out")
    assert head.stat().st_mtime_ns == when and f"perplexity {perplexity:.1f}" in again.stdout


def test_attacks_refuse_in_one_sentence(tmp_path, encoder):
    looker = sentiment(tmp_path)
    for change, said in (
        ("characters.attack.masked=x", "attack.masked: has no effect on an attack by characters"),
        ("characters.attack.queries=0", "attack.queries: must be 1 or more"),
        ("characters.labels={a: b}", None),
        ("characters.attack=null", "holds the settings of kind attack"),
    ):
        done = call(
            looker,
            "--suite",
            "characters",
            "--set",
            change,
            "--set",
            "characters.attack.examples=2" if said is None else change,
            "--out",
            tmp_path / "o",
        )
        assert (said is None) == (done.exit_code == 0) and (said or "") in done.stderr
    done = call(
        looker,
        "--suite",
        "words",
        "--set",
        "words.attack.masked=nobody",
        "--set",
        f"words.attack.encoder={encoder}",
        "--out",
        tmp_path / "o",
    )
    assert done.exit_code == 2 and "model 'nobody': no such folder here" in done.stderr
