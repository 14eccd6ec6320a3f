"""Running text or chats for language models: the next token, by packed rows whose documents do not see each other.

Logits over the vocabulary are never made as a whole: a model's outputs are its last hidden states, and terms multiply them
with the output layer tile by tile. Rows are stretches of `tokens` tokens; a final loss counts every predicted token alike.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from .. import losses
from ..config import Count, RowSetting, settings
from ..errors import DataError
from ..rows import LAST_STATES, Batch, Rows, Seen, Sparse, States, Term, Tiled
from . import _chat, _corpus, _documents
from ._packing import NO_TARGET, pack
from ._parts import Part
from ._task import Data, Encoded, Split, Task

CutOff = RowSetting[Annotated[float, Field(gt=0, lt=1)]]


@settings
class Language(Task):
    """The next token of running text."""

    data: RowSetting[str | None] = None
    """A text file, a folder of them, a table with a text column, chats as JSON lines, or imdb."""
    train: RowSetting[str | None] = None
    """Text to train on, in place of data."""
    dev: RowSetting[str | None] = None
    """Text for selection; else documents cut from the training text."""
    test: RowSetting[str | None] = None
    """Text for the final result; else documents cut from the training text."""
    text: RowSetting[str] = "text"
    """The text's column, where the data is a table."""
    chat: RowSetting[str | None] = None
    """The column that holds chats instead, each a list of {role, content}: the assistant's turns alone are predicted."""
    tokens: Annotated[int, Field(ge=8)] = 512
    """Tokens of a row."""
    limit: RowSetting[Count | None] = None
    """Most training documents, for trials."""
    dev_limit: RowSetting[Count | None] = None
    """Most documents of dev."""
    test_limit: RowSetting[Count | None] = None
    """Most documents of test."""
    dev_share: CutOff = 0.05
    """Share of documents cut off for dev by a hash of their text."""
    test_share: CutOff = 0.05
    """Share of documents cut off for test in the same way."""

    kind = "choice"
    auto = "AutoModelForCausalLM"
    outputs = {LAST_STATES: "token"}  # noqa: RUF012
    judged = {"sums": "example", "guess": "token"}  # noqa: RUF012
    less_is_better = True
    fidelity = ("agreement",)

    @property
    def primary(self) -> str:
        return "loss"

    def faults(self) -> Iterator[tuple[str, str]]:
        if self.chat and self.text != "text":
            yield "text", "has no effect beside task.chat; leave it out"
        yield from _documents.faults(self)

    def files(self) -> Iterator[Path]:
        return _documents.files(self, _corpus.is_plain)

    def load(self) -> Data:
        """Read the documents and cut what is missing; raises DataError."""
        parts, notes = _documents.parts_of(self, self._part)
        splits = {}
        for name, part in parts.items():
            column = {"chat" if self.chat else "text": part.texts}
            splits[name] = Split(column, np.zeros(len(part), dtype=np.int64), list(part.ids), part.source, total=part.total)
        return Data(splits, (), tuple(notes))

    def _part(self, data: str) -> Part:
        if not self.chat:
            return dataclasses.replace(_corpus.documents(data, self.text), source=data).numbered()
        texts = _corpus.chats(data, self.chat)
        return Part(texts, None, None, list(range(1, len(texts) + 1)), data).numbered()

    def head(self, data: Data) -> dict[str, Any]:
        return {}

    def encode(self, split: Split, tokenizer: Any) -> Encoded:
        """Packed rows; an item of a final result is a row."""
        documents = _chats(split, tokenizer) if "chat" in split.columns else _texts(split.columns["text"], tokenizer)
        columns, targets, lengths = pack(documents, self.tokens)
        if not (targets != NO_TARGET).any():
            raise DataError(f"{split.source}: holds nothing to predict; documents need two tokens or more")
        pad = next((p for p in (tokenizer.pad_token_id, tokenizer.eos_token_id) if p is not None), 0)
        numbers = np.zeros(len(lengths), dtype=np.int64)
        return Encoded(columns, lengths, numbers, extra={"target": targets - NO_TARGET}, pad={"input_ids": pad}, mask=False)

    def counts(self, encoded: Encoded, index: np.ndarray) -> dict[str, float]:
        target, starts = encoded.extra["target"], encoded.starts
        many = sum(int((target[starts[i] : starts[i + 1]] > 0).sum()) for i in index)
        return super().counts(encoded, index) | {"token": float(many), "label": float(many)}

    def real(self, batch: Batch) -> Any:
        return batch.extra["target"] > 0

    def rows(self, seen: Seen, batch: Batch) -> list[Rows]:
        """One row a predicted token, as hidden states and output weight."""
        if "rows" not in seen.memo:
            keep = self.real(batch)
            states = seen.outputs[LAST_STATES][keep]
            if not isinstance(states, Sparse):
                assert seen.head is not None
                states = States(states, seen.head)
            by = batch.extra["by"][keep] if "by" in batch.extra else None
            seen.memo["rows"] = [Rows(states, "choice", batch.extra["target"][keep] + NO_TARGET, unit="token", by=by)]
        return seen.memo["rows"]

    def stretches(self, batch: Batch, kept: float) -> list[tuple[int, int, int, int]]:
        """What of a batch's packed rows may be written anew: (row, start of the piece, first new token, end) each.

        Of every piece it is the last stretch of predicted tokens (of a chat, what the assistant says last), but for its first
        share `kept`; what stands before is the prompt.
        """
        out = []
        for row, (positions, target) in enumerate(zip(batch.inputs["position_ids"].cpu(), batch.extra["target"].cpu(), strict=True)):
            learned = target > 0
            places = learned.nonzero()[:, 0]
            if not len(places):
                continue
            end = int(places[-1]) + 2
            starts = [*(positions[:end] == 0).nonzero()[:, 0].tolist(), end]
            for start, stop in itertools.pairwise(starts):
                mine = learned[start:stop].nonzero()[:, 0]
                if len(mine):
                    last = int(mine[-1])
                    first = int((~learned[start : start + last]).nonzero()[-1]) + 1 if not learned[start : start + last].all() else 0
                    out.append((row, start, start + first + 1 + int(kept * (last - first + 1)), start + last + 2))
        return out

    def rewritten(self, batch: Batch, ends: Sequence[tuple[int, int, int, int]], texts: Sequence[Any]) -> Batch:
        """The batch with these stretches written anew; only they are predicted, and a row's new tokens weigh as much as its old."""
        import torch

        ids, target = batch.inputs["input_ids"].clone(), torch.zeros_like(batch.extra["target"])
        for (row, _, at, _), text in zip(ends, texts, strict=True):
            ids[row, at : at + len(text)] = text.to(ids.dtype)
            target[row, at - 1 : at - 1 + len(text)] = text.to(target.dtype) - NO_TARGET
        before, after = ((t > 0).sum(1, keepdim=True) for t in (batch.extra["target"], target))
        by = (before / after.clamp(min=1)).expand_as(target)
        extra = {**batch.extra, "target": target, "by": by}
        return dataclasses.replace(batch, inputs={**batch.inputs, "input_ids": ids}, extra=extra)

    def label_term(self, seen: Seen, batch: Batch, weight: float = 1.0) -> Term:
        [rows] = self.rows(seen, batch)
        assert isinstance(rows.logits, States)
        return Term(Tiled(lambda s, t, gold: losses.label_loss(s, gold, kind="choice"), rows.logits, gold=rows.gold), "token", weight)

    def shown(self, seen: Seen, batch: Batch) -> Mapping[str, Any]:
        """'sums' (rows, 3): summed loss in nats, right first guesses, and predicted tokens; 'guess' (rows, tokens): the likeliest tokens,
        -1 where none is predicted."""
        import torch

        made, guess = [], torch.full(batch.extra["target"].shape, -1)
        for row, (states, target) in enumerate(zip(seen.outputs[LAST_STATES], batch.extra["target"], strict=True)):
            keep, sums, likeliest = target > 0, torch.zeros(3), []
            gold = target[keep] + NO_TARGET
            for rows, wanted in zip(states[keep].split(TILE), gold.split(TILE), strict=True):
                logits = seen.head(rows).float()  # type: ignore[misc]
                loss = losses.label_loss(logits, wanted, kind="choice").sum()
                likeliest.append(logits.argmax(-1))
                sums += torch.stack([loss, (likeliest[-1] == wanted).sum(), torch.tensor(len(wanted))]).cpu()
            made.append(sums)
            guess[row, keep.cpu()] = torch.cat(likeliest).cpu()
        return {"sums": torch.stack(made), "guess": guess}

    def agreed(self, outputs: Mapping[str, np.ndarray], others: Mapping[str, np.ndarray], encoded: Encoded) -> np.ndarray:
        """Each row's predicted tokens with the same first guess, by the mean number of predicted tokens."""
        guess = outputs["guess"]
        same = np.append((guess == others["guess"]) & (guess >= 0), False)
        each = np.add.reduceat(same.astype(np.float64), encoded.starts[:-1])
        return each / max(float(outputs["sums"][:, 2].mean()), 1e-12)

    def predict(self, outputs: Mapping[str, np.ndarray], encoded: Encoded) -> np.ndarray:
        return outputs["sums"].astype(np.float64)

    def score(self, predicted: np.ndarray, gold: np.ndarray) -> dict[str, float]:
        loss, right, count = predicted.sum(0)
        mean = float(loss / max(count, 1.0))
        return {"loss": mean, "perplexity": math.exp(min(mean, 700.0)), "accuracy": float(right / max(count, 1.0))}

    def each(self, predicted: np.ndarray, gold: np.ndarray) -> np.ndarray:
        """Each row's loss by the mean number of predicted tokens, so that the mean over rows weighs every token alike."""
        return predicted[:, 0] / max(float(predicted[:, 2].mean()), 1e-12)

    def items(self, predicted: np.ndarray, encoded: Encoded) -> list[dict[str, Any]]:
        return [{"row": i, "loss": round(a / max(c, 1.0), 5), "right": int(b), "tokens": int(c)} for i, (a, b, c) in enumerate(predicted)]

    def cut(self, encoded: Encoded) -> str:
        return ""


TILE = 256
"""Tokens whose logits stand at once when a model is judged."""


def _texts(texts: list[str], tokenizer: Any) -> list[tuple[list[int], list[bool]]]:
    """Each text, closed by the end token where the tokenizer has one."""
    end = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
    out = []
    for start in range(0, len(texts), 256):
        for ids in tokenizer(texts[start : start + 256], add_special_tokens=False, verbose=False)["input_ids"]:
            numbers = [*ids, *end]
            out.append((numbers, [True] * len(numbers)))
    return out


def _chats(split: Split, tokenizer: Any) -> list[tuple[list[int], list[bool]]]:
    """Each chat by the tokenizer's template; what the assistant says is predicted, the rest is only seen."""
    if not getattr(tokenizer, "chat_template", None):
        raise DataError("task.chat: the model's tokenizer has no chat template; name an instruction-tuned model, or train on text")
    many = zip(split.columns["chat"], split.ids, strict=True)
    return [_chat.tokens(json.loads(text), tokenizer, f"{split.source}, chat {number + 1}") for text, number in many]
