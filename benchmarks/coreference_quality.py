"""Whole clusters at once against antecedents: the same encoder, windows, features, budget and search, over seeds; resumable.

    python benchmarks/coreference_quality.py --data ontogum --seeds 5 --threads 2     # go on from what the results file holds
    python benchmarks/coreference_quality.py --table                                  # what it holds
    python benchmarks/coreference_quality.py --data ontogum --trial --threads 1       # a design's choices, on dev alone

`clusters` is the task coreference, `antecedents` the common way (benchmarks/antecedents.py), `helped` the same with our loss for mentions
beside it. MiniLM (6 layers) is fine-tuned on --data's train.jsonl, selected on dev.jsonl and scored on test.jsonl, singletons dropped. An
arm's learning rate is the best of three on dev, tried once with half the epochs and a seed that is used for nothing else. Every finished
cell is a line of `results/coreference.jsonl` with each test document's counts; a cell of another configuration is refused, never mixed.

The table: F1 over all test documents, mean over seeds, with 95 % intervals that draw documents (2,000 draws, the same for all arms), and
the difference to `antecedents` on the same draws over the seeds that both have. They tell of other documents, not of other trainings:
the spread of seeds stands beside.

--trial compares our task with another target (`endpoints`, benchmarks/endpoints.py) and another loss (`cells`, benchmarks/cells.py): two
epochs at one rate, one seed, each judged on the dev documents that chose its epoch and threshold; cells go to
`results/coreference-trial.jsonl`, and differences are to `clusters`. Test is not read.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

import tutelage
from tutelage import records
from tutelage.coref import formats, scores
from tutelage.seeds import stream


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is trained, how it is judged, and where its cells go."""

    name: str
    arms: tuple[str, ...]
    beside: str
    """The arm that differences are to."""
    judged: str
    """The split that is scored."""
    epochs: int
    rates: tuple[float, ...]
    """The best on dev is taken, tried with `SEARCH_SHARE` of the epochs; a single one is taken as it is."""

    @property
    def results(self) -> Path:
        return Path(__file__).parent / "results" / f"{self.name}.jsonl"


QUALITY = Plan("coreference", ("clusters", "antecedents", "helped"), "antecedents", "test", 10, (1e-4, 2e-4, 4e-4))
TRIAL = Plan("coreference-trial", ("clusters", "endpoints", "cells"), "clusters", "dev", 2, (2e-4,))
ARMS: dict[str, dict[str, Any]] = {
    "clusters": {"kind": "coreference"},
    "antecedents": {"kind": "benchmarks.antecedents"},
    "helped": {"kind": "benchmarks.antecedents", "mention_weight": 1.0},
    "endpoints": {"kind": "benchmarks.endpoints"},
    "cells": {"kind": "benchmarks.cells"},
}
SEARCH_SEED = 1000
SEARCH_SHARE = 0.5
"""Of the epochs, to try a rate."""
KEPT = ("muc", "b3", "ceafe", "lea", "mentions")
SHOWN = ("conll", *KEPT)


def configuration(arm: str, plan: Plan, data: Path) -> str:
    """Everything that decides a cell but its seed and rate."""
    files = [records.file_digest(data / f"{name}.jsonl") for name in dict.fromkeys(("train", "dev", plan.judged))]
    return records.digest([ARMS[arm], plan.epochs, plan.rates, SEARCH_SHARE, files])[:12]


def known(plan: Plan) -> list[dict[str, Any]]:
    return [json.loads(line) for line in plan.results.read_text().splitlines()] if plan.results.exists() else []


def cell(arm: str, seed: int, rate: float, plan: Plan, given: argparse.Namespace) -> dict[str, Any]:
    """Train one student; a search's student is judged on dev alone."""
    search, folder = seed == SEARCH_SEED, given.out / f"{plan.name}-{arm}-{seed}-{rate:g}"
    epochs = int(plan.epochs * (SEARCH_SHARE if search else 1))
    files = {name: str(given.data / f"{split}.jsonl") for name, split in (("train", "train"), ("dev", "dev"), ("test", plan.judged))}
    recipe = {
        "name": arm, "task": {**ARMS[arm], **files}, "student": {"model": "minilm"}, "method": {"kind": "finetune"},
        "train": {"epochs": epochs, "batch_size": 1, "learning_rate": rate}, "seed": seed, "threads": given.threads, "measure": False,
    }  # fmt: skip
    begun = time.process_time()
    run = tutelage.distill(recipe, out=folder, store=given.out / "store")
    student = run.record["models"]["finetune"]
    row: dict[str, Any] = {"arm": arm, "seed": seed, "rate": rate, "configuration": configuration(arm, plan, given.data)}
    row |= {"dev": student["dev"]["conll_f1"], "seconds": round(student["training"]["seconds"], 1)}
    row |= {"processor": round(time.process_time() - begun, 1), "precision": student["training"]["precision"]}
    if not search:
        row |= counts(given.data / f"{plan.judged}.jsonl", folder / "examples-finetune.jsonl")
        row |= {plan.judged: student["test"]["primary"], "threshold": student["test"]["calibrated"]["threshold"]}
    shutil.rmtree(folder)
    return row


def counts(key: Path, examples: Path) -> dict[str, Any]:
    """The judged documents' names and counts, from what a run keeps of its examples."""
    documents = {one.name: one for one in formats.read(key)}
    said = {row["document"]: row["predicted"] for row in records.rows(examples)}
    mine = [dataclasses.replace(documents[name], clusters=clusters) for name, clusters in said.items()]
    found = scores.by_document([documents[name] for name in said], mine, "drop")
    return {"documents": list(found.names), "counts": {m: np.round(found.parts[m], 4).tolist() for m in KEPT}}


def work(plan: Plan, given: argparse.Namespace) -> None:
    """Search and train what the results file lacks, seed by seed over all arms."""
    for seed in range(given.seeds + 1):
        for arm in given.arms.split(",") if given.arms else plan.arms:
            mine = [r for r in known(plan) if r["arm"] == arm]
            if any(r["configuration"] != configuration(arm, plan, given.data) for r in mine):
                raise SystemExit(f"{plan.results}: holds cells of another configuration of {arm}; move them away first")
            tried = {r["rate"]: r["dev"] for r in mine if r["seed"] == SEARCH_SEED}
            if not seed:
                wanted = [(SEARCH_SEED, rate) for rate in plan.rates if rate not in tried and len(plan.rates) > 1]
            else:
                wanted = [] if any(r["seed"] == seed for r in mine) else [(seed, max(plan.rates, key=lambda rate: tried.get(rate, 0)))]
            for its, rate in wanted:
                row = cell(arm, its, rate, plan, given)
                plan.results.parent.mkdir(exist_ok=True)
                with plan.results.open("a") as file:
                    file.write(json.dumps(row) + "\n")
                print(*(f"{k} {row[k]}" for k in ("arm", "seed", "rate", "dev", "test", "processor") if k in row), flush=True)


def table(plan: Plan) -> list[str]:
    """What the file holds, in markdown."""
    cells: dict[str, dict[int, scores.Counts]] = {}
    seconds: dict[str, list[float]] = {}
    for row in known(plan):
        if row["seed"] != SEARCH_SEED:
            parts = {m: np.array(rows) for m, rows in row["counts"].items()}
            cells.setdefault(row["arm"], {})[row["seed"]] = scores.Counts(tuple(row["documents"]), "drop", parts)
            seconds.setdefault(row["arm"], []).append(row["processor"])
    out = [f"| | seeds | {' | '.join(SHOWN)} | CoNLL by seed | processor, s |", "|" + "---|" * (len(SHOWN) + 4)]
    for arm in (a for a in ARMS if a in cells):
        many = list(cells[arm].values())
        each = [100 * float(scores.f1(one, "conll")) for one in many]
        figures = [shown([many], metric) for metric in SHOWN]
        out.append(f"| {arm} | {len(many)} | {' | '.join(figures)} | {min(each):.1f} to {max(each):.1f} | {np.mean(seconds[arm]):.0f} |")
        shared = sorted(set(cells[arm]) & set(cells.get(plan.beside, {})))
        if arm != plan.beside and shared:
            both = [[cells[name][seed] for seed in shared] for name in (arm, plan.beside)]
            gaps = [shown(both, metric) for metric in SHOWN]
            out.append(f"| less {plan.beside} | {len(shared)} | {' | '.join(gaps)} | | |")
    return out


def shown(sides: list[list[scores.Counts]], metric: str) -> str:
    """Mean F1 over seeds of the first side, less that of the second where there is one, with its interval over documents."""
    number = len(sides[0][0].names)
    if any(one.names != sides[0][0].names for side in sides for one in side):
        raise SystemExit("cells of different documents; move those of one away")
    drawn = np.random.default_rng(stream(0, "bootstrap")).multinomial(number, np.full(number, 1 / number), size=2000)
    weights = np.concatenate([np.ones((1, number)), drawn])
    means = [np.mean([100 * scores.f1(one, metric, weights) for one in side], axis=0) for side in sides]
    values = means[0] - means[1] if len(means) > 1 else means[0]
    low, high = np.quantile(values[1:], [0.025, 0.975])
    return f"{values[0]:{'+' if len(means) > 1 else ''}.1f} ({low:.1f} to {high:.1f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, help="folder with train.jsonl, dev.jsonl and test.jsonl")
    parser.add_argument("--trial", action="store_true", help="few epochs at one rate, judged on dev: to choose a design by")
    parser.add_argument("--arms", help="some of them, by commas")
    parser.add_argument("--seeds", type=int, help="how many [5; a trial: 1]")
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--out", type=Path, default=Path("runs/coreference-quality"))
    parser.add_argument("--table", action="store_true")
    given = parser.parse_args()
    plan = TRIAL if given.trial else QUALITY
    given.seeds = given.seeds or (1 if given.trial else 5)
    if given.table:
        print(*table(plan), sep="\n")
    elif given.data is None:
        parser.error("--data: name the folder of documents")
    else:
        sys.path.insert(0, str(Path(__file__).parents[1]))  # where the tasks `benchmarks.antecedents` and so on are found
        work(plan, given)


if __name__ == "__main__":
    main()
