"""A teacher's outputs over a vocabulary by a few classes a token, made where its signals are cached.

A signal's name says all of it: 'likeliest:64@2' are the 64 likeliest classes at temperature 2 and the mass of all others,
'drawn:12@1' twelve classes drawn with replacement. See `rows.Sparse` for what a row holds.
"""

from __future__ import annotations

import functools

import numpy as np
import torch
from torch import Tensor

from .. import losses
from ..rows import LAST_STATES, Seen, Sparse
from ..seeds import stream
from .tiles import CELLS


def name_of(kind: str, many: int, temperature: float) -> str:
    return f"{kind}:{many}@{temperature:g}"


def read(name: str) -> tuple[str, int, float] | None:
    """Kind, number and temperature of a signal of few classes; None for any other signal."""
    kind, _, rest = name.partition(":")
    if kind not in ("likeliest", "drawn"):
        return None
    many, _, temperature = rest.partition("@")
    return kind, int(many), float(temperature)


def size(name: str) -> int:
    """Bytes a token."""
    kind, many, _ = read(name) or ("", 0, 0.0)
    return 4 * (2 * many + (kind == "likeliest"))


def stored(name: str, block: Tensor) -> Sparse:
    """What was kept under a name, as rows."""
    kind, _, temperature = read(name) or ("", 0, 0.0)
    return Sparse(block, temperature, kind == "drawn")


def make(name: str, seen: Seen, rows: np.ndarray) -> Tensor:
    """(rows, tokens, numbers) in float32 of a pass that ended in last hidden states; `rows` number the data's rows.

    What is drawn of a row depends on its number alone.
    """
    kind, many, temperature = read(name) or ("", 0, 0.0)
    assert seen.head is not None
    pick = functools.partial(_likeliest, many=many) if kind == "likeliest" else functools.partial(_drawn, many=many)
    out = []
    for number, states in zip(rows, seen.outputs[LAST_STATES], strict=True):
        generator = torch.Generator(states.device).manual_seed(stream(int(number), "drawn"))
        tiles = states.split(max(1, CELLS // len(seen.head)))
        out.append(torch.cat([pick(torch.nn.functional.linear(t, seen.head).float() / temperature, generator=generator) for t in tiles]))
    return torch.stack(out)


def _likeliest(logits: Tensor, many: int, generator: torch.Generator) -> Tensor:
    ids = logits.topk(many, -1).indices
    return torch.cat([ids.float(), losses.few_classes(logits, ids)], -1)


def _drawn(logits: Tensor, many: int, generator: torch.Generator) -> Tensor:
    log = logits.log_softmax(-1)
    ids = torch.multinomial(log.exp(), many, replacement=True, generator=generator)
    return torch.cat([ids.float(), log.gather(-1, ids)], -1)
