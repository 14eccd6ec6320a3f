"""Augmented rows: made from the training rows by a method, kept on disk while they live, batched like any others."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch

from ..methods._method import Augment, See
from ..rows import Batch
from ..tasks._task import Encoded
from . import batches
from .forward import move
from .machine import Machine


def own(inputs: Mapping[str, torch.Tensor], role: str) -> dict[str, torch.Tensor]:
    """A role's own inputs: `role:name` stands in for `name`, other roles' are left out."""
    mine = {k.split(":", 1)[1]: v for k, v in inputs.items() if role and k.startswith(role + ":")}
    return {k: v for k, v in inputs.items() if ":" not in k} | mine


def make(
    refresh: Callable[[See], dict[str, torch.Tensor]], look: Callable[[Batch], See], rows: Encoded, machine: Machine, dtype: torch.dtype
) -> dict[str, torch.Tensor]:
    """New inputs of all rows as flat tensors in row order; `look` wraps a batch for the method."""
    parts: dict[str, list[torch.Tensor]] = {}
    place: list[int] = []
    for numbers in batches.canonical(rows.lengths):
        with machine.autocast(dtype):
            new = refresh(look(move(rows.batch(numbers), machine.device)))
        place += numbers.tolist()
        for name, block in new.items():
            blocks = (block.detach().float() if block.is_floating_point() else block).cpu()
            parts.setdefault(name, []).extend(b[:n] if rows.ragged else b for b, n in zip(blocks, rows.lengths[numbers], strict=True))
    back = np.argsort(place, kind="stable")
    join = torch.cat if rows.ragged else torch.stack
    return {name: join([many[i] for i in back]) for name, many in parts.items()}  # type: ignore[operator]


def encoded(rows: Encoded, tensors: Mapping[str, torch.Tensor], augment: Augment) -> Encoded:
    """The augmented rows as data of their own, without labels; inputs that the new ones replace are dropped."""
    made = {name: value.numpy() for name, value in tensors.items()}
    new = {name: value for name, value in made.items() if name not in rows.extra}
    extra = rows.extra | {name: value for name, value in made.items() if name in rows.extra}
    gold = np.full_like(rows.gold, np.nan if np.issubdtype(rows.gold.dtype, np.floating) else -1)
    ragged, fixed = rows.ragged, rows.fixed
    if rows.ragged:
        ragged = {k: v for k, v in rows.ragged.items() if k not in augment.drops} | new
    else:
        fixed = {k: v for k, v in rows.fixed.items() if k not in augment.drops} | new
    return Encoded(ragged, rows.lengths, gold, fixed=fixed, pad=rows.pad, mask=rows.mask, extra=extra)
