"""Batches on which a model and its exported form are compared: random ones of several shapes, and texts of a user's own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from ..seeds import stream
from . import anatomy, cost

SHAPES = ((1, 1), (1, 9), (2, 16), (3, 33), (16, 24), (32, 32), (2, 128))
"""Rows and tokens of the batches that are checked; all rows but the first of a batch are padded. Images take the rows."""

Inputs = dict[str, Tensor]
Text = str | tuple[str, str]


def names_of(model: Any, tokenizer: Any) -> tuple[str, ...]:
    """The inputs that the tokenizer makes, ids and mask first; without a tokenizer, `pixel_values`."""
    if tokenizer is None:
        return ("pixel_values",)
    typed = "token_type_ids" in tokenizer.model_input_names and hasattr(model.config, "type_vocab_size")
    return ("input_ids", "attention_mask") + (("token_type_ids",) if typed else ())


def _limit(model: Any, tokenizer: Any) -> int:
    return min(tokenizer.model_max_length, anatomy.positions(model.config) or 10**9)


def random_batches(model: Any, tokenizer: Any, names: Sequence[str]) -> Iterator[Inputs]:
    """Random ids of SHAPES; rows end (or begin, as the tokenizer pads) in padding, with a second segment where there are any.

    Without a tokenizer, random images.
    """
    for number, (rows, tokens) in enumerate(SHAPES):
        if tokenizer is None:
            yield cost.random_inputs(model, rows, seed=number)
            continue
        tokens = min(tokens, _limit(model, tokenizer))
        draw = torch.Generator().manual_seed(stream(0, "export", number))
        batch = cost.random_inputs(model, rows, tokens, tokenizer=tokenizer, seed=number)
        lengths = torch.randint(1, tokens + 1, (rows, 1), generator=draw)
        lengths[0] = tokens
        places = torch.arange(tokens).expand(rows, tokens)
        keep = places >= tokens - lengths if tokenizer.padding_side == "left" else places < lengths
        batch["attention_mask"] = keep.long()
        if (end := cost.end_token(model)) is not None:
            batch["input_ids"][keep & (places == lengths - 1)] = end
        batch["input_ids"][~keep] = model.config.pad_token_id
        if "token_type_ids" in names:
            segments = min(2, model.config.type_vocab_size)
            batch["token_type_ids"] = torch.randint(segments, (rows, tokens), generator=draw) * keep
        yield {name: batch[name] for name in names}


def text_batches(model: Any, tokenizer: Any, names: Sequence[str], texts: Sequence[Text]) -> Iterator[Inputs]:
    """Texts or pairs in batches of 32."""
    for start in range(0, len(texts), 32):
        part = [t if isinstance(t, str) else tuple(t) for t in texts[start : start + 32]]
        batch = tokenizer(part, padding=True, truncation=True, max_length=_limit(model, tokenizer), return_tensors="pt")
        yield {name: batch[name] for name in names}
