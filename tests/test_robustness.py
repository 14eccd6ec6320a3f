"""Students side by side: suites read and mapped by hand, a student that looks for words, CheckList's rules, bad input."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from lookers import save_looker, sentiment
from parts import sentences

from tutelage import config
from tutelage.cli import main
from tutelage.errors import ConfigError, DataError
from tutelage.robustness import checklist, reading, scoring, suites
from tutelage.robustness.reading import Behaviour, Case
from tutelage.robustness.students import named
from tutelage.robustness.suites import Suite
from tutelage.tasks import _metrics

DATA = os.environ.get("TUTELAGE_DATA")
needs_data = pytest.mark.skipif(
    not DATA or not (Path(DATA) / "robustness").is_dir(), reason="TUTELAGE_DATA names no folder with robustness/"
)
OWN = {"labels": {"negative": "0", "positive": "1"}, "label": "stars", "summary": "other films"}


def call(*words: object):
    return CliRunner().invoke(main, ["robustness", *map(str, words)], catch_exceptions=False)


def fault(*words: object) -> str:
    done = call(*words)
    assert done.exit_code == 2 and "Traceback" not in done.output
    return done.stderr


def own_suite(folder: Path, rows: list[dict], **changes: object) -> Path:
    (folder / "own.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    path = folder / "own.yaml"
    path.write_text(json.dumps({**OWN, "path": str(folder / "own.jsonl"), **changes}))
    return path


def other_films() -> list[dict]:
    """Twenty rows, of which a student that looks for good and bad words gets the first fifteen right."""
    right = [{"text": "the plot was good", "stars": "1"}] * 10 + [{"text": "a bad film", "stars": "0"}] * 5
    return right + [{"text": "not good", "stars": "0"}] * 5


def test_a_suite_of_ones_own_gives_figures_that_can_be_counted(tmp_path):
    looker, blind = sentiment(tmp_path), sentiment(tmp_path, "blind", {"negative": [], "positive": []})
    done = call(looker, blind, "--suite", own_suite(tmp_path, other_films()), "--out", tmp_path / "out", "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    home = found["students"]
    assert home["looker"]["accuracy"] == 1.0 and not home["looker"]["at_chance"]
    assert home["blind"]["at_chance"] and max(home["blind"]["accuracy"], 1 - home["blind"]["accuracy"]) == home["blind"]["majority"]
    suite = found["suites"]["own"]
    cell, other = suite["students"]["looker"], suite["students"]["blind"]
    assert (cell["accuracy"], cell["rows"], cell["rank"], cell["drop"]) == (0.75, 20, 1, 0.25)
    assert (cell["low"], cell["high"]) == _metrics.wilson(15, 20, 0.95)
    assert other["accuracy"] == 0.5 and other["rank"] is None, "a student at chance is not ranked"
    [apart] = suite["differences"]
    assert (apart["a"], apart["b"], apart["difference"]) == ("blind", "looker", pytest.approx(-0.25))
    assert json.loads((tmp_path / "out/robustness.json").read_text())["suites"] == found["suites"]


def test_the_table_and_the_page_flag_chance_and_show_texts_inert(tmp_path):
    blind = sentiment(tmp_path, "blind", {"negative": [], "positive": []})
    path = own_suite(tmp_path, other_films(), summary="<script>alert(1)</script>")
    done = call(sentiment(tmp_path), blind, "--suite", path, "--out", tmp_path / "out")
    assert "at chance, not ranked" in done.stdout and "rank 1" in done.stdout and "75.0 %" in done.stdout
    page = (tmp_path / "out/report.html").read_text()
    assert "at chance, not ranked" in page and "&lt;script&gt;" in page and "<script" not in page


def test_the_drops_interval_is_newcombes():
    # Newcombe 1998, table II, case (a): 56/70 - 48/80, method 10: 0.0524 to 0.3339.
    made = [dict(zip(("accuracy", "low", "high"), (a / b, *_metrics.wilson(a, b, 0.95)), strict=True)) for a, b in ((56, 70), (48, 80))]
    found = scoring.drop(*made)
    assert found["drop"] == pytest.approx(0.2)
    assert (round(found["drop_low"], 4), round(found["drop_high"], 4)) == (0.0524, 0.3339)


def test_three_inferences_become_two_by_adding_probabilities():
    [hans] = suites.find(["hans"])
    p = np.array([[0.4, 0.35, 0.25], [0.6, 0.3, 0.1]], np.float32)
    sums, names = scoring.folded(p, ["entailment", "neutral", "contradiction"], hans)
    assert names == ["entailment", "non-entailment"]
    assert np.allclose(sums, [[0.4, 0.6], [0.6, 0.4]]), "the largest single label of the first row is entailment"


def test_ranks_leave_out_students_at_chance_and_share_places():
    cells = {"a": {"accuracy": 0.7}, "b": {"accuracy": 0.9}, "c": {"accuracy": 0.7}, "d": {"accuracy": 0.99}}
    scoring.rank(cells, "accuracy", {"a": False, "b": False, "c": False, "d": True})
    assert [cells[x]["rank"] for x in "abcd"] == [2, 1, 2, None]


def pack(path: Path, tests: list[dict]) -> Path:
    with gzip.open(path, "wt") as file:
        file.writelines(json.dumps(test) + "\n" for test in tests)
    return path


def test_checklist_counts_failures_by_capability_and_type(tmp_path):
    tests = [
        {"name": "words", "type": "MFT", "capability": "Vocabulary", "labels": [2, 0, 2], "data": ["good", "bad", "the film"]},
        {"name": "neutral", "type": "MFT", "capability": "Vocabulary", "labels": 1, "data": ["film"]},
        {"name": "same", "type": "INV", "capability": "Robustness", "labels": None, "data": [["good film", "good cast"], ["bad", "good"]]},
        {
            "name": "reducers",
            "type": "DIR",
            "capability": "Vocabulary",
            "labels": None,
            "data": [["good", "the good film"], ["the", "good"]],
        },
        {"name": "unheard of", "type": "DIR", "capability": "Logic", "labels": None, "data": [["good", "fine"]]},
    ]
    path = pack(tmp_path / "sentiment_suite.jsonl.gz", tests)
    done = call(sentiment(tmp_path), "--suite", f"checklist-sentiment={path}", "--out", tmp_path / "out", "--json")
    cell = json.loads(done.stdout)["suites"]["checklist-sentiment"]["students"]["looker"]
    counted = {(g["capability"], g["type"]): (g["failed"], g["cases"]) for g in cell["groups"]}
    # reducers: the sure 'good' stays as sure; 'the' is called negative, of which 'good' takes all, as it may.
    assert counted == {("Vocabulary", "MFT"): (1, 3), ("Robustness", "INV"): (1, 2), ("Vocabulary", "DIR"): (0, 2)}
    assert cell["accuracy"] == pytest.approx(5 / 7)
    assert set(cell["left_out"]) == {"neutral", "unheard of"} and "which the student lacks" in cell["left_out"]["neutral"]
    assert "Robustness, INV" in (tmp_path / "out/report.html").read_text()


@pytest.mark.parametrize(
    ("expected", "rows", "passes"),
    [
        ({"confidence": "up"}, [[0.2, 0.8], [0.25, 0.75]], True),
        ({"confidence": "up"}, [[0.2, 0.8], [0.35, 0.65]], False),
        ({"confidence": "down"}, [[0.2, 0.8], [0.05, 0.95]], False),
        ({"toward": "positive", "away": "negative"}, [[0.2, 0.8], [0.3, 0.7]], False),
        ({"toward": "negative", "away": "positive"}, [[0.2, 0.8], [0.3, 0.7]], True),
        ({"label": "positive", "changed": True}, [[0.9, 0.1], [0.3, 0.7]], True),
        ({"label": "positive"}, [[0.9, 0.1], [0.3, 0.7]], False),
        ({"other_than": "negative"}, [[0.1, 0.9], [0.3, 0.7]], True),
        ({"label": "negative", "where": "positive"}, [[0.9, 0.1], [0.1, 0.9]], None),
        ({"confidence": "up", "unless": "positive"}, [[0.1, 0.9], [0.9, 0.1]], None),
        (None, [[0.45, 0.55], [0.52, 0.48]], True),
        (None, [[0.3, 0.7], [0.52, 0.48]], False),
    ],
)
def test_checklists_expectations_by_hand(expected, rows, passes):
    suite = config.build(
        Suite,
        {"name": "s", "kind": "checklist", "format": "checklist", "labels": OWN["labels"], "expect": {"t": expected} if expected else {}},
    )
    test = Behaviour("t", "INV", "any", [Case(["a", "b"], [None, None])])
    assert checklist.judged(test, test.cases[0], np.array(rows), suite, ["negative", "positive"]) is passes


def test_rows_of_dropped_labels_are_left_out_and_unknown_labels_are_named(tmp_path):
    rows = [{"text": "good", "stars": "1"}, {"text": "the", "stars": "odd"}, {"text": "bad", "stars": "0"}]
    path = own_suite(tmp_path, rows)
    with pytest.raises(DataError, match="line 2: label 'odd' is not among those it maps to"):
        reading.labelled(suites.find([str(path)])[0])
    part = reading.labelled(suites.find([str(path)], ["own.drop=[odd]"])[0])
    assert part.labels == ["1", "0"] and part.rows == [1, 3]
    assert len(reading.labelled(suites.find([str(path)], ["own.drop=[odd]", "own.limit=1"])[0])) == 1


def test_folders_that_hold_no_student_are_refused(tmp_path):
    assert "nowhere: no such folder; name a student's folder" in fault(tmp_path / "nowhere", "--suite", "imdb")
    assert "does not say what its model was trained for" in fault(tmp_path, "--suite", "imdb")


def test_suites_refuse_in_one_sentence(tmp_path, monkeypatch):
    monkeypatch.delenv("TUTELAGE_DATA", raising=False)
    looker = sentiment(tmp_path)
    assert "no suite 'imbd'; did you mean 'imdb'?" in fault(looker, "--suite", "imbd")
    said = fault(looker, "--suite", own_suite(tmp_path, other_films(), labels={"good": "1", "bad": "0"}))
    assert "its labels map good, bad, and looker knows negative, positive" in said
    assert "has pairs of texts, and looker reads single texts" in fault(
        looker, "--suite", own_suite(tmp_path, other_films(), pair="second")
    )
    assert "needs its files; name their file or folder with --suite hans=PATH" in fault(_inferrer(tmp_path), "--suite", "hans")
    assert "no such file or folder" in fault(_inferrer(tmp_path), "--suite", f"hans={tmp_path}/nowhere")
    assert "no heuristics_evaluation_set*.txt in" in fault(_inferrer(tmp_path), "--suite", f"hans={tmp_path}")
    assert "is written SUITE.key=value; did you mean 'imdb'?" in fault(looker, "--suite", "imdb", "--set", "imbd.limit=3")
    assert "no such setting; did you mean 'limit'?" in fault(looker, "--suite", "imdb", "--set", "imdb.limt=3")
    assert "given twice" in fault(looker, "--suite", "imdb", "--suite", "imdb")
    assert "3 faults in the settings" in fault(looker, "--suite", own_suite(tmp_path, [], labels={}, expect={"t": {"label": "x"}}))


def test_a_student_of_other_named_data_is_refused(tmp_path):
    [imdb] = suites.find(["imdb"])
    assert "was trained on imdb" in (suites.check(imdb, "s", ["negative", "positive"], {"data": "imdb"}, False) or "")
    assert suites.check(imdb, "s", ["negative", "positive"], {"data": "reviews.csv"}, False) is None
    assert suites.check(imdb, "s", ["negative", "positive"], {"data": "imdb", "train": "mine.csv"}, False) is None


def _inferrer(folder: Path) -> Path:
    """A student of pairs that knows three inferences: 'good' entails, 'bad' contradicts, else neutral."""
    data = folder / "pairs.jsonl"
    rows = [
        {"text": r["text"], "second": r["text"], "label": x}
        for r, x in zip(sentences(60), ["neutral", "entailment", "contradiction"] * 20, strict=True)
    ]
    data.write_text("".join(json.dumps(r) + "\n" for r in rows))
    words = {"neutral": [], "entailment": ["good"], "contradiction": ["bad"]}
    return save_looker(folder / "inferrer", {"data": str(data), "pair": "second", "labels": list(words)}, words, pairs=True)


def test_hans_files_are_read_and_folded(tmp_path):
    head = "gold_label\tsentence1\tsentence2"
    lines = [
        "entailment\tthe film\tgood",
        "non-entailment\tthe film\tbad",
        "non-entailment\tthe film\tthe cast",
        'entailment\tthe "film\tbad',
    ]
    (tmp_path / "heuristics_evaluation_set.txt").write_text("\n".join([head, *lines]) + "\n")
    found = json.loads(call(_inferrer(tmp_path), "--suite", f"hans={tmp_path}", "--out", tmp_path / "out", "--json").stdout)
    assert found["suites"]["hans"]["students"]["inferrer"]["accuracy"] == 0.75


def test_parallel_lines_of_snli_are_read(tmp_path):
    for name, lines in {"s1.test": "a\nb\nc\n", "s2.test": "x\ny\nz\n", "labels.test": "neutral\n-\nentailment\n"}.items():
        (tmp_path / name).write_text(lines)
    part = reading.labelled(suites.find([f"snli={tmp_path}"])[0])
    assert (part.texts, part.pairs, part.labels) == (["a", "c"], ["x", "z"], ["neutral", "entailment"])
    (tmp_path / "s2.test").write_text("x\ny\n")
    with pytest.raises(DataError, match=r"different numbers of lines \(s1.test 3, s2.test 2, labels.test 3\)"):
        reading.labelled(suites.find([f"snli={tmp_path}"])[0])


def test_names_of_students_are_as_short_as_tells_them_apart():
    assert list(named(["runs/a/student", "runs/b/student", "runs/a/student/"])) == ["a/student", "b/student"]


@needs_data
@pytest.mark.parametrize(
    ("name", "rows"),
    [("hans", 9000), ("snli", 9824), ("flipkart", 324), ("mrpc", 408), ("advglue-sst2", 148), ("advglue-qqp", 78), ("advglue-mnli", 121),
     ("advglue-mnli-mm", 162), ("advglue-qnli", 148), ("advglue-rte", 81)],
)  # fmt: skip
def test_the_public_files_are_read_in_full(name, rows):
    assert len(reading.labelled(suites.find([name])[0])) == rows


@needs_data
@pytest.mark.parametrize(("name", "tests", "cases"), [("checklist-sentiment", 38, 7082), ("checklist-qqp", 53, 7900)])
def test_the_released_checklists_are_read_in_full_and_declared_tests_stand_in_them(name, tests, cases):
    [suite] = suites.find([name])
    found = reading.tests(suite)
    assert (len(found), sum(len(test.cases) for test in found)) == (tests, cases)
    assert set(suite.expect) <= {test.name for test in found}


def test_a_damaged_checklist_is_named_with_its_line(tmp_path):
    path = tmp_path / "sentiment_suite.jsonl"
    path.write_text('{"name": "t", "type": "ODD", "capability": "c", "data": []}\n')
    with pytest.raises(DataError, match=r"line 1: is no CheckList test: .*ODD"):
        reading.tests(suites.find([f"checklist-sentiment={path}"])[0])
    whole = pack(
        tmp_path / "cut.jsonl.gz", [{"name": "t", "type": "MFT", "capability": "c", "labels": 0, "data": ["bad"] * 99}]
    ).read_bytes()
    (tmp_path / "cut.jsonl.gz").write_bytes(whole[:-12])
    with pytest.raises(DataError, match="cut short"):
        reading.tests(suites.find([f"checklist-sentiment={tmp_path / 'cut.jsonl.gz'}"])[0])


def test_every_packaged_suite_is_whole():
    for suite in suites.find(list(suites.known()), ["unified.attack.teacher=x"]):
        assert suite.summary and (suite.students or suite.kind == "attack")
    with pytest.raises(ConfigError, match="expects one of"):
        config.build(suites.Expectation, {})
