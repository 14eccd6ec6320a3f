"""Methods that look into layers: which layers, maps, and queries and keys against the models' own attention."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
import transformers
from test_methods import FACTS, equal
from toys import Bench, bert, rows

from tutelage.engine.forward import forward
from tutelage.errors import ConfigError
from tutelage.methods.hidden_states import HiddenStates
from tutelage.methods.relations import Relations
from tutelage.models import anatomy
from tutelage.recipe import Training
from tutelage.rows import Inside

QUICK = Training(steps=6, batch_size=8, learning_rate=1e-2, precision="float32")
SMALL = {"vocab_size": 50, "hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 24}
NARROW = {"vocab_size": 50, "dim": 12, "n_layers": 2, "n_heads": 3, "hidden_dim": 24, "max_position_embeddings": 40}


def sized(**changes):
    return dataclasses.replace(FACTS, **{k: {"student": v[0], "teacher": v[1]} for k, v in changes.items()})


@pytest.mark.parametrize(
    ("small", "large", "pairs"),
    [
        (3, 6, [(0, 0), (1, 2), (2, 4), (3, 6)]),
        (2, 12, [(0, 0), (1, 6), (2, 12)]),
        (4, 12, [(0, 0), (1, 3), (2, 6), (3, 9), (4, 12)]),
        (2, 2, [(0, 0), (1, 1), (2, 2)]),
    ],
)
def test_layers_are_matched_evenly_with_embeddings_and_last_layers_together(small, large, pairs):
    facts = sized(depths=(small, large))
    assert HiddenStates().pairs(facts) == pairs
    needs = HiddenStates().needs(facts, "inner")
    assert (needs.student.hidden, needs.teacher.hidden) == tuple(zip(*pairs, strict=True))
    assert (needs.student.heads, needs.teacher.heads) == tuple(zip(*pairs[1:], strict=True))
    assert not HiddenStates().needs(facts, "outputs").student and not HiddenStates(attention=False).needs(facts, "inner").teacher.heads


def test_maps_between_equal_widths_start_as_the_identity_and_others_have_their_shape():
    equal_widths, other = HiddenStates().maps(FACTS), HiddenStates().maps(sized(widths=(8, 16)))
    assert list(equal_widths) == ["0", "1", "2"] and all(torch.equal(m.weight, torch.eye(16)) for m in equal_widths.values())
    assert all(m.weight.shape == (16, 8) and m.bias is None for m in other.values())


@pytest.mark.parametrize(
    ("method", "facts", "sentence"),
    [
        (HiddenStates(), sized(heads=(2, 4)), r"method\.attention: the student has 2 heads, the teacher 4; .*"),
        (HiddenStates(), sized(depths=(6, 4)), r"method: the student has 6 layers, more than the teacher's 4; .*"),
        (HiddenStates(), dataclasses.replace(FACTS, depths={"student": 2}), r"method: looks into layers, .* not known; take kd"),
        (Relations(), dataclasses.replace(FACTS, depths={}, heads={}, widths={}), r"method: looks into layers, .* not known; take kd"),
        (HiddenStates(), dataclasses.replace(FACTS, heads={}), r"method: compares attention heads, .*; set method\.attention to false"),
        (Relations(), dataclasses.replace(FACTS, heads={}), r"method: compares attention heads, .*; take method hidden_states .*, or kd"),
        (Relations(heads=3), FACTS, r"method\.heads: 3 relation heads do not divide the widths \[16, 16\]"),
        (Relations(teacher_layer=5), FACTS, r"method\.teacher_layer: 5 asked for; the teacher has 4"),
    ],
)
def test_models_that_do_not_fit_are_refused_in_one_sentence(method, facts, sentence):
    with pytest.raises(ConfigError, match=f"^{sentence}$"):
        for stage in method.stages(facts):
            method.needs(facts, stage.name)


def families():
    yield transformers.BertForSequenceClassification(transformers.BertConfig(**SMALL, max_position_embeddings=40))
    yield transformers.DistilBertForSequenceClassification(transformers.DistilBertConfig(**NARROW))
    yield transformers.RobertaForSequenceClassification(transformers.RobertaConfig(**SMALL, max_position_embeddings=40, pad_token_id=1))
    yield transformers.MPNetForSequenceClassification(transformers.MPNetConfig(**SMALL, max_position_embeddings=40, pad_token_id=1))


@pytest.mark.parametrize("number", range(4), ids=["bert", "distilbert", "roberta", "mpnet"])
def test_queries_and_keys_give_the_models_own_attention_maps(number):
    """softmax(Q K^T / sqrt(size)) over real tokens; MPNet adds a bias by distance to the scores, which heads do not show."""
    torch.manual_seed(0)
    model = list(families())[number].eval()
    for parameter in model.parameters():
        parameter.data *= 3
    ids, mask = torch.randint(5, 50, (2, 7)), torch.tensor([[1] * 7, [1] * 4 + [0] * 3])
    inputs = {"input_ids": ids.where(mask.bool(), 1), "attention_mask": mask}
    with torch.no_grad():
        seen = forward(model, inputs, ["logits"], Inside(hidden=(0, 1), attention=(1, 2), heads=(1, 2)))
        bias = model.base_model.encoder.compute_position_bias(seen.hidden[0]) if number == 3 else 0
    for layer in (1, 2):
        q, k, v = seen.heads[layer]
        assert q.shape == k.shape == v.shape == (2, 3, 7, 4)
        scores = (q @ k.transpose(-1, -2) / math.sqrt(4) + bias).masked_fill(~mask.bool()[:, None, None, :], -math.inf)
        assert torch.allclose(scores.softmax(-1), seen.attention[layer], atol=1e-5)
    assert seen.attention[1].std() > 0.01, "even maps would compare nothing"


@pytest.mark.parametrize("number", range(4), ids=["bert", "distilbert", "roberta", "mpnet"])
def test_a_text_given_as_embeddings_is_the_text_given_as_tokens(number):
    """What generators and moved rows rest on: positions, normalisation and padding are the model's own work, once."""
    torch.manual_seed(0)
    model = list(families())[number].eval()
    ids, mask = torch.randint(5, 50, (2, 7)), torch.tensor([[1] * 7, [1] * 4 + [0] * 3])
    ids = ids.where(mask.bool(), 1 if number > 1 else 0)
    with torch.no_grad():
        tokens = model(input_ids=ids, attention_mask=mask).logits
        embeddings = model(inputs_embeds=model.get_input_embeddings()(ids), attention_mask=mask).logits
    assert torch.allclose(tokens, embeddings, atol=1e-6)


def test_values_are_what_the_attention_mixes():
    """BERT's attention output is its own dense layer, sum and normalisation over maps times values."""
    torch.manual_seed(0)
    model = next(families()).eval()
    ids = torch.randint(5, 50, (2, 7))
    with torch.no_grad():
        seen = forward(model, {"input_ids": ids}, ["logits"], Inside(hidden=(0, 1), attention=(1,), heads=(1,)))
        mixed = (seen.attention[1] @ seen.heads[1][2]).transpose(1, 2).flatten(2)
        layer = model.bert.encoder.layer[0]
        after = layer.attention.output(mixed, seen.hidden[0])
        by_hand = layer.output(layer.intermediate(after), after)
    assert torch.allclose(by_hand, seen.hidden[1], atol=1e-5)


def test_watching_heads_changes_nothing_and_leaves_no_hook():
    model = next(families()).eval()
    inputs = {"input_ids": torch.randint(5, 50, (2, 7))}
    with torch.no_grad():
        plain = model(**inputs).logits
        with anatomy.watched_heads(model, (1, 2)) as heads:
            watched = model(**inputs).logits
    assert torch.equal(plain, watched) and sorted(heads) == [1, 2]
    assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.parametrize("method", [Relations(), Relations(pairs=("qk", "vv"), heads=8, soft_weight=0.0), HiddenStates(attention=False)])
def test_students_of_another_width_and_number_of_heads_learn(method, tmp_path):
    twins = {"student": bert(1, 2, 0.0, width=24, heads=3), "teacher": bert(2, 1, 0.0, width=16, heads=4)}
    bench = Bench(tmp_path, method, QUICK, dropout=0.0, source="live", data=rows(20), **twins)
    loop = bench.loop()
    before = {k: v.clone() for k, v in loop.models["student"].state_dict().items()}
    losses, inner = [], loop._log
    loop._log = lambda stage, rate: (losses.append({k: float(v[-1]) for k, v in loop.losses.items()}), inner(stage, rate))
    loop.run()
    assert not equal(before, loop.models["student"].state_dict(), 1e-4)
    assert all(math.isfinite(v) and v >= -1e-6 for one in losses for v in one.values())


def test_the_inner_terms_vanish_where_the_student_is_its_teacher(tmp_path):
    twins = {"student": bert(2, 1, 0.0), "teacher": bert(2, 1, 0.0)}
    for method in (HiddenStates(), Relations(pairs=("qq", "kk", "vv", "qk"), hard_weight=0.0)):
        loop = Bench(tmp_path / method.name, method, QUICK, dropout=0.0, source="live", data=rows(20), **twins).loop()
        loop._enter(0, None)
        loop.cast.train(loop.stages[0].turns[0])
        data, stage = loop.job.train, loop.stages[0]
        see = loop.cast.see(stage, stage.turns[0], data.batch(range(8)), data, loop._progress(stage), 1)
        terms = loop.stages[0].turns[0].terms(see)
        assert len(terms) >= 2 and all(abs(float(term.sum.detach())) < 1e-4 for term in terms.values())
