"""Real processes, killed by SIGKILL at many points, started again: the same weights, and at most the work since the last save."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from parts import recipe, save_tiny, write_reviews

from tutelage import records

CODE = "import tutelage.engine.signals as s; s.SYNC_SECONDS = 0.0; from tutelage.cli import main; main(prog_name='tutelage')"


@pytest.fixture(scope="module")
def setting(tmp_path_factory):
    """A recipe whose model is large enough that a save takes time, and the record of its undisturbed run."""
    folder = tmp_path_factory.mktemp("kill")
    teacher = save_tiny(folder / "teacher", depth=4, width=256)
    data = write_reviews(folder / "reviews.jsonl", 300)
    train = {"epochs": 1, "batch_size": 16, "learning_rate": 3e-3}
    tree = recipe(teacher, data, autosave=0, teacher={"model": str(teacher), "train": {"epochs": 1, "learning_rate": 1e-3}}, train=train)
    (folder / "recipe.yaml").write_text(yaml.safe_dump(tree))
    start(folder, "whole").wait()
    return folder, record(folder, "whole")


def words(folder: Path, root: Path) -> list[str]:
    own = ["--out", str(root / "run"), "--store", str(root / "store")]
    return [sys.executable, "-c", CODE, "distill", str(folder / "recipe.yaml"), "--quiet", *own]


def start(folder: Path, name: str) -> subprocess.Popen:
    command = words(folder, folder / name)
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=os.environ | {"OMP_NUM_THREADS": "1"})


def record(folder: Path, name: str) -> dict:
    return json.loads((folder / name / "run" / "record.json").read_text())


def found(root: Path, pattern: str) -> list[Path]:
    try:
        return list(root.glob(pattern))
    except FileNotFoundError:  # a folder that went while it was looked through
        return []


def exists(pattern: str):
    return lambda root: bool(found(root, pattern))


def steps_of(root: Path) -> list[int]:
    return [int(p.name[5:]) for p in found(root, "store/trainings/*/checkpoints/step-*")]


POINTS = {
    "teacher begins": exists("store/trainings/*/checkpoints/step-000000002"),
    "inside a checkpoint write": exists("store/trainings/*/checkpoints/.step-*.tmp/tensors.safetensors"),
    "inside a best student's write": exists("store/trainings/*/checkpoints/.best-*.tmp"),
    "inside the teacher's result": exists("store/trainings/*/.result.tmp/model"),
    "inside a cache fill": exists("store/signals/.partial-*/done.json"),
    "student in the middle": lambda root: exists("store/signals/*/meta.json")(root) and any(s >= 8 for s in steps_of(root)),
    "inside the student's folder": exists("run/.student.tmp"),
}


def stopped_at(process: subprocess.Popen, reached: Callable[[], bool]) -> bool:
    """Stop the process where `reached` holds; False if it ended first, as may be where a write takes milliseconds."""
    until = time.monotonic() + 100
    while process.poll() is None and time.monotonic() < until:
        if reached():
            process.send_signal(signal.SIGSTOP)
            if reached():
                return True
            process.send_signal(signal.SIGCONT)
    return False


@pytest.mark.kill
@pytest.mark.parametrize("point", [pytest.param(p, marks=pytest.mark.slow) if p == "teacher begins" else p for p in POINTS])
def test_a_killed_run_ends_in_the_weights_of_an_undisturbed_one(setting, point):
    folder, whole = setting
    name, reached = point.replace(" ", "-").replace("'", ""), POINTS[point]
    root = folder / name
    for _ in range(3):
        process = start(folder, name)
        if stopped_at(process, lambda: reached(root)):
            break
        process.wait()
        shutil.rmtree(root)
    assert process.poll() is None, f"the run ended three times before '{point}' was seen"
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (root / "run" / "record.json").exists()
    done_before = max(steps_of(root), default=0)
    again = start(folder, name)
    assert again.wait() == 0, again.stderr.read().decode()[-2000:]
    mine = record(folder, name)
    for key, model in whole["models"].items():
        assert mine["models"][key]["weights"] == model["weights"], key
        assert mine["models"][key]["test"] == model["test"]
        assert [r["losses"] for r in mine["models"][key]["training"]["losses"]] == [r["losses"] for r in model["training"]["losses"]]
    assert not [p for p in root.rglob("*.tmp")] and not list(root.glob("store/signals/.partial-*"))
    if point == "student in the middle":
        assert any(f"goes on from step {s}" in note for note in mine["notes"] for s in (done_before, done_before - 1))


@pytest.mark.kill
def test_a_full_disk_is_one_sentence_and_keeps_what_was_saved(setting, tmp_path):
    folder, whole = setting
    if (
        os.geteuid()
        or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=22m", "none", str(tmp_path)], capture_output=True, check=False).returncode
    ):
        pytest.skip("mounting a small file system needs root")
    try:
        command = words(folder, tmp_path)
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 2 and "no space left on device; free some space and start the same command again" in done.stderr, (
            done.stderr
        )
        assert "Traceback" not in done.stderr
        subprocess.run(["mount", "-o", "remount,size=400m", str(tmp_path)], check=True)
        assert subprocess.run(command, check=False).returncode == 0
        assert records.read_json(tmp_path / "run" / "record.json")["models"]["kd"]["weights"] == whole["models"]["kd"]["weights"]
    finally:
        subprocess.run(["umount", str(tmp_path)], check=False)
