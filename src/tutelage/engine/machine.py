"""The device, its precision and its processes, through Accelerate."""

from __future__ import annotations

import atexit
import contextlib
import importlib.util
import os
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object

from ..errors import MissingExtra, RunError


def computes_in_bfloat16(device: torch.device) -> bool:
    """Whether the processor has bfloat16 instructions, so that autocast gains time."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    return device.type == "cpu" and (torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


class Machine:
    """Where a run computes: device, threads, precision, and this process among its siblings."""

    def __init__(self, threads: int | None = None, trackers: tuple[str, ...] = (), folder: Any = None):
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        for tracker in trackers:
            if importlib.util.find_spec(tracker) is None:
                raise (
                    MissingExtra(f"trackers: {tracker}", "trackers")
                    if tracker == "tensorboard"
                    else RunError(f"trackers: {tracker} is not installed; pip install {tracker}, or leave it out")
                )
        self.accelerator = Accelerator(log_with=list(trackers) or None, project_dir=folder)
        self.processes, self.rank = self.accelerator.num_processes, self.accelerator.process_index
        if self.processes > 1:  # a group of processes that lives until the interpreter's end can take it down with it
            atexit.register(self.accelerator.state.destroy_process_group)
        self.use_threads(threads or max(1, cores // (self.processes if self.accelerator.device.type == "cpu" else 1)))
        self.device = self.accelerator.device
        self.tracked = 0
        self.main = self.accelerator.is_main_process

    def use_threads(self, threads: int) -> None:
        """Compute on so many CPU threads from here on."""
        self.threads = threads
        torch.set_num_threads(threads)

    def precision(self, wanted: str) -> torch.dtype:
        """The autocast type that a setting means here: 'auto', 'float32' or 'bfloat16'."""
        if wanted == "auto":
            return torch.bfloat16 if computes_in_bfloat16(self.device) else torch.float32
        return torch.bfloat16 if wanted == "bfloat16" else torch.float32

    def autocast(self, dtype: torch.dtype, *, cached: bool = True) -> contextlib.AbstractContextManager:
        """Autocast to `dtype`; nothing for float32. `cached=False` forgets weights cast inside the block."""
        if dtype == torch.float32:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=dtype, cache_enabled=cached)

    def sum_gradients(self, parameters: list[torch.Tensor]) -> None:
        """Add up the gradients of all processes, in one message; a gradient that is missing here counts as zero."""
        if self.processes == 1 or not parameters:
            return
        flat = torch.cat([(p.grad if p.grad is not None else torch.zeros_like(p)).flatten() for p in parameters])
        torch.distributed.all_reduce(flat)
        for p, grad in zip(parameters, flat.split([p.numel() for p in parameters]), strict=True):
            p.grad = grad.view_as(p)

    def share_buffers(self, model: torch.nn.Module) -> None:
        """Give every process the main one's buffers, such as running means, of which each has seen only its own rows."""
        if self.processes > 1:
            for buffer in model.buffers():
                torch.distributed.broadcast(buffer, 0)

    def broadcast(self, value: Any) -> Any:
        """The main process's value, on every process."""
        return value if self.processes == 1 else gather_object([value])[0]

    def total(self, value: torch.Tensor) -> torch.Tensor:
        """The sum of a tensor over all processes."""
        return value if self.processes == 1 else self.accelerator.reduce(value, "sum")

    def track(self, values: dict[str, float]) -> None:
        """Hand values to the trackers, numbered through the whole run."""
        if self.accelerator.trackers:
            self.tracked += 1
            self.accelerator.log(values, step=self.tracked)

    def end_tracking(self) -> None:
        """Let the trackers write what they hold; the processes stay together, unlike after Accelerate's `end_training`."""
        for tracker in self.accelerator.trackers:
            tracker.finish()

    def wait(self) -> None:
        """Wait for all processes."""
        self.accelerator.wait_for_everyone()
