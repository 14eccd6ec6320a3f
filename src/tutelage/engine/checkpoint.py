"""Checkpoints of a training in progress: whole or absent, verified on read, the last two kept."""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from .. import records

ANCHOR = "anchor-"
"""Begins the names of weights that are kept for good."""


@dataclasses.dataclass
class State:
    """Where a training stands; everything else follows from settings and seeds."""

    stage: int = 0
    step: int = 0
    """Optimizer steps done in this stage."""
    epoch: int = 0
    position: int = 0
    """Batches done in this epoch."""
    total: int = 0
    """Optimizer steps done in all stages."""
    looks_without: int = 0
    """Looks at dev since this stage's best."""
    best: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    """By stage: score, step and file of the best student; '' is the one of all selecting stages."""
    history: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    augmented: dict[str, Any] | None = None
    """The augmented rows in use: their file and the epoch they were made in."""
    log: int = 0
    """Length of the step log in bytes."""
    seconds: float = 0.0
    """Time spent training, looks at dev and saves included."""


class Checkpoints:
    """The folder of one training's checkpoints and best students."""

    def __init__(self, folder: Path):
        self.folder = folder

    def save(self, state: State, tensors: dict[str, torch.Tensor]) -> None:
        """Write a checkpoint, then drop all but the last two and the files that neither needs."""
        with records.whole_folder(self.folder / f"step-{state.total:09d}") as new:
            write_tensors(new / "tensors.safetensors", tensors)
            facts = {"sha256": records.file_digest(new / "tensors.safetensors"), "state": dataclasses.asdict(state)}
            records.write_json(new / "state.json", facts)
        self._tidy()

    def load(self) -> tuple[State, dict[str, torch.Tensor]] | None:
        """The newest unharmed checkpoint, or None. Leftovers of an interrupted write are removed."""
        for leftover in self.folder.glob(".*.tmp"):
            shutil.rmtree(leftover, ignore_errors=True) if leftover.is_dir() else leftover.unlink(missing_ok=True)
        for folder in reversed(self._all()):
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
                facts = records.read_json(folder / "state.json")
                if records.file_digest(folder / "tensors.safetensors") == facts["sha256"]:
                    return State(**facts["state"]), load_file(folder / "tensors.safetensors")
            shutil.rmtree(folder, ignore_errors=True)
        return None

    def keep(self, name: str, tensors: dict[str, torch.Tensor]) -> str:
        """Write tensors beside the checkpoints (a best student, augmented rows); the state refers to them by this name."""
        with records.saving(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            temporary = self.folder / f".{name}.tmp"
            write_tensors(temporary, tensors)
            temporary.replace(self.folder / name)
        return name

    def kept(self, name: str) -> dict[str, torch.Tensor]:
        """What `keep` wrote."""
        return load_file(self.folder / name)

    def clear(self) -> None:
        """Remove everything; the training is done."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _all(self) -> list[Path]:
        return sorted(p for p in self.folder.glob("step-*") if p.is_dir())

    def _tidy(self) -> None:
        old, live = self._all()[:-2], self._all()[-2:]
        for folder in old:
            shutil.rmtree(folder, ignore_errors=True)
        needed: set[str | None] = {"init.safetensors"}
        for folder in live:
            state = records.read_json(folder / "state.json")["state"]
            needed |= {b["file"] for b in state["best"].values()}
            needed.add((state["augmented"] or {}).get("file"))
        for file in self.folder.glob("*.safetensors"):
            if file.name not in needed and not file.name.startswith(ANCHOR):
                file.unlink(missing_ok=True)


def write_tensors(path: Path, tensors: dict[str, torch.Tensor]) -> None:
    """safetensors, with memory that tensors share written once for each name."""
    seen: set[int] = set()
    out = {}
    for name, tensor in tensors.items():
        tensor = tensor.detach().cpu().contiguous()
        out[name] = tensor.clone() if tensor.numel() and tensor.data_ptr() in seen else tensor
        seen.add(tensor.data_ptr())
    with records.saving(path):
        save_file(out, path)
