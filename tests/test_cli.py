"""The verbs as a user meets them: real processes, exit codes, sentences, JSON."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest
import yaml
from click.testing import CliRunner
from parts import recipe, sentences

from tutelage.cli import main

VERBS = ["distill", "evaluate", "export", "echo", "study", "answers", "coref", "robustness", "list", "show", "cost", "doctor"]


def call(*words: str):
    return CliRunner().invoke(main, [str(w) for w in words], catch_exceptions=False)


def fault(*words: str) -> str:
    done = call(*words)
    assert done.exit_code == 2 and "Traceback" not in done.output
    return done.stderr


@pytest.fixture(scope="module")
def run(tmp_path_factory, tiny_teacher):
    from parts import write_reviews

    folder = tmp_path_factory.mktemp("cli")
    data = write_reviews(folder / "reviews.jsonl", 240)
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe(tiny_teacher, data)))
    done = call("distill", folder / "recipe.yaml", "--out", folder / "run", "--store", folder / "store", "--quiet")
    assert done.exit_code == 0, done.stderr
    return folder, done


def test_the_verbs_are_these():
    assert list(main.commands) == VERBS


def test_distill_prints_the_table_and_where_things_are(run):
    folder, done = run
    assert "student (kd)" in done.stdout and str(folder / "run" / "student") in done.stdout
    assert re.search(r"report\s+\S+report\.html", done.stdout)


def test_distill_as_json(run):
    folder, _ = run
    done = call("distill", folder / "recipe.yaml", "--out", folder / "run", "--store", folder / "store", "--quiet", "--json")
    assert json.loads(done.stdout)["record"]["models"]["kd"]["test"]["rows"] > 0


def test_evaluate_repeats_the_records_result(run):
    folder, _ = run
    facts = json.loads(call("evaluate", folder / "run" / "student", "--json").stdout)
    known = json.loads((folder / "run" / "record.json").read_text())["models"]["kd"]["test"]
    assert facts["primary"] == known["primary"] and facts["rows"] == known["rows"]
    assert "interval" in call("evaluate", folder / "run" / "student").stdout


def test_evaluate_takes_all_rows_of_a_users_file(run, tmp_path):
    folder, _ = run
    rows = [{"words": r["text"], "stars": r["label"]} for r in sentences(50, seed=77)]
    (tmp_path / "own.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    words = [
        "evaluate",
        folder / "run" / "student",
        f"data={tmp_path / 'own.jsonl'}",
        "text=words",
        "label=stars",
        "--json",
        "--examples",
        tmp_path / "out.jsonl",
    ]
    assert json.loads(call(*words).stdout)["rows"] == 50
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 50
    (tmp_path / "own.jsonl").write_text('{"words": "good", "stars": "great"}\n' * 20 + '{"words": "bad", "stars": "negative"}\n' * 20)
    assert "label 'great'" in fault(*words)


def test_evaluate_refuses_what_it_cannot_score(run, tmp_path):
    folder, _ = run
    assert "no part 'tset'; did you mean 'test'?" in fault("evaluate", folder / "run" / "student", "--split", "tset")
    assert "does not say which task" in fault("evaluate", tmp_path)


def test_export_writes_a_checked_model(run, tmp_path):
    pytest.importorskip("onnxruntime")
    folder, _ = run
    facts = json.loads(call("export", folder / "run" / "student", tmp_path / "onnx", "--int8", "--json").stdout)
    assert facts["files"]["model.onnx"]["max_difference"] < 1e-4 and (tmp_path / "onnx" / "model-int8.onnx").exists()
    shown = call("export", folder / "run" / "student", tmp_path / "onnx2")
    assert "model.onnx" in shown.stdout


def test_cost_prints_a_line_a_model(run):
    folder, _ = run
    sheets = json.loads(call("cost", folder / "run" / "student", "--tokens", "8", "--json").stdout)
    [sheet] = sheets.values()
    assert sheet["parameters"]["total"] > 0 and sheet["latency"]["1"]["median_ms"] > 0 and sheet["disk_bytes"] > 0


def test_list_and_show():
    assert set(json.loads(call("list", "--json").stdout)) == {"methods", "tasks", "surgery", "recipes", "studies", "suites"}
    assert "kd" in call("list", "methods").stdout and "did you mean 'methods'" in fault("list", "method")
    assert yaml.safe_load(call("show", "quickstart", "seed=9").stdout)["seed"] == 9
    assert "temperature: 2.0" in call("show", "kd").stdout
    assert json.loads(call("show", "quickstart", "--json").stdout)["name"] == "quickstart"


def test_show_reads_back_what_it_prints(tmp_path):
    (tmp_path / "full.yaml").write_text(call("show", "quickstart").stdout)
    assert call("show", tmp_path / "full.yaml").stdout == call("show", "quickstart").stdout


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["distill", "quickstar"], "no recipe 'quickstar', neither a file nor one that comes along; did you mean 'quickstart'?"),
        (["distill", "absent.yaml"], "no recipe file absent.yaml"),
        (["show", "quickstart", "method.temperature=0"], "method.temperature: must be above 0; got 0"),
        (["show", "quickstart", "epochs"], "a change is written key=value"),
        (["cost", "/no/such/folder"], "/no/such/folder: no such folder"),
        (["export", "/no/such/folder", "out"], "/no/such/folder"),
    ],
)
def test_a_users_fault_is_one_sentence_and_exit_code_2(words, says):
    assert says in fault(*words)


def test_the_whole_program_says_it_too():
    done = subprocess.run(
        [sys.executable, "-m", "tutelage", "distill", "quickstart", "train.epoch=1"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.endswith("quickstart.yaml: train.epoch: no such setting; did you mean 'epochs'?\n") and done.stderr.count("\n") == 1


def test_doctor_finds_this_machine_sound():
    found = json.loads(call("doctor", "--json").stdout)
    assert next(c for c in found["checks"] if c["what"] == "tiny training")["ok"]
