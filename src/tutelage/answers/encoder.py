"""Vectors of texts from a Hugging Face encoder: the mean of its last hidden states over real tokens, of length 1."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch

from .. import records
from ..engine.machine import computes_in_bfloat16
from ..errors import ModelError
from ..models import load


class Encoder:
    """An encoder by name or folder, in `precision` auto, float32 or bfloat16, that sees at most `tokens` tokens of a text.

    `digest` tells apart weights and tokenizers. Raises ModelError for what cannot be read, or is no encoder of text.
    """

    def __init__(self, name: str, *, precision: str = "auto", tokens: int = 512):
        loaded = load.open_model(name, {}, auto="AutoModel")
        if getattr(loaded.model.config, "is_encoder_decoder", False) or not hasattr(loaded.model.config, "hidden_size"):
            raise ModelError(f"{name}: is no encoder of text; name one such as minilm")
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.model, self.tokenizer = loaded.model.eval().to(self.device), loaded.tokenizer
        self.digest = records.digest(load.weights_digest(self.model), load.tokenizer_digest(self.tokenizer))
        self.size = int(self.model.config.hidden_size)
        self.tokens = min(tokens, self.tokenizer.model_max_length, getattr(self.model.config, "max_position_embeddings", tokens))
        self.half = precision == "bfloat16" or (precision == "auto" and computes_in_bfloat16(self.device))
        self.padded = 2048 if self.device.type == "cpu" else 1 << 16
        """Tokens of a batch, padding counted; with more of them a processor's cache overflows."""

    def __call__(self, texts: Sequence[str], advance: Callable[[int], None] = lambda n: None) -> np.ndarray:
        """Vectors (texts, size) in float32; a text without tokens has zeros. `advance(n)` hears of each batch of n texts."""
        out = np.zeros((len(texts), self.size), np.float32)
        if not texts:
            return out
        ids = self.tokenizer(list(texts), truncation=True, max_length=self.tokens, padding=False, verbose=False)["input_ids"]
        for rows in _batches([len(one) for one in ids], self.padded):
            if ids[rows[-1]]:
                out[rows] = self._vectors([ids[i] for i in rows])
            advance(len(rows))
        return out

    def _vectors(self, ids: list[list[int]]) -> np.ndarray:
        batch = self.tokenizer.pad({"input_ids": ids}, return_tensors="pt")
        tokens, mask = batch["input_ids"].to(self.device), batch["attention_mask"].to(self.device)
        with torch.inference_mode(), torch.autocast(self.device.type, torch.bfloat16, enabled=self.half):
            states = self.model(input_ids=tokens, attention_mask=mask).last_hidden_state.float()
        real = mask.unsqueeze(-1).float()
        mean = (states * real).sum(1) / real.sum(1).clamp(min=1)
        return torch.nn.functional.normalize(mean, dim=1).cpu().numpy()


def _batches(lengths: Sequence[int], padded: int) -> Iterator[list[int]]:
    """Rows from short to long, cut so that a batch has at most so many tokens with its padding, or one row."""
    rows: list[int] = []
    for i in sorted(range(len(lengths)), key=lengths.__getitem__):
        if rows and lengths[i] * (len(rows) + 1) > padded:
            yield rows
            rows = []
        rows.append(i)
    if rows:
        yield rows
