"""A masked language model that offers words for a place in a text: one by name, or an encoder whose missing head is trained first."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from .. import config, records
from ..config import settings
from ..engine.cast import Job
from ..engine.loop import Loop
from ..engine.machine import Machine
from ..engine.talk import Talk
from ..errors import ModelError
from ..methods._generator import Adversary
from ..methods._method import Facts, Method, Stage
from ..models import load
from ..recipe import Training
from ..seeds import stream
from ..tasks._task import Encoded
from .attacks import Words, carries
from .students import Student

REACH = 40
"""Words on each side of the place that the model sees."""
ROWS = 32
"""Texts of a forward pass."""


@settings
class Filling(Adversary, Method):
    """MATE's preparation of its generator alone: a head tied to the embeddings learns to fill masks in the task's text."""

    name = "filling"
    uses_teacher = False

    def stages(self, facts: Facts) -> list[Stage]:
        return [dataclasses.replace(stage, select=True) for stage in self.preparation(facts)]


class Filler:
    """A masked language model; `perplexity` is of masked tokens of the task's dev part, where its head was trained here."""

    def __init__(self, model: Any, tokenizer: Any, machine: Machine, perplexity: float | None):
        self.model, self.tokenizer, self.machine, self.perplexity = model.to(machine.device).eval(), tokenizer, machine, perplexity
        self.digest = records.digest(load.weights_digest(model), load.tokenizer_digest(tokenizer))
        self.words = self._whole_words()

    def _whole_words(self) -> dict[int, str]:
        """The vocabulary's tokens that are words by themselves, made of letters, and no stop words."""
        tokens = {number: token for token, number in self.tokenizer.get_vocab().items()}
        starts = tuple(sign for sign in ("Ġ", "▁") if sum(t.startswith(sign) for t in tokens.values()) > len(tokens) // 10)
        special, out = set(self.tokenizer.all_special_ids), {}
        for number, token in tokens.items():
            word = token[1:] if starts and token.startswith(starts) else token
            whole = word != token if starts else True
            if whole and word.isalpha() and carries(word) and number not in special:
                out[number] = word
        return out

    def __call__(self, places: Sequence[tuple[Words, int]], candidates: int) -> list[list[str]]:
        """For each text and place the likeliest whole words there, at most `candidates`, the likeliest first; no stop words."""
        allowed = torch.zeros(self.model.config.vocab_size, dtype=torch.bool)
        allowed[list(self.words)] = True
        texts = [whole.around(place, self.tokenizer.mask_token, REACH) for whole, place in places]
        out: list[list[str]] = [[] for _ in texts]
        order = sorted(range(len(texts)), key=lambda i: -len(texts[i]))
        longest = min(self.tokenizer.model_max_length, getattr(self.model.config, "max_position_embeddings", 512) - 2)
        for start in range(0, len(order), ROWS):
            rows = order[start : start + ROWS]
            batch = self.tokenizer([texts[i] for i in rows], truncation=True, max_length=longest, padding=True, return_tensors="pt")
            batch = {k: v.to(self.machine.device) for k, v in batch.items()}
            hidden = batch["input_ids"] == self.tokenizer.mask_token_id
            with torch.inference_mode(), load.anatomy.narrowed_output(self.model, hidden):
                scores = self.model(**batch).logits.float().cpu()
            scores = scores.masked_fill(~allowed, -math.inf)
            best = torch.sort(scores.round(decimals=3), dim=-1, descending=True, stable=True).indices[:, :candidates]
            at = hidden.any(-1).nonzero()[:, 0].tolist()
            for k, numbers in zip(at, best.tolist(), strict=True):
                out[rows[k]] = [self.words[n] for n in numbers if n in self.words]
        return out


def facts_of(student: Student, tokenizer: Any, train: Encoded, training: Training) -> Facts:
    """What a method that trains a generator on the student's task may know."""
    return Facts(training.steps or 0, -(-len(train) // training.batch_size), {}, {}, {}, None, 0, student.task.kind,
                 mask_token=tokenizer.mask_token_id, special_tokens=tuple(tokenizer.all_special_ids))  # fmt: skip


def fill_by(name: str, student: Student, *, steps: int, store: Path, seed: int, talk: Talk) -> Filler:
    """The masked language model `name`; without a head for it, one is trained on the student's own task and kept in `store`.

    Raises ModelError for a model whose tokenizer has no mask token.
    """
    torch.manual_seed(stream(seed, "head"))
    loaded = load.open_model(name, {}, auto=load.MASKED_LM)
    if loaded.tokenizer.mask_token is None:
        raise ModelError(f"{name}: its tokenizer has no mask token, so it offers no words for a place; name a masked language model")
    if not loaded.new_head:
        return Filler(loaded.model, loaded.tokenizer, student.machine, None)
    train, dev = (student.task.encode(student.data.splits[part], loaded.tokenizer) for part in ("train", "dev"))
    method, training = Filling(prepare=steps), Training(steps=steps, learning_rate=2e-4, evaluate_every=max(1, steps // 4))
    key = records.digest(load.weights_digest(loaded.model), train.digest, dev.digest, config.dump(method), config.dump(training), seed)[:16]
    folder = store / f"masked-{key}"
    with records.locked(folder, wait=True):
        known = records.sealed(folder / "model/perplexity.json")
        if known is None or records.harmed(folder / "model", known["files"]):
            facts = facts_of(student, loaded.tokenizer, train, training)
            job = Job(f"head of {name}", method, student.task, training, seed, facts, {"generator": loaded.model},
                      lambda role, stage: None, train, dev, folder, student.machine, talk)  # fmt: skip
            loop = Loop(job)
            state = loop.run()
            with records.whole_folder(folder / "model") as place:
                loaded.save(place)
                best, files = min(row["dev"]["perplexity"] for row in state.history), records.digests(place)
                records.seal(place / "perplexity.json", known := {"perplexity": best, "files": files})
            loop.checkpoints.clear()
    kept = load.open_model(str(folder / "model"), {}, auto=load.MASKED_LM)
    return Filler(kept.model, kept.tokenizer, student.machine, known["perplexity"])
