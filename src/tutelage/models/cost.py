"""What a model costs: parameters, FLOPs, bytes and latency.

Latency depends on the machine and on the number of threads; every sheet states the threads, `records.surroundings` the rest.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from ..errors import ConfigError, ModelError
from . import anatomy

Inputs = dict[str, Tensor]
Times = dict[str, dict[str, float]]
Precision = Literal["float32", "bfloat16"]

WARM = 3
"""Calls before the first one is timed."""
LEAST = 3
"""Timed calls that even a model slower than its time budget gets."""
TURN = 0.02
"""Seconds that one model is timed in a row before the next has its turn."""
WEIGHTS = ("*.safetensors", "pytorch_model*.bin", "*.onnx*")
"""Names of weight files; only the first kind found counts, as a loader reads only one."""


def parameters(model: nn.Module) -> dict[str, int]:
    """Number of weights: in all, in embedding tables (words, positions, token types), and elsewhere.

    A weight that two modules share counts once, as embedding where one of the two is a table.
    """
    tables = {id(m.weight): m.weight.numel() for m in model.modules() if isinstance(m, nn.Embedding)}
    total = sum(p.numel() for p in model.parameters())
    embedding = sum(tables.values())
    return {"total": total, "embedding": embedding, "other": total - embedding}


def memory(model: nn.Module) -> int:
    """Bytes of all weights in the precision that they are held in; shared weights count once."""
    return sum(p.numel() * p.element_size() for p in model.parameters())


def size_on_disk(folder: str | Path) -> int:
    """Bytes of a folder's weight files: safetensors where there are any, else PyTorch's, else ONNX's.

    Raises ModelError where there are none.
    """
    for pattern in WEIGHTS:
        if files := [f for f in Path(folder).glob(pattern) if f.is_file()]:
            return sum(f.stat().st_size for f in files)
    raise ModelError(f"{folder}: holds no weights (no {', no '.join(WEIGHTS)}); give the folder that a model was saved in")


def flops(model: nn.Module, inputs: Mapping[str, Tensor]) -> int:
    """Floating-point operations of one forward pass in eval mode; a multiplication and its addition are two.

    Counted are matrix products, convolutions and attention (scores and weighted sum, padding and masked places
    included), by torch's own counter; not counted are element-wise work, softmax, normalisation and table look-ups.
    The counter knows no fused attention kernel of the CPU, so SDPA runs as its two matrix products here, with equal results.
    """
    counter = FlopCounterMode(display=False)
    with _evaluating(model), torch.inference_mode():
        model(**inputs)  # what a model measures at its first call is not counted
        with sdpa_kernel(SDPBackend.MATH), counter:
            model(**inputs)
    return int(counter.get_total_flops())


def image_shape(model: nn.Module) -> tuple[int, int, int] | None:
    """Channels, height and width of a model for images (224 x 224 where its configuration leaves them free), None for others."""
    if getattr(model, "main_input_name", "") != "pixel_values":
        return None
    config: Any = getattr(model, "config", None)
    size = getattr(config, "image_size", None) or 224
    height, width = (size, size) if isinstance(size, int) else size
    return getattr(config, "num_channels", 3), height, width


def random_inputs(model: nn.Module, rows: int, tokens: int = 32, *, tokenizer: Any = None, seed: int = 0) -> Inputs:
    """`input_ids` and `attention_mask`, both (rows, tokens): random ordinary token ids, nothing padded; the last is `end_token`'s.

    Ids are drawn from the model's vocabulary without special tokens (the tokenizer's, and those that the config names).
    A model for images gets `pixel_values` (rows, channels, height, width), normally distributed; `tokens` is then nothing.
    Raises ModelError for a model with neither vocabulary nor images, ConfigError for more tokens than the model takes.
    """
    config: Any = getattr(model, "config", None)
    if picture := image_shape(model):
        if rows < 1:
            raise ConfigError([("rows", f"{rows} asked for; 1 or more")])
        draw = torch.randn(rows, *picture, generator=torch.Generator().manual_seed(seed))
        return {"pixel_values": draw.to(_device(model))}
    if getattr(config, "vocab_size", None) is None:
        raise ModelError(f"{type(model).__name__}: has no vocabulary to draw tokens from; only models for text or images can be timed")
    limit = anatomy.positions(config)
    if tokens < 1 or (limit and tokens > limit):
        raise ConfigError([("tokens", f"{tokens} asked for; this model takes 1 to {limit or 'any number'}")])
    if rows < 1:
        raise ConfigError([("rows", f"{rows} asked for; 1 or more")])
    special = {getattr(config, f"{name}_token_id", None) for name in ("pad", "bos", "eos", "cls", "sep", "mask", "unk")}
    special |= set(tokenizer.all_special_ids) if tokenizer is not None else set()
    ordinary = torch.tensor([i for i in range(config.vocab_size) if i not in special])
    draw = torch.randint(len(ordinary), (rows, tokens), generator=torch.Generator().manual_seed(seed))
    device, ids = _device(model), ordinary[draw]
    if (end := end_token(model)) is not None:
        ids[:, -1] = end
    return {"input_ids": ids.to(device), "attention_mask": torch.ones(rows, tokens, dtype=torch.long, device=device)}


def end_token(model: nn.Module) -> int | None:
    """The token that ends a row, without which a model of encoder and decoder (BART, T5) does not run; None for others."""
    config: Any = getattr(model, "config", None)
    return config.eos_token_id if getattr(config, "is_encoder_decoder", False) else None


def usual_inputs(model: nn.Module, rows: int) -> Inputs:
    """`random_inputs` of 32 tokens, or of as many as the model takes."""
    return random_inputs(model, rows, min(32, anatomy.positions(model.config) or 32))


def latency(
    models: Mapping[str, nn.Module],
    make_inputs: Callable[[nn.Module, int], Mapping[str, Tensor]] = usual_inputs,
    *,
    rows: Sequence[int] = (1, 32),
    repeats: int = 200,
    seconds: float = 4.0,
    autocast: Callable[[], AbstractContextManager[Any]] = contextlib.nullcontext,
    threads: int | None = None,
) -> dict[str, Times]:
    """Milliseconds of one forward pass of each model, at each number of rows: name -> rows -> what `alternate` returns.

    Models are timed by turns, so that a machine that drifts hits all alike. `make_inputs(model, rows)` gives the batch;
    `autocast()` the block it runs in, by default that of the weights' own precision. `threads` None keeps torch's setting;
    `seconds` bounds the time spent on one model at one number of rows.
    """
    table: dict[str, Times] = {name: {} for name in models}
    with contextlib.ExitStack() as stack:
        stack.enter_context(on_threads(threads))
        stack.enter_context(torch.inference_mode())
        for model in models.values():
            stack.enter_context(_evaluating(model))
        for count in rows:
            calls = {name: _forward(model, make_inputs(model, count), autocast) for name, model in models.items()}
            for name, times in alternate(calls, repeats=repeats, seconds=seconds).items():
                table[name][str(count)] = times | {"rows": count}
    return table


def alternate(calls: Mapping[str, Callable[[], object]], *, repeats: int = 200, seconds: float = 4.0) -> Times:
    """Time functions by turns: for each `median_ms`, `low_ms` and `high_ms` (5th and 95th percentile), and the timed `runs`.

    Each is called WARM times first. A turn lasts TURN seconds and starts with a call that is not timed, because the others
    have emptied the processor's caches; functions slower than a turn are spared it. It ends after `repeats` timed calls of
    each, or after `seconds` times the number of functions, though not before LEAST calls of each.
    """
    taken: dict[str, list[float]] = {name: [] for name in calls}
    end = time.perf_counter() + seconds * len(calls)
    for call in calls.values():
        for done in range(WARM):
            if done == 0 or time.perf_counter() < end:
                call()
    while any(len(t) < repeats for t in taken.values()):
        if time.perf_counter() > end and all(len(t) >= min(LEAST, repeats) for t in taken.values()):
            break
        for name, call in calls.items():
            if len(taken[name]) < repeats:
                _turn(call, taken[name], repeats)
    return {name: _spread(times) for name, times in taken.items()}


def sheets(
    models: Mapping[str, nn.Module],
    tokenizers: Mapping[str, Any] | None = None,
    *,
    tokens: int = 32,
    rows: Sequence[int] = (1, 32),
    repeats: int = 200,
    seconds: float = 4.0,
    precision: Precision = "float32",
    threads: int | None = None,
) -> dict[str, dict[str, Any]]:
    """The whole cost of each model, timed by turns on random texts of `tokens` tokens, or on random images of its own size.

    A sheet holds `parameters`, `flops` (of one row), `tokens` (None for images), `input` (what a row is), `bytes` and `dtype`
    of its weights in memory, `latency` (rows -> milliseconds, see `alternate`), `precision` (bfloat16 is autocast), `threads`
    and `device`.
    """
    known = {id(model): (tokenizers or {}).get(name) for name, model in models.items()}

    def make_inputs(model: nn.Module, count: int) -> Inputs:
        return random_inputs(model, count, tokens, tokenizer=known[id(model)])

    def autocast() -> AbstractContextManager[Any]:
        return torch.autocast(device, torch.bfloat16, enabled=precision == "bfloat16")

    device = _device(next(iter(models.values()))).type
    work = {name: flops(model, make_inputs(model, 1)) for name, model in models.items()}
    times = latency(models, make_inputs, rows=rows, repeats=repeats, seconds=seconds, autocast=autocast, threads=threads)
    return {
        name: {
            "parameters": parameters(model),
            "flops": work[name],
            "tokens": None if (picture := image_shape(model)) else tokens,
            "input": " x ".join(map(str, picture)) + " pixels" if picture else f"{tokens} tokens",
            "bytes": memory(model),
            "dtype": str(next(model.parameters()).dtype).removeprefix("torch."),
            "latency": times[name],
            "precision": precision,
            "threads": threads or torch.get_num_threads(),
            "device": _device(model).type,
        }
        for name, model in models.items()
    }


def sheet(model: nn.Module, tokenizer: Any = None, **settings: Any) -> dict[str, Any]:
    """One model's whole cost; settings and result as in `sheets`."""
    return sheets({"model": model}, {"model": tokenizer}, **settings)["model"]


@contextlib.contextmanager
def on_threads(count: int | None) -> Iterator[None]:
    """Run a block on so many CPU threads; None leaves torch's setting."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    training = [m for m in model.modules() if m.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


def _forward(model: nn.Module, inputs: Mapping[str, Tensor], autocast: Callable[[], AbstractContextManager[Any]]) -> Callable[[], None]:
    device = _device(model)

    def call() -> None:
        with autocast():
            model(**inputs)
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    return call


def _turn(call: Callable[[], object], taken: list[float], repeats: int) -> None:
    if not taken or taken[-1] < TURN:
        call()
    end = time.perf_counter() + TURN
    while True:
        start = time.perf_counter()
        call()
        taken.append(time.perf_counter() - start)
        if len(taken) >= repeats or time.perf_counter() > end:
            return


def _spread(times: Sequence[float]) -> dict[str, float]:
    low, median, high = (1000 * float(x) for x in np.percentile(times, (5, 50, 95)))
    return {"median_ms": median, "low_ms": low, "high_ms": high, "runs": len(times)}


def _device(model: nn.Module) -> torch.device:
    return next(model.parameters()).device
