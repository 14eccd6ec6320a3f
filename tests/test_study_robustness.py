"""Studies whose students are also tried on suites: what is filed, claimed, shown and refused."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
import yaml
from click.testing import CliRunner
from parts import recipe, write_reviews

from tutelage.cli import main
from tutelage.engine.machine import Machine
from tutelage.engine.talk import Talk
from tutelage.robustness import suites
from tutelage.robustness.battery import Battery
from tutelage.robustness.students import Student
from tutelage.study import plan as plans
from tutelage.study.cells import Cells, examples_of

ATTACK = {"attack.examples": 12, "attack.queries": 20}


def call(*words):
    return CliRunner().invoke(main, [str(w) for w in words], catch_exceptions=False)


@pytest.fixture
def study(tmp_path, tiny_teacher):
    """Writes a study on the toys' reviews with a suite of other films and an attack; gives its path."""
    rows = [{"text": "the plot was good", "stars": "1"}] * 6 + [{"text": "a bad film", "stars": "0"}] * 4
    (tmp_path / "films.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    own = {"labels": {"negative": "0", "positive": "1"}, "label": "stars", "path": str(tmp_path / "films.jsonl")}
    (tmp_path / "films.yaml").write_text(json.dumps(own))

    def made(name="small.yaml", **changes):
        tree = {"base": recipe(tiny_teacher, write_reviews(tmp_path / "reviews.jsonl")), "axes": {"method": ["finetune", "kd"]}}
        tree |= {"seeds": [1, 2], "robustness": {str(tmp_path / "films.yaml"): {}, "characters": ATTACK}, "keep": True} | changes
        (tmp_path / name).write_text(yaml.safe_dump(tree, sort_keys=False))
        return tmp_path / name

    return made


def test_each_student_is_tried_on_every_suite_and_the_report_has_all_in_one(study, tmp_path):
    claims = [{"name": f"KD gains on {suite}", "against": "finetune", "suite": suite} for suite in ("characters", "films")]
    file, out = study(claims=claims), tmp_path / "out"
    done = call("study", file, "--out", out, "--quiet")
    assert "4 of 4 cells done" in done.stdout, done.output
    made = plans.load(file)
    rows = Cells(out / "study.db", made).rows()
    for row in rows:
        films, attack = row.result["robustness"]["films"], row.result["robustness"]["characters"]
        given = examples_of(row)
        assert films["rows"] == len(given["on.films"]) == 10 and films["accuracy"] == given["on.films"].mean()
        assert attack["rows"] == len(given["on.characters"]) == 12 and attack["accuracy"] == given["on.characters"].mean()
        assert attack["accuracy"] <= attack["clean"] and attack["queries"] <= 20
    facts = json.loads(call("study", file, "--out", out, "--report", "--json").stdout)
    for verdict, suite in zip(facts["verdicts"], ("characters", "films"), strict=True):
        [one] = verdict["comparisons"]
        scores = [row.result["robustness"][suite]["accuracy"] for row in rows]
        assert one["mean"] == pytest.approx(np.mean(np.subtract(scores[2:], scores[:2]))) and one["metric"] == "accuracy"
    page = (out / "report.html").read_text()
    assert "Other domains and attacks" in page and "Attack: characters" in page and "<script" not in page
    table = list(csv.DictReader((out / "cells.csv").read_text().splitlines()))
    assert [float(line["films.accuracy"]) for line in table] == [row.result["robustness"]["films"]["accuracy"] for row in rows]
    assert float(table[0]["characters.queries"]) == rows[0].result["robustness"]["characters"]["queries"]


def test_a_student_that_was_kept_comes_to_the_same_by_the_verb(study, tmp_path):
    file, out = study(seeds=[1], axes={"method": ["kd"]}), tmp_path / "out"
    assert call("study", file, "--out", out, "--quiet").exit_code == 0
    [row] = Cells(out / "study.db", plans.load(file)).rows()
    battery = Battery(suites.declared({"characters": ATTACK, str(tmp_path / "films.yaml"): {}}), tmp_path / "heads", Talk())
    found = []
    for folder in (out / "store" / "trainings").glob("*/result/model"):
        (folder / "tutelage.json").write_text(json.dumps({"task": yaml.safe_load(file.read_text())["base"]["task"]}))
        found.append(battery.whole(Student.read("s", str(folder), Machine(1)))[0])
    assert len(found) == 2 and row.result["robustness"] in json.loads(json.dumps(found)), "the teacher's and the student's"


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"robustness": {"imbd": {}}}, "robustness: no suite 'imbd'; did you mean 'imdb'?"),
        ({"robustness": {"imdb": {"limt": 5}}}, "robustness.imdb.limt: no such setting; did you mean 'limit'?"),
        ({"robustness": {"imdb": 5}}, "robustness.imdb: holds changes of its settings"),
        ({"robustness": {"characters": {"attack.seconds": 3}}}, "robustness.characters.attack.seconds: lets results depend on the machine"),
        ({"robustness": {"unified": {"attack.teacher": "x"}}}, "robustness.unified: pools the texts of all students"),
        ({"claims": [{"name": "x", "against": "kd", "suite": "word"}]}, "claims[0].suite: robustness has no 'word'"),
        ({"claims": [{"name": "x", "against": "kd", "suite": "films", "kind": "models", "seed": 1}]}, "has no effect for kind models"),
    ],
)  # fmt: skip
def test_a_fault_of_robustness_in_a_study_file_is_named_with_its_place(study, changes, sentence):
    file = study(**changes)
    done = call("study", file, "--out", file.parent / "out")
    assert done.exit_code == 2 and "Traceback" not in done.output and sentence in done.stderr
    assert not (file.parent / "out").exists()


def test_suites_for_other_students_and_tasks_are_refused_before_anything_runs(study, tmp_path):
    axes = {"data": {"own": {}, "imdb": {"task.data": "imdb", "task.dev_share": 0.1, "task.test_share": 0.1}}}
    done = call("study", study(axes=axes, robustness={"flipkart": {}, "imdb": {}}), "--out", tmp_path / "out")
    said = "suite imdb: is for students of rotten_tomatoes, sst2, and the student was trained on imdb"
    assert done.exit_code == 2 and said in done.stderr
    file = study(seeds=[1], axes={"method": ["kd"]}, robustness={"hans": {"path": str(tmp_path)}})
    lost = call("study", file, "--out", tmp_path / "two")
    assert "1 failed" in lost.stdout and "suite hans: its labels map" in lost.stdout and not list(tmp_path.glob("two/store/trainings/*"))
