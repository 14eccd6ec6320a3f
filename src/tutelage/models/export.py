"""A saved classifier of texts or images as ONNX, checked against the model, timed beside it, and as int8 if wanted.

Written by torch's exporter that traces programs (`dynamo=True`): it keeps batch and length free, where the older tracing
of one example bakes branches in. int8 is onnxruntime's dynamic quantization: weights (embedding tables too) are stored
as int8 with one scale a column, activations are quantized as they come; a processor without VNNI or its like may saturate.
Convolutions are stored as uint8 with one scale a layer, the one form of theirs that onnxruntime runs.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import io
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .. import records
from ..errors import ConfigError, MissingExtra, ModelError
from . import anatomy, cost, load
from .samples import Inputs, Text, names_of, random_batches, text_batches

PACKAGES = ("onnx", "onnxscript", "onnxruntime")
NAME, SMALL, MARK = "model.onnx", "model-int8.onnx", "export.json"
LARGE = 1_500_000_000
"""Bytes of weights from which they stand in a file of their own, as one ONNX file holds 2 GB at most."""


def export(
    folder: str | Path,
    out: str | Path,
    *,
    int8: bool = False,
    opset: int = 18,
    tolerance: float = 1e-4,
    texts: Sequence[Text] = (),
    rows: Sequence[int] = (1, 32),
    tokens: int = 32,
    seconds: float = 2.0,
    threads: int | None = None,
) -> dict[str, Any]:
    """Write a saved classifier to `out` as float32 ONNX with free batch (and length, for texts); return what was found.

    Beside `model.onnx` (and `model-int8.onnx`) stand the tokenizer, `config.json` and `labels.json`, the label names in the
    order of the logits; the returned facts are kept as `export.json`. Every file is run by onnxruntime on random batches of
    several shapes with padding, and on `texts` (or pairs) where given; `max_difference` is between logits, `agreement` the
    share of rows with the same prediction, None for regression. All are timed by turns, `seconds` a model and number of `rows`.

    Raises ModelError for a folder that is no trained classifier, a model that cannot be exported, or logits that differ by
    more than `tolerance` (float32 file only); ConfigError for a folder `out` that holds something else; MissingExtra.
    """
    folder, out = Path(folder), Path(out)
    _check_places(folder, out)
    if any(importlib.util.find_spec(p) is None for p in PACKAGES):
        raise MissingExtra("export", "onnx")
    with _quiet():
        model, tokenizer = _open(folder)
        names = names_of(model, tokenizer)
    if texts and tokenizer is None:
        raise ConfigError([("texts", "have no effect on a model for images; leave them out")])
    batches = [*random_batches(model, tokenizer, names), *text_batches(model, tokenizer, names, texts)]
    with cost.on_threads(threads), torch.inference_mode(), records.whole_folder(out) as place:
        wanted = [model(**batch).logits.numpy() for batch in batches]
        with _quiet(), _named(folder, model, "exported to ONNX"):
            _write(model, names, batches[2], place / NAME, opset)
            files = {NAME: _compare(place / NAME, batches, wanted, model.config)}
        _hold(files[NAME]["max_difference"], tolerance, folder)
        if int8:
            with _quiet(), _named(folder, model, "made int8"):
                _quantize(place / NAME, place / SMALL)
                files[SMALL] = _compare(place / SMALL, batches, wanted, model.config)
        labels = [str(model.config.id2label[i]) for i in range(model.config.num_labels)]
        if tokenizer is not None:
            tokenizer.save_pretrained(place)
        model.config.save_pretrained(place)
        records.write_json(place / "labels.json", labels)
        facts = {
            "files": files, "inputs": list(names), "labels": labels, "opset": opset, "tolerance": tolerance,
            "checked": {"batches": len(batches), "rows": sum(len(w) for w in wanted), "texts": len(texts)},
            "latency": _times(model, place, files, names, rows, tokens, seconds),
            "tokens": None if tokenizer is None else tokens, "threads": torch.get_num_threads(),
        }  # fmt: skip
        records.write_json(place / MARK, facts)
    return facts


def _check_places(folder: Path, out: Path) -> None:
    if not folder.is_dir():
        raise ModelError(f"{folder}: no such folder; name the folder that a model was saved in")
    if not (folder / "config.json").is_file():
        raise ModelError(f"{folder}: is not a model folder (no config.json); name one written by save_pretrained")
    if out.exists() and not out.is_dir():
        raise ConfigError(f"{out}: is a file; name a folder to export to")
    if folder.resolve().is_relative_to(out.resolve()):
        raise ConfigError(f"{out}: holds the model itself; name another folder to export to")
    if out.is_dir() and any(out.iterdir()) and not (out / MARK).is_file():
        raise ConfigError(f"{out}: is not empty and not an earlier export (no {MARK}); name a new folder")


def _open(folder: Path) -> tuple[Any, Any]:
    config = load.open_config(str(folder))
    if (config.architectures or [""])[0].endswith("ForQuestionAnswering"):
        raise ModelError(f"{folder}: answers questions with spans of text, and only classifiers are exported; load it with transformers")
    if (config.architectures or [""])[0].endswith("ForCausalLM"):
        raise ModelError(f"{folder}: is a language model, and only classifiers are exported; load it with transformers")
    images = (getattr(config, "architectures", None) or [""])[0].endswith(load.IMAGES.removeprefix("AutoModel"))
    auto = load.IMAGES if images else "AutoModelForSequenceClassification"
    loaded = load.open_model(str(folder), {"num_labels": config.num_labels}, auto=auto, text=not images)
    if loaded.new_head:
        raise ModelError(f"{folder}: has no trained classification head; train it on a task first, or name the student's folder of a run")
    if not images and len(loaded.tokenizer) <= len(set(loaded.tokenizer.all_special_ids)):
        raise ModelError(f"{folder}: has no tokenizer; save the tokenizer into the same folder")
    return loaded.model.eval(), loaded.tokenizer


class _Logits(nn.Module):
    """A classifier as a function of tensors in a fixed order, so that the file's inputs have that order."""

    def __init__(self, model: nn.Module, names: Sequence[str]):
        super().__init__()
        self.model, self.names = model, names

    def forward(self, *inputs: Tensor) -> Tensor:
        logits: Tensor = self.model(**dict(zip(self.names, inputs, strict=True))).logits
        return logits


def _write(model: Any, names: Sequence[str], example: Inputs, path: Path, opset: int) -> None:
    import onnx

    free = {0: "batch"} if names == ("pixel_values",) else {0: "batch", 1: "length"}
    with torch.inference_mode(False), torch.no_grad():
        torch.onnx.export(
            _Logits(model, names).eval(),
            tuple(example[name].clone() for name in names),
            path,
            input_names=list(names),
            output_names=["logits"],
            dynamic_shapes=[(free,) * len(names)],
            opset_version=opset,
            dynamo=True,
            external_data=cost.memory(model) > LARGE,
            verbose=False,
        )
    program = onnx.load(path, load_external_data=False)
    given = next(o.version for o in program.opset_import if o.domain in ("", "ai.onnx"))
    if given != opset:
        raise ConfigError([("opset", f"{opset} cannot be written for this model, {given} can; set opset to {given}")])
    _forget(program)
    onnx.save(program, path)


def _forget(program: Any) -> None:
    """Drop the exporter's traces: they make up much of a small file, and name folders of this machine."""
    graph = program.graph
    for part in (graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer, *program.functions):
        del part.metadata_props[:]
        part.doc_string = ""


def _quantize(source: Path, path: Path) -> None:
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    large = source.with_name(source.name + ".data").exists()
    folds = any(node.op_type == "Conv" for node in onnx.load(source, load_external_data=False).graph.node)
    quantize_dynamic(
        source,
        path,
        op_types_to_quantize=["MatMul", "Gemm", "Gather", *(["Conv"] if folds else [])],
        weight_type=QuantType.QUInt8 if folds else QuantType.QInt8,
        per_channel=not folds,
        use_external_data_format=large,
    )


def _session(path: Path) -> Callable[[Inputs], np.ndarray]:
    """A function that runs an ONNX file on torch's number of CPU threads: inputs to logits (rows, labels).

    Its threads sleep between calls: spinning ones would take the cores from the models that are timed in turn with it.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def run(inputs: Inputs) -> np.ndarray:
        logits: np.ndarray = session.run(["logits"], {name: value.numpy() for name, value in inputs.items()})[0]
        return logits

    return run


def _compare(path: Path, batches: Sequence[Inputs], wanted: Sequence[np.ndarray], config: Any) -> dict[str, Any]:
    run = _session(path)
    given = [run(batch) for batch in batches]
    difference = max(float(np.abs(g - w).max()) for g, w in zip(given, wanted, strict=True))
    size = sum(f.stat().st_size for f in path.parent.glob(f"{path.name}*"))
    return {"bytes": size, "max_difference": difference, "agreement": _agreement(np.concatenate(given), np.concatenate(wanted), config)}


def _agreement(given: np.ndarray, wanted: np.ndarray, config: Any) -> float | None:
    """Share of rows whose predictions are equal: the largest logit, or for several labels at once the set above 0."""
    if config.num_labels == 1 or config.problem_type == "regression":
        return None
    if config.problem_type == "multi_label_classification":
        return float(((given > 0) == (wanted > 0)).all(axis=1).mean())
    return float((given.argmax(axis=1) == wanted.argmax(axis=1)).mean())


def _hold(difference: float, tolerance: float, source: Path) -> None:
    if not difference <= tolerance:
        raise ModelError(
            f"{source}: its ONNX form differs from the model by {difference:.2g} in a logit, more than {tolerance:.2g}; nothing was written"
        )


def _times(
    model: Any, place: Path, files: Sequence[str] | dict[str, Any], names: Sequence[str], rows: Sequence[int], tokens: int, seconds: float
) -> dict[str, cost.Times]:
    sessions = {name: _session(place / name) for name in files}
    table: dict[str, cost.Times] = {name: {} for name in ("model", *files)}
    for count in rows:
        batch = cost.random_inputs(model, count, min(tokens, anatomy.positions(model.config) or tokens))
        if "token_type_ids" in names:
            batch["token_type_ids"] = torch.zeros_like(batch["input_ids"])
        calls: dict[str, Callable[[], object]] = {"model": functools.partial(model, **batch)}
        calls |= {name: functools.partial(run, batch) for name, run in sessions.items()}
        for name, times in cost.alternate(calls, seconds=seconds).items():
            table[name][str(count)] = times | {"rows": count}
    return table


@contextlib.contextmanager
def _named(source: Path, model: Any, what: str) -> Iterator[None]:
    """Turn whatever exporter, quantizer and runtime raise into one sentence that names the model's family."""
    try:
        yield
    except (ConfigError, OSError):
        raise
    except Exception as fault:
        why = " ".join(str(fault).split())[:200]
        raise ModelError(f"{source}: a model of the family {model.config.model_type} could not be {what}: {why}") from fault


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep what exporter and quantizer print, warn and log from the user; what they raise passes."""
    handlers, level = logging.root.handlers[:], logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
        logging.root.handlers[:] = handlers
