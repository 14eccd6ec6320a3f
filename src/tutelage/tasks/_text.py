"""Texts and pairs of texts as token ids."""

from __future__ import annotations

import functools
from itertools import chain
from typing import Any

import numpy as np

from ._task import Encoded, Split

CHUNK = 4096
"""Rows given to the tokenizer at a time, which bounds the memory of what it says of them."""


def encode_texts(split: Split, tokenizer: Any, max_length: int) -> Encoded:
    """The columns 'text' and 'pair' as ragged int32 input_ids, and token_type_ids where the tokenizer's model takes them.

    At most `max_length` tokens a row and no more than the tokenizer allows; the longer text of a pair is cut first.
    `truncated` is exactly the number of rows that lost a token. A tokenizer without a padding token pads with its
    end-of-text token, which the attention mask hides.
    """
    columns = [split.columns[name] for name in ("text", "pair") if name in split.columns]
    names = ["input_ids", *(n for n in ("token_type_ids",) if n in tokenizer.model_input_names)]
    look = functools.partial(tokenizer, return_attention_mask=False, return_token_type_ids=len(names) == 2)
    longest = min(max_length, tokenizer.model_max_length)
    ragged: dict[str, list[np.ndarray]] = {name: [np.zeros(0, np.int32)] for name in names}
    lengths: list[int] = []
    truncated = 0
    for start in range(0, len(split), CHUNK):
        rows = [column[start : start + CHUNK] for column in columns]
        made = look(*rows, truncation="longest_first", max_length=longest)
        sizes = [len(ids) for ids in made["input_ids"]]
        if made.encodings is not None:
            truncated += sum(bool(one.overflowing) for one in made.encodings)
        else:
            whole = look(*rows, truncation=False, verbose=False)["input_ids"]
            truncated += sum(len(ids) > size for ids, size in zip(whole, sizes, strict=True))
        lengths += sizes
        for name in names:
            ragged[name].append(np.fromiter(chain.from_iterable(made[name]), np.int32, sum(sizes)))
    pad = next((p for p in (tokenizer.pad_token_id, tokenizer.eos_token_id) if p is not None), 0)
    return Encoded(
        {name: np.concatenate(blocks) for name, blocks in ragged.items()},
        np.array(lengths, dtype=np.int64),
        split.gold,
        pad={"input_ids": pad, "token_type_ids": tokenizer.pad_token_type_id},
        truncated=truncated,
        weight=split.weight,
    )
