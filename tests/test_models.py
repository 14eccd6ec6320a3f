"""Models as users name and save them: whose code runs, what is looked up, which labels a head knows, and how damage is said."""

from __future__ import annotations

import json
import pickle

import pytest
import torch
from click.testing import CliRunner
from parts import WORDS, save_tiny
from transformers import AutoConfig

from tutelage.cli import main
from tutelage.errors import ModelError
from tutelage.models import load, resnet
from tutelage.models.labels import label_order
from tutelage.models.trust import trusting

CLASSIFIER = "AutoModelForSequenceClassification"


@pytest.fixture
def folder(tmp_path):
    return save_tiny(tmp_path / "model", depth=1, width=8, labels={0: "bad", 1: "good"})


def change(folder, **settings):
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | settings))


def refused(name) -> str:
    """The one sentence by which a model is refused, whichever of its parts is read first."""
    with pytest.raises(ModelError) as fault:
        load.open_model(str(name), {"num_labels": 2, "id2label": {0: "bad", 1: "good"}}, auto=CLASSIFIER, labels=("bad", "good"))
    assert "\n" not in str(fault.value)
    return str(fault.value)


@pytest.mark.parametrize(
    ("own", "task", "order"),
    [
        (("us", "US"), ("US", "us"), [1, 0]),
        (("US", "us"), ("US", "us"), [0, 1]),
        (("NEG", "POS"), ("pos", "neg"), [1, 0]),
        (("US", "us"), ("Us", "uS"), None),
        (("US", "them"), ("US", "us"), None),
        (("LABEL_0", "LABEL_1"), ("US", "us"), [0, 1]),
        (("straße", "weg"), ("STRASSE", "WEG"), [0, 1]),
    ],
)
@pytest.mark.parametrize("kind", ["SequenceClassification", "ImageClassification"])
def test_labels_are_matched_by_their_exact_names_and_by_case_only_one_to_one(own, task, order, kind):
    config = AutoConfig.for_model("bert", id2label=dict(enumerate(own)), architectures=[f"XFor{kind}"])
    assert label_order(config, task, {"num_labels": 2}, f"AutoModelFor{kind}") == order


def test_a_folders_own_code_runs_only_where_the_user_trusts_it(folder, tmp_path, monkeypatch):
    ran = tmp_path / "ran"
    monkeypatch.setattr("builtins.input", lambda *a: pytest.fail("asked on standard input"))
    code = "from transformers import BertConfig\nclass Own(BertConfig):\n    model_type = 'strange'\n"
    (folder / "own.py").write_text(f"open({str(ran)!r}, 'w').close()\n{code}")
    change(folder, model_type="strange", auto_map={"AutoConfig": "own.Own"})
    says = "holds code of its own, which runs only where you say so; set trust_remote_code: true beside its model in the recipe"
    assert says in refused(folder)
    with trusting(("somebody/else",)):
        assert says in refused(folder)
    run = CliRunner().invoke(main, ["cost", str(folder)], input="yes\n")
    assert run.exit_code == 2 and says in run.output and not ran.exists()
    with trusting((str(folder),)):
        assert load.open_config(str(folder)).model_type == "strange"
    assert ran.exists()


def test_the_code_of_our_own_architectures_is_the_packages_even_where_a_folder_is_trusted(tmp_path):
    resnet.ConvNetForImageClassification(resnet.named("resnet8")).save_pretrained(tmp_path / "model")
    (tmp_path / "model" / "resnet.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()")
    with trusting():
        assert isinstance(load.open_bare(str(tmp_path / "model")).model, resnet.ConvNetForImageClassification)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["./student", "/no/student", "~/no-student", "a/b/c", "runs/studnet"])
def test_what_reads_like_a_path_is_never_looked_up_on_the_hub(name, tmp_path, monkeypatch):
    (tmp_path / "runs" / "student").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert refused(name).startswith(f"{name}: no such folder")
    if name.startswith("runs"):
        assert refused(name).endswith("did you mean 'student'?")


@pytest.mark.parametrize("name", ["x" * 5000, "a\0b"])
def test_what_can_be_no_name_is_one_sentence(name):
    assert "could not be fetched" in refused(name) or "is no name" in refused(name)


class Harm:
    def __reduce__(self):
        return (print, ("ran",))


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda f: change(f, hidden_size="wide"), "its config.json does not hold what its family needs"),
        (lambda f: change(f, num_attention_heads=[2]), "its config.json does not hold what its family needs"),
        (lambda f: change(f, id2label=7), "cannot be read as a model"),
        (lambda f: change(f, architectures=7), "architectures in its config.json is no list of names"),
        (lambda f: change(f, num_hidden_layers=3_000_000), "says num_hidden_layers 3000000, more than 10,000"),
        (lambda f: change(f, model_type=["bert"]), ""),
        (lambda f: change(f, model_type="no-such-family"), "cannot be read as a model"),
        (lambda f: (f / "config.json").write_text("[1]"), "its config.json holds no settings but list"),
        (lambda f: (f / "config.json").write_bytes(b"\xff\xfe"), "its config.json is damaged"),
        (lambda f: (f / "config.json").write_text("[" * 100_000), "its config.json is damaged"),
        (lambda f: (f / "tokenizer.json").write_bytes((f / "tokenizer.json").read_bytes()[:200]), "its tokenizer.json is damaged"),
        (lambda f: (f / "tokenizer.json").write_text('{"version": "1.0", "model": {"type": "Nothing"}}'), "cannot be read as a model"),
        (lambda f: (f / "tokenizer_config.json").write_text("{"), "its tokenizer_config.json is damaged"),
        (lambda f: (f / "model.safetensors").write_bytes(b"\0" * 100), "its weights are cut short or damaged"),
    ],
)  # fmt: skip
def test_a_damaged_folder_is_one_sentence_that_names_the_file(spoil, says, folder):
    spoil(folder)
    assert says in refused(folder)


def test_pickled_weights_are_never_run(folder, capsys):
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Harm()))
    assert "weights are a pickle that is damaged or holds more than tensors" in refused(folder)
    torch.save({"a": Harm()}, folder / "pytorch_model.bin")
    assert "weights are a pickle that is damaged or holds more than tensors" in refused(folder)
    assert "ran" not in capsys.readouterr().out


def test_a_text_is_cut_at_what_the_model_takes_where_its_tokenizer_knows_no_limit(folder):
    file = folder / "tokenizer_config.json"
    file.write_text(json.dumps({k: v for k, v in json.loads(file.read_text()).items() if k != "model_max_length"}))
    change(folder, max_position_embeddings=16)
    assert load.open_tokenizer(str(folder)).model_max_length == 16
    assert len(WORDS) > 16
