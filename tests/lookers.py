"""Students made by hand: their answer follows from which words a text has, and nothing is trained."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from parts import MARKS, WORDS, pair_tokenizer, tokenizer, write_reviews
from transformers import BertConfig, BertForSequenceClassification


def save_looker(
    folder: Path, task: Mapping[str, object], words: Mapping[str, Sequence[str]], *, scale: float = 4.0, pairs: bool = False
) -> Path:
    """A BERT that answers the label most of whose words a text has; the first label where it has none or as many.

    One layer with uniform attention: a word of label k points along +1 and -1 in places 2k and 2k + 1, other words are zero,
    and layer norms keep the direction of their mean.
    """
    labels = list(words)
    width = 2 * len(labels) + 2
    named = {"id2label": dict(enumerate(labels)), "label2id": {x: k for k, x in enumerate(labels)}}
    shape = BertConfig(vocab_size=len(WORDS), hidden_size=width, num_hidden_layers=1, num_attention_heads=1, intermediate_size=2,
                       max_position_embeddings=64, **named)  # fmt: skip
    model = BertForSequenceClassification(shape)
    for name, value in model.named_parameters():
        torch.nn.init.constant_(value, 1.0 if "LayerNorm.weight" in name else 0.0)
    with torch.no_grad():
        for k, many in enumerate(words.values()):
            for word in many:
                model.bert.embeddings.word_embeddings.weight[WORDS.index(word), 2 * k : 2 * k + 2] = torch.tensor([1.0, -1.0])
            model.classifier.weight[k, 2 * k] = scale
        attention = model.bert.encoder.layer[0].attention
        for part in (attention.self.value, attention.output.dense, model.bert.pooler.dense):
            part.weight.copy_(torch.eye(width))
        model.classifier.bias[0] = 0.01
    model.save_pretrained(folder)
    (pair_tokenizer() if pairs else tokenizer()).save_pretrained(folder)
    (folder / "tutelage.json").write_text(json.dumps({"task": {"kind": "classify", **task}, "labels": labels, "record": "by hand"}))
    return folder


def sentiment(folder: Path, name: str = "looker", words: Mapping[str, Sequence[str]] | None = None, **more) -> Path:
    """A looker of the reviews that `parts.write_reviews` makes; `words` {} or fewer leave it blind to some."""
    data = folder / "reviews.jsonl"
    if not data.exists():
        write_reviews(data, 300)
    seen = {x: MARKS[x] for x in ("negative", "positive")} if words is None else words
    return save_looker(folder / name, {"data": str(data)}, seen, **more)
