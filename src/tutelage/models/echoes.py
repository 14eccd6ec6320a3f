"""From a model of the Llama family to one whose layers echo, share keys and values, or do not attend; weights are copied."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from .. import records
from ..errors import ConfigError, ModelError
from .echo_attention import FAMILIES, EchoAttention, EchoConfig, EchoForCausalLM
from .plan import OWN, Plan

_SAME = (
    "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "hidden_act",
    "max_position_embeddings", "initializer_range", "rms_norm_eps", "attention_dropout", "tie_word_embeddings", "pad_token_id",
    "bos_token_id", "eos_token_id",
)  # fmt: skip


def attention_of(config: Any) -> list[Mapping[str, Any]]:
    """How the layers of a model attend now: by their own maps in any family, as its configuration says in an echoing one."""
    return list(getattr(config, "attention", None) or [OWN] * config.num_hidden_layers)


def config_of(config: Any, attention: Sequence[Mapping[str, Any]]) -> EchoConfig:
    """The configuration of a family's model with these ways of attending, a layer each.

    Raises ModelError for other families, and for plans that no forward pass can follow.
    """
    family = config.model_type
    try:
        if family == EchoConfig.model_type:
            return EchoConfig(**{**config.to_dict(), "attention": list(attention)})
        if family not in FAMILIES:
            raise ModelError(f"models of type '{family}' cannot echo attention; families that can: {', '.join(FAMILIES)}")
        bias = bool(getattr(config, "attention_bias", False))
        sliding = getattr(config, "sliding_window", None)
        types = getattr(config, "layer_types", None) or ["sliding_attention" if sliding else "full_attention"] * config.num_hidden_layers
        return EchoConfig(
            **{k: getattr(config, k) for k in _SAME},
            head_dim=getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads,
            rope_parameters=dict(config.rope_parameters),
            qkv_bias=bias or family == "qwen2", output_bias=bias, mlp_bias=bool(getattr(config, "mlp_bias", False)),
            qk_norm=family == "qwen3", sliding_window=sliding if "sliding_attention" in types else None, layer_types=types,
            attention=list(attention), family=family, architectures=["EchoForCausalLM"], dtype=config.dtype,
        )  # fmt: skip
    except ValueError as fault:
        raise ModelError(f"plan: {fault}") from None


def convert(model: Any, attention: Sequence[Mapping[str, Any]]) -> EchoForCausalLM:
    """A new model with copies of the weights that are still needed; without echoes it computes what the model does.

    Raises ModelError as `config_of`, and for a layer that should attend as it cannot any more (of a model that echoes already).
    """
    config = config_of(model.config, attention)
    like = next(model.parameters())
    new = EchoForCausalLM(config).to(like.dtype).to(like.device)
    state, wanted = model.state_dict(), new.state_dict()
    if missing := sorted(k for k in wanted if k not in state):
        raise ModelError(f"plan: the model has no '{missing[0]}' any more; plan from the model that it was made from")
    new.load_state_dict({k: v for k, v in state.items() if k in wanted})
    new.generation_config = model.generation_config
    new.set_attn_implementation(model.config._attn_implementation)
    return new.train(model.training)


def sharing(model: EchoForCausalLM, config: EchoConfig, state: Mapping[str, Tensor] | None = None) -> EchoForCausalLM:
    """A model of this configuration around the tensors of another one, none copied: for looking only, never for training.

    `state` names the tensors where they are not the model's own, such as those of `anatomy.kept_state`.
    """
    state = model.state_dict() if state is None else state
    with torch.device("meta"):
        new = EchoForCausalLM(config)
    new.load_state_dict({k: state[k] for k in new.state_dict()}, assign=True)
    for module in new.modules():
        if isinstance(module, EchoAttention):
            module._map_heads(config.attention[module.layer_idx].get("heads"))
    new.model.rotary_emb = model.model.rotary_emb
    new.set_attn_implementation(model.config._attn_implementation)
    new.to(next(model.parameters()).device)  # type: ignore[arg-type]
    return new.eval().requires_grad_(False)


def save_projections(projections: Mapping[int, Tensor], file: Path, weights: str) -> dict[str, str]:
    """Write output projections by layer as safetensors, atomically; returns what a plan keeps of them as `refit`."""
    records.write(file, save({str(number): tensor.cpu() for number, tensor in projections.items()}))
    return {"file": file.name, "sha256": records.file_digest(file), "weights": weights}


def put_projections(model: EchoForCausalLM, projections: Mapping[int, Tensor]) -> None:
    """Put output projections into a model's layers, in place."""
    with torch.no_grad():
        for number, tensor in projections.items():
            model.model.layers[number].self_attn.o_proj.weight.copy_(tensor)  # type: ignore[union-attr,operator]


def read_projections(plan: Plan, beside: Path, weights: str) -> dict[int, Tensor]:
    """The refitted projections of a plan that stands at `beside`, for a model of these weights; empty where it has none.

    Raises ConfigError for a file that is missing or altered, and for other weights.
    """
    if plan.refit is None:
        return {}
    if plan.refit["weights"] != weights:
        what = "its refitted output projections are for other weights than this model's"
        raise ConfigError(f"{beside}: {what}; make a plan of this model, or one with --no-refit")
    file = beside.parent / plan.refit["file"]
    try:
        if records.file_digest(file) != plan.refit["sha256"]:
            raise ConfigError(f"{file}: is cut short or altered; make the plan anew")
        return {int(number): tensor for number, tensor in load_file(file).items()}
    except (OSError, SafetensorError) as fault:
        raise ConfigError(f"{file}: cannot be read ({fault}); make the plan anew") from None
