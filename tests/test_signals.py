"""The signal cache: what is stored is what the teacher says, nobody else's is read, and harm is found."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from toys import Stop, bert, rows

from tutelage.engine import signals as module
from tutelage.engine.machine import Machine
from tutelage.engine.signals import Averaged, Cache, Live, Stored
from tutelage.engine.talk import Talk
from tutelage.models.load import weights_digest
from tutelage.rows import Inside

BOTH = {"logits": "example", "hidden:1": "token"}


@pytest.fixture
def made(tmp_path):
    return Cache(tmp_path, Machine(threads=1), Talk()), bert(2, seed=1).eval(), rows(30)


def fetch(cache, model, data, signals=BOTH, dtype=torch.float32, weights=None):
    return cache.fetch(data, weights or weights_digest(model), signals, dtype, lambda: model, "t")


def test_stored_signals_are_the_live_ones(made):
    cache, model, data = made
    stored = fetch(cache, model, data)
    live = Live(model, data, ("logits",), Inside(hidden=(1,)), cache.machine, torch.float32)
    batch = data.batch([3, 7, 1])
    a, b = stored.of(batch), live.of(batch)
    assert torch.allclose(a.outputs["logits"], b.outputs["logits"], atol=1e-5)
    mask = batch.inputs["attention_mask"].bool()
    assert torch.allclose(a.hidden[1].float()[mask], b.hidden[1][mask], atol=2e-3)
    assert a.hidden[1].shape == b.hidden[1].shape and not a.hidden[1][~mask].any()


def test_an_entry_is_read_again_and_each_signal_stands_alone(made):
    cache, model, data = made
    fetch(cache, model, data, {"logits": "example"})
    assert (cache.filled, cache.reused) == (1, 0)
    fetch(cache, model, data)
    assert (cache.filled, cache.reused) == (2, 1)
    silent = cache.fetch(data, weights_digest(model), BOTH, torch.float32, lambda: pytest.fail("the teacher was loaded"), "t")
    assert set(silent.arrays) == set(BOTH)


def test_other_rows_tokens_weights_or_precision_never_share_an_entry(made):
    cache, model, data = made
    other = rows(30)
    other.ragged["input_ids"] = other.ragged["input_ids"].copy()
    other.ragged["input_ids"][5] += 1
    shorter = rows(29)
    keys = {
        cache.key(d, w, s, t)
        for d in (data, other, shorter)
        for w in (weights_digest(model), weights_digest(bert(2, seed=8)))
        for s in BOTH
        for t in (torch.float32, torch.bfloat16)
    }
    assert len(keys) == 3 * 2 * 2 * 2
    moved = bert(2, seed=1)
    with torch.no_grad():
        moved.classifier.bias[0] += 1e-7
    assert weights_digest(moved) != weights_digest(model)


@pytest.mark.parametrize("harm", ["cut", "flip", "meta", "gone"])
def test_a_harmed_entry_is_found_said_and_computed_again(made, harm):
    cache, model, data = made
    before = {k: v.copy() for k, v in fetch(cache, model, data).arrays.items()}
    [file] = [p for p in cache.folder.glob("*/data.bin") if p.stat().st_size == 30 * 3 * 4]
    if harm == "cut":
        file.write_bytes(file.read_bytes()[:-1])
    elif harm == "flip":
        content = bytearray(file.read_bytes())
        content[40] ^= 1
        file.write_bytes(content)
    elif harm == "meta":
        (file.parent / "meta.json").write_text("{")
    else:
        file.unlink()
    after = fetch(cache, model, data).arrays
    assert all(np.array_equal(before[k], after[k]) for k in before)
    assert any("cut short or altered; it is computed again" in note for note in cache.talk.notes)


@pytest.mark.parametrize("harm", ["", "logits.bin", "done.json"])
def test_a_fill_that_was_interrupted_goes_on_and_ends_in_equal_values(made, tmp_path, monkeypatch, harm):
    cache, model, data = made
    whole = {k: v.copy() for k, v in fetch(cache, model, data).arrays.items()}
    monkeypatch.setattr(module, "SYNC_SECONDS", 0.0)
    monkeypatch.setattr(
        module.batches, "canonical", lambda lengths: [np.arange(i, min(i + 4, len(lengths))) for i in range(0, len(lengths), 4)]
    )
    broken = Cache(tmp_path / "b", cache.machine, Talk())
    inner, calls = module._put, []

    def put(*given):
        inner(*given)
        calls.append(1)
        if len(calls) == 5:
            raise Stop

    monkeypatch.setattr(module, "_put", put)
    with pytest.raises(Stop):
        fetch(broken, model, data)
    assert not list(broken.folder.glob("*/meta.json"))
    if harm:
        [file] = broken.folder.glob(f".partial-*/{harm}")
        content = bytearray(file.read_bytes())
        content[4 * 4 * 3 if harm == "logits.bin" else 40] ^= 1  # in the second of four whole batches
        file.write_bytes(content)
    monkeypatch.setattr(module, "_put", lambda *given: (inner(*given), calls.append(1)))
    resumed = fetch(broken, model, data).arrays
    good = {"": 4, "logits.bin": 1, "done.json": 0}[harm]
    assert len(calls) == 5 + (8 - good), "batches noted as done and whole are not computed again"
    assert bool(harm) == any(f"is damaged behind batch {good}" in note for note in broken.talk.notes)
    assert all(np.allclose(whole[k], resumed[k], atol=1e-3) for k in whole)


def test_averages_of_logits_and_of_probabilities_by_hand(made):
    cache, _, data = made
    blocks = [torch.randn(30, 3, generator=torch.Generator().manual_seed(i)).numpy() for i in range(2)]
    sources = [Stored({"logits": b}, {"logits": "example"}, np.zeros(1), cache.machine.device) for b in blocks]
    batch = data.batch([4, 2])
    a, b = (torch.from_numpy(x[[4, 2]]) for x in blocks)
    assert torch.allclose(Averaged(sources, "logits", "choice").of(batch).outputs["logits"], (a + b) / 2)
    mean = Averaged(sources, "probabilities", "choice").of(batch).outputs["logits"].softmax(-1)
    assert torch.allclose(mean, (a.softmax(-1) + b.softmax(-1)) / 2, atol=1e-6)
