"""Small real parts on disk: models with tokenizers, and data that can be learned."""

from __future__ import annotations

import json
import random
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

WORDS = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "good",
    "bad",
    "fine",
    "poor",
    "film",
    "the",
    "a",
    "plot",
    "cast",
    "is",
    "was",
    "very",
    "not",
    "and",
    "scene",
]


def tokenizer() -> PreTrainedTokenizerFast:
    inner = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="[PAD]", unk_token="[UNK]", mask_token="[MASK]", model_max_length=64)


def save_tiny(folder: Path, *, depth: int = 3, width: int = 32, labels: dict[int, str] | None = None, seed: int = 0) -> Path:
    torch.manual_seed(seed)
    named = {"id2label": labels, "label2id": {v: k for k, v in labels.items()}} if labels else {}
    shape = BertConfig(
        vocab_size=len(WORDS),
        hidden_size=width,
        num_hidden_layers=depth,
        num_attention_heads=2,
        intermediate_size=2 * width,
        max_position_embeddings=64,
        **named,
    )
    BertForSequenceClassification(shape).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


MARKS = {"negative": ["bad", "poor"], "positive": ["good", "fine"], "neutral": ["film"]}


def sentences(number: int, seed: int = 0, labels: int = 2) -> list[dict[str, str]]:
    draw = random.Random(seed)
    out = []
    for _ in range(number):
        label = draw.choice(list(MARKS)[:labels])
        words = draw.choices(WORDS[10:], k=draw.randint(2, 12))
        words.insert(draw.randrange(len(words)), draw.choice(MARKS[label]))
        out.append({"text": " ".join(words), "label": label})
    return out


def write_reviews(path: Path, number: int = 160, seed: int = 0, labels: int = 2) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in sentences(number, seed, labels)))
    return path


def recipe(model: Path, data: Path, **changes) -> dict:
    """A whole distillation of a second or two."""
    return {
        "name": "small",
        "task": {"kind": "classify", "data": str(data), "dev_share": 0.2, "test_share": 0.2},
        "teacher": {"model": str(model), "train": {"epochs": 8, "learning_rate": 3e-3}},
        "student": {"surgery": [{"kind": "keep_layers", "keep": "first", "count": 1}]},
        "method": {"kind": "kd"},
        "compare": ["finetune"],
        "train": {"epochs": 2, "batch_size": 16, "learning_rate": 3e-3},
        "threads": 1,
        "measure": False,
        **changes,
    }
