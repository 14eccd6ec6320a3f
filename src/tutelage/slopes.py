"""Losses that know their own slope: value and gradient from one look at a few rows at a time, while these are in the processor's cache.

Autograd would hold several copies of all logits (rows, classes) at once, and read and write each of them more than once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

CELLS = 1 << 18
"""Of logits that are looked at together on a processor."""
Known = tuple[Tensor, tuple[Callable[[], Tensor], ...]]
"""Of some rows: each one's value, and ways to the slopes of the values in each tensor that may move; every way is taken once at most."""


def by_rows(known: Callable[..., Known], moved: tuple[Tensor, ...], fixed: tuple[Tensor | None, ...] = ()) -> Tensor:
    """The values of `known(*moved, *fixed)`, a few rows at a time; shape (rows, ...), differentiable once in `moved`.

    `moved` are of one shape (rows, ..., classes). The first dimension of all tensors is the rows'; None is handed on.
    """
    return _ByRows.apply(known, fixed, *moved)  # type: ignore[no-any-return]


class _ByRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, known: Callable[..., Known], fixed: tuple[Tensor | None, ...], *moved: Tensor) -> Tensor:
        slopes = [torch.empty_like(x) if wanted else None for x, wanted in zip(moved, ctx.needs_input_grad[2:], strict=True)]
        first = moved[0]
        values = first.new_empty(first.shape[:-1], dtype=torch.float32)
        size = max(1, CELLS // max(1, first[:1].numel()) if first.device.type == "cpu" else len(first))
        for start in range(0, len(first), size):
            at = slice(start, start + size)
            values[at], ways = known(*(None if x is None else x[at] for x in (*moved, *fixed)))
            for slope, way in zip(slopes, ways, strict=True):
                if slope is not None:
                    slope[at] = way()
        ctx.save_for_backward(*slopes)
        return values

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, given: Tensor) -> Any:
        return None, None, *(None if x is None else _times(x, given) for x in ctx.saved_tensors)


def _times(slope: Tensor, given: Tensor) -> Tensor:
    """Rows of slopes by a factor each, which may be of higher precision; one factor for all, as under a sum, costs no cast."""
    if given.numel() and not any(given.stride()):
        return slope * given.flatten()[0]
    return torch.mul(slope, given[..., None], out=torch.empty_like(slope))
