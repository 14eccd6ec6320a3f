"""Language models of the Llama family whose layers may echo the attention of an earlier layer.

This file imports torch and transformers alone. It is copied into the folder of every model saved from it, so that the folder
loads where Tutelage is not installed: `AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True)`.

A layer attends in one of four ways, `EchoConfig.attention` says which:

- own: by its own queries, keys and values, as in any decoder.
- echo: by the attention map of an earlier layer, A = softmax(Q K' / sqrt(d)), and its own values. It has no query and key
  projections and keeps no keys. `heads` names the source's head that each of its heads echoes.
- shared_kv: by its own queries and an earlier layer's keys and values (cross-layer attention). It keeps neither.
- none: not at all. The attention sublayer is gone with its norm.

An echo is computed in one of two ways, equal to rounding. "map" stores the source's map and multiplies it with the layer's
values: it costs memory for the map and saves its computation. "fused" stores the source's queries and keys and runs the fused
kernel on them again: it saves the projections alone and never holds a map.

Source: EchoAtt, arXiv:2409.14595, section 3; LazyFormer, arXiv:2102.12702; CLA, arXiv:2405.12981 (shared_kv); LLM-Drop,
arXiv:2406.15786 (none). Departures: heads may echo other heads than their own number; a source may stand at any distance.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel
from transformers import initialization as init
from transformers.cache_utils import Cache, DynamicCache
from transformers.generation import GenerationMixin
from transformers.masking_utils import create_causal_mask, create_sliding_window_causal_mask
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS, slice_logits_to_keep
from transformers.models.llama.modeling_llama import (
    LlamaMLP,
    LlamaRMSNorm,
    LlamaRotaryEmbedding,
    apply_rotary_pos_emb,
    eager_attention_forward,
    repeat_kv,
)
from transformers.utils import can_return_tuple
from transformers.utils.generic import merge_with_config_defaults
from transformers.utils.output_capturing import capture_outputs

KINDS = ("own", "echo", "shared_kv", "none")
FAMILIES = ("llama", "mistral", "qwen2", "qwen3")
"""Model types of transformers whose layers this file can hold."""
BLOCK = 128
"""Query rows of one block of a map."""


class EchoConfig(PretrainedConfig):
    """The shape of a Llama-family decoder, and how each layer attends.

    `attention` is a list with an entry a layer: {"kind": "own"}, {"kind": "echo", "source": 3, "heads": [0, 2, 1]} (heads
    left out: each echoes the head of its own number), {"kind": "shared_kv", "source": 3} or {"kind": "none"}. `reuse` is how
    echoes are computed: "map", "fused", "all" (maps for every layer), or "auto" (see `Reuse`); `settled` is what "auto" was
    found to be for single queries ("decode") and for many ("prefill"), None to measure. `family` names the model type that
    the weights come from.
    Raises ValueError for plans that no forward pass can follow.
    """

    model_type = "tutelage-echo"
    keys_to_ignore_at_inference = ("past_key_values",)

    def __init__(
        self,
        vocab_size: int = 32000,
        hidden_size: int = 64,
        intermediate_size: int = 128,
        num_hidden_layers: int = 2,
        num_attention_heads: int = 4,
        num_key_value_heads: int | None = None,
        head_dim: int | None = None,
        hidden_act: str = "silu",
        max_position_embeddings: int = 2048,
        initializer_range: float = 0.02,
        rms_norm_eps: float = 1e-6,
        rope_parameters: Mapping[str, Any] | None = None,
        attention_dropout: float = 0.0,
        qkv_bias: bool = False,
        output_bias: bool = False,
        mlp_bias: bool = False,
        qk_norm: bool = False,
        sliding_window: int | None = None,
        layer_types: Sequence[str] | None = None,
        attention: Sequence[Mapping[str, Any]] | None = None,
        reuse: str = "auto",
        settled: Mapping[str, str] | None = None,
        family: str = "llama",
        use_cache: bool = True,
        tie_word_embeddings: bool = False,
        **others: Any,
    ):
        self.vocab_size, self.hidden_size, self.intermediate_size = vocab_size, hidden_size, intermediate_size
        self.num_hidden_layers, self.num_attention_heads = num_hidden_layers, num_attention_heads
        self.num_key_value_heads = num_key_value_heads or num_attention_heads
        self.head_dim = head_dim or hidden_size // num_attention_heads
        self.hidden_act, self.max_position_embeddings, self.initializer_range = hidden_act, max_position_embeddings, initializer_range
        self.rms_norm_eps, self.attention_dropout = rms_norm_eps, attention_dropout
        self.rope_parameters = dict(rope_parameters or {"rope_type": "default", "rope_theta": 10000.0})
        self.qkv_bias, self.output_bias, self.mlp_bias, self.qk_norm = qkv_bias, output_bias, mlp_bias, qk_norm
        self.sliding_window = sliding_window
        self.layer_types = list(layer_types or ["sliding_attention" if sliding_window else "full_attention"] * num_hidden_layers)
        self.attention = [dict(a) for a in attention or [{"kind": "own"}] * num_hidden_layers]
        self.reuse, self.settled, self.family = reuse, settled, family
        self.use_cache = use_cache
        self._check()
        super().__init__(**others)
        self.tie_word_embeddings = tie_word_embeddings

    def _check(self) -> None:
        if len(self.attention) != self.num_hidden_layers:
            raise ValueError(f"attention: has {len(self.attention)} entries for {self.num_hidden_layers} layers")
        if self.reuse not in ("auto", "all", "map", "fused"):
            raise ValueError(f"reuse: must be auto, all, map or fused; got {self.reuse!r}")
        for i, entry in enumerate(self.attention):
            kind, source, heads = entry.get("kind"), entry.get("source"), entry.get("heads")
            if kind not in KINDS:
                raise ValueError(f"attention: layer {i} is of kind {kind!r}; known: {', '.join(KINDS)}")
            if kind in ("own", "none"):
                continue
            if not isinstance(source, int) or not 0 <= source < i:
                raise ValueError(f"attention: layer {i} takes from layer {source}; a source must be an earlier layer")
            if self.attention[source]["kind"] != "own":
                raise ValueError(f"attention: layer {i} takes from layer {source}, which does not attend by its own queries and keys")
            if self.layer_types[i] != self.layer_types[source]:
                raise ValueError(f"attention: layer {i} ({self.layer_types[i]}) takes from layer {source} ({self.layer_types[source]})")
            if heads is not None and (len(heads) != self.num_attention_heads or not all(0 <= h < self.num_attention_heads for h in heads)):
                raise ValueError(f"attention: layer {i} needs {self.num_attention_heads} heads from 0 to {self.num_attention_heads - 1}")

    @property
    def kv_sharing_modes(self) -> list[str | None]:
        """What transformers' caches read: layers of mode 'reuse' keep nothing."""
        return ["reuse" if a["kind"] in ("shared_kv", "none") else None for a in self.attention]


class Reuse:
    """Which way of computing an echo is faster here: measured once for each kind of call and kept for the process.

    A kind of call is the device, the type, the heads, and batch, query and key lengths to the next power of two. Where
    gradients flow the answer is always "fused", so that a training does not depend on a measurement. While a graph is
    compiled nothing is measured: it is what `EchoForCausalLM.settle` found, else "map" for single queries and "fused" for others.
    """

    known: ClassVar[dict[tuple[Any, ...], str]] = {}

    @classmethod
    def best(cls, config: EchoConfig, like: Tensor, queries: int, keys: int) -> str:
        """'map' or 'fused' for hidden states like this one (rows, tokens, width); 'all' where layers that no one reads are faster
        by a map of their own too, as single queries on long caches can be."""
        if torch.is_grad_enabled():
            return "fused"
        if config.settled:
            return config.settled["decode" if queries == 1 else "prefill"]
        if torch.compiler.is_compiling() or torch.jit.is_tracing():
            return "map" if queries == 1 else "fused"
        kind = cls._kind(config, like, queries, keys)
        if kind not in cls.known:
            cls.known[kind] = cls._measure(config, like, *kind[-3:])
        return cls.known[kind]

    @staticmethod
    def _kind(config: EchoConfig, like: Tensor, queries: int, keys: int) -> tuple[Any, ...]:
        batch, queries, keys = (1 << max(0, int(n) - 1).bit_length() for n in (like.shape[0], queries, keys))
        shape = (config.num_attention_heads, config.num_key_value_heads, config.head_dim)
        return (like.device.type, like.dtype, torch.get_num_threads(), *shape, batch, queries, keys)

    @staticmethod
    @torch.no_grad()
    def _measure(config: EchoConfig, like: Tensor, batch: int, queries: int, keys: int) -> str:
        """Time a source with one reader, and a layer alone, each both ways by turns after a first call.

        The least of five counts; "fused" wins a tie of 2 %.
        """
        size = (batch, config.num_key_value_heads, keys, config.head_dim)
        q = torch.randn(batch, config.num_attention_heads, queries, config.head_dim, dtype=like.dtype, device=like.device)
        k, v = torch.randn(size, dtype=like.dtype, device=like.device), torch.randn(size, dtype=like.dtype, device=like.device)
        scale = config.head_dim**-0.5

        def stored(readers: int) -> None:
            maps = make_maps(q, k, None, scale)
            for _ in range(1 + readers):
                apply_maps(maps, v, config.num_attention_heads)

        def fused(readers: int) -> None:
            for _ in range(1 + readers):
                nn.functional.scaled_dot_product_attention(q, k, v, scale=scale, is_causal=queries > 1, enable_gqa=True)

        if queries > 1 and keys > queries:
            return "fused"
        ways = [(stored, 1), (fused, 1), *([(stored, 0), (fused, 0)] if queries == 1 else [])]
        best = dict.fromkeys(ways, float("inf"))
        for turn in range(6):
            for way, readers in ways:
                _wait(like.device)
                began = time.perf_counter()
                way(readers)
                _wait(like.device)
                if turn:
                    best[way, readers] = min(best[way, readers], time.perf_counter() - began)
        if best[stored, 1] >= 0.98 * best[fused, 1]:
            return "fused"
        return "all" if queries == 1 and best[stored, 0] < 0.98 * best[fused, 0] else "map"


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


Maps = tuple[Tensor, ...]
"""A map in blocks of query rows, (rows, heads, queries of the block, keys that they may see) each."""


def make_maps(q: Tensor, k: Tensor, mask: Tensor | None, scale: float, *, block: int = BLOCK, triangle: bool = True) -> Maps:
    """softmax(scale q k') of queries (rows, heads, queries, size) and keys (rows, key heads, keys, size), in blocks.

    `mask` is bool (true where a key is seen) or added, (rows or 1, 1, queries, keys); without one, more than one query means a
    causal map over as many keys. With `triangle` a block holds no key that comes after its last query. The softmax is taken in
    float32, the map is in the type of q.
    """
    rows, heads, queries, _ = q.shape
    if mask is None and queries > 1:
        k = k[:, :, :queries]
    kept, keys = k.shape[1], k.shape[2]
    q, step = q * scale, block if triangle else queries
    out = []
    for start in range(0, queries, step):
        stop = min(start + step, queries)
        seen = keys - queries + stop if triangle else keys
        scores = (q[:, :, start:stop].reshape(rows, kept, -1, q.shape[-1]) @ k[:, :, :seen].transpose(2, 3)).view(rows, heads, -1, seen)
        if mask is not None:
            part = mask[..., start:stop, :seen]
            scores = scores.masked_fill(~part, torch.finfo(scores.dtype).min) if part.dtype == torch.bool else scores + part
        elif queries > 1:
            later = torch.ones(stop - start, stop - start, dtype=torch.bool, device=q.device).triu(1)
            if seen > stop - start:
                later = nn.functional.pad(later, (seen - stop + start, 0))
            scores = scores.masked_fill(later, torch.finfo(scores.dtype).min)
        out.append(scores.softmax(-1, dtype=torch.float32).to(q.dtype))
    return tuple(out)


def apply_maps(maps: Maps, v: Tensor, heads: int, index: Tensor | None = None, dropout: float = 0.0) -> Tensor:
    """A map times values (rows, key heads, keys, size); (rows, heads, queries, size). `index` picks a map's head for each head."""
    out = []
    for part in maps:
        rows, _, queries, seen = part.shape
        part = part if index is None else pick(part, index)
        if dropout:
            part = nn.functional.dropout(part, dropout)
        part = part.reshape(rows, v.shape[1], -1, seen) @ v[:, :, :seen]
        out.append(part.view(rows, heads, queries, v.shape[-1]))
    return out[0] if len(out) == 1 else torch.cat(out, 2)


def pick(x: Tensor, index: Tensor) -> Tensor:
    """Heads of x (rows, heads, tokens, size) by number, as `x[:, index]`, whose copy and gradient take longer on CPUs, often twice.

    What lies outside in memory, heads or tokens, is gone through first.
    """
    if x.stride(1) < x.stride(2):
        return x.transpose(1, 2).index_select(2, index).transpose(1, 2)
    return x.index_select(1, index)


class EchoAttention(nn.Module):
    """One layer's attention of any kind but none; see the module's text."""

    is_causal = True

    def __init__(self, config: EchoConfig, layer: int):
        super().__init__()
        self.config, self.layer_idx = config, layer
        self.kind, self.source = config.attention[layer]["kind"], config.attention[layer].get("source")
        self.read = any(a["kind"] == "echo" and a["source"] == layer for a in config.attention)
        self.head_dim, self.scaling, self.attention_dropout = config.head_dim, config.head_dim**-0.5, config.attention_dropout
        heads, kept = config.num_attention_heads, config.num_key_value_heads
        self.num_key_value_groups = heads // kept
        self.sliding_window = config.sliding_window if config.layer_types[layer] == "sliding_attention" else None
        width, bias = config.hidden_size, config.qkv_bias
        if self.kind != "echo":
            self.q_proj = nn.Linear(width, heads * self.head_dim, bias=bias)
            if config.qk_norm:
                self.q_norm = LlamaRMSNorm(self.head_dim, eps=config.rms_norm_eps)
        if self.kind == "own":
            self.k_proj = nn.Linear(width, kept * self.head_dim, bias=bias)
            if config.qk_norm:
                self.k_norm = LlamaRMSNorm(self.head_dim, eps=config.rms_norm_eps)
        if self.kind != "shared_kv":
            self.v_proj = nn.Linear(width, kept * self.head_dim, bias=bias)
        self.o_proj = nn.Linear(heads * self.head_dim, width, bias=config.output_bias)
        self._map_heads(config.attention[layer].get("heads"))

    def _map_heads(self, heads: Sequence[int] | None) -> None:
        """Work out once which queries and keys an echo takes.

        Where all heads of a key group echo heads of one group, keys stay grouped; else each head takes a copy of its own.
        """
        n = self.num_key_value_groups
        self.heads_list = None if heads is None or list(heads) == list(range(len(heads))) else list(heads)
        self.key_list: list[int] | None = None
        self.grouped = True
        if self.heads_list is not None:
            groups = [h // n for h in self.heads_list]
            self.grouped = all(len(set(groups[b : b + n])) == 1 for b in range(0, len(groups), n))
            keys = groups[::n] if self.grouped else groups
            self.key_list = None if keys == list(range(self.config.num_key_value_heads)) else keys
        self.heads_index = self._index("heads_index", self.heads_list)
        self.key_index = self._index("key_index", self.key_list)

    def _index(self, name: str, numbers: list[int] | None) -> Any:
        self.register_buffer(name, None if numbers is None else torch.tensor(numbers), persistent=False)
        return getattr(self, name)

    def forward(
        self,
        hidden_states: Tensor,
        given: tuple[Any, ...] | None,
        position_embeddings: tuple[Tensor, Tensor],
        attention_mask: Tensor | None,
        past_key_values: Cache | None,
        reuse: str,
        triangle: bool,
        **others: Any,
    ) -> tuple[Tensor, Tensor | None, tuple[Any, ...]]:
        """Hidden states (rows, tokens, width), and what the source left, to the output, the map where one was made whole, and
        what readers of this layer take: queries and keys (rotated, cached ones included), values, and maps or None."""
        rows, tokens = hidden_states.shape[:2]
        dropout = self.attention_dropout if self.training else 0.0
        eager = self.config._attn_implementation == "eager"
        q: Any = None
        k: Any = None
        v: Any = None
        if self.kind != "echo":
            q = self._heads(self.q_proj(hidden_states), getattr(self, "q_norm", None))
        if self.kind == "own":
            k = self._heads(self.k_proj(hidden_states), getattr(self, "k_norm", None))
        if self.kind != "shared_kv":
            v = self._heads(self.v_proj(hidden_states))
        cos, sin = position_embeddings
        if q is not None and k is not None:
            q, k = apply_rotary_pos_emb(q, k, cos, sin)
        elif q is not None:
            q, _ = apply_rotary_pos_emb(q, q[:, :1], cos, sin)
        maps: Maps | None = None
        if self.kind == "own":
            if past_key_values is not None:
                k, v = past_key_values.update(k, v, self.layer_idx)
            if reuse == "all" or (self.read and reuse == "map"):
                maps = make_maps(q, k, attention_mask, self.scaling, triangle=triangle and not eager)
        elif self.kind == "echo":
            if past_key_values is not None:  # values stand where keys would: caches ask keys for their length
                v, _ = past_key_values.update(v, v[..., :0], self.layer_idx)
            q, k, _, maps = given  # type: ignore[misc]
        else:
            _, k, v, _ = given  # type: ignore[misc]
        made = (q, k, v, maps)
        if maps is not None:
            index = self.heads_index
            if index is not None and len(maps) == 1:
                maps, index = (pick(maps[0], index),), None
            out = apply_maps(maps, v, self.config.num_attention_heads, index, dropout).transpose(1, 2)
            seen = maps[0] if len(maps) == 1 else None
        else:
            groups = self.num_key_value_groups
            if self.heads_index is not None:
                q = pick(q, self.heads_index)
            if self.key_index is not None:
                k = pick(k, self.key_index)
            if not self.grouped:
                v = repeat_kv(v, groups)
            run: Callable[..., Any] = ALL_ATTENTION_FUNCTIONS.get_interface(self.config._attn_implementation, eager_attention_forward)
            out, seen = run(
                _Groups(self, 1 if not self.grouped else groups), q, k, v, attention_mask,
                dropout=dropout, scaling=self.scaling, sliding_window=self.sliding_window, **others,
            )  # fmt: skip
        return self.o_proj(out.reshape(rows, tokens, -1)), seen, made

    def _heads(self, x: Tensor, norm: nn.Module | None = None) -> Tensor:
        """(rows, tokens, heads * size) to (rows, heads, tokens, size), each head normalised where the family does so."""
        x = x.view(*x.shape[:2], -1, self.head_dim)
        return (x if norm is None else norm(x)).transpose(1, 2)


class _Groups:
    """What transformers' attention functions read of a module, with the number of queries that share a key."""

    def __init__(self, module: EchoAttention, groups: int):
        self.num_key_value_groups, self.is_causal, self.training = groups, True, module.training
        self.config, self.layer_idx, self.sliding_window = module.config, module.layer_idx, module.sliding_window


class EchoDecoderLayer(GradientCheckpointingLayer):
    """Attention of any kind, then the feed-forward part, each with its norm and residual."""

    def __init__(self, config: EchoConfig, layer: int):
        super().__init__()
        self.attends = config.attention[layer]["kind"] != "none"
        if self.attends:
            self.self_attn = EchoAttention(config, layer)
            self.input_layernorm = LlamaRMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.mlp = LlamaMLP(config)
        self.post_attention_layernorm = LlamaRMSNorm(config.hidden_size, eps=config.rms_norm_eps)

    def forward(self, hidden_states: Tensor, given: tuple[Any, ...] | None = None, **others: Any) -> tuple[Tensor, tuple[Any, ...] | None]:
        """Hidden states (rows, tokens, width), and what the source left, to the same of this layer."""
        made = None
        if self.attends:
            out, _, made = self.self_attn(self.input_layernorm(hidden_states), given, **others)
            hidden_states = hidden_states + out
        return hidden_states + self.mlp(self.post_attention_layernorm(hidden_states)), made


class EchoPreTrainedModel(PreTrainedModel):
    """What body and whole model share."""

    config: EchoConfig
    config_class = EchoConfig
    base_model_prefix = "model"
    supports_gradient_checkpointing = True
    _no_split_modules = ["EchoDecoderLayer"]  # noqa: RUF012
    _skip_keys_device_placement = ["past_key_values"]  # noqa: RUF012
    _supports_flash_attn = True
    _supports_sdpa = True
    _supports_flex_attn = True
    _can_compile_fullgraph = True
    _supports_attention_backend = True
    _can_record_outputs = {"hidden_states": EchoDecoderLayer, "attentions": EchoAttention}  # noqa: RUF012

    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, EchoAttention):
            for name, numbers in (("heads_index", module.heads_list), ("key_index", module.key_list)):
                if numbers is not None:
                    init.copy_(getattr(module, name), torch.tensor(numbers))


class EchoModel(EchoPreTrainedModel):
    """The decoder without its output layer."""

    def __init__(self, config: EchoConfig):
        super().__init__(config)
        self.padding_idx, self.vocab_size = config.pad_token_id, config.vocab_size
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size, self.padding_idx)
        self.layers = nn.ModuleList(EchoDecoderLayer(config, i) for i in range(config.num_hidden_layers))
        self.norm = LlamaRMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.rotary_emb = LlamaRotaryEmbedding(config=config)  # type: ignore[arg-type]
        self.gradient_checkpointing = False
        sources = [a.get("source") for a in config.attention]
        self.last_reader = {s: max(i for i, t in enumerate(sources) if t == s) for s in sources if s is not None}
        self.echoes = any(a["kind"] == "echo" for a in config.attention)
        self.post_init()

    @merge_with_config_defaults
    @capture_outputs
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Any = None,
        position_ids: Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        use_cache: bool | None = None,
        **others: Any,
    ) -> BaseModelOutputWithPast:
        """Token numbers (rows, tokens) or embeddings to hidden states (rows, tokens, width).

        Position numbers that start anew within a row mark packed texts, which then do not see each other.
        """
        if (input_ids is None) ^ (inputs_embeds is not None):
            raise ValueError("You must specify exactly one of input_ids or inputs_embeds")
        hidden = self.embed_tokens(input_ids) if inputs_embeds is None else inputs_embeds
        if use_cache and past_key_values is None:
            past_key_values = DynamicCache(config=self.config)
        if position_ids is None:
            past = past_key_values.get_seq_length() if past_key_values is not None else 0
            position_ids = (torch.arange(hidden.shape[1], device=hidden.device) + past).unsqueeze(0)
        masks, plain = self._masks(hidden, attention_mask, position_ids, past_key_values)
        positions = self.rotary_emb(hidden, position_ids=position_ids)
        reuse = self._reuse(hidden, masks, past_key_values) if self.echoes else "fused"
        triangle = plain and (past_key_values is None or not past_key_values.is_compileable)
        left: dict[int, Any] = {}
        for i, layer in enumerate(self.layers):
            source = self.config.attention[i].get("source")
            hidden, made = layer(
                hidden,
                None if source is None else left[source],
                attention_mask=masks[self.config.layer_types[i]],
                position_embeddings=positions,
                past_key_values=past_key_values,
                reuse=reuse,
                triangle=triangle,
                **others,
            )
            if i in self.last_reader:
                left[i] = made
            if source is not None and self.last_reader[source] == i:
                del left[source]
        return BaseModelOutputWithPast(last_hidden_state=self.norm(hidden), past_key_values=past_key_values)

    def _masks(self, hidden: Tensor, mask: Any, positions: Tensor, cache: Cache | None) -> tuple[Any, bool]:
        """A mask for each type of layer, and whether they are plain ones: no key is seen before its place."""
        if isinstance(mask, dict):
            return mask, False
        given = {"config": self.config, "inputs_embeds": hidden, "attention_mask": mask, "past_key_values": cache}
        makers = {"full_attention": create_causal_mask, "sliding_attention": create_sliding_window_causal_mask}
        made = {kind: makers[kind](**given, position_ids=positions) for kind in dict.fromkeys(self.config.layer_types)}
        return made, mask is None or mask.dim() == 2

    def _reuse(self, hidden: Tensor, masks: Any, cache: Cache | None) -> str:
        """How this call computes its echoes."""
        if self.config._attn_implementation == "eager":
            return "map"
        if self.config._attn_implementation != "sdpa":
            return "fused"
        if self.config.reuse != "auto":
            return self.config.reuse
        keys = hidden.shape[1]
        if cache is not None:
            at = next(i for i, a in enumerate(self.config.attention) if a["kind"] == "own")
            keys = cache.get_mask_sizes(hidden.shape[1], at)[0]
        return Reuse.best(self.config, hidden, hidden.shape[1], keys)


class EchoForCausalLM(EchoPreTrainedModel, GenerationMixin):
    """The decoder with its output layer over the vocabulary."""

    _tied_weights_keys = {"lm_head.weight": "model.embed_tokens.weight"}  # noqa: RUF012

    def __init__(self, config: EchoConfig):
        super().__init__(config)
        self.model = EchoModel(config)
        self.vocab_size = config.vocab_size
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    @torch.no_grad()
    def settle(self, rows: int, tokens: int) -> dict[str, str]:
        """Measure once how texts of this size are best echoed here, and keep it in the configuration: no call measures again.

        For graphs of static shapes, which cannot measure while they are compiled.
        """
        self.config.settled = None
        like = torch.empty(rows, 1, 1, dtype=self.dtype, device=self.device)
        found = {"prefill": Reuse.best(self.config, like, tokens, tokens), "decode": Reuse.best(self.config, like, 1, tokens)}
        self.config.settled = found
        return found

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Any = None,
        position_ids: Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | Tensor = 0,
        **others: Any,
    ) -> CausalLMOutputWithPast:
        """Token numbers (rows, tokens) to logits (rows, tokens, vocabulary), and the mean loss of next tokens where labels are given."""
        out = self.model(
            input_ids=input_ids, attention_mask=attention_mask, position_ids=position_ids, past_key_values=past_key_values,
            inputs_embeds=inputs_embeds, use_cache=use_cache, **others,
        )  # fmt: skip
        logits = self.lm_head(slice_logits_to_keep(out.last_hidden_state, logits_to_keep))
        loss = None
        if labels is not None:
            loss = self.loss_function(logits=logits, labels=labels, vocab_size=self.config.vocab_size, **others)
        return CausalLMOutputWithPast(
            loss=loss, logits=logits, past_key_values=out.past_key_values, hidden_states=out.hidden_states, attentions=out.attentions
        )
