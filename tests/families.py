"""Tiny random models of every family of transformers that can be made small by the usual names of sizes."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import torch
from parts import WORDS, tokenizer
from tokenizers.processors import TemplateProcessing
from transformers.models.auto import modeling_auto as auto
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

CAUSAL, ENCODERS = auto.MODEL_FOR_CAUSAL_LM_MAPPING, auto.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING
CAUSAL_NAMES = sorted(auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)
"""Model types, read without importing any of them."""
ENCODER_NAMES = sorted(auto.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES)
SIZES = {
    name: size
    for size, names in {
        32: "hidden_size d_model n_embd dim embed_dim emb_dim decoder_hidden_size embedding_size",
        2: "num_hidden_layers n_layer n_layers num_layers encoder_layers decoder_layers num_decoder_layers num_experts_per_tok moe_topk "
        "num_key_value_heads num_kv_heads",
        4: "num_attention_heads n_head n_heads num_heads encoder_attention_heads decoder_attention_heads num_decoder_attention_heads "
        "num_experts num_local_experts n_routed_experts moe_num_experts",
        64: "intermediate_size ffn_dim d_ff d_inner hidden_dim encoder_ffn_dim decoder_ffn_dim n_inner ffn_hidden_size "
        "moe_intermediate_size shared_expert_intermediate_size max_position_embeddings n_positions max_seq_len",
        8: "head_dim d_kv attention_head_size d_head kv_channels rotary_dim qk_rope_head_dim qk_nope_head_dim v_head_dim",
        16: "kv_lora_rank q_lora_rank",
    }.items()
    for name in names.split()
}
PAGE = Path(__file__).parents[1] / "docs" / "families.md"
COLUMNS = ("teacher", "student", "surgery", "evaluate")
MOST = 4_000_000
"""Weights of a model that is still small."""


def tiny(name: str, mapping: Any, **more: Any) -> Any:
    """A random model, or None for a family that these sizes do not fit or whose models do not run on tokens alone."""
    for left_out in ((), ("head_dim",), ("num_key_value_heads", "head_dim")):
        with contextlib.suppress(Exception):
            return _made(name, mapping, {k: v for k, v in SIZES.items() if k not in left_out}, more)
    return None


def _made(name: str, mapping: Any, sizes: dict[str, int], more: dict[str, Any]) -> Any:
    config = CONFIG_MAPPING[name]
    plain = config()
    known = {k: v for k, v in sizes.items() if isinstance(value := getattr(plain, k, None), int) and value > 0}
    numbers = {"vocab_size": len(WORDS), "pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3, "decoder_start_token_id": 0}
    shape = config(**{**known, **numbers, **more})
    if mapping is CAUSAL and name in ENCODERS_THAT_DECODE:
        shape.is_decoder = True
    kind = mapping[config]
    kind = kind[0] if isinstance(kind, tuple) else kind
    with torch.device("meta"):
        if sum(p.numel() for p in kind(shape).parameters()) > MOST:
            return None
    torch.manual_seed(0)
    model = kind(shape).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
        model(input_ids=torch.tensor([[5, 6, 7, 8, 3]]))
    return model


ENCODERS_THAT_DECODE = ("bert", "roberta", "electra", "camembert", "xlm-roberta")


def saved(model: Any, folder: Any) -> str:
    """A folder with the model and the tests' tokenizer, which knows an end token and no limit."""
    model.save_pretrained(folder)
    made = tokenizer()
    made.backend_tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    made.cls_token, made.eos_token, made.model_max_length = "[CLS]", "[SEP]", 10**30
    made.save_pretrained(folder)
    return str(folder)


def row(family: str, found: dict[str, str]) -> str:
    """A family's line in the table of the documentation; whatever does not work is refused in one sentence."""
    return f"| `{family}` | " + " | ".join("works" if found[name] == "works" else "refused" for name in COLUMNS) + " |"
