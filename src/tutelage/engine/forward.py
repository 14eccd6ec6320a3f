"""One forward pass, and whole parts of the data through a frozen model."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from ..models import anatomy
from ..rows import LAST_STATES, NOTHING, Batch, Inside, Seen
from ..tasks._task import Encoded
from . import batches
from .machine import Machine


def forward(
    model: Any, inputs: Mapping[str, torch.Tensor], outputs: Iterable[str], inside: Inside = NOTHING, places: torch.Tensor | None = None
) -> Seen:
    """Run a model and keep its named outputs and the inner states asked for; `places` narrows a layer over the vocabulary."""
    if inside.attention and getattr(model.config, "_attn_implementation", "eager") != "eager":
        model.set_attn_implementation("eager")
    asked = {"output_hidden_states": True} if inside.hidden else {}
    if inside.attention:
        asked["output_attentions"] = True
    names = list(outputs)
    body = LAST_STATES in names
    with anatomy.watched_heads(model, inside.heads) as heads, anatomy.narrowed_output(model, places):
        out = model.base_model(**inputs, **asked, use_cache=False) if body else model(**inputs, **asked)
    return Seen(
        {name: out[name] for name in names},
        {i: out.hidden_states[i] for i in inside.hidden},
        {i: out.attentions[i - 1] for i in inside.attention},
        heads,
        anatomy.output_layer(model) if body else None,
    )


@contextlib.contextmanager
def statistics_kept(model: nn.Module) -> Iterator[None]:
    """Let batch normalisation in training take a batch's own mean and variance without counting them as running ones."""
    counting = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.track_running_stats]
    try:
        for module in counting:
            module.track_running_stats = False
        yield
    finally:
        for module in counting:
            module.track_running_stats = True


def move(batch: Batch, device: torch.device) -> Batch:
    """The batch on a device."""
    if device.type == "cpu":
        return batch
    return Batch(
        {k: v.to(device, non_blocking=True) for k, v in batch.inputs.items()},
        batch.gold.to(device), batch.labelled.to(device), batch.index.to(device),
        None if batch.weight is None else batch.weight.to(device),
        {k: v.to(device, non_blocking=True) for k, v in batch.extra.items()},
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
    model: Any,
    encoded: Encoded,
    kinds: Mapping[str, str],
    machine: Machine,
    dtype: torch.dtype,
    view: Callable[[Batch], Batch] = same,
    shown: Callable[[Seen, Batch], Mapping[str, torch.Tensor]] | None = None,
) -> dict[str, np.ndarray]:
    """A model's outputs by name in row order, in float32; `kinds` says of each whether it is one an 'example' or a 'token'.

    With `shown`, it is what that makes of the outputs.

    Outputs of an example are (rows, ...). Outputs of a token are (tokens of all rows, ...), without padding: those of row i
    stand from `encoded.starts[i]` to `encoded.starts[i + 1]`.
    """
    out: dict[str, np.ndarray] = {}
    names = [LAST_STATES] if shown else kinds
    for rows, seen in through(model, encoded, names, machine, dtype, view=view):
        if shown:
            with torch.no_grad(), machine.autocast(dtype):
                seen.outputs = dict(shown(seen, move(encoded.batch(rows), machine.device)))
        for name, kind in kinds.items():
            value = seen.outputs[name].float().cpu().numpy()
            if name not in out:
                shape = (len(encoded), *value.shape[1:]) if kind == "example" else (int(encoded.starts[-1]), *value.shape[2:])
                out[name] = np.empty(shape, dtype=np.float32)
            put(out[name], value, kind, encoded, rows)
    return out


def put(array: np.ndarray, value: np.ndarray, kind: str, encoded: Encoded, rows: np.ndarray) -> None:
    """Write a padded batch's output or inner state to its rows' places in an array of all rows, or of all their tokens."""
    if kind == "example":
        array[rows] = value
        return
    for i, row in zip(rows, value, strict=True):
        array[encoded.starts[i] : encoded.starts[i + 1]] = row[: encoded.lengths[i]]
