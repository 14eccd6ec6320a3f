"""Whole clusters at once against antecedents: the same encoder, windows, features, budget and search, over seeds; resumable.

    python benchmarks/coreference_quality.py --data ontogum --seeds 5 --threads 2     # go on from what the results file holds
    python benchmarks/coreference_quality.py --table                                  # what it holds

`clusters` is the task coreference, `antecedents` the common way (benchmarks/antecedents.py), `helped` the same with our loss for mentions
beside it. MiniLM (6 layers) is fine-tuned on --data's train.jsonl, selected on dev.jsonl and scored on test.jsonl, singletons dropped. An
arm's learning rate is the best of three on dev, tried once with half the epochs and a seed that is used for nothing else. Every finished
cell is a line of `results/coreference.jsonl` with each test document's counts; a cell of another configuration is refused, never mixed.

The table: F1 over all test documents, mean over seeds, with 95 % intervals that draw documents (2,000 draws, the same for all arms), and
the difference to `antecedents` on the same draws over the seeds that both have. They tell of other documents, not of other trainings:
the spread of seeds stands beside.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np

import tutelage
from tutelage import records
from tutelage.coref import formats, scores
from tutelage.seeds import stream

RESULTS = Path(__file__).parent / "results" / "coreference.jsonl"
ANTECEDENTS = "benchmarks.antecedents"
ARMS: dict[str, dict[str, Any]] = {
    "clusters": {"kind": "coreference"},
    "antecedents": {"kind": ANTECEDENTS},
    "helped": {"kind": ANTECEDENTS, "mention_weight": 1.0},
}
TRAIN = {"epochs": 10, "batch_size": 1}
RATES = (1e-4, 2e-4, 4e-4)
SEARCH_SEED = 1000
SEARCH_SHARE = 0.5
"""Of the epochs, to try a rate."""
KEPT = ("muc", "b3", "ceafe", "lea", "mentions")
SHOWN = ("conll", *KEPT)


def configuration(arm: str, data: Path) -> str:
    """Everything that decides a cell but its seed and rate."""
    files = [records.file_digest(data / f"{name}.jsonl") for name in ("train", "dev", "test")]
    return records.digest([ARMS[arm], TRAIN, RATES, SEARCH_SHARE, files])[:12]


def known() -> list[dict[str, Any]]:
    return [json.loads(line) for line in RESULTS.read_text().splitlines()] if RESULTS.exists() else []


def cell(arm: str, seed: int, rate: float, given: argparse.Namespace) -> dict[str, Any]:
    """Train one student; a search's student is judged on dev alone."""
    search, folder = seed == SEARCH_SEED, given.out / f"{arm}-{seed}-{rate:g}"
    epochs = int(TRAIN["epochs"] * (SEARCH_SHARE if search else 1))
    files = {name: str(given.data / f"{name}.jsonl") for name in ("train", "dev", "test")}
    recipe = {
        "name": arm, "task": {**ARMS[arm], **files}, "student": {"model": "minilm"}, "method": {"kind": "finetune"},
        "train": {**TRAIN, "epochs": epochs, "learning_rate": rate}, "seed": seed, "threads": given.threads, "measure": False,
    }  # fmt: skip
    run = tutelage.distill(recipe, out=folder, store=given.out / "store")
    student = run.record["models"]["finetune"]
    row: dict[str, Any] = {"arm": arm, "seed": seed, "rate": rate, "configuration": configuration(arm, given.data)}
    row |= {"dev": student["dev"]["conll_f1"], "seconds": round(student["training"]["seconds"], 1)}
    row |= {"precision": student["training"]["precision"]}
    if not search:
        row |= counts(given.data / "test.jsonl", folder / "examples-finetune.jsonl")
        row["test"] = student["test"]["primary"]
    shutil.rmtree(folder)
    return row


def counts(key: Path, examples: Path) -> dict[str, Any]:
    """The test documents' names and counts, from what a run keeps of its examples."""
    documents = {one.name: one for one in formats.read(key)}
    said = {row["document"]: row["predicted"] for row in records.rows(examples)}
    mine = [dataclasses.replace(documents[name], clusters=clusters) for name, clusters in said.items()]
    found = scores.by_document([documents[name] for name in said], mine, "drop")
    return {"documents": list(found.names), "counts": {m: np.round(found.parts[m], 4).tolist() for m in KEPT}}


def work(given: argparse.Namespace) -> None:
    """Search and train what the results file lacks, seed by seed over all arms."""
    for seed in range(given.seeds + 1):
        for arm in given.arms.split(","):
            mine = [r for r in known() if r["arm"] == arm]
            if any(r["configuration"] != configuration(arm, given.data) for r in mine):
                raise SystemExit(f"{RESULTS}: holds cells of another configuration of {arm}; move them away first")
            tried = {r["rate"]: r["dev"] for r in mine if r["seed"] == SEARCH_SEED}
            if not seed:
                wanted = [(SEARCH_SEED, rate) for rate in RATES if rate not in tried]
            else:
                wanted = [] if any(r["seed"] == seed for r in mine) else [(seed, max(tried, key=lambda rate: tried[rate]))]
            for its, rate in wanted:
                row = cell(arm, its, rate, given)
                RESULTS.parent.mkdir(exist_ok=True)
                with RESULTS.open("a") as file:
                    file.write(json.dumps(row) + "\n")
                print(*(f"{k} {row[k]}" for k in ("arm", "seed", "rate", "dev", "test", "seconds") if k in row), flush=True)


def table() -> list[str]:
    """What the file holds, in markdown."""
    cells: dict[str, dict[int, scores.Counts]] = {}
    seconds: dict[str, list[float]] = {}
    for row in known():
        if row["seed"] != SEARCH_SEED:
            parts = {m: np.array(rows) for m, rows in row["counts"].items()}
            cells.setdefault(row["arm"], {})[row["seed"]] = scores.Counts(tuple(row["documents"]), "drop", parts)
            seconds.setdefault(row["arm"], []).append(row["seconds"])
    out = [f"| | seeds | {' | '.join(SHOWN)} | CoNLL by seed | training, s |", "|" + "---|" * (len(SHOWN) + 4)]
    for arm in (a for a in ARMS if a in cells):
        many = list(cells[arm].values())
        each = [100 * float(scores.f1(one, "conll")) for one in many]
        figures = [shown([many], metric) for metric in SHOWN]
        out.append(f"| {arm} | {len(many)} | {' | '.join(figures)} | {min(each):.1f} to {max(each):.1f} | {np.mean(seconds[arm]):.0f} |")
        shared = sorted(set(cells[arm]) & set(cells.get("antecedents", {})))
        if arm != "antecedents" and shared:
            both = [[cells[name][seed] for seed in shared] for name in (arm, "antecedents")]
            gaps = [shown(both, metric) for metric in SHOWN]
            out.append(f"| less antecedents | {len(shared)} | {' | '.join(gaps)} | | |")
    return out


def shown(sides: list[list[scores.Counts]], metric: str) -> str:
    """Mean F1 over seeds of the first side, less that of the second where there is one, with its interval over documents."""
    number = len(sides[0][0].names)
    if any(one.names != sides[0][0].names for side in sides for one in side):
        raise SystemExit(f"{RESULTS}: cells of different test documents; move those of one away")
    drawn = np.random.default_rng(stream(0, "bootstrap")).multinomial(number, np.full(number, 1 / number), size=2000)
    weights = np.concatenate([np.ones((1, number)), drawn])
    means = [np.mean([100 * scores.f1(one, metric, weights) for one in side], axis=0) for side in sides]
    values = means[0] - means[1] if len(means) > 1 else means[0]
    low, high = np.quantile(values[1:], [0.025, 0.975])
    return f"{values[0]:{'+' if len(means) > 1 else ''}.1f} ({low:.1f} to {high:.1f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, help="folder with train.jsonl, dev.jsonl and test.jsonl")
    parser.add_argument("--arms", default=",".join(ARMS))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--out", type=Path, default=Path("runs/coreference-quality"))
    parser.add_argument("--table", action="store_true")
    given = parser.parse_args()
    if given.table:
        print(*table(), sep="\n")
    elif given.data is None:
        parser.error("--data: name the folder of documents")
    else:
        sys.path.insert(0, str(Path(__file__).parents[1]))  # where the task `benchmarks.antecedents` is found
        work(given)


if __name__ == "__main__":
    main()
