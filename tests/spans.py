"""Questions, windows and readers small enough to work out by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from parts import pair_tokenizer
from transformers import BertConfig, BertForQuestionAnswering

from tutelage import config
from tutelage.tasks import _squad, _windows
from tutelage.tasks.span_qa import SpanQa


def write(path: Path, tree) -> Path:
    path.write_text(tree if isinstance(tree, str) else json.dumps(tree), encoding="utf-8")
    return path


def task(**settings) -> SpanQa:
    return config.build(SpanQa, {"data": "unread.json", "max_length": 24, "stride": 4} | settings)


def asked(context: str, *answers: tuple[str, int], text: str = "plot?", name: str = "q") -> _squad.Question:
    return _squad.Question(name, "title", text, context, answers)


def encoded(*questions: _squad.Question, length: int = 24, stride: int = 4, nullable: bool = False):
    return _windows.encode(list(questions), pair_tokenizer(), length, stride, nullable)


def reader(depth: int = 1, seed: int = 0, vocabulary: int = 20):
    torch.manual_seed(seed)
    shape = BertConfig(
        vocab_size=vocabulary, hidden_size=16, num_hidden_layers=depth, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=64, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    return BertForQuestionAnswering(shape)


def questions(number: int = 12) -> list[_squad.Question]:
    draw = np.random.default_rng(3)
    out = []
    for i in range(number):
        context = " ".join(draw.choice(["film", "cast", "was", "very", "good"], draw.integers(3, 30)))
        first = context.split()[0]
        out.append(asked(context, *([(first, 0)] if i % 3 else []), name=str(i)))
    return out


def settings(**changes):
    """How answers are chosen."""
    return {"n_best": 20, "max_answer": 30, "null_threshold": 0.0} | changes
