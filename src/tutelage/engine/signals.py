"""Teacher signals, live or cached on disk, behind one call: `of(batch)` shows what the teacher says of a batch's rows.

A cache entry belongs to these rows as this tokenizer encodes them, these weights, this signal and this precision; its
name is a digest of all of them, so another's cannot be read. It is filled in canonical batches before the first step
that needs it, and what is stored is what is used, also the first time: cold, warm and resumed runs are equal bit for bit.
"""

from __future__ import annotations

import os
import shutil
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
import transformers

from .. import records
from ..models import anatomy
from ..rows import LAST_STATES, Batch, Inside, OutputLayer, Seen
from ..tasks._task import Encoded
from . import batches, few
from .forward import forward, move, put, same, through
from .machine import Machine
from .talk import Talk

FORMAT = 1
SYNC_SECONDS = 20.0


class Source(Protocol):
    """Anything that shows a teacher's signals of a batch, aligned with its rows."""

    def of(self, batch: Batch) -> Seen: ...


class Live:
    """The teacher runs beside the student, on its own encoding of the same rows; without one, on the student's inputs."""

    def __init__(
        self,
        model: Any,
        encoded: Encoded | None,
        outputs: tuple[str, ...],
        inside: Inside,
        machine: Machine,
        dtype: torch.dtype,
        view: Callable[[Batch], Batch] = same,
    ):
        self.model, self.encoded, self.machine, self.dtype = model, encoded, machine, dtype
        self.outputs, self.inside, self.view = outputs, inside, view

    def of(self, batch: Batch) -> Seen:
        self.model.eval()
        own = batch if self.encoded is None else self.view(move(self.encoded.batch(batch.index.cpu().numpy()), self.machine.device))
        with torch.no_grad(), self.machine.autocast(self.dtype, cached=False):
            return forward(self.model, own.inputs, self.outputs, self.inside)


class Stored:
    """Signals from memory-mapped arrays: one block a row for example signals, one a token for token signals."""

    def __init__(
        self,
        arrays: dict[str, np.ndarray],
        kinds: dict[str, str],
        starts: np.ndarray,
        device: torch.device,
        head: OutputLayer | None = None,
    ):
        self.arrays, self.kinds, self.starts, self.device, self.head = arrays, kinds, starts, device, head

    def of(self, batch: Batch) -> Seen:
        index = batch.index.cpu().numpy()
        seen = Seen({}, head=self.head)
        for name, array in self.arrays.items():
            if self.kinds[name] == "example":
                block = torch.from_numpy(array[index])
            else:
                parts = [array[self.starts[i] : self.starts[i + 1]] for i in index]
                width = max(max(len(p) for p in parts), next(iter(batch.inputs.values())).shape[1])
                block = torch.zeros(len(index), width, *array.shape[1:], dtype=torch.from_numpy(array[:0]).dtype)
                for row, part in zip(block, parts, strict=True):
                    row[: len(part)] = torch.from_numpy(np.ascontiguousarray(part))
            block = block.to(self.device)
            if name.startswith("hidden:"):
                seen.hidden[int(name[7:])] = block
            elif kept := few.read(name):
                seen.outputs[LAST_STATES] = kept.stored(block)
            else:
                seen.outputs[name] = block
        return seen


class Averaged:
    """Several teachers as one: their logits' mean, or the logarithm of their probabilities' mean."""

    def __init__(self, sources: list[Source], over: str, kind: str):
        self.sources, self.over, self.kind = sources, over, kind

    def of(self, batch: Batch) -> Seen:
        many = [s.of(batch).outputs for s in self.sources]
        return Seen({name: averaged(torch.stack([m[name].float() for m in many]), self.over, self.kind) for name in many[0]})


def averaged(logits: torch.Tensor, over: str, kind: str) -> torch.Tensor:
    """The mean of logits (teachers, ...), or as logits the mean of their probabilities."""
    if over == "logits" or kind == "value":
        return logits.mean(0)
    if kind == "binary":
        return torch.logit(logits.sigmoid().mean(0), eps=1e-7)
    return logits.log_softmax(-1).logsumexp(0) - float(np.log(len(logits)))


class Cache:
    """The store of signal entries: one folder each, holding `data.bin` and `meta.json` with its digest."""

    def __init__(self, folder: Path, machine: Machine, talk: Talk):
        self.folder, self.machine, self.talk = folder, machine, talk
        self.seconds, self.filled, self.reused, self.bytes = 0.0, 0, 0, 0

    def key(self, encoded: Encoded, weights: str, signal: str, dtype: torch.dtype) -> str:
        """What names an entry: everything that determines its values."""
        facts = {"format": FORMAT, "signal": signal, "dtype": str(dtype), "device": self.machine.device.type}
        facts |= {"threads": self.machine.threads, "torch": torch.__version__, "transformers": transformers.__version__}
        return records.digest(facts, weights, encoded.digest)[:32]

    def fetch(
        self,
        encoded: Encoded,
        weights: str,
        signals: dict[str, str],
        dtype: torch.dtype,
        model: Callable[[], Any],
        title: str,
        view: Callable[[Batch], Batch] = same,
    ) -> Stored:
        """The signals of all rows, read where the store has them whole, computed in one pass where it has not.

        `signals` maps a name ('logits', 'hidden:3', 'likeliest:64@1') to 'example' or 'token'; `model` loads the teacher when it
        is needed; `view` is the task's, from stored rows to model inputs.
        """
        started = time.monotonic()
        keys = {name: self.key(encoded, weights, name, dtype) for name in signals}
        if self.machine.main:
            with records.locked(self.folder, wait=True):
                missing = {n: k for n, k in keys.items() if not self._whole(k)}
                self.reused += len(keys) - len(missing)
                if missing:
                    self.filled += len(missing)
                    self._fill(encoded, missing, signals, dtype, model(), title, view)
        self.machine.wait()
        arrays = {name: self._open(key) for name, key in keys.items()}
        self.bytes = sum(a.nbytes for a in arrays.values())
        self.seconds += time.monotonic() - started
        head = anatomy.output_layer(model()) if LAST_STATES in signals else None
        return Stored(arrays, signals, encoded.starts, self.machine.device, head)

    def _whole(self, key: str) -> bool:
        """Whether an entry is there and unharmed; a harmed one is said and removed."""
        folder = self.folder / key
        if not (folder / "meta.json").exists():
            return False
        try:
            meta = records.read_json(folder / "meta.json")
            good = meta["key"] == key and records.file_digest(folder / "data.bin") == meta["sha256"]
        except (OSError, ValueError, KeyError):
            good = False
        if not good:
            self.talk.say(f"signal cache: entry {key} is cut short or altered; it is computed again")
            shutil.rmtree(folder, ignore_errors=True)
        return good

    def _open(self, key: str) -> np.ndarray:
        folder = self.folder / key
        meta = records.read_json(folder / "meta.json")
        return np.memmap(folder / "data.bin", dtype=meta["dtype"], mode="c", shape=tuple(meta["shape"]))

    def _fill(
        self,
        encoded: Encoded,
        missing: dict[str, str],
        signals: dict[str, str],
        dtype: torch.dtype,
        model: Any,
        title: str,
        view: Callable[[Batch], Batch],
    ) -> None:
        """One pass over the rows in canonical batches, resumed after the last batch that reached the disk."""
        hidden = tuple(int(n[7:]) for n in missing if n.startswith("hidden:"))
        made = {n: kept for n in missing if (kept := few.read(n))}
        outputs = [n for n in missing if not n.startswith("hidden:") and n not in made] + ([LAST_STATES] if made else [])
        many = batches.canonical(encoded.lengths)
        partial = self.folder / (".partial-" + records.digest(sorted(missing.values()))[:16])
        arrays, sums = self._reopen(partial, many, signals, encoded)
        if not arrays:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
        last = time.monotonic()
        with records.saving(partial), self.talk.task(title, len(encoded), sum(len(b) for b in many[: len(sums)])) as advance:
            left = many[len(sums) :]
            for rows, seen in through(model, encoded, outputs, self.machine, dtype, many=left, inside=Inside(hidden=hidden), view=view):
                values = {**seen.outputs, **{f"hidden:{i}": h for i, h in seen.hidden.items()}}
                values = {n: v.cpu() for n, v in values.items() if n in missing} | {
                    n: kept.make(seen, rows).cpu() for n, kept in made.items()
                }
                if not arrays:
                    arrays = _create(partial, values, signals, encoded)
                _put(arrays, values, signals, encoded, rows)
                sums.append(_sum(arrays, signals, encoded, rows))
                advance(len(rows))
                if time.monotonic() - last > SYNC_SECONDS:
                    _note(partial, arrays, sums)
                    last = time.monotonic()
            _note(partial, arrays, sums)
            for name, key in missing.items():
                self._accept(partial, arrays[name], name, key)
            shutil.rmtree(partial, ignore_errors=True)

    def _reopen(
        self, partial: Path, many: list[np.ndarray], signals: dict[str, str], encoded: Encoded
    ) -> tuple[dict[str, np.ndarray], list[int]]:
        """What an interrupted fill left: its arrays, and the checksums of the batches that are whole in them."""
        if not (partial / "done.json").exists():
            return {}, []
        note = records.sealed(partial / "done.json") or {"sums": [], "arrays": {}}
        arrays: dict[str, np.ndarray] = {}
        for name, (kind, shape) in note["arrays"].items():
            file = partial / f"{name.replace(':', '-')}.bin"
            if file.exists() and file.stat().st_size == np.dtype(kind).itemsize * int(np.prod(shape)):
                arrays[name] = np.memmap(file, dtype=kind, mode="r+", shape=tuple(shape))
        whole = arrays and len(arrays) == len(note["arrays"])
        sums = note["sums"][: len(many)] if whole else []
        good = next((i for i, one in enumerate(sums) if _sum(arrays, signals, encoded, many[i]) != one), len(sums))
        if not whole or good < len(sums):
            self.talk.say(f"signal cache: what an interrupted pass left is damaged behind batch {good}; it goes on from there")
        return (arrays, sums[:good]) if whole else ({}, [])

    def _accept(self, partial: Path, array: np.ndarray, name: str, key: str) -> None:
        source = partial / f"{name.replace(':', '-')}.bin"
        with records.whole_folder(self.folder / key) as folder:
            source.replace(folder / "data.bin")
            meta = {
                "key": key,
                "signal": name,
                "dtype": array.dtype.str,
                "shape": array.shape,
                "sha256": records.file_digest(folder / "data.bin"),
            }
            records.write_json(folder / "meta.json", meta)


def _create(partial: Path, values: dict[str, torch.Tensor], signals: dict[str, str], encoded: Encoded) -> dict[str, np.ndarray]:
    out = {}
    for name, value in values.items():
        example = signals[name] == "example"
        shape = (len(encoded), *value.shape[1:]) if example else (int(encoded.starts[-1]), *value.shape[2:])
        kind = np.float16 if name.startswith("hidden:") else np.float32
        out[name] = _reserve(partial / f"{name.replace(':', '-')}.bin", kind, shape)
    return out


def _reserve(file: Path, kind: Any, shape: tuple[int, ...]) -> np.ndarray:
    """A mapped array whose room on the disk is taken at once: a full disk is an error here, not a bus error later."""
    size = max(1, np.dtype(kind).itemsize * int(np.prod(shape)))
    with open(file, "wb") as handle:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(handle.fileno(), 0, size)
        else:
            handle.truncate(size)
    return np.memmap(file, dtype=kind, mode="r+", shape=shape)


def _put(
    arrays: dict[str, np.ndarray], values: dict[str, torch.Tensor], signals: dict[str, str], encoded: Encoded, rows: np.ndarray
) -> None:
    for name, array in arrays.items():
        put(array, values[name].float().numpy(), signals[name], encoded, rows)


def _sum(arrays: dict[str, np.ndarray], signals: dict[str, str], encoded: Encoded, rows: np.ndarray) -> int:
    """A checksum over what the arrays hold of some rows."""
    out = 0
    for name, array in sorted(arrays.items()):
        places = [slice(i, i + 1) if signals[name] == "example" else slice(encoded.starts[i], encoded.starts[i + 1]) for i in rows]
        for place in places:
            out = zlib.crc32(np.ascontiguousarray(array[place]).data, out)
    return out


def _note(partial: Path, arrays: dict[str, np.ndarray], sums: list[int]) -> None:
    """Flush the arrays, then note the checksums of the batches that they hold."""
    for array in arrays.values():
        array.flush()  # type: ignore[attr-defined]
    shapes = {name: [array.dtype.str, array.shape] for name, array in arrays.items()}
    records.seal(partial / "done.json", {"sums": sums, "arrays": shapes})
