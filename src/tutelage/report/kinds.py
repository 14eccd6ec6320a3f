"""What a model card says of a kind of task: its tag on the hub, what the model is and gives, and code that runs it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

Record = Mapping[str, Any]
ARCHITECTURES = (*(f"resnet{depth}" for depth in (8, 14, 20, 26, 32, 44, 56, 110)), *(f"plane{depth}" for depth in (2, 4, 6, 8, 10)))
"""Names that stand for a shape with random weights, not for a model."""

IMAGE_CODE = """\
import numpy as np
import torch
from PIL import Image
from transformers import AutoModelForImageClassification

folder = "path/to/this/folder"
model = AutoModelForImageClassification.from_pretrained(folder, trust_remote_code=True).eval()  # runs resnet.py if it lies there
size, channels = model.config.image_size, model.config.num_channels
height, width = (size, size) if isinstance(size, int) else size
image = Image.open("image.png").convert({1: "L", 3: "RGB", 4: "RGBA"}[channels]).resize((width, height))
pixels = torch.from_numpy(np.array(image)).reshape(height, width, channels).permute(2, 0, 1) / 255
mean, std = (torch.tensor(x)[:, None, None] for x in (model.config.image_mean, model.config.image_std))
with torch.inference_mode():
    logits = model(pixel_values=((pixels - mean) / std)[None]).logits
print(model.config.id2label[int(logits[0].argmax())])"""

LANGUAGE_CODE = """\
from transformers import AutoModelForCausalLM, AutoTokenizer

folder = "path/to/this/folder"
tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=True)  # both lines run echo_attention.py if it lies there
model = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True).eval()
inputs = tokenizer("The film begins", return_tensors="pt")
print(tokenizer.decode(model.generate(**inputs, max_new_tokens=40)[0]))"""

COREFERENCE_CODE = """\
import tutelage

resolver = tutelage.Coreference.from_pretrained("path/to/this/folder")
[found] = resolver.predict(["Ada wrote to Mary. She answered her."])
print([[found.document.phrase(mention) for mention in cluster] for cluster in found.document.clusters])"""


@dataclasses.dataclass(frozen=True)
class Kind:
    """The words for one kind of task."""

    pipeline: str
    """The hub's name for what the model does."""
    noun: str
    """The model with its article: 'A text classifier'."""
    target: str
    """What the labels are where they have no names."""
    use: str
    """What it does with which rows; `{source}` is the data."""
    code: str
    """Lines that load a folder and run one row, with plain transformers wherever these are enough."""
    others: str = "texts, languages or groups of people"
    """What it was not measured on."""
    cuts: bool = True
    """Whether long rows are cut."""


def of(record: Record) -> Kind:
    """The kind of a record's task."""
    task = (record.get("recipe") or {}).get("task") or {}
    if task.get("kind") == "image":
        use = "It gives images like those of its data ({source}) a label of the kind named there."
        return Kind("image-classification", "An image classifier", "", use, IMAGE_CODE, "images, cameras or groups of people", cuts=False)
    if task.get("kind") == "span_qa":
        return _reader(record, task)
    if task.get("kind") == "language":
        use = "It continues texts like those of its data ({source})."
        return Kind("text-generation", "A language model", "the next token", use, LANGUAGE_CODE, cuts=False)
    if task.get("kind") == "cited_answers":
        use = "It answers a question from numbered passages, citing them, as in its data ({source}); prompts: `tutelage answers ask`."
        return Kind("text-generation", "A language model that cites", "the next token of an answer", use, LANGUAGE_CODE, cuts=False)
    if task.get("kind") == "coreference":
        use = "It finds which mentions of documents like those of its data ({source}) mean the same."
        return Kind("token-classification", "A coreference model", "clusters of mentions", use, COREFERENCE_CODE, cuts=False)
    named = bool((record.get("data") or {}).get("labels"))
    return Kind(
        "text-classification",
        "A text classifier" if named else "A text regressor",
        "a number (regression)",
        f"It gives texts like those of its data ({{source}}) {'a label' if named else 'a number'} of the kind named there.",
        _classifier_code(task, named),
    )


def _classifier_code(task: Mapping[str, Any], named: bool) -> str:
    texts = '"A text.", "Its pair."' if task.get("pair") else '"A text to judge."'
    if not named:
        last = "print(float(logits[0, 0]))"
    elif task.get("target") == "labels":
        last = "print([model.config.id2label[i] for i in (logits[0] > 0).nonzero()[:, 0].tolist()])"
    else:
        last = "print(model.config.id2label[int(logits[0].argmax())])"
    return f"""\
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

folder = "path/to/this/folder"
tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
inputs = tokenizer({texts}, truncation=True, max_length={int(task.get("max_length") or 128)}, return_tensors="pt")
with torch.inference_mode():
    logits = model(**inputs).logits
{last}"""


def _reader(record: Record, task: Mapping[str, Any]) -> Kind:
    some = any(str(note).startswith("questions without an answer") for note in (record.get("data") or {}).get("notes") or ())
    use = "It answers questions on texts like those of its data ({source}) with a span of the text"
    return Kind(
        "question-answering",
        "An extractive question answerer",
        "spans of the text" + (", or none" if some else ""),
        use + (", or says that the text holds no answer." if some else "."),
        _reader_code(task, some),
    )


def _reader_code(task: Mapping[str, Any], some: bool) -> str:
    threshold = float(task.get("null_threshold") or 0.0)
    null = "null = float(out.start_logits[0, 0] + out.end_logits[0, 0])  # the first token stands for no answer\n" if some else ""
    last = "text[spans[first][0] : spans[last][1]]"
    last = f'"no answer" if null - float(scores.max()) > {threshold:g} else {last}' if some else last
    return f"""\
import torch
from transformers import AutoModelForQuestionAnswering, AutoTokenizer

folder = "path/to/this/folder"
tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoModelForQuestionAnswering.from_pretrained(folder).eval()
question, text = "Where was it found?", "It was found in a drawer, years later."
inputs = tokenizer(
    question, text, truncation="only_second", max_length={int(task.get("max_length") or 384)},
    return_offsets_mapping=True, return_tensors="pt",
)  # one window; longer texts need several
spans = inputs.pop("offset_mapping")[0].tolist()
inside = torch.tensor([part == 1 for part in inputs.sequence_ids(0)])
with torch.inference_mode():
    out = model(**inputs)
start, end = (x[0].float().masked_fill(~inside, -torch.inf) for x in (out.start_logits, out.end_logits))
pairs = torch.ones(len(start), len(start)).triu().tril({int(task.get("max_answer") or 30) - 1}).bool()
scores = (start[:, None] + end[None, :]).masked_fill(~pairs, -torch.inf)
first, last = divmod(int(scores.argmax()), len(start))
{null}print({last})"""
