"""Every family of transformers that can be made small: what works with it, and that the rest is refused before anything is trained."""

from __future__ import annotations

import families
import numpy as np
import pytest
import torch

from tutelage.engine import tiles
from tutelage.engine.forward import forward
from tutelage.errors import ModelError
from tutelage.models import anatomy
from tutelage.tasks._packing import NO_TARGET, pack
from tutelage.tasks._task import Encoded
from tutelage.tasks.language import Language

OWN = {"granite": {"logits_scaling": 8.0}, "cohere": {"logit_scale": 4.0}, "gemma2": {"final_logit_softcapping": 0.5}, "phi": {}}
"""Families whose output layer is more than a weight, with settings that show it."""
APART = ("llama", "gpt2")
TOGETHER, MORE = ("opt",), ("modernbert-decoder",)
"""Families that let packed documents see each other, and those with more than a layer between states and logits."""


def chosen(names, quick):
    return [name if name in quick else pytest.param(name, marks=pytest.mark.slow) for name in names]


@pytest.mark.parametrize("family", chosen(families.CAUSAL_NAMES, (*OWN, *APART, *TOGETHER, *MORE)))
def test_the_loss_of_packed_text_is_transformers_own_or_the_family_is_refused(family):
    model = families.tiny(family, families.CAUSAL, **OWN.get(family, {}))
    if model is None:
        pytest.skip("is not made small by the usual names of sizes")
    try:
        anatomy.check_language_model(model)
    except ModelError as fault:
        assert str(fault).startswith(f"language models of type '{family}' cannot be trained or scored on packed rows: ")
        assert family not in (*OWN, *APART)
        return
    assert family not in (*TOGETHER, *MORE)
    draw = np.random.default_rng(0)
    documents = [draw.integers(5, 20, size).tolist() for size in (7, 4, 9)]
    columns, targets, lengths = pack([(d, [True] * len(d)) for d in documents], 32)
    numbers = np.zeros(len(lengths), dtype=np.int64)
    encoded = Encoded(columns, lengths, numbers, extra={"target": targets - NO_TARGET}, pad={"input_ids": 0}, mask=False)
    task, batch = Language(data="none", tokens=32), encoded.batch(np.arange(1))
    with torch.no_grad():
        losses = [model(input_ids=one, labels=one).loss for one in map(torch.tensor, ([d] for d in documents))]
        wanted = sum((len(d) - 1) * float(loss) for d, loss in zip(documents, losses, strict=True))
        found = task.shown(forward(model, batch.inputs, task.outputs), batch)["sums"][0]
    assert torch.allclose(found[0], torch.tensor(wanted), rtol=1e-3)
    seen = forward(model, batch.inputs, task.outputs)
    loss, _ = tiles.loss_of({"label": task.label_term(seen, batch)}, task.counts(encoded, np.arange(1)))
    assert torch.allclose(loss * found[2], torch.tensor(wanted), rtol=1e-3)
