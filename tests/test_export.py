"""ONNX export: the files are run by onnxruntime here, apart from the product's own check."""

from __future__ import annotations

import json
import logging
import os
import shutil
import sys

import numpy as np
import pytest
import torch
import transformers

from tutelage.errors import ConfigError, MissingExtra, ModelError, RunError
from tutelage.models import export as exporting
from tutelage.models.export import export

pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

WORDS = [f"w{i}" for i in range(90)]
TEXTS = ["w1 w2 w3", "w4", "w5 w6 w7 w8 w9 w10 w11", "w12 w13"]
SHAPE = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 2,
    "eos_token_id": 3,
    "id2label": {0: "bad", 1: "fair", 2: "good"},
}
DISTIL = {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64}
FAMILIES = {
    "bert": (transformers.BertConfig, transformers.BertForSequenceClassification, {}),
    "roberta": (transformers.RobertaConfig, transformers.RobertaForSequenceClassification, {}),
    "distilbert": (transformers.DistilBertConfig, transformers.DistilBertForSequenceClassification, DISTIL),
    "llama": (transformers.LlamaConfig, transformers.LlamaForSequenceClassification, {"num_key_value_heads": 2}),
}
QUICK = {"seconds": 0.02, "rows": (1, 2), "tokens": 8, "threads": 1}


def words(family: str, side: str = "right"):
    """A tokenizer of whole words that makes the inputs the family's own makes."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    inner = Tokenizer(models.WordLevel({w: i for i, w in enumerate(special + WORDS)}, unk_token="[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    inner.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = ["input_ids", "attention_mask"] + ["token_type_ids"] * (family == "bert")
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]",
        model_max_length=60, padding_side=side, model_input_names=names,
    )  # fmt: skip


def saved(folder, family="bert", side="right", scale=8.0, **changes):
    """A tiny random classifier with its tokenizer in a folder; weights scaled up so that inputs matter to the logits."""
    config, kind, own = FAMILIES[family]
    torch.manual_seed(0)
    model = kind(config(**SHAPE | own | {"vocab_size": len(WORDS) + 4} | changes)).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.dim() == 2 and "embed" not in name:
                weight.mul_(scale)
    model.save_pretrained(folder)
    words(family, side).save_pretrained(folder)
    return model


def run(path, encoded):
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(["logits"], {k: np.asarray(v) for k, v in encoded.items()})[0]


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    """A saved BERT whose weights mostly stand in matrices, the model itself, and the facts of its export with int8."""
    place = tmp_path_factory.mktemp("bert")
    model = saved(place / "model", intermediate_size=2048, scale=2.0)
    pairs = [("w1 w2", "w3"), ("w4", "w5 w6")]
    return place, model, export(place / "model", place / "onnx", int8=True, texts=pairs, **QUICK)


@pytest.fixture
def reused(bert, monkeypatch):
    """The saved BERT; the exporter takes the file written before, so that what surrounds it is tested in no time."""
    place = bert[0]
    monkeypatch.setattr(exporting, "_write", lambda *given: shutil.copy(place / "onnx" / "model.onnx", given[3]))
    return place / "model"


@pytest.mark.parametrize(
    ("family", "side"), [("bert", "right"), ("roberta", "right"), ("distilbert", "right"), ("llama", "right"), ("llama", "left")]
)
def test_a_family_gives_the_models_logits_on_batches_of_any_size_length_and_padding(tmp_path, family, side):
    model = saved(tmp_path / "model", family, side)
    facts = export(tmp_path / "model", tmp_path / "onnx", texts=TEXTS, **QUICK)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "onnx")
    for texts in (["w1"], ["w3 w4 w5"], TEXTS, [" ".join(WORDS[:50]), "w7"], TEXTS * 5):
        encoded = tokenizer(texts, padding=True, return_tensors="pt")
        with torch.inference_mode():
            want = model(**encoded).logits.numpy()
        got = run(tmp_path / "onnx" / "model.onnx", encoded)
        assert got.shape == want.shape == (len(texts), 3)
        assert np.abs(got - want).max() < 1e-5 and want.std() > 0.01
    assert facts["files"]["model.onnx"]["max_difference"] < 1e-5
    assert set(facts["inputs"]) == set(encoded)


def test_weights_kept_in_bfloat16_are_exported_in_float32(tmp_path):
    saved(tmp_path / "model", "distilbert").to(torch.bfloat16).save_pretrained(tmp_path / "model")
    assert '"dtype": "bfloat16"' in (tmp_path / "model" / "config.json").read_text()
    export(tmp_path / "model", tmp_path / "onnx", **QUICK)
    got = run(tmp_path / "onnx" / "model.onnx", words("distilbert")(TEXTS, padding=True, return_tensors="np"))
    assert got.dtype == np.float32 and got.std() > 0.01


def test_pairs_keep_their_segments(bert):
    place, model, facts = bert
    encoded = words("bert")([("w1 w2", "w3 w4 w5"), ("w6", "w7")], padding=True, return_tensors="pt")
    assert encoded["token_type_ids"].any()
    got = run(place / "onnx" / "model.onnx", encoded)
    flat = run(place / "onnx" / "model.onnx", encoded | {"token_type_ids": torch.zeros_like(encoded["input_ids"])})
    with torch.inference_mode():
        assert np.abs(got - model(**encoded).logits.numpy()).max() < 1e-5
    assert np.abs(got - flat).max() > 1e-4
    assert facts["checked"]["texts"] == 2


def test_int8_is_smaller_and_its_distance_is_reported_as_measured(bert):
    place, model, facts = bert
    small, full = (facts["files"][n] for n in ("model-int8.onnx", "model.onnx"))
    assert small["bytes"] == (place / "onnx" / "model-int8.onnx").stat().st_size < 0.4 * full["bytes"]
    assert full["max_difference"] < small["max_difference"] < 0.5 and 0.8 < small["agreement"] <= full["agreement"] == 1.0
    encoded = words("bert")(TEXTS, padding=True, return_tensors="pt")
    with torch.inference_mode():
        gap = np.abs(run(place / "onnx" / "model-int8.onnx", encoded) - model(**encoded).logits.numpy()).max()
    assert 0 < gap < 5 * small["max_difference"]
    assert set(facts["latency"]) == {"model", "model.onnx", "model-int8.onnx"}
    for times in facts["latency"].values():
        assert set(times) == {"1", "2"} and 0 < times["1"]["low_ms"] <= times["1"]["median_ms"] <= times["1"]["high_ms"]


def test_an_export_stands_on_its_own_and_names_no_place(bert):
    place, _, facts = bert
    out = place / "onnx"
    assert json.loads((out / "export.json").read_text()) == json.loads(json.dumps(facts)) == facts
    assert json.loads((out / "labels.json").read_text()) == facts["labels"] == ["bad", "fair", "good"]
    assert transformers.AutoConfig.from_pretrained(out).id2label == SHAPE["id2label"]
    content = (out / "model.onnx").read_bytes()
    assert b"site-packages" not in content and str(place).encode() not in content
    assert len(content) == facts["files"]["model.onnx"]["bytes"]
    assert not [f for f in place.iterdir() if f.name.startswith(".")]


def test_an_export_says_nothing_and_leaves_logging_and_threads_as_they_were(tmp_path, capfd):
    saved(tmp_path / "model", "distilbert", n_layers=1)
    capfd.readouterr()
    before = (logging.root.manager.disable, logging.root.handlers[:], torch.get_num_threads())
    export(tmp_path / "model", tmp_path / "onnx", int8=True, **QUICK)
    assert capfd.readouterr() == ("", "")
    assert (logging.root.manager.disable, logging.root.handlers[:], torch.get_num_threads()) == before


def test_agreement_is_counted_as_the_kind_of_label_asks():
    config = transformers.BertConfig(num_labels=2)
    one, other = np.array([[1.0, 2], [3, -1], [-2, -1]]), np.array([[2.0, 1], [4, -2], [-1, -0.5]])
    assert exporting._agreement(one, other, config) == pytest.approx(2 / 3)
    config.problem_type = "multi_label_classification"
    assert exporting._agreement(one, other, config) == 1.0
    assert exporting._agreement(one, -other, config) == 0.0
    assert exporting._agreement(one[:, :1], other[:, :1], transformers.BertConfig(num_labels=1)) is None


def test_an_earlier_export_is_replaced_and_anything_else_is_left_alone(tmp_path, reused):
    out = tmp_path / "onnx"
    out.mkdir()
    (out / "letter.txt").write_text("dear")
    with pytest.raises(ConfigError, match=r"is not empty and not an earlier export \(no export.json\); name a new folder"):
        export(reused, out)
    assert (out / "letter.txt").read_text() == "dear"
    (out / "letter.txt").unlink()
    export(reused, out, int8=True, **QUICK)
    export(reused, out, **QUICK)
    assert not (out / "model-int8.onnx").exists()


def test_a_difference_above_the_tolerance_is_refused_and_the_earlier_export_stays(tmp_path, reused):
    export(reused, tmp_path / "onnx", **QUICK)
    before = (tmp_path / "onnx" / "export.json").read_bytes()
    with pytest.raises(ModelError, match=r"its ONNX form differs from the model by .* in a logit, more than 1e-12"):
        export(reused, tmp_path / "onnx", tolerance=1e-12, **QUICK)
    assert (tmp_path / "onnx" / "export.json").read_bytes() == before
    assert [f.name for f in tmp_path.iterdir()] == ["onnx"]


def test_a_file_of_other_weights_or_not_a_number_is_refused(tmp_path, reused):
    for value, said in ((0.5, "by 0.5 in a logit"), (float("nan"), "by nan in a logit")):
        model = transformers.AutoModelForSequenceClassification.from_pretrained(reused)
        with torch.no_grad():
            model.classifier.bias[1] += value
        shutil.copytree(reused, tmp_path / "other", dirs_exist_ok=True)
        model.save_pretrained(tmp_path / "other")
        with pytest.raises(ModelError, match=said):
            export(tmp_path / "other", tmp_path / "onnx", **QUICK)


@pytest.mark.parametrize(("step", "said"), [("_write", "exported to ONNX"), ("_quantize", "made int8")])
def test_a_family_that_cannot_be_exported_is_named(tmp_path, reused, monkeypatch, step, said):
    def fail(*_, **__):
        raise RuntimeError("no such operator")

    monkeypatch.setattr(exporting, step, fail)
    with pytest.raises(ModelError, match=f"a model of the family bert could not be {said}: no such operator"):
        export(reused, tmp_path / "onnx", int8=True, **QUICK)
    assert not (tmp_path / "onnx").exists()


@pytest.mark.parametrize(
    ("break_it", "sentence"),
    [
        (lambda f: f.rename(f.with_name("gone")), "model: no such folder"),
        (lambda f: (f / "config.json").unlink(), r"is not a model folder \(no config.json\); name one written"),
        (lambda f: (f / "model.safetensors").write_bytes(b"x" * 100), "its weights are cut short or damaged"),
        (lambda f: (f / "model.safetensors").unlink(), "cannot be read as a model"),
        (lambda f: [t.unlink() for t in f.glob("tokenizer*")], "token"),
    ],
)
def test_a_folder_that_is_no_whole_model_is_one_sentence(tmp_path, break_it, sentence):
    saved(tmp_path / "model")
    break_it(tmp_path / "model")
    with pytest.raises(ModelError, match=sentence):
        export(tmp_path / "model", tmp_path / "onnx")
    assert not (tmp_path / "onnx").exists()


def test_a_model_without_a_trained_head_is_refused(tmp_path):
    model = saved(tmp_path / "model")
    model.bert.save_pretrained(tmp_path / "model")
    with pytest.raises(ModelError, match="has no trained classification head; train it on a task first"):
        export(tmp_path / "model", tmp_path / "onnx")


def test_an_export_never_lands_on_its_own_model(tmp_path):
    saved(tmp_path / "model")
    (tmp_path / "export.json").write_text("{}")
    for out in (tmp_path / "model", tmp_path):
        with pytest.raises(ConfigError, match="holds the model itself; name another folder"):
            export(tmp_path / "model", out)
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="file: is a file; name a folder"):
        export(tmp_path / "model", tmp_path / "file")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_place_without_permission_is_one_sentence(tmp_path):
    saved(tmp_path / "model")
    (tmp_path / "shut").mkdir(mode=0o500)
    with pytest.raises(RunError, match="cannot be written"):
        export(tmp_path / "model", tmp_path / "shut" / "onnx", **QUICK)


def test_without_onnx_the_missing_extra_is_named(tmp_path, monkeypatch):
    saved(tmp_path / "model")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingExtra, match=r"export needs the extra 'onnx': pip install 'tutelage\[onnx\]'"):
        export(tmp_path / "model", tmp_path / "onnx")


@pytest.mark.slow
def test_an_operator_set_that_cannot_be_written_is_one_sentence(tmp_path):
    saved(tmp_path / "model", "distilbert", n_layers=1)
    with pytest.raises(ConfigError, match="opset: 5 cannot be written for this model, 18 can; set opset to 18"):
        export(tmp_path / "model", tmp_path / "onnx", opset=5, **QUICK)


@pytest.mark.slow
@pytest.mark.parametrize("opset", [17, 20, 23])
def test_other_operator_sets_give_the_same_logits(tmp_path, opset):
    saved(tmp_path / "model")
    facts = export(tmp_path / "model", tmp_path / "onnx", opset=opset, int8=True, **QUICK)
    assert facts["files"]["model.onnx"]["max_difference"] < 1e-5
