"""What a run leaves: its record, the student's folder with its card, per-example results, and the report."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

from .. import config, records
from ..methods._method import Method
from ..models import cost
from ..models.load import Loaded, weights_digest
from ..report import card, page
from ..tasks._task import Data
from . import judge
from .teacher import Teacher
from .workshop import Trained, Workshop

PAGES = ("report.html", "student/README.md")
"""What a run writes for people, who may change it."""


def model(title: str, role: str, loaded: Loaded, trained: Trained | None, method: Method | None) -> dict[str, Any]:
    """A model's entry in the record, before it is tested and timed."""
    parameters = cost.parameters(loaded.model)["total"]
    facts = {k: v for k, v in trained.facts.items() if k not in ("weights", "score", "files")} if trained else None
    looks = [h for h in trained.facts["history"] if h["step"] == trained.facts["best_step"]] if trained else []
    return {
        "title": title,
        "role": role,
        "method": config.dump(method) if method else None,
        "weights": trained.weights if trained else weights_digest(loaded.model),
        "parameters": parameters,
        "layers": loaded.model.config.num_hidden_layers,
        "width": loaded.model.config.hidden_size,
        "bytes": cost.size_on_disk(trained.folder / "model") if trained else 4 * parameters,
        "latency": None,
        "dev": looks[0]["dev"] if looks else None,
        "test": None,
        "fidelity": None,
        "training": facts,
        "reused": bool(trained and trained.reused),
    }


def record(
    shop: Workshop,
    models: dict[str, dict[str, Any]],
    examples: dict[str, judge.Judged],
    teacher: Teacher | None,
    began: str,
    seconds: dict[str, float],
) -> dict[str, Any]:
    """The facts of a run: settings, surroundings, data, models, comparisons of the student with all others, times."""
    recipe, data, machine = shop.recipe, shop.data, shop.machine
    main = list(models)[-1]
    others = [k for k in models if k != main and k in examples] if main in examples else []
    return {
        "name": recipe.name,
        "recipe": config.dump(recipe),
        "started": began,
        "finished": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "surroundings": {
            **records.surroundings(),
            "threads": machine.threads,
            "processes": machine.processes,
            "device": machine.device.type,
            "precision": str(machine.precision(recipe.train.precision)).removeprefix("torch."),
        },
        "data": {
            "digest": data.digest,
            "labels": list(data.labels),
            "rows": {k: len(v) for k, v in data.splits.items()},
            "notes": list(data.notes),
            "primary": recipe.task.primary,
            "truncated": shop.truncated,
            "source": data.splits["train"].source,
            "settled": recipe.task.settled(data),
        },
        "models": models,
        "comparisons": [judge.compare(recipe.task, main, other, examples) for other in others],
        "signals": _signals(shop, teacher),
        "notes": shop.talk.notes,
        "seconds": {k: round(v, 2) for k, v in seconds.items()},
    }


def _signals(shop: Workshop, teacher: Teacher | None) -> dict[str, Any] | None:
    """Where the teacher's signals came from."""
    if teacher is None:
        return None
    cache = shop.cache
    source = "file" if teacher.given is not None else "cached" if cache.bytes else "live"
    return {
        "source": source,
        "bytes": cache.bytes,
        "filled_seconds": round(cache.seconds, 2),
        "reused": bool(cache.reused and not cache.filled),
    }


def write(folder: Path, facts: dict[str, Any], examples: dict[str, judge.Judged], data: Data, student: Loaded) -> None:
    """Everything into the run's folder; the record last, so that where it stands the run is whole."""
    for key, judged in examples.items():
        records.write_rows(folder / f"examples-{key}.jsonl", judged.rows(data.splits.get("test"), data.labels))
    with records.whole_folder(folder / "student") as place:
        student.save(place)
        (place / "README.md").write_text(card.text(facts, list(facts["models"])[-1]), encoding="utf-8")
        own = facts["models"][list(facts["models"])[-1]]
        task = facts["recipe"]["task"] | facts["data"]["settled"] | own.get("test", {}).get("calibrated", {})
        records.write_json(place / "tutelage.json", {"task": task, "labels": list(data.labels), "record": facts["name"]})
    page.write(facts, folder / "report.html")
    found = {f"student/{name}": sha256 for name, sha256 in records.digests(folder / "student").items()}
    found |= {name: records.file_digest(folder / name) for name in (f"examples-{key}.jsonl" for key in examples)}
    facts["files"] = {name: sha256 for name, sha256 in found.items() if name not in PAGES}
    records.seal(folder / "record.json", facts)


def harm(folder: Path, facts: dict[str, Any]) -> str:
    """The first file of a finished run that is not as it was left, '' where all are; pages may be edited, not be missing."""
    gone = [name for name in PAGES if not (folder / name).is_file() or not (folder / name).stat().st_size]
    return records.harmed(folder, facts["files"]) or next(iter(gone), "")
