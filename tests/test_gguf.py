"""The packaged language model out of its GGUF file, and files that are none."""

from __future__ import annotations

import pytest
import torch

from tutelage.errors import ModelError
from tutelage.models import gguf, load


def test_a_file_cut_short_is_refused_in_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setenv("TUTELAGE_CACHE", str(tmp_path / "cache"))
    whole = gguf.packaged("smollm2")
    for name, size in (("head", 1000), ("tensors", 9_000_000)):
        short = tmp_path / f"{name}.gguf"
        with open(whole, "rb") as handle:
            short.write_bytes(handle.read(size))
        with pytest.raises(ModelError, match=rf"{name}.gguf: cannot be read as a GGUF model, it may be cut short") as caught:
            load.resolve(str(short))
        assert "\n" not in str(caught.value)
    assert not list((tmp_path / "cache" / "models").glob("*/config.json"))


@pytest.mark.slow
def test_the_packaged_model_is_unpacked_once_and_knows_english(tmp_path, monkeypatch):
    monkeypatch.setenv("TUTELAGE_CACHE", str(tmp_path))
    loaded = load.open_model("smollm2", {}, auto="AutoModelForCausalLM")
    assert loaded.model.config.num_hidden_layers == 30 and loaded.model.dtype == torch.float32 and not loaded.new_head
    ids = loaded.tokenizer("The capital of France is", return_tensors="pt").input_ids
    with torch.no_grad():
        best = int(loaded.model(ids).logits[0, -1].argmax())
    assert loaded.tokenizer.decode([best]).strip() == "Paris"
    before = load.resolve("smollm2")
    monkeypatch.setattr(gguf, "_unpack", lambda *a: pytest.fail("unpacked again"))
    assert load.resolve("smollm2") == before
