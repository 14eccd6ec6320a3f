"""What a plan saves: parameters, cached keys and values, operations. Arithmetic on the shape alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from ..models.echo_attention import EchoForCausalLM
from ..models.echoes import config_of
from ..models.plan import OWN, Entry


def price(config: Any, attention: Sequence[Entry], *, tokens: int = 1024, item: int = 2) -> dict[str, Any]:
    """Parameters and bytes of cache a token (of `item` bytes a number) under the entries, and what is saved of each.

    `flops_saved` is the share of a forward pass over `tokens` tokens that a stored map saves (projections, and scores of the
    causal triangle), `flops_saved_fused` what is saved where the fused kernel runs again (projections alone).
    """
    own, made = config_of(config, [OWN] * config.num_hidden_layers), config_of(config, attention)
    (before, kept), (after, left) = sizes(own, item), sizes(made, item)
    whole, stored, fused = (_flops(c, tokens, again) for c, again in ((own, True), (made, False), (made, True)))
    return {
        "parameters": after, "parameters_saved": before - after,
        "kv_bytes": left, "kv_share_saved": 1 - left / kept,
        "tokens": tokens, "flops": whole, "flops_saved": 1 - stored / whole, "flops_saved_fused": 1 - fused / whole,
    }  # fmt: skip


def sizes(config: Any, item: int = 2) -> tuple[int, int]:
    """Parameters of an echoing model, and its bytes of cache a token."""
    return _parameters(config), _cache(config, item)


def _parameters(config: Any) -> int:
    with torch.device("meta"):
        model = EchoForCausalLM(config)
    return sum(p.numel() for p in model.parameters())


def _cache(config: Any, item: int) -> int:
    """Bytes of keys and values a token."""
    parts = {"own": 2, "echo": 1, "shared_kv": 0, "none": 0}
    return sum(parts[a["kind"]] for a in config.attention) * config.num_key_value_heads * config.head_dim * item


def _flops(config: Any, tokens: int, again: bool) -> float:
    """Operations a token, a multiplication and its addition being two; `again` computes an echo's scores anew."""
    width, heads, kept = config.hidden_size, config.num_attention_heads * config.head_dim, config.num_key_value_heads * config.head_dim
    weights = {"own": 2 * heads + 2 * kept, "echo": heads + kept, "shared_kv": 2 * heads, "none": 0}
    triangle = (tokens + 1) / 2
    total = 2.0 * width * config.vocab_size
    for entry in config.attention:
        kind = entry["kind"]
        products = 0 if kind == "none" else 1 if kind == "echo" and not again else 2
        total += 2 * width * (weights[kind] + 3 * config.intermediate_size) + 2 * products * heads * triangle
    return total
