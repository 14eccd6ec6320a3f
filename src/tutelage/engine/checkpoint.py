"""Checkpoints of a training in progress: whole or absent, verified on read, the last two kept."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from .. import records
from ..errors import RunError

ANCHOR = "anchor-"
"""Begins the names of weights that are kept for good."""
INIT = "init.safetensors"
"""The student as it began."""


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
    files: dict[str, str] = dataclasses.field(default_factory=dict)
    """SHA-256 of the files that stand beside the checkpoints, by name."""
    log: int = 0
    """Length of the step log in bytes."""
    log_sha256: str = ""
    """SHA-256 of so much of the step log."""
    seconds: float = 0.0
    """Time spent training, looks at dev and saves included."""


class Checkpoints:
    """The folder of one training's checkpoints and best students; `log` is its step log, `say` tells the user of harm."""

    def __init__(self, folder: Path, log: Path, say: Callable[[str], None] = lambda text: None):
        self.folder, self.log, self.say = folder, log, say

    def save(self, state: State, tensors: dict[str, torch.Tensor]) -> None:
        """Write a checkpoint, then drop all but the last two and the files that neither needs."""
        state.files = {name: state.files[name] for name in self._needs(state)}
        with records.whole_folder(self.folder / f"step-{state.total:09d}") as new:
            write_tensors(new / "tensors.safetensors", tensors)
            facts = {"sha256": records.file_digest(new / "tensors.safetensors"), "state": dataclasses.asdict(state)}
            records.seal(new / "state.json", facts)
        self._tidy()

    def load(self) -> tuple[State, dict[str, torch.Tensor]] | None:
        """The newest unharmed checkpoint, or None. Harmed ones are said and removed, as are leftovers of an interrupted write."""
        for leftover in self.folder.glob(".*.tmp"):
            shutil.rmtree(leftover, ignore_errors=True) if leftover.is_dir() else leftover.unlink(missing_ok=True)
        for folder in reversed(self._all()):
            facts = records.sealed(folder / "state.json")
            harm = self._harm(folder, facts) if facts else f"{folder.name}/state.json"
            if facts and not harm:
                return State(**facts["state"]), load_file(folder / "tensors.safetensors")
            self.say(f"{harm} is damaged; the checkpoint of step {int(folder.name[5:])} is passed over")
            shutil.rmtree(folder, ignore_errors=True)
        return None

    def _harm(self, folder: Path, facts: dict[str, Any]) -> str:
        """What a checkpoint needs and does not find as it was written; '' where nothing is amiss."""
        state = State(**facts["state"])
        beside = {name: state.files[name] for name in self._needs(state)}
        if harmed := records.harmed(folder, {"tensors.safetensors": facts["sha256"]}):
            return f"{folder.name}/{harmed}"
        whole_log = not state.log or records.begins(self.log, state.log_sha256, state.log)
        return records.harmed(self.folder, beside) or ("" if whole_log else self.log.name)

    def _needs(self, state: State) -> set[str]:
        """Names of the files beside the checkpoints that a training in this state may still read."""
        named = {best["file"] for best in state.best.values()} | {(state.augmented or {}).get("file")}
        return {name for name in state.files if name in named or name == INIT or name.startswith(ANCHOR)}

    def keep(self, name: str, tensors: dict[str, torch.Tensor]) -> str:
        """Write tensors beside the checkpoints (a best student, augmented rows); returns their SHA-256, which the state holds."""
        with records.saving(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            temporary = self.folder / f".{name}.tmp"
            write_tensors(temporary, tensors)
            records.sync(temporary)
            digest = records.file_digest(temporary)
            temporary.replace(self.folder / name)
            records.sync(self.folder)
        return digest

    def kept(self, name: str, digest: str) -> dict[str, torch.Tensor]:
        """What `keep` wrote; raises RunError where it is no longer that."""
        if not records.begins(self.folder / name, digest):
            mend = "start the same command again, which goes on from what is whole"
            raise RunError(f"{self.folder / name}: was damaged after it was written; {mend}")
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
        facts = [known for folder in live if (known := records.sealed(folder / "state.json"))]
        needed = {name for known in facts for name in self._needs(State(**known["state"]))}
        for file in self.folder.glob("*.safetensors"):
            if file.name not in needed:
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
