"""Trials an hour: a study against shell loops of single runs, cold and with a warm store.

    python benchmarks/study.py --trials 6 --out runs/bench-study

All three train the same students, KD from MiniLM on Rotten Tomatoes under so many seeds, in one process at a time with one thread:

- cold: `tutelage distill` in a loop, each run with a store of its own, so that each trains the teacher;
- warm: the same loop over one store, in which teacher and signals are already;
- study: `tutelage study` with one worker, its store empty.

Wall and processor seconds are given; the students' weights must be the same in all three. The targets: 3x the trials an hour of
cold, 1.3x those of warm.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import yaml

from tutelage.study import plan as plans
from tutelage.study.cells import Cells

RECIPE: dict[str, Any] = {
    "task": {"kind": "classify", "data": "rotten_tomatoes"},
    "teacher": {"model": "minilm", "train": {"epochs": 2, "learning_rate": 2e-4, "precision": "float32"}},
    "student": {"surgery": [{"kind": "keep_layers", "keep": "first", "count": 2}]},
    "method": "kd",
    "train": {"epochs": 1, "learning_rate": 4e-4, "precision": "float32"},
    "signals": {"precision": "float32"},
    "threads": 1,
    "measure": False,
}


def call(*words: object) -> None:
    subprocess.run([sys.executable, "-m", "tutelage", *map(str, words)], check=True, stdout=subprocess.DEVNULL)


def timed(work: Any) -> dict[str, float]:
    """Wall and processor seconds of the processes that the work starts."""
    used, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    work()
    now = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {"wall": time.monotonic() - began, "processor": now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime}


def loop(out: Path, recipe: Path, seeds: list[int], shared: Path | None) -> list[str]:
    """Single runs, one after another; the weights of their students."""
    found = []
    for seed in seeds:
        run = out / f"run-{seed}"
        call("distill", recipe, f"seed={seed}", "--out", run, "--store", shared or out / f"store-{seed}", "--quiet")
        found.append(json.loads((run / "record.json").read_text())["models"]["kd"]["weights"])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--trials", type=int, default=6)
    parser.add_argument("--limit", type=int, default=1500, help="training rows")
    parser.add_argument("--out", type=Path, default=Path("runs/bench-study"))
    given = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    shutil.rmtree(given.out, ignore_errors=True)
    given.out.mkdir(parents=True)
    seeds = list(range(1, given.trials + 1))
    RECIPE["task"]["limit"] = given.limit
    recipe, study = given.out / "recipe.yaml", given.out / "study.yaml"
    recipe.write_text(yaml.safe_dump(RECIPE))
    study.write_text(yaml.safe_dump({"base": RECIPE, "axes": {"method": ["kd"]}, "seeds": seeds}))
    weights: dict[str, list[str]] = {}
    seconds: dict[str, dict[str, float]] = {}

    def run_study() -> None:
        call("study", study, "--out", given.out / "study", "--quiet")
        weights["study"] = [r.result["weights"] for r in Cells(given.out / "study" / "study.db", plans.load(study)).rows() if r.result]

    def run_loop(name: str, shared: Path | None) -> None:
        weights[name] = loop(given.out / name, recipe, seeds, shared)

    seconds["study"] = timed(run_study)
    seconds["cold"] = timed(lambda: run_loop("cold", None))
    call("distill", recipe, "seed=0", "--out", given.out / "first", "--store", given.out / "warm-store", "--quiet")
    seconds["warm"] = timed(lambda: run_loop("warm", given.out / "warm-store"))
    assert weights["study"] == weights["cold"] == weights["warm"], "the same students"
    for name, used in seconds.items():
        figures = ", ".join(f"{k} {v:.0f} s ({3600 * given.trials / v:.0f} trials an hour)" for k, v in used.items())
        ratio = ", ".join(f"{k} {used[k] / seconds['study'][k]:.2f}x" for k in used)
        print(f"{name}: {figures}; study against it: {ratio}", flush=True)


if __name__ == "__main__":
    main()
