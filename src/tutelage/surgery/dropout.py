"""Other probabilities of dropout; the weights stay.

Source: no paper. Kernels that never hold a map of attention cannot drop parts of it out, those of torch on CPUs at least; without that
dropout, training on long rows is much quicker there.
Departures: none.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import Field

from ..config import settings
from ..errors import ConfigError
from ._surgery import Surgery

Probability = Annotated[float, Field(ge=0, lt=1)]
NAMES = {"attention": ("attention_probs_dropout_prob", "attention_dropout"), "hidden": ("hidden_dropout_prob", "dropout")}
"""What families call them in their configurations."""


@settings
class Dropout(Surgery):
    """The model's own weights, with other dropout in training."""

    attention: Probability | None = None
    """Of the maps of attention; 0 spares holding them. Null leaves the model's own."""
    hidden: Probability | None = None
    """Of hidden states. Null leaves the model's own."""

    def faults(self) -> Iterator[tuple[str, str]]:
        if self.attention is None and self.hidden is None:
            yield "", "changes nothing; set attention, hidden or both"

    def kept(self, depth: int) -> tuple[int, ...]:
        """All layers stay."""
        return tuple(range(depth))

    def __call__(self, model: Any) -> Any:
        from ..models import anatomy

        config = anatomy.resize(model.config)
        body = anatomy.body(config)
        for field, names in NAMES.items():
            if (wanted := getattr(self, field)) is None:
                continue
            if not (own := [name for name in names if hasattr(body, name)]):
                raise ConfigError(f"dropout.{field}: models of type '{body.model_type}' have no such dropout; leave it out")
            setattr(body, own[0], wanted)
        new = type(model)(config).to(next(model.parameters()).dtype)
        new.load_state_dict(model.state_dict())
        return new
