"""Layers without attention: the sublayer, its norm and its caches are gone, the feed-forward part stays.

Source: He et al. 2024 (LLM-Drop), arXiv:2406.15786, section 3.
Departures: which layers lose it is given by number; `tutelage echo plan --rule drop` ranks them as the paper does.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from ..config import settings
from ..errors import ConfigError
from ._surgery import Surgery


@settings
class DropAttention(Surgery):
    """A student with the model's own weights, less the attention of some layers."""

    layers: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)]
    """Layers that lose their attention, 0 the first."""

    def kept(self, depth: int) -> tuple[int, ...]:
        """All layers stay."""
        return tuple(range(depth))

    def __call__(self, model: Any) -> Any:
        from ..models import echoes

        entries = list(echoes.attention_of(model.config))
        if max(self.layers) >= len(entries):
            raise ConfigError(f"drop_attention: there is no layer {max(self.layers)}; the model has layers 0 to {len(entries) - 1}")
        for layer in self.layers:
            entries[layer] = {"kind": "none"}
        return echoes.convert(model, entries)
