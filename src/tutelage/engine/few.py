"""A teacher's outputs over a vocabulary by a few classes a token, made where its signals are cached.

A signal's name says all of it: 'likeliest:64@2' are the 64 likeliest classes at temperature 2 and the mass of all others,
'drawn:12@1of500' twelve drawn with replacement from the first 500 classes. See `rows.Sparse` for what a row holds.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from torch import Tensor

from .. import losses
from ..rows import LAST_STATES, Seen, Sparse
from ..seeds import stream
from .tiles import lowered, rows_of

KINDS = ("likeliest", "drawn")


@dataclasses.dataclass(frozen=True)
class Few:
    """How many classes are kept of a token, which, and at what temperature."""

    kind: str
    many: int
    temperature: float
    words: int | None = None
    """Of so many classes, the vocabulary's first; None is all."""

    @property
    def name(self) -> str:
        return f"{self.kind}:{self.many}@{self.temperature:g}" + (f"of{self.words}" if self.words else "")

    @property
    def size(self) -> int:
        """Bytes a token."""
        return 4 * (2 * self.many + (self.kind == "likeliest"))

    def stored(self, block: Tensor) -> Sparse:
        """What was kept, as rows."""
        return Sparse(block, self.temperature, self.kind == "drawn")

    def make(self, seen: Seen, rows: np.ndarray) -> Tensor:
        """(rows, tokens, numbers) in float32 of a pass that ended in last hidden states; `rows` number the data's rows.

        What is drawn of a row depends on its number alone.
        """
        assert seen.head is not None
        seen.head.words = self.words
        out = []
        states, head = lowered(seen.outputs[LAST_STATES], seen.head.compared())
        for number, row in zip(rows, states, strict=True):
            generator = torch.Generator(row.device).manual_seed(stream(int(number), "drawn"))
            tiles = row.split(rows_of(head.weight))
            out.append(torch.cat([self._pick(head(tile).float(), generator) for tile in tiles]))
        return torch.stack(out)

    def _pick(self, logits: Tensor, generator: torch.Generator) -> Tensor:
        logits = logits / self.temperature
        if self.kind == "likeliest":
            ids = logits.topk(self.many, -1).indices
            return torch.cat([ids.float(), losses.few_classes(logits, ids)], -1)
        log = logits.log_softmax(-1)
        ids = torch.multinomial(log.exp(), self.many, replacement=True, generator=generator)
        return torch.cat([ids.float(), log.gather(-1, ids)], -1)


def read(name: str) -> Few | None:
    """The signal of few classes that a name stands for; None for any other signal."""
    kind, _, rest = name.partition(":")
    if kind not in KINDS:
        return None
    many, _, rest = rest.partition("@")
    temperature, _, words = rest.partition("of")
    return Few(kind, int(many), float(temperature), int(words) if words else None)
