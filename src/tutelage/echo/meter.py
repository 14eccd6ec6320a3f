"""The loss of a model under a plan, measured without building a model for each: layers before the first change are not run again."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..models.echo_attention import EchoAttention, EchoForCausalLM
from ..models.plan import OWN, Entry


def around(model: EchoForCausalLM, state: Tensor) -> tuple[Any, dict[str, Any]]:
    """Masks by type of attention, and what else every layer is called with, for rows without padding like `state`."""
    positions = torch.arange(state.shape[1], device=state.device)[None]
    masks, triangle = model.model._masks(state, None, positions, None)
    angles = model.model.rotary_emb(state, position_ids=positions)
    return masks, {"position_embeddings": angles, "past_key_values": None, "reuse": "fused", "triangle": triangle}


class Meter:
    """Mean next-token loss in nats of a model in which every layer attends by itself, or by a plan, on samples of text.

    `samples` are token numbers (samples, tokens) without padding; they run `rows` at a time. `entries` say how the model's
    layers attend as they are, where not all by themselves; `base` is its loss.
    """

    def __init__(self, model: EchoForCausalLM, samples: Tensor, *, rows: int = 4, entries: Sequence[Entry] | None = None):
        self.model, self.blocks = model, list(samples.to(next(model.parameters()).device).split(rows))
        self.depth = model.config.num_hidden_layers
        self.count = sum(b.shape[0] * (b.shape[1] - 1) for b in self.blocks)
        self.entries: list[Entry] = []
        self._hidden: list[list[Tensor]] = []
        self._made: list[list[Any]] = []
        self.base = self.loss(entries or [OWN] * self.depth, keep=True)

    @torch.no_grad()
    def loss(self, entries: Sequence[Entry], *, keep: bool = False) -> float:
        """The loss under these entries; with `keep` later calls start where they first differ from these."""
        first = next((i for i, (a, b) in enumerate(zip(entries, self.entries, strict=False)) if a != b), len(self.entries))
        first = min(first, self.depth - 1)
        total, hidden, made = 0.0, [], []
        modules = {i: self._echo(i, entry) for i, entry in enumerate(entries) if entry["kind"] == "echo" and i >= first}
        for number, block in enumerate(self.blocks):
            mine = list(self._hidden[number][: first + 1]) if self._hidden else [self.model.model.embed_tokens(block)]
            left = list(self._made[number][:first]) if self._made else []
            state = mine[-1]
            masks, rest = around(self.model, state)
            for i in range(len(mine) - 1, self.depth):
                state, given = self._layer(i, entries[i], modules.get(i), state, left, masks, rest)
                left.append(given)
                mine.append(state)
            total += self._nll(state, block)
            hidden.append(mine[:-1])
            made.append(left)
        if keep:
            self.entries, self._hidden, self._made = list(entries), hidden, made
        return total / self.count

    def _layer(
        self, i: int, entry: Entry, module: nn.Module | None, state: Tensor, left: list[Any], masks: Any, rest: dict[str, Any]
    ) -> tuple[Tensor, Any]:
        layer: Any = self.model.model.layers[i]
        mask = masks[self.model.config.layer_types[i]]
        if entry["kind"] == "none":
            return state + layer.mlp(layer.post_attention_layernorm(state)), None
        if module is None:
            given = left[entry["source"]] if entry["kind"] == "shared_kv" else None
            return layer(state, given, attention_mask=mask, **rest)
        out, _, given = module(layer.input_layernorm(state), left[entry["source"]], attention_mask=mask, **rest)
        state = state + out
        return state + layer.mlp(layer.post_attention_layernorm(state)), given

    def _echo(self, i: int, entry: Entry) -> nn.Module:
        """The layer's attention as an echo, with the layer's own value and output projections."""
        config = copy.copy(self.model.config)
        config.attention = [dict(entry if j == i else OWN) for j in range(self.depth)]
        with torch.device("meta"):
            module = EchoAttention(config, i)
        own: Any = self.model.model.layers[i].self_attn
        module.v_proj, module.o_proj = own.v_proj, own.o_proj
        for name, numbers in (("heads_index", module.heads_list), ("key_index", module.key_list)):
            setattr(module, name, None if numbers is None else torch.tensor(numbers, device=own.o_proj.weight.device))
        return module.eval()

    def _nll(self, state: Tensor, block: Tensor) -> float:
        """Summed loss of a block, a row at a time, so that logits of one row alone exist."""
        total = 0.0
        for row, numbers in zip(self.model.model.norm(state), block, strict=True):
            total += float(nn.functional.cross_entropy(self.model.lm_head(row[:-1]).float(), numbers[1:], reduction="sum"))
        return total
