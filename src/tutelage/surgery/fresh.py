"""Random weights in a given shape: the student of a from-scratch study.

Source: no paper; the arm without pre-training of Jafari et al. 2023, arXiv:2205.12428.
Departures: none.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..config import Count, settings
from ..errors import ConfigError
from ._surgery import Surgery


@settings
class Fresh(Surgery):
    """A model of the same family with new random weights; sizes left out stay the model's own."""

    layers: Count | None = None
    """Number of layers."""
    hidden: Count | None = None
    """Hidden width; a multiple of heads."""
    heads: Count | None = None
    """Attention heads."""
    intermediate: Count | None = None
    """Feed-forward width."""

    def faults(self) -> Iterator[tuple[str, str]]:
        if self.hidden and self.heads and self.hidden % self.heads:
            yield "hidden", f"must be a multiple of heads {self.heads}; got {self.hidden}"

    def __call__(self, model: Any) -> Any:
        from ..models import anatomy

        own = anatomy.shape(model.config)
        width, heads = self.hidden or own.width, self.heads or own.heads
        if width % heads:
            raise ConfigError(f"fresh: width {width} is not a multiple of {heads} heads; set hidden or heads")
        sizes = {"depth": self.layers, "width": self.hidden, "heads": self.heads, "inner": self.intermediate}
        small = anatomy.resize(model.config, layers=None, **{k: v for k, v in sizes.items() if v is not None})
        return type(model)(small).to(next(model.parameters()).dtype)
