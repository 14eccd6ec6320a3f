"""Layers that echo an earlier layer's attention map: no queries, keys or key cache of their own.

Source: EchoAtt, arXiv:2409.14595, section 3.
Departures: any plan may be followed, with a head map for each layer, and with output projections refitted to the echoes;
`tutelage echo plan` makes plans by the paper's rule and others.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from ..config import settings
from ..errors import ConfigError
from ._surgery import Surgery


@settings
class EchoAttention(Surgery):
    """A student with the model's own weights, less the query and key projections of its echoing layers."""

    plan: str | None = None
    """File that `tutelage echo plan` wrote."""
    layers: dict[int, int] | None = None
    """Instead of a file: echoing layer -> its source, such as {5: 4, 6: 4}; each head echoes the head of its own number."""
    reuse: Literal["auto", "map", "fused"] = "auto"
    """How the model computes its echoes: from the stored map, by the fused kernel, or as a measurement on the device decides."""

    def faults(self) -> Iterator[tuple[str, str]]:
        if (self.plan is None) == (self.layers is None):
            yield "", "needs exactly one of plan and layers"

    def kept(self, depth: int) -> tuple[int, ...]:
        """All layers stay."""
        return tuple(range(depth))

    def __call__(self, model: Any) -> Any:
        from ..models import echoes
        from ..models.plan import Plan, of_pairs

        config = echoes.config_of(model.config, echoes.attention_of(model.config))
        plan = Plan.read(Path(self.plan)) if self.plan else of_pairs(self.layers or {}, config)
        plan.fits(config)
        if all(entry["kind"] == "own" for entry in plan.attention):
            raise ConfigError("student.surgery: the plan leaves every layer its own attention; nothing would be smaller")
        made = echoes.convert(model, plan.attention)
        if self.plan and plan.refit:
            from ..models.load import weights_digest

            echoes.put_projections(made, echoes.read_projections(plan, Path(self.plan), weights_digest(model)))
        made.config.reuse = self.reuse
        return made
