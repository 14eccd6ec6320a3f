"""Is the fast path as accurate? The same distillation by the plain path and by faster ones, over seeds.

    python benchmarks/equivalence.py --seeds 5 --out runs/equivalence

plain: float32 student and teacher, rows shuffled without regard to length, the teacher live beside the student.
fast: what `auto` takes here (bfloat16 where the processor computes in it), batches by length, cached signals.
small_pools: fast with `train.bucket=16`. bfloat16: fast with bfloat16 also where the processor has to imitate it.
Prints dev accuracy by path and seed, each path's mean difference to `--against` with its 90 % t interval, and the two
one-sided tests (TOST) of "the difference is smaller than the margin". Interrupted, the same command goes on.

Two models that are equally good still differ by luck on a dev part: with a tenth of the rows in disagreement, the
difference on 831 rows has a standard deviation of 1.1 points, on 3,400 rows of 0.54. So dev is 40 % of the rows here.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

import tutelage
from tutelage.study import statistics

PATHS = {
    "plain": ["train.precision=float32", "signals.precision=float32", "train.bucket=0", "signals.source=live"],
    "fast": [],
    "small_pools": ["train.bucket=16"],
    "bfloat16": ["train.precision=bfloat16", "signals.precision=bfloat16"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--paths", default="plain,fast", help=f"of {', '.join(PATHS)}")
    parser.add_argument("--against", default="plain", help="the path that others are compared with")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--rate", type=float, default=2e-4, help="peak learning rate")
    parser.add_argument("--dev-share", type=float, default=0.4, help="share of the rows that is dev")
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--margin", type=float, default=0.01, help="largest difference in dev accuracy that counts as none")
    parser.add_argument("--out", type=Path, default=Path("runs/equivalence"))
    given = parser.parse_args()
    paths = given.paths.split(",")
    found: dict[str, list[float]] = {name: [] for name in paths}
    seconds: dict[str, list[float]] = {name: [] for name in paths}
    shared = [f"task.dev_share={given.dev_share}", f"train.epochs={given.epochs}", f"train.learning_rate={given.rate}"]
    shared += ["compare=[]", "measure=false"] + ([f"threads={given.threads}"] if given.threads else [])
    for seed in range(1, given.seeds + 1):
        for name in paths:
            own = [f"seed={seed}", *shared, *PATHS[name]]
            run = tutelage.distill("recipes/quickstart.yaml", own, out=given.out / f"{name}-{seed}", store=given.out / "store")
            student = run.record["models"]["kd"]
            found[name].append(student["dev"]["accuracy"])
            seconds[name].append(student["training"]["seconds"])
            print(f"seed {seed} {name}: dev {found[name][-1]:.4f}, trained in {seconds[name][-1]:.1f} s", flush=True)
    results = {}
    for name in (name for name in paths if name != given.against):
        gaps = np.subtract(found[name], found[given.against])
        low, high = statistics.mean_interval(gaps, 0.10)
        p = statistics.equivalence(gaps, given.margin)
        results[name] = {"mean": gaps.mean(), "low": low, "high": high, "p": p, "seeds": len(gaps), "margin": given.margin}
    print(json.dumps({"dev": found, "seconds": seconds, "against": given.against, "difference": results}))


if __name__ == "__main__":
    main()
