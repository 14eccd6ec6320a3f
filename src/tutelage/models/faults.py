"""The ways in which reading a model fails, as one sentence each."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from ..errors import ModelError, TutelageError
from . import trust

NO_TOKENIZER = "has no tokenizer that can be read (tokenizer.json, or a vocabulary); save its tokenizer beside its weights"
MOST_LAYERS = 10_000
"""More than any model has; a configuration that says more is damaged, and a model made from it would take hours."""
_LAYERS = re.compile(r"(num_\w*layers|n_layers?|\w*_layers)")
AGAIN = "download or save it again"


def check_folder(name: str, where: str) -> None:
    """Refuse a folder whose configuration is no table of settings, or says of more layers than a model can have."""
    file = Path(where) / "config.json"
    if not file.is_file():
        return
    try:
        told = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as fault:
        raise ModelError(f"{name}: its config.json is damaged ({_short(fault)}); {AGAIN}") from None
    if not isinstance(told, dict):
        raise ModelError(f"{name}: its config.json holds no settings but {type(told).__name__}; {AGAIN}")
    shapes = told.get("architectures")
    if shapes is not None and not (isinstance(shapes, list) and all(isinstance(shape, str) for shape in shapes)):
        raise ModelError(f"{name}: architectures in its config.json is no list of names; {AGAIN}")
    tables = [told, *(part for part in told.values() if isinstance(part, dict))]
    for key, value in ((k, v) for table in tables for k, v in table.items()):
        if _LAYERS.fullmatch(key) and isinstance(value, int) and value > MOST_LAYERS:
            raise ModelError(f"{name}: its config.json says {key} {value}, more than {MOST_LAYERS:,}; {AGAIN}")


class sentences:
    """Turn the ways in which reading a model fails into one sentence; `hint` says where a name that nobody knows may be found."""

    def __init__(self, name: str, where: str, hint: str = ""):
        self.name, self.where, self.hint = name, Path(where), hint

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, fault: Any, trace: Any) -> None:
        if fault is None or isinstance(fault, TutelageError):
            return
        if isinstance(fault, Exception) or kind.__name__ == "PanicException":  # what the Rust below tokenizers raises
            raise ModelError(self._sentence(kind, fault)) from fault

    def _sentence(self, kind: Any, fault: Any) -> str:
        text, name = _short(fault, 300), self.name
        if "trust_remote_code" in str(fault):
            return f"{name}: holds code of its own, which runs only where you say so; {trust.HOW}"
        if not self.where.exists() and isinstance(fault, OSError):
            return f"model '{name}': no such folder here, and it could not be fetched from the hub{self.hint}"
        for file in sorted(self.where.glob("*.json")) if self.where.is_dir() else ():
            if why := _damage(file):
                return f"{name}: its {file.name} is damaged ({why}); {AGAIN}"
        if kind.__name__ == "SafetensorError" or "deserializ" in text or "unexpected EOF" in text:
            return f"{name}: its weights are cut short or damaged ({text[:100]}); {AGAIN}"
        if kind.__name__ == "UnpicklingError" or "torch.load" in text or "weights_only" in text:
            return f"{name}: its weights are a pickle that is damaged or holds more than tensors; save them as safetensors"
        if "backend tokenizer" in text:
            return f"{name}: {NO_TOKENIZER}"
        if kind.__name__.startswith("StrictDataclass"):
            return f"{name}: its config.json does not hold what its family needs: {text}; {AGAIN}"
        return f"{name}: cannot be read as a model: {text or kind.__name__}"


def _damage(file: Path) -> str:
    """What is wrong with a file of JSON; '' for one that is whole."""
    try:
        json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as fault:
        return _short(fault)
    return ""


def _short(fault: BaseException, most: int = 100) -> str:
    return " ".join(str(fault).split())[:most]
