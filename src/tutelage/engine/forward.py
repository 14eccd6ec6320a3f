"""One forward pass, and whole parts of the data through a frozen model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import torch

from ..models import anatomy
from ..rows import Batch, Inside, Seen
from ..tasks._task import Encoded
from . import batches
from .machine import Machine

NOTHING = Inside()


def forward(model: Any, inputs: Mapping[str, torch.Tensor], outputs: Iterable[str], inside: Inside = NOTHING) -> Seen:
    """Run a model and keep its named outputs and the inner states asked for."""
    if inside.attention and getattr(model.config, "_attn_implementation", "eager") != "eager":
        model.set_attn_implementation("eager")
    asked = {"output_hidden_states": True} if inside.hidden else {}
    if inside.attention:
        asked["output_attentions"] = True
    with anatomy.watched_heads(model, inside.heads) as heads:
        out = model(**inputs, **asked)
    return Seen(
        {name: out[name] for name in outputs},
        {i: out.hidden_states[i] for i in inside.hidden},
        {i: out.attentions[i - 1] for i in inside.attention},
        heads,
    )


def move(batch: Batch, device: torch.device) -> Batch:
    """The batch on a device."""
    if device.type == "cpu":
        return batch
    return Batch(
        {k: v.to(device, non_blocking=True) for k, v in batch.inputs.items()},
        batch.gold.to(device), batch.labelled.to(device), batch.index.to(device),
        None if batch.weight is None else batch.weight.to(device),
    )  # fmt: skip


def same(batch: Batch) -> Batch:
    """The view of a task whose rows are stored as models take them."""
    return batch


def through(
    model: Any,
    encoded: Encoded,
    outputs: Iterable[str],
    machine: Machine,
    dtype: torch.dtype,
    *,
    many: list[np.ndarray] | None = None,
    inside: Inside = NOTHING,
    advance: Callable[[int], None] = lambda n: None,
    view: Callable[[Batch], Batch] = same,
) -> Iterator[tuple[np.ndarray, Seen]]:
    """A frozen model over all rows (or over the given batches) in canonical batches: (row numbers, what was seen).

    `view` is the task's, from stored rows to model inputs.
    """
    was = model.training
    model.eval()
    names = list(outputs)
    try:
        for rows in many if many is not None else batches.canonical(encoded.lengths):
            batch = view(move(encoded.batch(rows), machine.device))
            with torch.no_grad(), machine.autocast(dtype):
                seen = forward(model, batch.inputs, names, inside)
            advance(len(rows))
            yield rows, seen
    finally:
        model.train(was)


def outputs(
    model: Any, encoded: Encoded, names: Iterable[str], machine: Machine, dtype: torch.dtype, view: Callable[[Batch], Batch] = same
) -> dict[str, np.ndarray]:
    """A model's outputs of one number block a row, in row order, in float32."""
    many: dict[str, list[np.ndarray]] = {name: [] for name in names}
    order = []
    for rows, seen in through(model, encoded, many, machine, dtype, view=view):
        order.append(rows)
        for name in many:
            many[name].append(seen.outputs[name].float().cpu().numpy())
    back = np.argsort(np.concatenate(order), kind="stable")
    return {name: np.concatenate(parts)[back] for name, parts in many.items()}
