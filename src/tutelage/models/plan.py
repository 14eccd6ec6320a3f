"""A plan says how each layer of a language model attends: plain data, saved beside the model it was made for. No torch."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from .. import records, textfiles
from ..errors import ConfigError, DataError

FORMAT = 1
Entry = Mapping[str, Any]
OWN: Entry = {"kind": "own"}


_Whole = Annotated[int, Field(ge=0)]
_STRICT = ConfigDict(strict=True, extra="forbid")


class _Entry(BaseModel):
    model_config = _STRICT

    kind: Literal["own", "echo", "shared_kv", "none"]
    source: _Whole | None = None
    heads: list[_Whole] | None = None


class _Shape(BaseModel):
    model_config = _STRICT

    layers: _Whole | None = None
    heads: Annotated[int, Field(ge=1)]
    key_heads: Annotated[int, Field(ge=1)]


class _File(BaseModel):
    """A plan's file, as `Plan.write` makes it."""

    model_config = _STRICT

    format: Literal[1]
    shape: _Shape
    attention: list[_Entry]
    about: dict[str, Any] = {}
    refit: dict[str, str] | None = None


@dataclasses.dataclass(frozen=True)
class Plan:
    """An entry a layer (see `echo_attention`), the shape it is for, and how it came about."""

    attention: tuple[Entry, ...]
    heads: int
    key_heads: int
    about: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """The rule, the analysis and what was measured; no part of what is computed."""
    refit: Mapping[str, str] | None = None
    """Output projections to put in: `file` (its name beside the plan's), `sha256`, and the digest `weights` of the model's."""

    @property
    def layers(self) -> int:
        """Layers of the model."""
        return len(self.attention)

    @property
    def echoes(self) -> tuple[int, ...]:
        """Layers that echo."""
        return tuple(i for i, a in enumerate(self.attention) if a["kind"] == "echo")

    def write(self, path: Path) -> None:
        """Write it as JSON, atomically."""
        shape = {"layers": self.layers, "heads": self.heads, "key_heads": self.key_heads}
        tree = {"format": FORMAT, "shape": shape, "attention": list(self.attention), "refit": self.refit, "about": dict(self.about)}
        records.write_json(path, tree)

    @classmethod
    def read(cls, path: Path) -> Plan:
        """Raises ConfigError for a file that is no plan."""
        if not os.path.exists(path):
            raise ConfigError(f"{path}: no such plan; make one with 'tutelage echo plan'")
        try:
            tree = textfiles.whole_value(path)
            if isinstance(tree, dict) and tree.get("format", FORMAT) != FORMAT:
                raise ConfigError(f"{path}: is a plan of format {tree['format']}, this version reads {FORMAT}; make it anew")
            found = _File.model_validate(tree)
        except DataError as fault:
            raise ConfigError(f"{fault}; a plan of attention is made with 'tutelage echo plan'") from None
        except ValidationError as fault:
            first = fault.errors()[0]
            why = f"{'.'.join(map(str, first['loc'])) or 'the file'}: {first['msg'].lower()}"
            raise ConfigError(f"{path}: is no plan of attention ({why}); make one with 'tutelage echo plan'") from None
        return cls(tuple(tree["attention"]), found.shape.heads, found.shape.key_heads, found.about, found.refit)

    def fits(self, config: Any) -> None:
        """Raise ConfigError where the plan is for a model of another shape."""
        mine = (self.layers, self.heads, self.key_heads)
        theirs = (config.num_hidden_layers, config.num_attention_heads, config.num_key_value_heads)
        if mine != theirs:
            words = [f"{a} layers, {b} heads and {c} key heads" for a, b, c in (mine, theirs)]
            raise ConfigError(f"plan: is for a model with {words[0]}, this one has {words[1]}; make a plan for it")


def of_pairs(pairs: Mapping[int, Any], config: Any, about: Mapping[str, Any] | None = None) -> Plan:
    """A plan from echoing layer -> source, or -> (source, heads). Raises ConfigError for pairs that cannot be followed."""
    depth, heads = config.num_hidden_layers, config.num_attention_heads
    entries: list[Entry] = [OWN] * depth
    for layer, given in pairs.items():
        source, own = given if isinstance(given, Sequence) else (given, None)
        for number in (layer, source):
            if not 0 <= number < depth:
                raise ConfigError(f"plan: there is no layer {number}; the model has layers 0 to {depth - 1}")
        if source >= layer:
            raise ConfigError(f"plan: layer {layer} cannot echo layer {source}, which comes later; a source comes before its echo")
        if source in pairs:
            raise ConfigError(f"plan: layer {layer} echoes layer {source}, which itself echoes; name a layer with its own attention")
        entry: dict[str, Any] = {"kind": "echo", "source": source}
        if own is not None and list(own) != list(range(heads)):
            if len(own) != heads or not all(0 <= h < heads for h in own):
                raise ConfigError(f"plan: layer {layer} needs {heads} heads from 0 to {heads - 1}; got {list(own)}")
            entry["heads"] = list(own)
        entries[layer] = entry
    return Plan(tuple(entries), heads, config.num_key_value_heads, about or {})
