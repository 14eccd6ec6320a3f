"""Tiny random language models of every family that can echo, and a tokenizer for them."""

from __future__ import annotations

import torch
import transformers

SIZES = {
    "vocab_size": 97, "hidden_size": 48, "intermediate_size": 64, "num_hidden_layers": 5, "num_attention_heads": 6,
    "num_key_value_heads": 2, "max_position_embeddings": 512, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
FAMILIES = {
    "llama": ("Llama", {"tie_word_embeddings": True}),
    "llama scaled positions": (
        "Llama",
        {"rope_parameters": {"rope_type": "llama3", "rope_theta": 1e4, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                             "original_max_position_embeddings": 64}},
    ),
    "llama with biases": ("Llama", {"attention_bias": True, "mlp_bias": True, "num_key_value_heads": 6}),
    "mistral": ("Mistral", {"head_dim": 16, "sliding_window": 16}),
    "qwen2": ("Qwen2", {}),
    "qwen2 windows": ("Qwen2", {"use_sliding_window": True, "sliding_window": 16, "max_window_layers": 2}),
    "qwen3": ("Qwen3", {"head_dim": 16}),
}  # fmt: skip
ECHO = [
    {"kind": "own"}, {"kind": "echo", "source": 0, "heads": [3, 4, 4, 2, 0, 1]}, {"kind": "own"},
    {"kind": "echo", "source": 2, "heads": [0, 3, 1, 5, 2, 2]}, {"kind": "echo", "source": 2},
]  # fmt: skip
"""Layers 0 and 2 are sources; layer 1 echoes by a map that keeps key groups together, layer 3 by one that does not."""
ALL = [
    {"kind": "own"}, {"kind": "none"}, {"kind": "own"}, {"kind": "shared_kv", "source": 2},
    {"kind": "echo", "source": 2, "heads": [1, 0, 2, 5, 4, 3]},
]  # fmt: skip
"""Every kind of layer at once."""


def model(family: str = "llama", seed: int = 0, **changes):
    """A random decoder whose norms and biases are random too."""
    name, own = FAMILIES[family]
    torch.manual_seed(seed)
    config = getattr(transformers, f"{name}Config")(**{**SIZES, **own, **changes})
    made = getattr(transformers, f"{name}ForCausalLM")(config)
    with torch.no_grad():
        for parameter in made.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.1 * torch.randn_like(parameter))
            else:
                parameter.mul_(4)  # maps far from uniform
    return made.eval()


def texts(rows: int = 3, tokens: int = 40, seed: int = 0):
    """Token numbers, a mask that pads row 1 on the left and row 2 on the right, and positions."""
    ids = torch.randint(3, 97, (rows, tokens), generator=torch.Generator().manual_seed(seed))
    mask = torch.ones_like(ids)
    if rows > 2:
        mask[1, :7] = 0
        mask[2, -5:] = 0
    return ids, mask, (mask.cumsum(-1) - 1).clamp(min=0)
