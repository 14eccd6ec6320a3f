"""Neighbouring layers share keys and values: groups of layers keep one cache.

Source: Brandon et al. 2024 (cross-layer attention, CLA), arXiv:2405.12981, section 3.
Departures: a trained model's projections of the first layer of a group serve the whole group; the paper trains from scratch.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import Field

from ..config import settings
from ..errors import ConfigError
from ._surgery import Surgery


@settings
class ShareKeys(Surgery):
    """A student with the model's own weights, less the key and value projections of the layers that read another's."""

    group: Annotated[int, Field(ge=2)] = 2
    """Layers that share, the first of a group gives."""
    layers: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)] | None = None
    """Only these layers read, each from the nearest earlier layer that does not; instead of group."""

    def faults(self) -> Iterator[tuple[str, str]]:
        if self.layers is not None and self.group != 2:
            yield "group", "has no effect beside layers; leave it out"

    def kept(self, depth: int) -> tuple[int, ...]:
        """All layers stay."""
        return tuple(range(depth))

    def __call__(self, model: Any) -> Any:
        from ..models import echoes

        entries = list(echoes.attention_of(model.config))
        readers = set(self.layers or (i for i in range(len(entries)) if i % self.group))
        if max(readers) >= len(entries):
            raise ConfigError(f"share_keys: there is no layer {max(readers)}; the model has layers 0 to {len(entries) - 1}")
        for layer in sorted(readers):
            source = next(i for i in range(layer - 1, -1, -1) if i not in readers)
            entries[layer] = {"kind": "shared_kv", "source": source}
        return echoes.convert(model, entries)
