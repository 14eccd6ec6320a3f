"""Every method on the same tasks, with the same budget and the same search, over seeds; resumable.

    python benchmarks/methods.py --tasks reviews_fresh_ten --minutes 60          # go on from what the results file holds
    python benchmarks/methods.py --tasks cifar10,reviews_fresh --picture methods.svg
    python benchmarks/methods.py --table                                         # what it holds, with intervals and tests

A cell is one student: task, method, seed. Its learning rate is the best on dev, tried once for each task and method with half the
epochs and a seed that is used for nothing else: three rates, then half the lowest or twice the highest while that is the best. A
rate at which the loss leaves the numbers counts as worse. Every finished cell is a line of
`benchmarks/results/methods.jsonl`, with the test rows that it got right as packed bits, so that differences are tested on the
same rows. Configurations are frozen below, the methods' defaults are part of them, and a cell whose configuration differs from the
file's is refused, never mixed.

`cifar10_unclipped` and `reviews_fresh_ten` are the tasks to go on with. On both, all methods' students have equally many steps: a
generator's stand beside the budget. CIFAR-10 has no clipping of gradients, which would hold back the methods with the larger ones, and
Continuation-KD its course for images; `backward_unmoved` moves its rows by nothing, so that what differs from `backward` is what moving
does. On Rotten Tomatoes the family that is tested was stated before its first cell: kd, annealing, continuation, combined and mate over
finetune, ten seeds. The file's cells of the other tasks are of one search of three rates, of sums over classes and absolute margins
where methods match logits, of T_max bounded by epochs, of a step size of 0.1 in backward-pass KD, and of gradients clipped at 1.0; on
them, students of mate and combined had a tenth fewer steps, their generators having the rest.

The table: mean test accuracy over seeds, and for each method the difference to `kd` and to `finetune` over the seeds that both have.
Intervals are Student's t over seeds, 95 %, on the test rows as they are; p is that of the paired t test, corrected by Holm over the
family that is all differences of the table. `--methods` and `--against` choose a smaller family, which must be stated beforehand. Nothing
is claimed whose p is not below 0.05. Seconds are the median over seeds, since other work on the machine counts too.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from rates import best, following

import tutelage
from tutelage import config, records
from tutelage.errors import RunError
from tutelage.find import find
from tutelage.report import plots
from tutelage.study import statistics

RESULTS = Path(__file__).parent / "results" / "methods.jsonl"
MAIN = ("finetune", "kd", "annealing", "continuation", "combined")
"""Five seeds each."""
OTHERS = ("pro_kd", "rco", "takd", "mate", "backward", "label_smoothing", "tf_reg", "self_kd", "hidden_states", "relations")
"""Three seeds each; dkd, dist and standardized join them where a task has more than two classes."""
MORE_CLASSES = ("dkd", "dist", "standardized")
IMAGES = ("pro_kd", "rco", "takd", "backward", "label_smoothing", "tf_reg", "self_kd")
"""Of the others, those that need neither tokens nor attention."""
SEEDS: dict[str, dict[str, int]] = {
    "cifar10_unclipped": dict.fromkeys(("finetune", "kd", "annealing", "continuation", "dist"), 5)
    | dict.fromkeys(("backward", "backward_unmoved"), 3),
    "reviews_fresh_ten": dict.fromkeys(("finetune", "kd", "annealing", "continuation", "combined", "mate"), 10) | {"backward": 5},
}
"""Of tasks that do not have all methods."""
BASES = ("kd", "finetune")
"""What each method is held against."""
TITLES = {
    "reviews": "Rotten Tomatoes, kept layers", "reviews_fresh": "Rotten Tomatoes, fresh layers",
    "rte": "RTE, kept layers", "cifar10": "CIFAR-10, fresh ResNet-8",
    "cifar10_unclipped": "CIFAR-10, fresh ResNet-8", "reviews_fresh_ten": "Rotten Tomatoes, fresh layers",
}  # fmt: skip
SEARCH_SEED = 1000
SEARCH_SHARE = 0.5
"""Of the epochs, to try a rate."""
SETTINGS: dict[str, dict[str, Any]] = {
    "annealing": {"label_share": 0.25}, "combined": {"label_share": 0.25, "prepare": 100, "generator_budget": "beside"},
    "mate": {"prepare": 100, "generator_budget": "beside"}, "pro_kd": {"label_share": 0.25},
    "backward_unmoved": {"kind": "backward", "step_size": 0.0},
}  # fmt: skip
BY_TASK = {"cifar10": {"takd": {"assistant": "resnet14"}}, "cifar10_unclipped": {"continuation": {"labels": "images"}}}
"""Settings that a task adds: layers of a ResNet cannot be left out for an assistant."""
TEXT_TEACHER = {"model": "minilm", "train": {"epochs": 2, "learning_rate": 2e-4}, "checkpoints": 4}
TASKS: dict[str, dict[str, Any]] = {
    "reviews": {
        "task": {"kind": "classify", "data": "rotten_tomatoes", "limit": 2500, "test_share": 0.2},
        "teacher": TEXT_TEACHER,
        "student": {"surgery": [{"kind": "keep_layers", "keep": "first", "count": 2}]},
        "train": {"epochs": 4}, "rates": (1e-4, 2e-4, 4e-4),
    },
    "reviews_fresh": {
        "task": {"kind": "classify", "data": "rotten_tomatoes", "limit": 2500, "test_share": 0.2},
        "teacher": TEXT_TEACHER,
        "student": {"surgery": [{"kind": "fresh", "layers": 2}]},
        "train": {"epochs": 8}, "rates": (1e-4, 2e-4, 4e-4),
    },
    "rte": {
        "task": {"kind": "classify", "data": "rte"},
        "teacher": {**TEXT_TEACHER, "train": {"epochs": 4, "learning_rate": 1e-4}},
        "student": {"surgery": [{"kind": "keep_layers", "keep": "first", "count": 2}]},
        "train": {"epochs": 4}, "rates": (5e-5, 1e-4, 2e-4),
    },
    "cifar10": {
        "task": {"kind": "image", "data": "cifar10_subset.npz", "augment": True},
        "teacher": {"model": "resnet20", "train": {"epochs": 40, "batch_size": 128, "optimizer": "sgd", "decay": "steps", "warmup": 0.0,
                                                   "learning_rate": 0.1, "weight_decay": 1e-4, "clip": None}, "checkpoints": 4},
        "student": {"model": "resnet8"},
        "train": {"epochs": 20, "batch_size": 128, "optimizer": "sgd", "decay": "steps", "warmup": 0.0, "weight_decay": 1e-4},
        "rates": (0.02, 0.05, 0.1),
    },
}  # fmt: skip
TASKS["cifar10_unclipped"] = {**TASKS["cifar10"], "train": {**TASKS["cifar10"]["train"], "clip": None}}
TASKS["reviews_fresh_ten"] = TASKS["reviews_fresh"]


def methods(task: str) -> dict[str, int]:
    """The methods of a task with their numbers of seeds."""
    if task in SEEDS:
        return SEEDS[task]
    others = (*IMAGES, *MORE_CLASSES) if task == "cifar10" else OTHERS
    main = tuple(m for m in MAIN if m != "combined" or task != "cifar10")
    return dict.fromkeys(main, 5) | dict.fromkeys(others, 3)


def configuration(task: str, method: str) -> dict[str, Any]:
    """Everything that decides a cell but its seed."""
    chosen = {"kind": method, **SETTINGS.get(method, {}), **BY_TASK.get(task, {}).get(method, {})}
    kind = chosen.pop("kind")
    return {**TASKS[task], "method": {"kind": kind, **config.dump(config.build(find("methods", kind), chosen))}}


def recipe(task: str, method: str, seed: int, rate: float, data: str) -> dict[str, Any]:
    made = json.loads(json.dumps({k: v for k, v in configuration(task, method).items() if k != "rates"}))
    if task.startswith("cifar10"):
        made["task"]["data"] = str(Path(data) / "vision" / made["task"]["data"])
    made["train"]["learning_rate"] = rate
    if seed == SEARCH_SEED:
        made["train"]["epochs"] = int(SEARCH_SHARE * made["train"]["epochs"])
    return made | {"name": task, "seed": seed, "compare": [], "measure": False}


def known() -> list[dict[str, Any]]:
    return [json.loads(line) for line in RESULTS.read_text().splitlines()] if RESULTS.exists() else []


def add(row: dict[str, Any]) -> None:
    RESULTS.parent.mkdir(exist_ok=True)
    with RESULTS.open("a") as file:
        file.write(json.dumps(row) + "\n")


def train(task: str, method: str, seed: int, rate: float, given: argparse.Namespace) -> dict[str, Any]:
    """One student; returns its line of the results."""
    folder = given.out / f"{task}-{method}-{seed}-{rate:g}"
    made = recipe(task, method, seed, rate, given.data)
    if given.threads:
        made["threads"] = given.threads
    one: dict[str, Any] = {"task": task, "method": method, "seed": seed, "rate": rate, "dev": None, "test": None, "seconds": None}
    one["configuration"] = records.digest(configuration(task, method))[:12]
    try:
        run = tutelage.distill(made, out=folder, store=given.out / "store")
    except RunError as fault:
        if seed != SEARCH_SEED:
            raise
        return one | {"fault": str(fault)}
    kind = made["method"]["kind"]
    student = run.record["models"][kind]
    rows = records.rows(folder / f"examples-{kind}.jsonl")
    right = np.packbits([row["gold"] == row["predicted"] for row in rows]).tobytes().hex()
    return one | {
        "dev": student["dev"]["accuracy"], "test": student["test"]["primary"], "rows": len(rows), "right": right,
        "seconds": round(student["training"]["seconds"], 1),
        "teacher": run.record["models"].get("teacher", {}).get("test", {}).get("primary"),
        **{name: found["value"] for name, found in (student["fidelity"] or {}).items()},
        "precision": student["training"]["precision"],
    }  # fmt: skip


def work(given: argparse.Namespace) -> None:
    """Search and train what the results file lacks, seed by seed over all methods, until the minutes are over."""
    end = time.monotonic() + 60 * given.minutes
    for task in given.tasks.split(","):
        many = {m: n for m, n in methods(task).items() if not given.methods or m in given.methods.split(",")}
        for seed in range(0, 1 + max(many.values())):
            for method, seeds in many.items():
                mine = [r for r in known() if r["task"] == task and r["method"] == method]
                wanted = records.digest(configuration(task, method))[:12]
                if any(r["configuration"] != wanted for r in mine):
                    raise SystemExit(f"{RESULTS}: holds cells of another configuration of {task}/{method}; move them away first")
                if time.monotonic() > end:
                    return
                tried = {r["rate"]: r["dev"] for r in mine if r["seed"] == SEARCH_SEED}
                if seed == 0:
                    while (rate := following(tried, TASKS[task]["rates"])) and time.monotonic() <= end:
                        report(row := train(task, method, SEARCH_SEED, rate, given))
                        tried[rate] = row["dev"]
                elif seed <= seeds and not any(r["seed"] == seed for r in mine):
                    report(train(task, method, seed, best(tried), given))


def report(row: dict[str, Any]) -> None:
    add(row)
    print(*(f"{k} {row[k]}" for k in ("task", "method", "seed", "rate", "dev", "test", "seconds")), flush=True)


def bits(row: dict[str, Any]) -> np.ndarray:
    return np.unpackbits(np.frombuffer(bytes.fromhex(row["right"]), dtype=np.uint8))[: row["rows"]].astype(float)


def compared(task: str, given: argparse.Namespace) -> list[dict[str, Any]]:
    """Each method's accuracy as (mean, low, high), its differences to others as (mean, low, high, p), and its training time."""
    cells: dict[str, dict[int, dict[str, Any]]] = {}
    for row in known():
        if row["task"] == task and row["seed"] != SEARCH_SEED:
            cells.setdefault(row["method"], {})[row["seed"]] = row
    out, tests = [], []
    for method in (m for m in methods(task) if m in cells and (not given.methods or m in given.methods.split(","))):
        own = cells[method]
        one: dict[str, Any] = {"method": method, "seeds": len(own), "test": over_seeds([bits(own[s]).mean() for s in sorted(own)])}
        one["seconds"] = np.median([r["seconds"] for r in own.values()])
        for other in given.against.split(","):
            shared = sorted(set(own) & set(cells.get(other, {})))
            if method not in (other, "finetune") and len(shared) > 1:
                gaps = [(bits(own[s]) - bits(cells[other][s])).mean() for s in shared]
                tests.append((one, other, statistics.difference(gaps)))
                one[other] = over_seeds(gaps)
        out.append(one)
    for (one, other, _), p in zip(tests, statistics.holm([t[2] for t in tests]), strict=True):
        one[other] += (p,)
    return out


def over_seeds(values: list[float]) -> tuple[float, float, float]:
    return float(np.mean(values)), *statistics.mean_interval(values)


def spread(low: float, high: float) -> str:
    """An interval in %, or that the seeds do not vary."""
    return f"({100 * low:.1f} to {100 * high:.1f})" if low == low else "(all alike)"


def table(found: list[dict[str, Any]], against: list[str]) -> list[str]:
    """What `compared` found, in markdown."""
    heads = ["method", "seeds", "test accuracy, % (95 %)", *(f"less {other}, points" for other in against), "training, s"]
    lines = [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    for one in found:
        mean, *reach = one["test"]
        gaps = [f"{100 * one[o][0]:+.1f} {spread(*one[o][1:3])}, p {one[o][3]:.3f}" if o in one else "" for o in against]
        cells = [one["method"], str(one["seeds"]), f"{100 * mean:.1f} {spread(*reach)}", *gaps, f"{one['seconds']:.0f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def picture(found: dict[str, list[dict[str, Any]]]) -> Figure:
    """A panel a task: each method's difference to fine-tuning with its interval, the best on top; filled where p is below 0.05."""
    lines = {task: sorted((one for one in many if "finetune" in one), key=lambda one: one["finetune"][0]) for task, many in found.items()}
    figure, panels = plots.panels(4.0 * len(lines), 0.8 + 0.24 * max(map(len, lines.values())), columns=len(lines), shared=False)
    for axes, (task, many) in zip(panels, lines.items(), strict=True):
        axes.axvline(0, color=plots.LIGHT["muted"], linewidth=0.8)
        for i, one in enumerate(many):
            mean, low, high = (100 * x for x in one["finetune"][:3])
            shown = one["finetune"][3] < 0.05
            colour, inside = (plots.SERIES[1],) * 2 if shown else (plots.SERIES[0], plots.LIGHT["paper"])
            axes.plot([low, high], [i, i], color=colour, linewidth=1.6, solid_capstyle="butt")
            axes.plot([mean], [i], "o", color=colour, markersize=5, markerfacecolor=inside)
        axes.set_yticks(range(len(many)), [f"{one['method']} ({one['seeds']})" for one in many])
        axes.set_title(TITLES[task])
        axes.grid(axis="x")
        axes.set_xlabel("test accuracy less fine-tuning's, points")
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--tasks", default=",".join(SEEDS))
    parser.add_argument("--methods", default="", help="only these")
    parser.add_argument("--against", default=",".join(BASES), help="what methods are held against in table and picture")
    parser.add_argument("--minutes", type=float, default=600)
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--data", default="", help="folder of public data for cifar10; GLUE is found by TUTELAGE_DATA")
    parser.add_argument("--out", type=Path, default=Path("runs/methods"))
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--picture", type=Path, help="an SVG file of what the tasks' cells say")
    given = parser.parse_args()
    if not (given.table or given.picture):
        return work(given)
    found = {task: compared(task, given) for task in given.tasks.split(",")}
    if given.table:
        for task in found:
            print(f"\n**{task}**\n", *table(found[task], given.against.split(",")), sep="\n")
    if given.picture:
        given.picture.write_text(plots.svg(lambda: picture(found)))


if __name__ == "__main__":
    main()
