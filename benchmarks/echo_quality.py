"""What SmolLM2-135M loses when layers share attention, against rivals of equal speed, after the same training; resumable.

    python benchmarks/echo_quality.py --data ../data --arms ours,paper,drop,keep       # go on from what the results file holds
    python benchmarks/echo_quality.py --table                                          # what it holds, with intervals

Students of about equal measured speed (prefill of 512 tokens, see docs/results.md): 12 of 30 layers echo by the paper's rule
(`paper`) or by ours with head maps and refitted projections (`ours`); 6 layers lose their attention (`drop`), 2 go altogether
(`keep`), both ranked as LLM-Drop does. All learn alike: 150,000 tokens of IMDB, the method `echo` without hidden states (which not
all of them can match), the teacher's signals cached; the rate is the better of two on dev after a fifth of the tokens, tried once
for each with a seed that is used for nothing else. Losses are on test rows of IMDB, and on the beginning of WikiText-2's
validation text from `--data` (`language/wikitext-2/valid.txt`); the zero-shot questions are the first 250 of each file below
`zero_shot` there, asked of each arm's first seed. A cell is one line of `benchmarks/results/echo_quality.jsonl`.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import shutil
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

import tutelage
from tutelage import config, records
from tutelage.echo import rules, work
from tutelage.echo.analysis import Analysis
from tutelage.engine import judge
from tutelage.engine.zero_shot import zero_shot
from tutelage.find import find
from tutelage.study import statistics

RESULTS = Path(__file__).parent / "results" / "echo_quality.jsonl"
TASK = {"kind": "language", "data": "imdb", "tokens": 512, "limit": 560, "dev_limit": 24, "test_limit": 100}
TRAIN = {"tokens": 150_000, "batch_size": 4, "decay": "cosine", "warmup": 0.05, "select": "last"}
METHOD = {"kind": "echo", "hidden_weight": 0.0}
RATES, SEARCH_SEED, SEARCH_TOKENS = (1e-4, 3e-4), 1000, 30_000
LAYERS, SHARE, DROPPED, GONE = 30, 0.4, 6, 2
ARMS = {"unshared": 0, "ours": 3, "paper": 3, "drop": 3, "keep": 3}
"""Arm -> seeds; the unshared model is judged as it is."""
WIKITEXT = 200_000
"""Characters of WikiText-2 that are scored."""
QUESTIONS = 250
KEPT = ("arm", "seed", "rate")


# ---- what the arms need


def prepare(given: argparse.Namespace) -> Path:
    """Plans, held-out text and questions, made once in the folder `inputs`."""
    place = given.out / "inputs"
    if (place / "done").exists():
        return place
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    task: Any = config.build(find("tasks", "language"), {k: v for k, v in TASK.items() if k != "kind"})
    lines(place / "train.jsonl", ({"text": t} for t in task.load().splits["train"].columns["text"]))
    look = work.Look(str(place / "train.jsonl"))
    work.analyze("smollm2", look, out=place / "analysis", threads=given.threads)
    for arm, rule, refit in (("ours", "dynamic", True), ("paper", "paper", False)):
        made = {"rule": rule, "share": SHARE, "refit": refit, "held_out": 0, "analysis": place / "analysis", "out": place / arm}
        work.plan("smollm2", look, **made, threads=given.threads)
    (place / "wikitext.txt").write_text((given.data / "language/wikitext-2/valid.txt").read_text(encoding="utf-8")[:WIKITEXT])
    for name, many in questions(given.data / "zero_shot").items():
        lines(place / f"{name}.jsonl", islice(many, QUESTIONS))
    (place / "done").touch()
    return place


def lines(path: Path, many: Any) -> None:
    path.write_text("".join(json.dumps(line) + "\n" for line in many))


def questions(data: Path) -> dict[str, Iterator[dict[str, Any]]]:
    """The questions as lm-evaluation-harness asks them."""
    labels = (data / "PIQA/valid-labels.lst").read_text().split()
    return {
        "arc_easy": (
            {"query": f"Question: {q}\nAnswer:", "choices": choices, "gold": "ABCD".index(gold)}
            for q, *choices, gold in csv.reader((data / "ARC/arc_easy_validation.csv").open(encoding="utf-8"))
            if len(choices) == 4 and gold in "ABCD"
        ),
        "piqa": (
            {"query": f"Question: {q['goal']}\nAnswer:", "choices": [q["sol1"], q["sol2"]], "gold": int(gold)}
            for q, gold in zip(rows(data / "PIQA/valid.jsonl"), labels, strict=True)
        ),
        "hellaswag": (
            {"query": q["ctx"], "choices": q["endings"], "gold": q["label"]} for q in rows(data / "HellaSwag/hellaswag_val.jsonl.gz")
        ),
        "winogrande": (
            {"contexts": [before + q["option1"], before + q["option2"]], "ending": " " + after.strip(), "gold": int(q["answer"]) - 1}
            for q in rows(data / "WinoGrande/dev.jsonl")
            for before, _, after in [q["sentence"].partition("_")]
        ),
    }  # fmt: skip


def rows(path: Path) -> Iterator[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as file:
        yield from map(json.loads, file)


def surgery(arm: str, place: Path) -> dict[str, Any]:
    if arm in ("ours", "paper"):
        return {"kind": "echo_attention", "plan": str(place / arm / "plan.json")}
    idle = Analysis.read(place / "analysis").idle
    if arm == "drop":
        return {"kind": "drop_attention", "layers": rules.idlest(idle[0], DROPPED)}
    gone = rules.idlest(idle[1], GONE)
    return {"kind": "keep_layers", "layers": [i for i in range(LAYERS) if i not in gone]}


# ---- cells


def known() -> list[dict[str, Any]]:
    return [json.loads(line) for line in RESULTS.read_text().splitlines()] if RESULTS.exists() else []


def configuration(arm: str) -> str:
    return records.digest([TASK, TRAIN, METHOD, LAYERS, SHARE, DROPPED if arm == "drop" else GONE if arm == "keep" else 0])[:12]


def cell(arm: str, seed: int, rate: float, given: argparse.Namespace) -> dict[str, Any]:
    """Train one student and judge it; a search's student is judged on dev alone."""
    place, search = prepare(given), seed == SEARCH_SEED
    row: dict[str, Any] = {"arm": arm, "seed": seed, "rate": rate, "configuration": configuration(arm)}
    folder = given.out / f"{arm}-{seed}-{rate:g}"
    student = "smollm2"
    if arm != "unshared":
        recipe = {
            "name": arm, "task": TASK, "teacher": {"model": "smollm2"}, "student": {"surgery": [surgery(arm, place)]}, "method": METHOD,
            "train": TRAIN | {"learning_rate": rate} | ({"tokens": SEARCH_TOKENS} if search else {}),
            "seed": seed, "threads": given.threads, "measure": False,
        }  # fmt: skip
        run = tutelage.distill(recipe, out=folder, store=given.out / "store")
        found = run.record["models"]["echo"]
        row |= {"dev": found["dev"]["loss"], "seconds": round(found["training"]["seconds"]), "precision": found["training"]["precision"]}
        student = str(run.student)
    if not search:
        settings = [f"{k}={v}" for k, v in TASK.items()]
        row["imdb"] = losses(student, settings, folder)
        row["wikitext"] = losses(student, ["kind=language", f"data={place / 'wikitext.txt'}", "tokens=512"], folder)
    if seed <= 1:
        files = [str(place / f"{name}.jsonl") for name in questions(given.data / "zero_shot")]
        asked = zero_shot(student, files, threads=given.threads)
        row["right"] = {name: round(facts["accuracy"]["value"] * facts["questions"]) for name, facts in asked.items()}
    shutil.rmtree(folder, ignore_errors=True)
    return row


def losses(student: str, settings: list[str], folder: Path) -> dict[str, list[float]]:
    """Summed loss and predicted tokens of each row."""
    file = folder.with_suffix(".jsonl")
    judge.evaluate(student, tuple(settings), None, file)
    many = list(rows(file))
    file.unlink()
    return {"loss": [round(r["loss"] * r["tokens"], 3) for r in many], "tokens": [r["tokens"] for r in many]}


def train(given: argparse.Namespace) -> None:
    for seed in range(max(ARMS.values()) + 1):
        for arm in given.arms.split(","):
            mine = [r for r in known() if r["arm"] == arm]
            if any(r["configuration"] != configuration(arm) for r in mine):
                raise SystemExit(f"{RESULTS}: holds cells of another configuration of {arm}; move them away first")
            if arm == "unshared":
                wanted = [] if mine else [(0, 0.0)]
            elif seed == 0:
                wanted = [(SEARCH_SEED, rate) for rate in RATES if not any(r["seed"] == SEARCH_SEED and r["rate"] == rate for r in mine)]
            else:
                best = min((r for r in mine if r["seed"] == SEARCH_SEED), key=lambda r: r["dev"])["rate"]
                wanted = [] if seed > ARMS[arm] or any(r["seed"] == seed for r in mine) else [(seed, best)]
            for its, rate in wanted:
                row = cell(arm, its, rate, given)
                RESULTS.parent.mkdir(exist_ok=True)
                with RESULTS.open("a") as file:
                    file.write(json.dumps(row) + "\n")
                print(*(f"{k} {row[k]}" for k in (*KEPT, "dev", "seconds") if k in row), flush=True)


# ---- the table


def interval(many: list[dict[str, list[float]]], less: list[dict[str, list[float]]] | None = None) -> tuple[float, float, float]:
    """Mean loss a token over seeds, and a 95 % interval for other seeds and rows (`over_seeds_and_rows`, 2,000 draws of rows), for other
    rows alone where there is one seed; with `less`, of the difference by seeds in order."""
    tokens = np.array(many[0]["tokens"], dtype=float)
    block = np.array([m["loss"] for m in many])
    if less:
        block = block - np.array([m["loss"] for m in less])
    weights = np.random.default_rng(0).multinomial(len(tokens), np.full(len(tokens), 1 / len(tokens)), size=2000)
    values, draws = block.sum(1) / tokens.sum(), (weights @ block.T) / (weights @ tokens)[:, None]
    low, high = statistics.over_seeds_and_rows(values, draws) if len(values) > 1 else np.percentile(draws, (2.5, 97.5))
    return float(values.mean()), float(low), float(high)


def table() -> list[str]:
    cells: dict[str, dict[int, dict[str, Any]]] = {}
    for row in known():
        if row["seed"] != SEARCH_SEED:
            cells.setdefault(row["arm"], {})[row["seed"]] = row
    out = ["| | seeds | IMDB, nats a token | less `paper` | WikiText-2 | less `paper` | zero-shot, % |", "|---|---|---|---|---|---|---|"]
    for arm in (a for a in ARMS if a in cells):
        own = cells[arm]
        line = [arm, str(len(own)) if ARMS[arm] else "-"]
        shared = sorted(set(own) & set(cells.get("paper", {})))
        for text in ("imdb", "wikitext"):
            mean, low, high = interval([own[s][text] for s in sorted(own)])
            line.append(f"{mean:.3f} ({low:.3f} to {high:.3f})")
            if arm in ("paper", "unshared") or not shared:
                line.append("")
                continue
            mean, low, high = interval([own[s][text] for s in shared], [cells["paper"][s][text] for s in shared])
            line.append(f"{mean:+.3f} ({low:+.3f} to {high:+.3f})")
        right = next((r["right"] for r in own.values() if "right" in r), {})
        line.append(", ".join(f"{name} {100 * many / QUESTIONS:.0f}" for name, many in right.items()))
        out.append(f"| {' | '.join(line)} |")
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, help="folder of public data")
    parser.add_argument("--arms", default=",".join(ARMS))
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--out", type=Path, default=Path("runs/echo-quality"))
    parser.add_argument("--table", action="store_true")
    given = parser.parse_args()
    if given.table:
        print(*table(), sep="\n")
    elif given.data is None:
        parser.error("--data: name the folder of public data")
    else:
        train(given)


if __name__ == "__main__":
    main()
