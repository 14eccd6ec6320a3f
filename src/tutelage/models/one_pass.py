"""Encoders over documents of any length: windows that overlap, each token's most central state, and a head of numbers a token.

This file imports torch and transformers alone. It is copied into the folder of every model saved from it, so that the folder
loads where Tutelage is not installed: `AutoModelForTokenClassification.from_pretrained(folder, trust_remote_code=True)`.

A document goes in without special tokens; the model cuts it into windows, puts the encoder's own first and last token around
each, and nothing is skipped. Memory is linear in the document's length.

Source: windows with the state of most context as in Joshi et al. 2019, arXiv:1908.09091, section 3 ("overlap").
Departures: no dropout of attention maps; a document's windows are as few as that overlap allows, and then of one width, so that none
repeats more than it must.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PretrainedConfig, PreTrainedModel
from transformers.utils import ModelOutput

AT_ONCE = 16
"""Windows of one call of the encoder where no gradient is wanted."""


class OnePassConfig(PretrainedConfig):
    """An encoder's configuration, the windows it sees documents through, and the head's width.

    `window`, the two special tokens included, is the most tokens of a window; it and the next share what a full one has beyond
    `stride`. `first` and `last` are the special tokens, None for none. `factors` are the numbers a token that the head gives,
    `inner` its hidden width.
    Raises ValueError for windows that would leave tokens out.
    """

    model_type = "tutelage-one-pass"
    sub_configs = {"encoder": AutoConfig}  # noqa: RUF012

    def __init__(
        self,
        encoder: Any = None,
        window: int = 512,
        stride: int = 384,
        first: int | None = None,
        last: int | None = None,
        factors: int = 1,
        inner: int = 512,
        **more: Any,
    ):
        if isinstance(encoder, dict):
            kind = encoder.get("model_type", "bert")
            encoder = AutoConfig.for_model(kind, **{k: v for k, v in encoder.items() if k != "model_type"})
        self.encoder = encoder if encoder is not None else AutoConfig.for_model("bert")
        self.window, self.stride, self.first, self.last, self.factors, self.inner = window, stride, first, last, factors, inner
        if not 0 < stride <= window - 2:
            raise ValueError(f"stride {stride} must be in 1 to {window - 2}, so that windows of {window} tokens leave nothing out")
        super().__init__(**more)

    @classmethod
    def around(cls, encoder: Any, *, first: int | None, last: int | None, longest: int | None = None, **more: Any) -> OnePassConfig:
        """For an encoder: windows of 512 tokens, or of the `longest` it takes, each three quarters behind the one before.

        Attention maps are not dropped out, whatever the encoder did: kernels that never hold a map cannot, and on a CPU the maps of
        whole windows take more than half of a training step.
        """
        for name in ("attention_probs_dropout_prob", "attention_dropout"):
            if hasattr(encoder, name):
                setattr(encoder, name, 0.0)
        window = min(512, longest or 512)
        return cls(encoder, window, max(1, window * 3 // 4), first, last, **more)


def _of_encoder(name: str) -> property:
    return property(lambda self: getattr(self.encoder, name), lambda self, value: setattr(self.encoder, name, value))


for _name in ("num_hidden_layers", "hidden_size", "num_attention_heads", "intermediate_size", "vocab_size"):
    setattr(OnePassConfig, _name, _of_encoder(_name))


@dataclasses.dataclass
class OnePassOutput(ModelOutput):
    """`factors` (documents, tokens, factors), and hidden states of the most central windows where asked for."""

    factors: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None


class OnePassModel(PreTrainedModel):
    """An encoder over documents with a head of `config.factors` numbers a token."""

    config_class = OnePassConfig
    base_model_prefix = "encoder"
    _supports_sdpa = True
    _supports_attention_backend = True

    def __init__(self, config: OnePassConfig):
        super().__init__(config)
        self.encoder = AutoModel.from_config(config.encoder)
        if getattr(self.encoder, "pooler", None) is not None:
            self.encoder.pooler = None
        width = config.encoder.hidden_size
        self.hidden, self.norm = nn.Linear(width, config.inner), nn.LayerNorm(config.inner)
        self.dropout = nn.Dropout(getattr(config.encoder, "hidden_dropout_prob", 0.1))
        self.head = nn.Linear(config.inner, config.factors)
        self.post_init()

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, output_hidden_states: bool = False, **unused: Any
    ) -> OnePassOutput:
        """input_ids (documents, tokens) padded on the right, without special tokens."""
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        windows, mask, place = self._windows(input_ids, attention_mask.sum(1).tolist())
        size = len(windows) if torch.is_grad_enabled() else AT_ONCE
        seen = [
            self.encoder(input_ids=windows[i : i + size], attention_mask=mask[i : i + size], output_hidden_states=output_hidden_states)
            for i in range(0, len(windows), size)
        ]
        real = attention_mask.bool()[..., None]

        def central(parts: list[Tensor]) -> Tensor:
            return torch.cat(parts).flatten(0, 1)[place] * real

        states = central([one.last_hidden_state for one in seen])
        inner = self.norm(nn.functional.gelu(self.hidden(self.dropout(states))))
        hidden = None
        if output_hidden_states:
            hidden = tuple(central([one.hidden_states[n] for one in seen]) for n in range(len(seen[0].hidden_states)))
        return OnePassOutput(factors=self.head(self.dropout(inner)), hidden_states=hidden)

    def _windows(self, ids: Tensor, lengths: list[int]) -> tuple[Tensor, Tensor, Tensor]:
        """Token numbers and mask (windows, tokens), and where in them (flat) each token's most central state stands."""
        config, pad = self.config, self.config.encoder.pad_token_id or 0
        before, after = ([] if n is None else [n] for n in (config.first, config.last))
        room = config.window - len(before) - len(after)
        shared = room - config.stride
        pieces: list[tuple[int, int, int]] = []
        own: list[tuple[int, int, int]] = []
        for document, length in enumerate(lengths):
            many = max(1, -(-(length - shared) // config.stride))
            starts = [n * (length - shared) // many for n in range(many)]
            ends = [*(start + shared for start in starts[1:]), length]
            edges = [0, *((start + end) // 2 for start, end in zip(starts[1:], ends[:-1], strict=True)), length]
            pieces += [(document, start, end) for start, end in zip(starts, ends, strict=True)]
            own += [(start, a, b) for start, a, b in zip(starts, edges[:-1], edges[1:], strict=True)]
        width = max(end - start for _, start, end in pieces) + len(before) + len(after)
        windows = ids.new_full((len(pieces), width), pad)
        mask = ids.new_zeros((len(pieces), width))
        place = ids.new_zeros(ids.shape)
        for n, ((document, start, end), (_, a, b)) in enumerate(zip(pieces, own, strict=True)):
            count = len(before) + end - start + len(after)
            windows[n, :count] = torch.cat([ids.new_tensor(before), ids[document, start:end], ids.new_tensor(after)])
            mask[n, :count] = 1
            at = n * width + len(before) - start
            place[document, a:b] = torch.arange(at + a, at + b, device=ids.device)
        return windows, mask, place
