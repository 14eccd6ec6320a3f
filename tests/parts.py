"""Small real parts on disk: models with tokenizers, and data that can be learned."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BertConfig, BertForSequenceClassification, BertModel, PreTrainedTokenizerFast

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


def pair_tokenizer(longest: int = 64) -> PreTrainedTokenizerFast:
    """[CLS] first [SEP] second [SEP], a word or sign a token."""
    from tokenizers import processors

    made = tokenizer()
    numbers = [(name, WORDS.index(name)) for name in ("[CLS]", "[SEP]")]
    made.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=numbers
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=made.backend_tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_max_length=longest,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )


def save_tiny_reader(folder: Path, *, depth: int = 2, width: int = 32, seed: int = 0) -> Path:
    """A tiny random BERT without a head, with a tokenizer of pairs."""
    torch.manual_seed(seed)
    shape = BertConfig(
        vocab_size=len(WORDS),
        hidden_size=width,
        num_hidden_layers=depth,
        num_attention_heads=2,
        intermediate_size=2 * width,
        max_position_embeddings=64,
    )
    BertModel(shape, add_pooling_layer=False).save_pretrained(folder)
    pair_tokenizer().save_pretrained(folder)
    return folder


def articles(number: int = 30, seed: int = 0, unanswerable: bool = False) -> dict:
    """SQuAD's form: what stands behind 'plot' answers the question; where the text has no 'plot', nothing does."""
    draw = random.Random(seed)
    data = []
    for i in range(number):
        paragraphs = []
        for j in range(2):
            words = draw.choices(WORDS[9:12] + WORDS[13:], k=draw.randint(6, 14))
            none = unanswerable and draw.random() < 0.4
            answer = draw.choice(["good", "bad", "fine", "poor"])
            place = draw.randrange(len(words))
            words[place:place] = [] if none else ["plot", answer]
            context = " ".join(words)
            answers = [] if none else [{"text": answer, "answer_start": context.index(f"plot {answer}") + 5}]
            asked = {"id": f"q{i}-{j}", "question": "the plot was?", "answers": answers}
            paragraphs.append({"context": context, "qas": [asked | ({"is_impossible": none} if unanswerable else {})]})
        data.append({"title": f"Article {i}", "paragraphs": paragraphs})
    return {"version": "2.0" if unanswerable else "1.1", "data": data}


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


def said_without_tutelage(code: str, folder: Path) -> str:
    """What a program says in a process of its own that never imports Tutelage, and in which nobody answers questions."""
    around = {**os.environ, "HF_HOME": str(folder / "home"), "HF_MODULES_CACHE": str(folder / "modules"), "PYTHONPATH": ""}
    code = f'import sys\n{code}\nassert "tutelage" not in sys.modules'
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=around, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
