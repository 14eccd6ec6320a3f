"""Whole clusters at once against antecedents: the same encoder, windows, features, budget and search, over seeds; resumable.

    python benchmarks/coreference_quality.py --data ontogum --probe winobias/dev.jsonl --seeds 5 --threads 2    # go on from what is there
    python benchmarks/coreference_quality.py --table                                  # what it holds
    python benchmarks/coreference_quality.py --data ontogum --trial --threads 1       # a design's choices, on dev alone
    python benchmarks/coreference_quality.py --data ontogum --long --seeds 3 --threads 1    # twice the epochs, an open search of rates

`clusters` is the task coreference, `antecedents` the common way (benchmarks/antecedents.py), `helped` the same with our loss for mentions
beside it. MiniLM (6 layers) is fine-tuned on --data's train.jsonl, selected on dev.jsonl and scored on test.jsonl, singletons dropped. An
arm's learning rate is the best of three on dev, tried once with half the epochs and a seed that is used for nothing else. Every finished
cell is a line of `results/coreference.jsonl` with each test document's counts, those of links by distance among them; a cell of another
configuration is refused, never mixed. --probe is a file that a finished student resolves besides; its counts are kept by genre.

The table: F1 over all test documents, mean over seeds, and the difference to `antecedents` over the seeds that both have, with 95 %
intervals for other seeds and documents (Student's t over seeds, and 2,000 draws of documents, the same for all arms); those of one seed
tell of other documents alone.

--trial compares our task with another target (`endpoints`, benchmarks/endpoints.py) and another loss (`cells`, benchmarks/cells.py): two
epochs at one rate, one seed, each judged on the dev documents that chose its epoch and threshold; cells go to
`results/coreference-trial.jsonl`, and differences are to `clusters`. Test is not read.

--long asks whether budget or rates hold antecedents back: 20 epochs in place of 10, rates from 2.5e-5, and the search goes on to half the
lowest or twice the highest while that is the best; cells go to `results/coreference-long.jsonl`. `--seeds 0` searches alone.
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
from rates import best, following

import tutelage
from tutelage import records
from tutelage.coref import distances, formats, scores
from tutelage.coref.documents import Document
from tutelage.engine import judge
from tutelage.seeds import stream
from tutelage.study import statistics


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
    onward: bool = False
    """Whether the search goes on beyond the rates until the next one is worse."""

    @property
    def results(self) -> Path:
        return Path(__file__).parent / "results" / f"{self.name}.jsonl"


QUALITY = Plan("coreference", ("clusters", "antecedents", "helped"), "antecedents", "test", 10, (1e-4, 2e-4, 4e-4))
LONG = Plan("coreference-long", ("antecedents", "clusters"), "antecedents", "test", 20, (2.5e-5, 5e-5, 1e-4, 2e-4), onward=True)
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
APART = {
    f"links, {low} to {high - 1} words" if high else f"links, {low} words and more": n
    for n, (low, high) in enumerate(zip(distances.EDGES, (*distances.EDGES[1:], None), strict=True))
}


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
        row |= {"probe": probed(folder, given.probe)} if given.probe else {}
    shutil.rmtree(folder)
    return row


def counts(key: Path, examples: Path) -> dict[str, Any]:
    """The judged documents' names and counts, from what a run keeps of its examples."""
    right, said = both(key, examples)
    found = scores.by_document(right, said, "drop")
    parts = {m: np.round(found.parts[m], 4).tolist() for m in KEPT}
    links = [distances.links([mine], [its]) for mine, its in zip(right, said, strict=True)]
    for name, n in APART.items():
        parts[name] = [[one[n][side] for side in ("both", "key", "both", "response")] for one in links]
    return {"documents": list(found.names), "counts": parts}


def both(key: Path, examples: Path) -> tuple[list[Document], list[Document]]:
    """The documents of a key as they are, and with the clusters that were found."""
    documents = {one.name: one for one in formats.read(key)}
    said = {row["document"]: row["predicted"] for row in records.rows(examples)}
    return [documents[name] for name in said], [dataclasses.replace(documents[name], clusters=clusters) for name, clusters in said.items()]


def probed(folder: Path, file: Path) -> dict[str, Any]:
    """By genre of a file's documents, the sums of the counts of a run's student."""
    judge.evaluate(str(folder / "student"), (f"test={file}",), None, folder / "probe.jsonl")
    right, said = both(file, folder / "probe.jsonl")
    found = scores.by_document(right, said, "drop")
    genre = np.array([one.about.get("genre", "") for one in right])
    return {name: {m: np.round(found.parts[m][genre == name].sum(0), 4).tolist() for m in KEPT} for name in sorted(set(genre))}


def work(plan: Plan, given: argparse.Namespace) -> None:
    """Search and train what the results file lacks, seed by seed over all arms."""
    for seed in range(given.seeds + 1):
        for arm in given.arms.split(",") if given.arms else plan.arms:
            mine = [r for r in known(plan) if r["arm"] == arm]
            if any(r["configuration"] != configuration(arm, plan, given.data) for r in mine):
                raise SystemExit(f"{plan.results}: holds cells of another configuration of {arm}; move them away first")
            tried = {r["rate"]: r["dev"] for r in mine if r["seed"] == SEARCH_SEED}
            while not seed and (rate := wanted(plan, tried)):
                tried[rate] = add(cell(arm, SEARCH_SEED, rate, plan, given), plan)["dev"]
            if seed and not any(r["seed"] == seed for r in mine):
                add(cell(arm, seed, best(tried) if tried else plan.rates[0], plan, given), plan)


def wanted(plan: Plan, tried: dict[float, float]) -> float | None:
    """The next rate of a search, None where it is over."""
    if plan.onward:
        return following(tried, plan.rates)
    return next((rate for rate in plan.rates if rate not in tried and len(plan.rates) > 1), None)


def add(row: dict[str, Any], plan: Plan) -> dict[str, Any]:
    """Keep a finished cell and say it."""
    plan.results.parent.mkdir(exist_ok=True)
    with plan.results.open("a") as file:
        file.write(json.dumps(row) + "\n")
    print(*(f"{k} {row[k]}" for k in ("arm", "seed", "rate", "dev", "test", "processor") if k in row), flush=True)
    return row


def table(plan: Plan) -> list[str]:
    """What the file holds, in markdown: the scores, links by distance, and what was probed."""
    rows = [row for row in known(plan) if row["seed"] != SEARCH_SEED]
    cells: dict[str, dict[int, scores.Counts]] = {}
    for row in rows:
        parts = {m: np.array(many) for m, many in row["counts"].items()}
        cells.setdefault(row["arm"], {})[row["seed"]] = scores.Counts(tuple(row["documents"]), "drop", parts)
    arms = [arm for arm in ARMS if arm in cells]
    out = [*compared(plan, cells, SHOWN), ""]
    parts = [one.parts for many in cells.values() for one in many.values()]
    if all(name in part for part in parts for name in APART):
        out += [*compared(plan, cells, tuple(name for name in APART if any(part[name].any() for part in parts))), ""]
    out += ["| | CoNLL F1 by seed | rate | threshold by seed | processor, s |", "|---|---|---|---|---|"]
    for arm in arms:
        mine = sorted((row for row in rows if row["arm"] == arm), key=lambda row: row["seed"])
        each = ", ".join(f"{100 * row[plan.judged]:.1f}" for row in mine)
        cuts = ", ".join(f"{row['threshold']:g}" for row in mine)
        out.append(f"| {arm} | {each} | {mine[0]['rate']:g} | {cuts} | {np.mean([row['processor'] for row in mine]):.0f} |")
    if genres := sorted({genre for row in rows for genre in row.get("probe", {})}):
        out += ["", f"| CoNLL F1 | {' | '.join(genres)} |", "|" + "---|" * (len(genres) + 1)]
        for arm in arms:
            many = [row["probe"] for row in rows if row["arm"] == arm and "probe" in row]
            means = [np.mean([100 * scores.conll_of(np.concatenate([one[g][m] for m in scores.CONLL])) for one in many]) for g in genres]
            out.append(f"| {arm} | {' | '.join(f'{mean:.1f}' for mean in means)} |")
    return out


def compared(plan: Plan, cells: dict[str, dict[int, scores.Counts]], metrics: tuple[str, ...]) -> list[str]:
    """Every arm's F1, and its difference to the one that all are held against."""
    out = [f"| | seeds | {' | '.join(metrics)} |", "|" + "---|" * (len(metrics) + 2)]
    for arm in (a for a in ARMS if a in cells):
        figures = [shown([list(cells[arm].values())], metric) for metric in metrics]
        out.append(f"| {arm} | {len(cells[arm])} | {' | '.join(figures)} |")
        shared = sorted(set(cells[arm]) & set(cells.get(plan.beside, {})))
        if arm != plan.beside and shared:
            sides = [[cells[name][seed] for seed in shared] for name in (arm, plan.beside)]
            out.append(f"| less {plan.beside} | {len(shared)} | {' | '.join(shown(sides, metric) for metric in metrics)} |")
    return out


def shown(sides: list[list[scores.Counts]], metric: str) -> str:
    """Mean F1 over seeds of the first side, less that of the second where there is one, with its 95 % interval for other seeds and
    documents (`over_seeds_and_rows`, 2,000 draws of documents), for other documents alone where there is one seed."""
    number = len(sides[0][0].names)
    if any(one.names != sides[0][0].names for side in sides for one in side):
        raise SystemExit("cells of different documents; move those of one away")
    drawn = np.random.default_rng(stream(0, "bootstrap")).multinomial(number, np.full(number, 1 / number), size=2000)
    weights = np.concatenate([np.ones((1, number)), drawn])
    found = [np.stack([100 * scores.f1(one, metric, weights) for one in side], axis=1) for side in sides]
    gaps = found[0] - found[1] if len(found) > 1 else found[0]
    values, draws = gaps[0], gaps[1:]
    low, high = statistics.over_seeds_and_rows(values, draws) if len(values) > 1 else np.quantile(draws, [0.025, 0.975])
    return f"{values.mean():{'+' if len(sides) > 1 else ''}.1f} ({low:.1f} to {high:.1f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, help="folder with train.jsonl, dev.jsonl and test.jsonl")
    parser.add_argument("--probe", type=Path, help="documents that finished students resolve besides, scored by genre")
    parser.add_argument("--trial", action="store_true", help="few epochs at one rate, judged on dev: to choose a design by")
    parser.add_argument("--long", action="store_true", help="twice the epochs, lower rates, and a search that goes on")
    parser.add_argument("--arms", help="some of them, by commas")
    parser.add_argument("--seeds", type=int, help="how many, 0 to search alone [5; a trial: 1]")
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--out", type=Path, default=Path("runs/coreference-quality"))
    parser.add_argument("--table", action="store_true")
    given = parser.parse_args()
    plan = TRIAL if given.trial else LONG if given.long else QUALITY
    given.seeds = (1 if given.trial else 5) if given.seeds is None else given.seeds
    if given.table:
        print(*table(plan), sep="\n")
    elif given.data is None:
        parser.error("--data: name the folder of documents")
    else:
        sys.path.insert(0, str(Path(__file__).parents[1]))  # where the tasks `benchmarks.antecedents` and so on are found
        work(plan, given)


if __name__ == "__main__":
    main()
