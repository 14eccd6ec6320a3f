"""Samples of equal length from running text, without padding."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..errors import ConfigError, DataError


def samples(texts: Sequence[str], tokenizer: Any, tokens: int, count: int, *, skip: int = 0, limit: int | None = None) -> Tensor:
    """Token numbers (count, tokens): the first stretch of each document that has so many tokens, then later stretches.

    `skip` leaves out that many samples first, for text that was not looked at before. `limit` is the most tokens that the
    model takes. Raises ConfigError beyond it, and DataError where the text has too few full samples.
    """
    if limit is not None and tokens > limit:
        raise ConfigError(f"tokens: samples of {tokens} tokens are longer than the {limit} positions of the model; take {limit} or fewer")
    first: list[list[int]] = []
    later: list[list[int]] = []
    longest = 0
    for start in range(0, len(texts), 64):
        for ids in tokenizer(list(texts[start : start + 64]), add_special_tokens=False, verbose=False)["input_ids"]:
            longest = max(longest, len(ids))
            cuts = [ids[i : i + tokens] for i in range(0, len(ids) - tokens + 1, tokens)]
            first += cuts[:1]
            later += itertools.islice(cuts[1:], max(0, skip + count - len(later)))
        if len(first) >= skip + count:
            break
    found = (first + later)[skip : skip + count]
    if len(found) < count:
        have = len(first) + len(later)
        where = f"the text has {have} samples of {tokens} tokens (its longest document has {longest} tokens)"
        raise DataError(f"{where}, and {skip + count} are needed; take shorter samples, fewer, or more text")
    return torch.tensor(found)
