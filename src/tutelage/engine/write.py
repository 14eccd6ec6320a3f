"""Text that a model writes on: continuations of prompts, drawn piece by piece so that they do not depend on what else is in the batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Generator, Tensor
from transformers import GenerationConfig, LogitsProcessor


class _Drawn(LogitsProcessor):
    """Gumbel noise on tempered logits, so that the largest is a draw from their softmax; temperature 0 adds none."""

    def __init__(self, draws: Sequence[Generator], temperature: float, words: int | None):
        self.draws, self.temperature, self.words = draws, temperature, words

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:  # type: ignore[override]
        known = scores[:, : self.words]
        if self.temperature:
            noise = torch.stack([torch.empty(known.shape[-1]).exponential_(generator=g) for g in self.draws])
            known = known.float() / self.temperature - noise.clamp(min=1e-20).log().to(scores.device)
        return torch.nn.functional.pad(known, (0, scores.shape[-1] - known.shape[-1]), value=-torch.inf)


@torch.no_grad()
def continuations(
    model: Any,
    prompts: Sequence[Tensor],
    lengths: Sequence[int],
    draws: Sequence[Generator],
    temperature: float = 1.0,
    words: int | None = None,
) -> list[Tensor]:
    """For each prompt (tokens,) so many new tokens as `lengths` says, or fewer where the model's end token comes, which is kept.

    With `words`, the vocabulary's first so many alone are written.

    Each prompt draws from its own generator; those of one row may share one, and then draw in turn.
    """
    device, width = prompts[0].device, max(len(p) for p in prompts)
    ids = torch.zeros(len(prompts), width, dtype=torch.long, device=device)
    mask = torch.zeros_like(ids)
    for i, prompt in enumerate(prompts):
        ids[i, width - len(prompt) :] = prompt
        mask[i, width - len(prompt) :] = 1
    was, own = model.training, model.generation_config
    ends = [] if own.eos_token_id is None else list(own.eos_token_id) if isinstance(own.eos_token_id, list) else [own.eos_token_id]
    model.eval()
    model.generation_config = GenerationConfig(eos_token_id=ends or None, pad_token_id=ends[0] if ends else 0)
    try:
        made = model.generate(
            ids, attention_mask=mask, max_new_tokens=max(lengths), do_sample=False, logits_processor=[_Drawn(draws, temperature, words)]
        )
    finally:
        model.generation_config = own
        model.train(was)
    return [_cut(row[:length], ends) for row, length in zip(made[:, width:], lengths, strict=True)]


def _cut(row: Tensor, ends: list[int]) -> Tensor:
    """A continuation up to its first end token."""
    at = torch.isin(row, torch.tensor(ends, device=row.device, dtype=row.dtype)).nonzero()
    return row[: int(at[0]) + 1] if len(at) else row
