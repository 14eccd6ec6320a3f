"""Keep some of a model's layers, with embeddings and head.

Source: the start of DistilBERT, Sanh et al. 2019, arXiv:1910.01108, section 3 (one layer out of two).
Departures: `even` includes the first and the last layer, spaced as evenly as whole numbers allow.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import Field

from ..config import Count, settings
from ..errors import ConfigError
from ._surgery import Surgery


@settings
class KeepLayers(Surgery):
    """A student of the same family with fewer layers, its tensors copied from the model's."""

    layers: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)] | None = None
    """Layers to keep by number, 0 the first; increasing. Instead of keep and count."""
    keep: Literal["first", "last", "even"] | None = None
    """Which ones, together with count."""
    count: Count | None = None
    """How many."""

    def faults(self) -> Iterator[tuple[str, str]]:
        if self.layers is None and (self.keep is None or self.count is None):
            yield "", "needs layers, or keep together with count"
        if self.layers is not None:
            for name in ("keep", "count"):
                if getattr(self, name) is not None:
                    yield name, "has no effect beside layers; leave it out"
            if list(self.layers) != sorted(set(self.layers)):
                yield "layers", f"must increase; got {list(self.layers)}"

    def kept(self, depth: int) -> tuple[int, ...]:
        """The layers kept of a model with `depth` layers. Raises ConfigError when it has too few."""
        wanted = max(self.layers) + 1 if self.layers else self.count or 0
        if wanted > depth:
            asked = f"layer {max(self.layers)}" if self.layers else f"{self.count} layers"
            have = f"layers 0 to {depth - 1}" if self.layers else f"{depth} layers"
            raise ConfigError(f"keep_layers: {asked} asked for; the model has {have}")
        if self.layers:
            return self.layers
        n = self.count or 0
        if self.keep == "even":
            return tuple(round(i * (depth - 1) / (n - 1)) for i in range(n)) if n > 1 else (depth - 1,)
        return tuple(range(n)) if self.keep == "first" else tuple(range(depth - n, depth))

    def __call__(self, model: Any) -> Any:
        from ..models import anatomy

        layers = self.kept(anatomy.shape(model.config).depth)
        small = type(model)(anatomy.resize(model.config, layers=layers))
        small.load_state_dict(anatomy.kept_state(model, layers))
        return small.to(next(model.parameters()).dtype)
