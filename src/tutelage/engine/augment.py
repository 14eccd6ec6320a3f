"""Columns that a method makes of the training rows: made all at once, kept on disk while they live, batched with the rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch

from ..methods._method import Augment, Made, See
from ..rows import Batch
from ..tasks._task import Encoded
from . import batches
from .forward import move
from .machine import Machine


class Columns:
    """The training rows with what a method made of them. `rows` are batched; `once` is what holds for all of them alike."""

    def __init__(self, train: Encoded, machine: Machine, dtype: torch.dtype):
        self.train, self.machine, self.dtype = train, machine, dtype
        self.rows = train
        self.once: dict[str, torch.Tensor] = {}

    def make(
        self, augment: Augment, tables: Callable[[str], torch.Tensor], look: Callable[[Batch], See]
    ) -> tuple[dict[str, torch.Tensor], dict[str, float]]:
        """Make all columns anew; what is to be kept on disk for `take`, and the means of what was measured.

        `look` wraps a batch of stored rows for the method.
        """
        self.once = {name: value.detach() for name, value in augment.once(tables).items()} if augment.once else {}
        columns, measures = _all(augment.refresh, look, self.train, self.machine, self.dtype)
        measures |= {name: float(value) for name, value in self.once.items() if not value.ndim}
        kept = {f"rows.{k}": v for k, v in columns.items()} | {f"once.{k}": v for k, v in self.once.items()}
        self.take(kept)
        return kept, measures

    def take(self, kept: Mapping[str, torch.Tensor]) -> None:
        """Take up columns as they were kept; none leaves the rows as they are."""
        columns = below(kept, "rows.")
        self.rows = encoded(self.train, columns) if columns else self.train
        self.once = {name: value.to(self.machine.device) for name, value in below(kept, "once.").items()}


def below(tensors: Mapping[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    """The tensors whose names begin so, by the rest of their names."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _all(
    refresh: Callable[[See], Made], look: Callable[[Batch], See], rows: Encoded, machine: Machine, dtype: torch.dtype
) -> tuple[dict[str, torch.Tensor], dict[str, float]]:
    """New columns of all rows in row order, those of a token end to end, and the means of what was measured."""
    parts: dict[str, list[torch.Tensor]] = {}
    measured: dict[str, list[torch.Tensor]] = {}
    place: list[int] = []
    for numbers in batches.canonical(rows.lengths):
        with machine.autocast(dtype):
            made = refresh(look(move(rows.batch(numbers), machine.device)))
        place += numbers.tolist()
        for name, block in made.columns.items():
            blocks = (block.detach().float() if block.is_floating_point() else block).cpu()
            ragged = rows.ragged and block.ndim > 1
            parts.setdefault(name, []).extend(b[:n] if ragged else b for b, n in zip(blocks, rows.lengths[numbers], strict=True))
        for name, values in made.measures.items():
            measured.setdefault(name, []).append(values.detach().double().cpu())
    back = np.argsort(place, kind="stable")
    in_order = {name: [many[i] for i in back] for name, many in parts.items()}
    columns = {name: torch.cat(many) if rows.ragged and many[0].ndim else torch.stack(many) for name, many in in_order.items()}
    means = {name: torch.cat(many) for name, many in measured.items()}
    return columns, {name: float(values.mean()) for name, values in means.items() if len(values)}


def encoded(rows: Encoded, columns: Mapping[str, torch.Tensor]) -> Encoded:
    """The rows with a method's columns in place of theirs of the same name, or beside them; without labels where inputs changed."""
    made = {name: value.numpy() for name, value in columns.items()}
    ragged, fixed, extra = (
        {name: made.pop(name, column) for name, column in many.items()} for many in (rows.ragged, rows.fixed, rows.extra)
    )
    tokens = {name: value for name, value in made.items() if rows.ragged and value.ndim > 1}
    beside = {name: value for name, value in made.items() if name not in tokens}
    new = Encoded(
        ragged, rows.lengths, rows.gold, fixed=fixed, pad=rows.pad, mask=rows.mask, extra=extra | tokens, beside=beside, about=rows.about,
        weight=rows.weight,
    )  # fmt: skip
    if not same_inputs(new, rows):
        new.gold = np.full_like(rows.gold, np.nan if np.issubdtype(rows.gold.dtype, np.floating) else -1)
    return new


def same_inputs(a: Encoded, b: Encoded) -> bool:
    """Whether models are fed with the very same columns."""
    return all(one.get(name) is column for one, other in ((a.ragged, b.ragged), (a.fixed, b.fixed)) for name, column in other.items())
