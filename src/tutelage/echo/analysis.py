"""How alike the attention of layers is, and what an echo would change, in one pass over samples of text.

Source: EchoAtt, arXiv:2409.14595, section 3 and figures 1 and 2 (`similarity` and `scores`). The error of an echo is ours: the
squared change of a layer's attention output, relative to the squared norm of the hidden state it is added to, token by
token, since the norm at the entry of every sublayer makes it blind to anything else. `idle` is LLM-Drop's ranking,
arXiv:2406.15786, section 3.
"""

from __future__ import annotations

import dataclasses
import io
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .. import records
from ..errors import ConfigError
from ..models.echo_attention import EchoForCausalLM, make_maps

FORMAT = 2
MOST_HEADS = 16
"""Heads up to which head maps are found jointly: the table of all pairs of choices grows with the fourth power."""
STRIDE = 4
"""Every so many tokens are looked at for the joint table."""


@dataclasses.dataclass
class Analysis:
    """What one pass found; arrays in float32."""

    similarity: np.ndarray
    """(layers, layers): cosine of two layers' maps, flattened over heads, queries and keys; a mean over samples."""
    heads: np.ndarray
    """(layers, layers, heads, heads): cosine of head g of the first layer and head h of the second, at [first, second, g, h]."""
    errors: np.ndarray
    """(layers, layers, heads, heads): relative squared change where head h of the second layer echoes head g of the first, at
    [first, second, h, g]; NaN beyond `distance`."""
    idle: np.ndarray
    """(2, layers): cosine of hidden states before and after a layer's attention, and before and after the whole layer; a mean over
    tokens. What changes nothing has 1."""
    joint: np.ndarray | None
    """(layers, distance, heads * heads, heads * heads): products of the changes that two choices make, at [second, back - 1];
    None for models with more than MOST_HEADS heads."""
    key_heads: int
    about: dict[str, Any]

    @property
    def layers(self) -> int:
        """Layers of the model."""
        return int(self.similarity.shape[0])

    @property
    def distance(self) -> int:
        """How far back a source was looked for."""
        return int(self.about["distance"])

    @property
    def scores(self) -> np.ndarray:
        """(layers,): each layer's mean similarity to all others."""
        n = self.layers
        return (self.similarity.sum(1) - np.diag(self.similarity)) / max(1, n - 1)

    def write(self, folder: Path) -> None:
        """Write `analysis.npz` and `analysis.json` into a folder."""
        arrays = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if isinstance(getattr(self, f.name), np.ndarray)}
        packed = io.BytesIO()
        np.savez_compressed(packed, **arrays)
        records.write(folder / "analysis.npz", packed.getvalue())
        plain = {"similarity": self.similarity.round(6).tolist(), "scores": self.scores.round(6).tolist()}
        records.write_json(folder / "analysis.json", {"format": FORMAT, "key_heads": self.key_heads, **self.about, **plain})

    @classmethod
    def read(cls, folder: Path) -> Analysis:
        """Raises ConfigError for a folder without a whole analysis."""
        try:
            about = records.read_json(folder / "analysis.json")
            with np.load(folder / "analysis.npz", allow_pickle=False) as arrays:
                found = {name: arrays[name] for name in arrays.files}
            if about.pop("format") != FORMAT:
                raise ValueError("of another version")
            about = {k: v for k, v in about.items() if k not in ("similarity", "scores")}
            arrays = {name: found[name] for name in ("similarity", "heads", "errors", "idle")}
            return cls(**arrays, joint=found.get("joint"), key_heads=about.pop("key_heads"), about=about)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, EOFError, zipfile.BadZipFile, zlib.error) as fault:
            raise ConfigError(f"{folder}: holds no whole analysis ({fault}); make one with 'tutelage echo analyze'") from None


@torch.no_grad()
def analyse(
    model: EchoForCausalLM,
    samples: Tensor,
    *,
    distance: int = 6,
    about: dict[str, Any] | None = None,
    advance: Callable[[int], None] = lambda n: None,
) -> Analysis:
    """One pass of a model in which every layer attends by itself; never holds the maps of more than one sample.

    `samples` are token numbers (samples, tokens) without padding; `distance` bounds how far back a source may stand.
    """
    config = model.config
    layers, heads = config.num_hidden_layers, config.num_attention_heads
    device = next(model.parameters()).device
    similarity = torch.zeros(layers, layers, device=device)
    pairs = torch.zeros(layers, heads, layers, heads, device=device)
    errors = torch.full((layers, layers, heads, heads), float("nan"), device=device)
    for second in range(1, layers):
        errors[max(0, second - distance) : second, second] = 0.0
    joint = torch.zeros(layers, distance, heads**2, heads**2, device=device) if heads <= MOST_HEADS else None
    idle = torch.zeros(2, layers, device=device)
    for sample in samples:
        maps, seen = _look(model, sample[None].to(device))
        idle += torch.tensor([layer.idle for layer in seen], device=device).T
        flat = maps.flatten(0, 1).flatten(1)
        products = (flat @ flat.T).view(layers, heads, layers, heads)
        norms = flat.norm(dim=1).view(layers, heads)
        pairs += products / (norms[:, :, None, None] * norms)
        whole = norms.square().sum(1).sqrt()
        similarity += torch.einsum("ahbh->ab", products) / (whole[:, None] * whole)
        for second in range(1, layers):
            _changes(seen, second, distance, errors, joint, config)
        del seen, maps, flat
        advance(1)
    number = len(samples)
    facts = {**(about or {}), "samples": number, "tokens": int(samples.shape[1]), "distance": distance, "heads": heads}
    if joint is not None:
        joint /= number
    return Analysis(
        similarity=(similarity / number).cpu().numpy(),
        heads=(pairs / number).transpose(1, 2).contiguous().cpu().numpy(),
        errors=(errors / number).cpu().numpy(),
        idle=(idle / number).cpu().numpy(),
        joint=None if joint is None else joint.cpu().numpy(),
        key_heads=config.num_key_value_heads,
        about=facts,
    )


@dataclasses.dataclass
class _Layer:
    map: Tensor
    """(heads, tokens, tokens)."""
    values: Tensor
    """(key heads, tokens, size)."""
    norm: Tensor
    """(tokens, 1): of the hidden states that the attention is added to."""
    out: Tensor
    """(width, heads, size): the output projection."""
    idle: list[float]
    """Mean cosine of the hidden states before and after the attention; then before and after the layer."""


def _look(model: EchoForCausalLM, sample: Tensor) -> tuple[Tensor, list[_Layer]]:
    """Run one sample (1, tokens): the maps of all layers (layers, heads, tokens, tokens), and what else their echoes need."""
    config, hooks = model.config, []
    heads, tokens = config.num_attention_heads, sample.shape[1]
    maps = torch.empty(config.num_hidden_layers, heads, tokens, tokens, device=sample.device)
    before: list[Tensor] = []
    found: list[_Layer] = []

    def enter(module: Any, given: tuple[Any, ...]) -> None:
        before.append(given[0][0].float())

    def leave(module: Any, given: tuple[Any, ...], out: tuple[Any, ...]) -> None:
        found[-1].idle.append(_cosine(before[-1], out[0][0].float()))

    def keep(module: Any, given: tuple[Any, ...], named: dict[str, Any], out: tuple[Any, ...]) -> None:
        q, k, v, _ = out[2]
        place = maps[module.layer_idx]
        place.copy_(make_maps(q, k, named["attention_mask"], module.scaling, triangle=False)[0][0])
        weight = module.o_proj.weight.float().view(-1, heads, config.head_dim)
        state = before[-1]
        idle = [_cosine(state, state + out[0][0].float())]
        found.append(_Layer(place, v[0].float(), state.norm(dim=-1, keepdim=True), weight, idle))

    for layer in model.model.layers:
        hooks += [layer.register_forward_pre_hook(enter), layer.self_attn.register_forward_hook(keep, with_kwargs=True)]
        hooks.append(layer.register_forward_hook(leave))
    try:
        model.model(sample, use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    return maps, found


def _cosine(a: Tensor, b: Tensor) -> float:
    """Mean over tokens."""
    return float(torch.nn.functional.cosine_similarity(a, b, dim=-1).mean())


def _changes(seen: list[_Layer], second: int, distance: int, errors: Tensor, joint: Tensor | None, config: Any) -> None:
    """Add what echoing each earlier layer would change at a layer, for one sample."""
    mine, groups = seen[second], config.num_attention_heads // config.num_key_value_heads
    heads = config.num_attention_heads
    kept = torch.arange(heads, device=mine.map.device) // groups
    tokens = slice(STRIDE - 1, None, STRIDE)
    weight = mine.norm[tokens].clamp(min=1e-6).reciprocal()
    own = mine.map[:, tokens] @ mine.values[kept]
    for first in range(max(0, second - distance), second):
        if config.layer_types[first] != config.layer_types[second]:
            errors[first, second] = float("nan")
            continue
        each = seen[first].map[:, None, tokens] @ mine.values  # source head, key head, tokens, size
        count = own.shape[1]
        if joint is None:
            for h in range(heads):
                change = ((each[:, kept[h]] - own[h]) * weight) @ mine.out[:, h].T
                errors[first, second, h] += change.square().sum((1, 2)) / count
            continue
        changes = torch.cat([(((each[:, kept[h]] - own[h]) * weight) @ mine.out[:, h].T).flatten(1) for h in range(heads)])
        table = changes @ changes.T / count
        errors[first, second] += table.diagonal().view(heads, heads)
        joint[second, second - first - 1] += table
