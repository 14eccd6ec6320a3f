"""Where a family keeps its layers and what its configuration calls them: the only file that knows."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ModelError
from ..rows import OutputLayer

STACKS = {
    "bert": "encoder.layer",
    "camembert": "encoder.layer",
    "distilbert": "transformer.layer",
    "electra": "encoder.layer",
    "llama": "layers",
    "mistral": "layers",
    "mpnet": "encoder.layer",
    "qwen2": "layers",
    "qwen3": "layers",
    "roberta": "encoder.layer",
    "tutelage-echo": "layers",
    "xlm-roberta": "encoder.layer",
}
"""Model type -> path of the layer stack below the base model."""

PROJECTIONS = {
    "bert": ("attention.self.query", "attention.self.key", "attention.self.value"),
    "camembert": ("attention.self.query", "attention.self.key", "attention.self.value"),
    "distilbert": ("attention.q_lin", "attention.k_lin", "attention.v_lin"),
    "electra": ("attention.self.query", "attention.self.key", "attention.self.value"),
    "mpnet": ("attention.attn.q", "attention.attn.k", "attention.attn.v"),
    "roberta": ("attention.self.query", "attention.self.key", "attention.self.value"),
    "xlm-roberta": ("attention.self.query", "attention.self.key", "attention.self.value"),
}
"""Model type -> where a layer makes its queries, keys and values; families that rotate them afterwards are not here."""

INNER = {"distilbert": "hidden_dim"}
"""What the configuration calls the feed-forward width, where it is not `intermediate_size`."""


BEHIND_PADDING = (
    "camembert", "data2vec-text", "esm", "ibert", "layoutlmv3", "lilt", "longformer", "markuplm", "mpnet", "roberta",
    "roberta-prelayernorm", "xlm-roberta", "xlm-roberta-xl", "xmod",
)  # fmt: skip
"""Model types that count positions from behind the padding row of their table, so that it holds fewer tokens than rows."""


@dataclasses.dataclass(frozen=True)
class Shape:
    """A model's size in the words all families share."""

    depth: int
    width: int
    heads: int
    inner: int


def body(config: Any) -> Any:
    """The configuration of the transformer itself: a model around an encoder keeps it inside its own."""
    return getattr(config, "encoder", None) or config


def positions(config: Any) -> int | None:
    """Most tokens a text may have, None where nothing bounds it."""
    config = body(config)
    most = getattr(config, "max_position_embeddings", None)
    if not isinstance(most, int) or most < 1:  # XLNet says -1
        return None
    taken = 0
    if config.model_type in BEHIND_PADDING:
        taken = 2 if config.model_type == "mpnet" or config.pad_token_id is None else config.pad_token_id + 1
    return most - taken


def _family(config: Any) -> str:
    config = body(config)
    if config.model_type not in STACKS:
        raise ModelError(f"models of type '{config.model_type}' are not known to surgeries; known: {', '.join(sorted(STACKS))}")
    return config.model_type


def shape(config: Any) -> Shape:
    """Depth, width, attention heads and feed-forward width of a configuration.

    Raises ModelError for a family that is not listed in `STACKS`.
    """
    config = body(config)
    inner = getattr(config, INNER.get(_family(config), "intermediate_size"))
    return Shape(config.num_hidden_layers, config.hidden_size, config.num_attention_heads, inner)


def width(config: Any) -> int:
    """The width of a model's hidden states."""
    return int(body(config).hidden_size)


def resize(config: Any, *, layers: Sequence[int] | None = None, **sizes: int) -> Any:
    """A copy of a configuration with some layers kept (by index) or new sizes: depth, width, heads, inner."""
    if body(config) is not config:
        whole = type(config).from_dict(config.to_dict())
        whole.encoder = resize(body(config), layers=layers, **sizes)
        return whole
    family, new = _family(config), type(config).from_dict(config.to_dict())
    depth = len(layers) if layers is not None else sizes.pop("depth", config.num_hidden_layers)
    if getattr(config, "layer_types", None):
        old = config.layer_types
        new.layer_types = [old[i % len(old)] for i in (layers if layers is not None else range(depth))]
    if isinstance(getattr(config, "attention", None), list):
        new.attention = _attention(config.attention, layers, depth, "heads" in sizes)
    new.num_hidden_layers = depth
    names = {"width": "hidden_size", "heads": "num_attention_heads", "inner": INNER.get(family, "intermediate_size")}
    for name, value in sizes.items():
        setattr(new, names[name], value)
    if "heads" in sizes and getattr(config, "num_key_value_heads", None):
        group = max(1, config.num_attention_heads // config.num_key_value_heads)
        new.num_key_value_heads = max(1, sizes["heads"] // group)
    if ("heads" in sizes or "width" in sizes) and getattr(config, "head_dim", None):
        new.head_dim = new.hidden_size // new.num_attention_heads
    if "width" in sizes and hasattr(config, "embedding_size"):
        new.embedding_size = new.hidden_size
    return new


def _attention(entries: Sequence[Any], layers: Sequence[int] | None, depth: int, other_heads: bool) -> list[dict[str, Any]]:
    """How the layers of a smaller echoing model attend. Raises ModelError where a layer would lose what it takes from."""
    if layers is None and (depth != len(entries) or other_heads):
        if any(a["kind"] != "own" for a in entries):
            raise ModelError("surgery: some layers take their attention from others, so depth and heads stay; take the unshared model")
        return [{"kind": "own"}] * depth
    place = {old: new for new, old in enumerate(layers if layers is not None else range(depth))}
    for old in place:
        if entries[old].get("source", old) not in place:
            raise ModelError(f"surgery: layer {old} takes its attention from layer {entries[old]['source']}, which goes; keep it too")
    return [{**entries[old], **({"source": place[entries[old]["source"]]} if "source" in entries[old] else {})} for old in place]


def kept_state(model: Any, layers: Sequence[int]) -> dict[str, Tensor]:
    """The model's tensors with only the given layers, renumbered from 0 in the given order."""
    prefix = f"{model.base_model_prefix}.{STACKS[_family(model.config)]}."
    place = {old: new for new, old in enumerate(layers)}
    out = {}
    for name, tensor in model.state_dict().items():
        if name.startswith(prefix):
            number, rest = name[len(prefix) :].split(".", 1)
            if int(number) not in place:
                continue
            name = f"{prefix}{place[int(number)]}.{rest}"
        out[name] = tensor
    return out


@contextlib.contextmanager
def watched_heads(model: Any, layers: Sequence[int]) -> Iterator[dict[int, tuple[Tensor, Tensor, Tensor]]]:
    """While the block runs the model, keep queries, keys and values of these layers (1 the first), split into heads.

    (rows, heads, tokens, size) each. The attention itself stays as it is, fused kernels too. Raises ModelError for a
    family whose projections are not listed in `PROJECTIONS`.
    """
    seen: dict[int, tuple[Tensor, Tensor, Tensor]] = {}
    if not layers:
        yield seen
        return
    family = _family(model.config)
    if family not in PROJECTIONS:
        known = ", ".join(sorted(PROJECTIONS))
        raise ModelError(f"models of type '{family}' do not show queries, keys and values; known: {known}; take a method on logits")
    stack = model.base_model.get_submodule(STACKS[family])
    count, parts, hooks = shape(model.config).heads, {}, []

    def keep(place: tuple[int, int]) -> Any:
        def hook(module: nn.Module, given: Any, out: Tensor) -> None:
            parts[place] = out.unflatten(-1, (count, -1)).transpose(1, 2)

        return hook

    for layer in layers:
        for which, path in enumerate(PROJECTIONS[family]):
            hooks.append(stack[layer - 1].get_submodule(path).register_forward_hook(keep((layer, which))))
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()
    seen |= {layer: (parts[layer, 0], parts[layer, 1], parts[layer, 2]) for layer in layers}


def echoes(config: Any) -> dict[int, int]:
    """Echoing layer -> source, 0 the first, of a model that echoes attention; empty for others."""
    entries = getattr(config, "attention", None)
    return {i: a["source"] for i, a in enumerate(entries) if a["kind"] == "echo"} if isinstance(entries, list) else {}


@contextlib.contextmanager
def narrowed_output(model: Any, places: Tensor | None) -> Iterator[None]:
    """While the block runs the model, its layer over the vocabulary sees these places (rows, tokens) of bool alone, so that the
    model's logits are (places, vocabulary). None narrows nothing."""
    if places is None:
        yield
        return
    hook = model.get_output_embeddings().register_forward_pre_hook(lambda module, given: (given[0][places],))
    try:
        yield
    finally:
        hook.remove()


def output_layer(model: Any) -> OutputLayer:
    """How a language model makes logits from its last hidden states, by what its configuration says.

    Raises ModelError for a model without a layer over its vocabulary.
    """
    layer = model.get_output_embeddings()
    if not isinstance(layer, nn.Linear):
        raise ModelError(f"{type(model).__name__}: has no output layer over its vocabulary; name a causal language model")
    scale = float(getattr(model.config, "logit_scale", None) or 1.0) / float(getattr(model.config, "logits_scaling", None) or 1.0)
    return OutputLayer(layer.weight, layer.bias, scale, getattr(model.config, "final_logit_softcapping", None))


@torch.no_grad()
def check_language_model(model: Any) -> None:
    """Raise ModelError where a model's logits are not its output layer's, or where it lets packed documents see each other.

    Two short documents go through the model alone, and packed into one row as training has them.
    """
    was, family = model.training, model.config.model_type
    model.eval()
    layer, device = output_layer(model), next(model.parameters()).device
    size = min(len(layer), model.get_input_embeddings().weight.shape[0])
    ids = (torch.arange(3, 12, device=device) * 7919) % size
    places = torch.cat([torch.arange(n, device=device) for n in PROBES])
    try:
        alone = [model(input_ids=part[None], use_cache=False).logits[0] for part in ids.split(PROBES)]
        packed = model.base_model(input_ids=ids[None], position_ids=places[None], use_cache=False)["last_hidden_state"][0]
        apart = [model.base_model(input_ids=part[None], use_cache=False)["last_hidden_state"][0] for part in ids.split(PROBES)]
        found = [_alike(layer(torch.cat(apart)), torch.cat(alone)), _alike(layer(packed), torch.cat(alone))]
    except (TypeError, KeyError, ValueError, RuntimeError, AttributeError):
        found = [False]
    finally:
        model.train(was)
    if not found[0]:
        why = "more stands between their last hidden states and their logits than a layer, a scale and a cap"
    elif not found[1]:
        why = "they let documents of one row see each other"
    else:
        return
    raise ModelError(f"language models of type '{family}' cannot be trained or scored on packed rows: {why}; name one of another family")


PROBES = [5, 4]
"""Tokens of the two documents that a language model is checked with."""


def _alike(ours: Tensor, theirs: Tensor) -> bool:
    return ours.shape == theirs.shape and bool((ours - theirs).abs().max() <= 1e-3 * theirs.abs().max())


def head(model: Any, labels: int) -> nn.Linear:
    """The last linear layer outside the base model, whose rows are the labels."""
    base = model.base_model_prefix + "."
    found = [m for n, m in model.named_modules() if isinstance(m, nn.Linear) and not n.startswith(base) and m.out_features == labels]
    if not found:
        raise ModelError(f"{type(model).__name__}: no output layer with {labels} labels was found")
    return found[-1]
