"""Surgeries over every family: the original untouched, layers where they belong, saved and loaded again."""

from __future__ import annotations

import decoders
import pytest
import torch
import transformers
from transformers import AutoModelForSequenceClassification

from tutelage.errors import ConfigError, ModelError
from tutelage.models import anatomy, echoes
from tutelage.models.plan import OWN
from tutelage.surgery.dropout import Dropout
from tutelage.surgery.fresh import Fresh
from tutelage.surgery.keep_layers import KeepLayers

SMALL = {
    "hidden_size": 32,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "vocab_size": 60,
    "num_labels": 3,
    "pad_token_id": 1,
}
DISTIL = {"dim": 32, "n_layers": 4, "n_heads": 4, "hidden_dim": 48, "vocab_size": 60, "num_labels": 3, "pad_token_id": 1}
GROUPED = SMALL | {"num_key_value_heads": 2, "head_dim": 8}
FAMILIES = {
    "bert": ("BertConfig", SMALL), "camembert": ("CamembertConfig", SMALL), "distilbert": ("DistilBertConfig", DISTIL),
    "electra": ("ElectraConfig", SMALL | {"embedding_size": 32}), "llama": ("LlamaConfig", GROUPED), "mistral": ("MistralConfig", GROUPED),
    "mpnet": ("MPNetConfig", SMALL), "qwen2": ("Qwen2Config", GROUPED), "qwen3": ("Qwen3Config", GROUPED),
    "roberta": ("RobertaConfig", SMALL), "xlm-roberta": ("XLMRobertaConfig", SMALL),
}  # fmt: skip


def make(family: str):
    name, sizes = FAMILIES[family]
    torch.manual_seed(0)
    return AutoModelForSequenceClassification.from_config(getattr(transformers, name)(**sizes)).eval()


def outputs(model):
    ids = torch.randint(2, 60, (2, 7), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return model.eval()(input_ids=ids, attention_mask=torch.ones_like(ids), output_hidden_states=True)


def test_every_listed_family_has_a_model_here():
    assert {*FAMILIES, "tutelage-echo"} == set(anatomy.STACKS)  # the last is tested below: it is no classifier


@pytest.mark.parametrize("family", FAMILIES)
def test_the_layers_kept_are_the_models_own_and_it_stays_untouched(family, tmp_path):
    model = make(family)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    small = KeepLayers(layers=(0, 1))(model)
    assert anatomy.shape(small.config).depth == 2
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    assert torch.allclose(outputs(small).hidden_states[1], outputs(model).hidden_states[1], atol=1e-6)
    other = KeepLayers(layers=(0, 3))(model)
    theirs, ours = anatomy.kept_state(model, (3,)), anatomy.kept_state(other, (1,))
    assert all(torch.equal(theirs[k], ours[k]) for k in theirs)
    small.save_pretrained(tmp_path)
    again = AutoModelForSequenceClassification.from_pretrained(tmp_path, dtype=torch.float32)
    assert torch.equal(outputs(again).logits, outputs(small).logits)


@pytest.mark.parametrize("family", FAMILIES)
def test_keeping_every_layer_changes_no_output(family):
    model = make(family)
    assert torch.equal(outputs(KeepLayers(layers=(0, 1, 2, 3))(model)).logits, outputs(model).logits)


@pytest.mark.parametrize("family", FAMILIES)
def test_other_dropout_keeps_weights_and_is_what_training_then_draws(family, tmp_path):
    model, ids = make(family), torch.randint(2, 60, (2, 7), generator=torch.Generator().manual_seed(0))
    hidden = {} if family in ("llama", "mistral", "qwen2", "qwen3") else {"hidden": 0.0}
    calm = Dropout(attention=0.0, **hidden)(model)
    assert torch.equal(outputs(calm).logits, outputs(model).logits)
    still = calm.train()(input_ids=ids, attention_mask=torch.ones_like(ids), output_hidden_states=True).hidden_states[-1]
    assert torch.allclose(still, outputs(calm).hidden_states[-1], atol=1e-6), "nothing is dropped out"
    wild = Dropout(attention=0.5)(model).train()
    moved = wild(input_ids=ids, attention_mask=torch.ones_like(ids), output_hidden_states=True).hidden_states[-1]
    assert not torch.allclose(moved, still, atol=1e-3)
    wild.save_pretrained(tmp_path)
    again = AutoModelForSequenceClassification.from_pretrained(tmp_path, dtype=torch.float32)
    assert torch.equal(outputs(again).logits, outputs(model).logits) and again.config.to_diff_dict() == wild.config.to_diff_dict()
    if not hidden:
        with pytest.raises(ConfigError, match=r"dropout\.hidden: models of type .* have no such dropout; leave it out"):
            Dropout(hidden=0.1)(model)


@pytest.mark.parametrize("family", FAMILIES)
def test_fresh_has_the_asked_shape_and_new_weights(family):
    model = make(family)
    torch.manual_seed(5)
    new = Fresh(layers=2, hidden=16, heads=2, intermediate=24)(model)
    shape = anatomy.shape(new.config)
    assert (shape.depth, shape.width, shape.heads, shape.inner) == (2, 16, 2, 24)
    assert new.num_parameters() < model.num_parameters() and new.config.num_labels == 3
    torch.manual_seed(5)
    assert torch.equal(outputs(Fresh(layers=2, hidden=16, heads=2, intermediate=24)(model)).logits, outputs(new).logits)


@pytest.mark.parametrize(
    ("settings", "kept"),
    [
        ({"keep": "first", "count": 2}, (0, 1)), ({"keep": "last", "count": 2}, (4, 5)), ({"keep": "even", "count": 2}, (0, 5)),
        ({"keep": "even", "count": 3}, (0, 2, 5)), ({"keep": "even", "count": 6}, (0, 1, 2, 3, 4, 5)), ({"layers": (1, 4)}, (1, 4)),
        ({"keep": "even", "count": 1}, (5,)),
    ],
)  # fmt: skip
def test_which_layers_of_six_are_kept(settings, kept):
    assert KeepLayers(**settings).kept(6) == kept


def test_more_layers_than_there_are_is_refused():
    with pytest.raises(ConfigError, match="keep_layers: 7 layers asked for; the model has 6 layers"):
        KeepLayers(keep="first", count=7).kept(6)
    with pytest.raises(ConfigError, match="keep_layers: layer 9 asked for; the model has layers 0 to 5"):
        KeepLayers(layers=(0, 9)).kept(6)


def test_layers_of_an_echoing_model_keep_their_sources_under_new_numbers():
    whole = echoes.convert(decoders.model(), decoders.ALL)
    small = KeepLayers(layers=(0, 2, 4))(whole)
    assert [a.get("source") for a in small.config.attention] == [None, None, 1]
    assert torch.equal(small.model.layers[2].self_attn.v_proj.weight, whole.model.layers[4].self_attn.v_proj.weight)
    ids, mask, _ = decoders.texts()
    with torch.no_grad():
        states = whole.model(ids, attention_mask=mask, output_hidden_states=True).hidden_states
        assert torch.allclose(small.model(ids, attention_mask=mask, output_hidden_states=True).hidden_states[1], states[1], atol=1e-5)
        assert torch.equal(KeepLayers(layers=(0, 1, 2, 3, 4))(whole)(ids).logits, whole(ids).logits)
    with pytest.raises(ModelError, match="layer 3 takes its attention from layer 2, which goes; keep it too"):
        KeepLayers(layers=(0, 1, 3))(whole)
    with pytest.raises(ModelError, match="some layers take their attention from others"):
        Fresh(layers=2)(whole)
    assert Fresh(layers=2)(echoes.convert(decoders.model(), [OWN] * 5)).config.attention == [OWN] * 2


def test_an_unknown_family_is_refused_by_name():
    model = AutoModelForSequenceClassification.from_config(
        transformers.GPT2Config(n_embd=16, n_layer=1, n_head=2, vocab_size=60, pad_token_id=1)
    )
    with pytest.raises(ModelError, match="models of type 'gpt2' are not known to surgeries; known: bert"):
        KeepLayers(layers=(0,))(model)
