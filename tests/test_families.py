"""Every family of transformers that can be made small: what works with it, and that the rest is refused before anything is trained."""

from __future__ import annotations

import functools

import families
import numpy as np
import parts
import pytest
import torch

from tutelage import config
from tutelage.engine import fits, tiles
from tutelage.engine.distill import distill
from tutelage.engine.forward import forward
from tutelage.engine.judge import evaluate
from tutelage.errors import ModelError, TutelageError
from tutelage.find import find
from tutelage.models import anatomy, cost, load
from tutelage.models.export import export
from tutelage.models.samples import names_of, random_batches
from tutelage.tasks._packing import NO_TARGET, pack
from tutelage.tasks._task import Encoded, Split
from tutelage.tasks._text import encode_texts
from tutelage.tasks.classify import Classify
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


WORKS, LABELS = "works", ("negative", "positive")


def classifier(family: str):
    model = families.tiny(family, families.ENCODERS, num_labels=2)
    if model is None:
        pytest.skip("is not made small by the usual names of sizes")
    model.config.id2label, model.config.label2id = dict(enumerate(LABELS)), {x: i for i, x in enumerate(LABELS)}
    return model


def tried(family: str, place, bert: str) -> dict[str, str]:
    """What a family of classifiers does as teacher, student, cut student, when evaluated and exported: 'works', or why not."""
    folder, found = families.saved(classifier(family), place / "model"), {}
    data = parts.write_reviews(place / "reviews.jsonl", 60)
    settings = {"task": {"data": str(data), "max_length": 24}, "train": {"steps": 1, "batch_size": 4}, "threads": 1, "name": "x"}

    def run(column: str, **more) -> str:
        store = place / f"{column}-store"
        outcome = said(lambda: distill({**settings, **more}, out=place / column, store=store))
        assert outcome == WORKS or not list(store.rglob("steps.jsonl")), f"{column}: trained before it was refused"
        return outcome

    found["teacher"] = found["student"] = run("both", teacher=folder, student={"model": folder}, method="kd")
    if found["teacher"] != WORKS:
        found["teacher"] = run("teacher", teacher=folder, student={"model": bert}, method="kd")
        found["student"] = run("student", student={"model": folder}, method="finetune")
    found["surgery"] = run("surgery", teacher=folder, student={"surgery": [{"kind": "keep_layers", "layers": [0]}]}, method="kd")
    found["evaluate"] = said(lambda: evaluate(folder, (f"data={data}", f"labels=[{','.join(LABELS)}]", "max_length=24"), None, None))
    return found


def said(work) -> str:
    """'works', or the one sentence by which it was refused."""
    try:
        work()
    except TutelageError as fault:
        assert "\n" not in str(fault)
        return str(fault)
    return WORKS


REFUSED = {"xlnet": "the output of models of type 'xlnet' for a row changes when the row is padded; take another family"}
CUT = ("bert", "roberta", "llama")
"""Families that surgeries know."""


@pytest.mark.parametrize("family", ["bert", "roberta", "bart", "t5", "gpt2", "deberta-v2", "llama", "xlnet"])
def test_a_family_runs_on_texts_of_any_length_learns_is_cut_and_timed_or_is_refused(family, tmp_path):
    folder = families.saved(classifier(family), tmp_path / "model")
    loaded = load.open_model(folder, {"num_labels": 2}, auto=Classify.auto, labels=LABELS)
    split = Split({"text": ["good film", "bad plot " * 60, "fine"]}, np.array([1, 0, 1]), [1, 2, 3], "rows")
    task, encoded = config.build(Classify, {"data": "none"}), encode_texts(split, loaded.tokenizer, 512)
    assert encoded.lengths.max() == min(122, anatomy.positions(loaded.model.config) or 122)
    assert said(lambda: fits.try_out("teacher", loaded.model, encoded, task)) == (
        f"teacher: {REFUSED[family]}" if family in REFUSED else WORKS
    )
    batch = encoded.batch(np.arange(3))
    loaded.model(**batch.inputs).logits.logsumexp(-1).sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in loaded.model.parameters() if p.grad is not None)
    loaded.model(**cost.usual_inputs(loaded.model, 3))
    for shaped in random_batches(loaded.model, loaded.tokenizer, names_of(loaded.model, loaded.tokenizer)):
        loaded.model(**shaped)
    outcome = said(lambda: find("surgery", "keep_layers")(layers=(0,))(loaded.model))
    assert outcome == WORKS if family in CUT else outcome.startswith(f"models of type '{family}' are not known to surgeries")


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    return str(parts.save_tiny(tmp_path_factory.mktemp("bert"), depth=1, width=16, labels=dict(enumerate(LABELS))))


@pytest.mark.slow
@pytest.mark.parametrize("family", families.ENCODER_NAMES)
def test_what_the_documentation_says_of_a_family_is_so(family, bert, tmp_path, monkeypatch):
    monkeypatch.setattr(cost, "WARM", 1)
    monkeypatch.setattr(cost, "latency", functools.partial(cost.latency, repeats=1))
    assert families.row(family, tried(family, tmp_path, bert)) in families.PAGE.read_text().splitlines()


@pytest.mark.slow
@pytest.mark.parametrize("family", families.ENCODER_NAMES)
def test_a_family_is_exported_or_refused_in_one_sentence(family, tmp_path):
    pytest.importorskip("onnxruntime")
    folder = families.saved(classifier(family), tmp_path / "model")
    said(lambda: export(folder, tmp_path / "onnx", seconds=0.01))
