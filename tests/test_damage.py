"""Files harmed on the disk: each is found, said, and made again from what is whole, so that a run ends in the same weights."""

from __future__ import annotations

import contextlib
import io
import shutil
import sys
from pathlib import Path

import click
import numpy as np
import pytest
import torch
from parts import recipe, save_tiny, write_reviews
from sqlalchemy.exc import OperationalError
from toys import Bench, Scripted, Stop

from tutelage import config, records
from tutelage.answers.store import Store
from tutelage.cli import main
from tutelage.echo.analysis import Analysis
from tutelage.engine.distill import distill
from tutelage.engine.judge import evaluate
from tutelage.engine.talk import Talk
from tutelage.errors import ConfigError, RunError, TutelageError
from tutelage.methods.finetune import Finetune
from tutelage.recipe import Recipe, Training
from tutelage.robustness.suites import Suite
from tutelage.study.plan import Study


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


HARMS = {
    "flip": flip,
    "cut": lambda file: file.write_bytes(file.read_bytes()[: file.stat().st_size // 2]),
    "empty": lambda file: file.write_bytes(b""),
    "remove": Path.unlink,
}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A recipe, the record of its run, and three folders: 'run' with a finished run and its store, 'store' with the store alone,
    and 'stopped' with a run that was stopped in its student's training."""
    folder = tmp_path_factory.mktemp("damage")
    teacher, data = save_tiny(folder / "teacher"), write_reviews(folder / "reviews.jsonl", 60)
    tree = recipe(teacher, data, compare=[], autosave=0)
    tree["teacher"]["train"]["epochs"] = 2
    record = distill(tree, out=folder / "run" / "run", store=folder / "run" / "store").record
    shutil.copytree(folder / "run" / "store", folder / "store" / "store")

    def stop(state):
        if state.total == 4 and list((folder / "stopped" / "store" / "trainings").glob("*/result")):
            raise Stop

    with pytest.raises(Stop):
        distill(tree, out=folder / "stopped" / "run", store=folder / "stopped" / "store", on_step=stop)
    return folder, tree, record


def files(folder: Path) -> list[str]:
    return sorted(str(f.relative_to(folder)) for f in folder.rglob("*") if f.is_file() and f.name != ".lock")


def newest(folder: Path, pattern: str) -> str:
    return str(max(folder.glob(pattern)).relative_to(folder))


def after(made, kind: str, harms: dict[str, str], place: Path) -> list[str]:
    """What a run says that finds files harmed, after it has ended in the weights and scores of the undisturbed run."""
    folder, tree, whole = made
    shutil.copytree(folder / kind, place)
    for name, harm in harms.items():
        HARMS[harm](place / name)
    talk = Talk()
    record = distill(tree, out=place / "run", store=place / "store", talk=talk).record
    for what in ("weights", "test"):
        assert {k: m[what] for k, m in record["models"].items()} == {k: m[what] for k, m in whole["models"].items()}, harms
    assert records.sealed(place / "run" / "record.json") == record
    assert not records.harmed(place / "run", record["files"])
    return talk.notes


def test_a_stopped_run_passes_over_harmed_checkpoints_and_says_so(made, tmp_path):
    folder = made[0] / "stopped"
    state = newest(folder, "store/trainings/*/checkpoints/step-*/state.json")
    notes = after(made, "stopped", {state: "cut"}, tmp_path / "state")
    assert any("step-000000004/state.json is damaged; the checkpoint of step 4 is passed over" in note for note in notes)
    assert any("goes on from step 3" in note for note in notes)
    best = newest(folder, "store/trainings/*/checkpoints/best-*.safetensors")
    notes = after(made, "stopped", {best: "flip"}, tmp_path / "best")
    assert sum(f"{Path(best).name} is damaged" in note for note in notes) == 2 and not any("goes on" in note for note in notes)


def test_a_harmed_training_in_the_store_is_trained_again_and_a_harmed_run_is_carried_out_again(made, tmp_path):
    kept = made[0] / "store"
    student, teacher = sorted(
        kept.glob("store/trainings/*/result"), key=lambda r: records.read_json(r / "training.json")["seed"], reverse=True
    )
    harms = {
        str((teacher / "training.json").relative_to(kept)): "cut",
        str((student / "model/model.safetensors").relative_to(kept)): "flip",
    }
    notes = after(made, "store", harms, tmp_path / "store")
    for name in harms:
        assert any(f"{name} is damaged; it is trained again" in note for note in notes), notes
    for name in ("run/student/model.safetensors", "run/record.json"):
        [note] = [n for n in after(made, "run", {name: "flip"}, tmp_path / Path(name).name) if "damaged" in n]
        assert "the run is carried out again" in note


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("harm", HARMS)
@pytest.mark.parametrize("kind", ["run", "store", "stopped"])
def test_every_file_harmed_in_every_way_ends_in_the_same_weights_with_a_word(made, kind, harm, tmp_path):
    for number, name in enumerate(files(made[0] / kind)):
        place = tmp_path / str(number)
        try:
            notes = " ".join(after(made, kind, {name: harm}, place))
        except ConfigError as fault:
            assert name == "run/recipe.yaml" and ("is damaged" in str(fault) or "holds a run of other settings" in str(fault)), fault
            continue
        finally:
            shutil.rmtree(place)
        read = name.startswith("run/") if kind == "run" else not name.startswith("store/signals") or kind == "stopped"
        spare = name.endswith((".html", ".md", "recipe.yaml", "meta.json")) or "step-000000003" in name
        spare |= (name, harm) == ("run/record.json", "remove")  # as if the run had not come to its end
        finished = "steps.jsonl" in name and not (kind == "stopped" and (made[0] / kind / name).with_name("checkpoints").exists())
        assert "damaged" in notes or "cut short or altered" in notes or spare or finished or not read, (name, notes)


def test_a_best_student_that_is_harmed_while_its_training_goes_on_ends_it_in_one_sentence(tmp_path):
    training = Training(epochs=4, batch_size=8, learning_rate=1e-2, precision="float32")
    bench = lambda where: Bench(tmp_path / where, Finetune(), training, task=Scripted(scores=iter([0.2, 0.9, 0.5, 0.4])), autosave=0.0)
    whole = bench("a").run()

    def harm(state):
        if state.total == 19:
            flip(max((tmp_path / "b" / "checkpoints").glob("best-*.safetensors")))

    with pytest.raises(RunError, match=r"best-0-000000010\.safetensors: was damaged after it was written; start the same command again"):
        bench("b").run(harm)
    assert all(torch.equal(v, whole[k]) for k, v in bench("b").run().items())


def test_a_damaged_line_is_left_out_with_a_word_or_is_one_sentence(tmp_path):
    path = tmp_path / "words.jsonl"
    path.write_bytes(b'{"key": 1}\n\0\xff\n{"key": 3}\n{"key"')
    said = []
    assert [row["key"] for row in records.rows(path, said.append)] == [1, 3]
    assert said == [f"{path}, line 2: is damaged; it is left out and made anew"]
    with pytest.raises(RunError, match=r"words\.jsonl, line 2: is damaged; remove the file"):
        records.rows(path)


@pytest.mark.parametrize("name", ["analysis.json", "analysis.npz"])
@pytest.mark.parametrize("harm", HARMS)
def test_a_harmed_analysis_of_attention_is_one_sentence(tmp_path, name, harm):
    square = np.random.default_rng(0).random((3, 3))
    Analysis(square, square, square, square, None, 1, {}).write(tmp_path)
    HARMS[harm](tmp_path / name)
    with contextlib.suppress(ConfigError):
        Analysis.read(tmp_path)


def test_a_step_log_that_lost_its_end_is_no_log_of_zeros(tmp_path):
    log = records.Log(tmp_path / "steps.jsonl")
    log.add({"step": 1})
    length, sha256 = log.mark(), log.digest
    log.add({"step": 2})
    log.close()
    assert records.begins(log.path, sha256, length)
    log.path.write_bytes(log.path.read_bytes()[: length - 3])
    assert not records.begins(log.path, sha256, length)


@pytest.mark.parametrize("name", ["../../x", "a/b", "..", "", ".hidden", "x\0y", "x\ny", "x" * 300])
def test_a_name_that_would_write_elsewhere_is_refused(name):
    trees = {
        Recipe: {"task": "classify", "student": {"model": "x"}, "method": "finetune"},
        Study: {"base": "quickstart", "axes": {}},
        Suite: {},
    }
    for kind, tree in trees.items():
        with pytest.raises(ConfigError) as found:
            config.build(kind, {"name": name, **tree})
        assert "names files" in str(found.value), kind


def test_a_full_or_harmed_database_is_one_sentence(tmp_path, monkeypatch):
    cells = Store(tmp_path / "answers.db")

    class Full:
        pgconn = None

        def __str__(self):
            return "database or disk is full"

    with pytest.raises(RunError, match=r"answers\.db: database or disk is full; free some space"), cells.writing():
        raise OperationalError("INSERT", {}, Full())
    cells.close()
    (tmp_path / "answers.db").write_bytes(b"SQLite format 3\0" + bytes(4000))
    with pytest.raises(TutelageError, match=r"answers\.db"):
        Store(tmp_path / "answers.db")
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"file: cannot be written, (file exists|not a directory); choose another place"):
        Store(tmp_path / "file" / "answers.db")


def test_output_that_a_terminal_cannot_show_ends_no_run(tmp_path, monkeypatch):
    raw = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(raw, encoding="latin-1"))
    main(["list", "recipes"], standalone_mode=False)
    click.echo("Größe ─ κ")
    sys.stdout.flush()
    assert "Größe \\u2500 \\u03ba".encode("latin-1") in raw.getvalue()


def test_a_task_of_ones_own_in_a_students_folder_is_imported_only_where_it_is_asked_for(tmp_path, monkeypatch):
    (tmp_path / "their_lab").mkdir()
    (tmp_path / "their_lab" / "their_task.py").write_text("from pathlib import Path\nPath('imported').touch()\n")
    (tmp_path / "student").mkdir()
    records.write_json(tmp_path / "student" / "tutelage.json", {"task": {"kind": "their_lab.their_task"}, "labels": []})
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"imported only where you ask for it; .* add task.kind=their_lab.their_task"):
        evaluate("student", (), None, None)
    assert not Path("imported").exists()
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ConfigError, match=r"module 'their_lab\.their_task' has 0 public parts"):
        evaluate("student", ("task.kind=their_lab.their_task",), None, None)
    assert Path("imported").exists()
