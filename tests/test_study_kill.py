"""A study's real processes, killed and paused in mid-trial on SQLite and PostgreSQL: one result a cell, as of one undisturbed worker."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time

import numpy as np
import pytest
import yaml
from parts import recipe, save_tiny, write_reviews
from postgres import postgres  # noqa: F401

from tutelage.engine.talk import Talk
from tutelage.study import plan as plans
from tutelage.study.cells import Cells, examples_of
from tutelage.study.work import Worker

LEASE = 2.0


@pytest.fixture(scope="module")
def setting(tmp_path_factory):
    """A study whose trials take a second or so, and its rows when one worker has run it undisturbed."""
    folder = tmp_path_factory.mktemp("study")
    teacher = save_tiny(folder / "teacher", depth=3, width=256)
    train = {"epochs": 4, "batch_size": 16, "learning_rate": 1e-3}
    base = recipe(teacher, write_reviews(folder / "reviews.jsonl", 300), train=train)
    base |= {"teacher": {"model": str(teacher), "train": {"epochs": 1, "learning_rate": 1e-3}}}
    base |= {"student": {"surgery": [{"kind": "keep_layers", "keep": "first", "count": 2}]}}
    tree = {"base": base, "axes": {"method": ["finetune", "kd"]}, "seeds": [1, 2, 3, 4, 5], "lease": LEASE}
    (folder / "study.yaml").write_text(yaml.safe_dump(tree))
    return folder, run_alone(folder)


def run_alone(folder):
    cells = Cells(folder / "alone.db", plans.load(folder / "study.yaml"))
    Worker(cells, folder / "alone", Talk()).work()
    return found(cells)


def found(cells: Cells) -> list:
    """All that was found of each cell but times."""
    rows = cells.rows()
    assert {r.state for r in rows} == {"done"}, [(r.number, r.state, r.reason) for r in rows]
    return [
        ({k: v for k, v in r.result.items() if k != "seconds"}, {k: v.tolist() for k, v in examples_of(r).items()}, r.point, r.seed)
        for r in rows
    ]


def start(folder, url: str, name: str) -> subprocess.Popen:
    words = ["study", folder / "study.yaml", "--storage", url, "--store", folder / f"{name}-store", "--quiet"]
    command = [sys.executable, "-m", "tutelage", *map(str, words)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=os.environ | {"OMP_NUM_THREADS": "1"})


def when(condition, seconds: float = 240.0):
    """What the condition gives once it is true."""
    until = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.02)
    return value


def running(cells: Cells, process: subprocess.Popen, besides: int | None = None):
    """The cell that a process trains now."""
    assert process.poll() is None, process.stderr.read().decode()
    rows = [r for r in cells.rows() if r.state == "running" and f"-{process.pid}-" in r.worker and r.number != besides]
    return next(iter(rows), None)


def blocked(url: str) -> bool:
    """Whether a stopped process holds SQLite's write lock: a file's lock, which no one can take away from it."""
    if "://" in url:
        return False
    try:
        with sqlite3.connect(url, timeout=1.0, isolation_level=None) as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("ROLLBACK")
    except sqlite3.OperationalError:
        return True
    return False


@pytest.mark.kill
@pytest.mark.timeout(600)
@pytest.mark.parametrize("database", ["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def test_workers_that_are_killed_or_paused_change_nothing_but_times(setting, database, request):
    folder, undisturbed = setting
    url = str(folder / "shared.db") if database == "sqlite" else request.getfixturevalue("postgres").fresh()
    cells = Cells(url, plans.load(folder / "study.yaml"))
    workers = [start(folder, url, database) for _ in range(4)]
    paused, first, second, _ = workers
    when(lambda: any(r.state == "done" for r in cells.rows()))  # so that none is at what all wait for, the teacher
    while True:
        held = when(lambda: running(cells, paused))
        time.sleep(0.15)
        paused.send_signal(signal.SIGSTOP)
        now = cells.rows()[held.number]
        if not blocked(url) and now.state == "running" and now.fence == held.fence:
            break
        paused.send_signal(signal.SIGCONT)
    dead = []
    for process in (first, second):
        one = when(lambda process=process: running(cells, process))
        time.sleep(0.1)
        process.send_signal(signal.SIGKILL)
        process.wait()
        dead.append(one.number)
    when(lambda: cells.rows()[held.number].state == "done")
    assert f"-{paused.pid}-" not in cells.rows()[held.number].worker, "another has taken the paused one's cell up and finished it"
    paused.send_signal(signal.SIGCONT)
    for process in (paused, workers[3]):
        assert process.wait() == 0, process.stderr.read().decode()
    assert found(cells) == undisturbed
    rows = cells.rows()
    assert rows[held.number].fence >= 2 and sum(rows[n].fence >= 2 for n in dead) >= 1
    assert all(np.isfinite(r.result["score"]) for r in rows)
    cells.close()


@pytest.mark.kill
@pytest.mark.slow
def test_an_interrupted_worker_gives_its_cell_back_and_several_go_on(setting):
    folder, undisturbed = setting
    url = str(folder / "interrupted.db")
    cells = Cells(url, plans.load(folder / "study.yaml"))
    process = start(folder, url, "interrupted")
    when(lambda: any(r.state == "done" for r in cells.rows()))
    when(lambda: running(cells, process))
    process.send_signal(signal.SIGINT)
    assert process.wait() == 130 and "the same command goes on" in process.stderr.read().decode()
    assert {r.state for r in cells.rows()} == {"done", "open"}
    words = ["study", str(folder / "study.yaml"), "--storage", url, "--store", str(folder / "interrupted-store"), "--workers", "2"]
    done = subprocess.run([sys.executable, "-m", "tutelage", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "10 of 10 cells done" in done.stdout, done.stderr
    assert found(cells) == undisturbed
    cells.close()
