"""Echoing models against the families' own eager code, in every mode, and through transformers' whole life of a model."""

from __future__ import annotations

import copy
import shutil
import subprocess
import sys

import decoders
import parts
import pytest
import torch
import transformers
from decoders import ALL, ECHO, FAMILIES
from torch.nn import functional as F

import tutelage  # noqa: F401  (makes Auto classes know EchoForCausalLM)
from tutelage.errors import ConfigError, ModelError
from tutelage.models import echo_attention, echoes
from tutelage.models.plan import OWN, Plan, of_pairs
from tutelage.surgery.drop_attention import DropAttention
from tutelage.surgery.echo_attention import EchoAttention
from tutelage.surgery.share_keys import ShareKeys

MODES = {"eager": ("eager", "map"), "map": ("sdpa", "map"), "all": ("sdpa", "all"), "fused": ("sdpa", "fused"), "auto": ("sdpa", "auto")}


def mode(model, name):
    model.set_attn_implementation(MODES[name][0])
    model.config.reuse = MODES[name][1]
    return model


def reference(model, attention, ids, mask, positions):
    """Logits by the family's own eager code, its layers' attention replaced: an echo is o_proj of the source's weights times v."""
    model = copy.deepcopy(model)
    model.set_attn_implementation("eager")
    kept = {}
    config = model.config
    heads, groups = config.num_attention_heads, config.num_attention_heads // config.num_key_value_heads
    for number, (layer, entry) in enumerate(zip(model.model.layers, attention, strict=True)):
        own = layer.self_attn
        if entry["kind"] == "own":
            own.register_forward_hook(lambda m, a, out, n=number: kept.__setitem__(n, out[1]))
            continue

        def forward(hidden_states, own=own, entry=entry, **others):
            v = own.v_proj(hidden_states).view(*hidden_states.shape[:2], -1, own.head_dim).transpose(1, 2).repeat_interleave(groups, 1)
            weights = kept[entry["source"]][:, entry.get("heads", list(range(heads)))]
            return own.o_proj((weights @ v).transpose(1, 2).flatten(2)), None

        own.forward = forward
    return model, model(ids, attention_mask=mask, position_ids=positions).logits


@pytest.mark.parametrize("family", FAMILIES)
def test_without_echoes_the_converted_model_is_the_same(family):
    model = decoders.model(family)
    ids, mask, positions = decoders.texts()
    made = echoes.convert(model, [OWN] * 5)
    for implementation in ("sdpa", "eager"):
        model.set_attn_implementation(implementation), made.set_attn_implementation(implementation)
        wanted = model(ids, attention_mask=mask, position_ids=positions).logits
        assert torch.equal(made(ids, attention_mask=mask, position_ids=positions).logits, wanted)


@pytest.mark.parametrize("name", MODES)
@pytest.mark.parametrize("family", FAMILIES)
def test_every_mode_agrees_with_eager_maps_forward_and_backward(family, name):
    model = decoders.model(family)
    ids, mask, positions = decoders.texts()
    made = mode(echoes.convert(model, ECHO), name)
    theirs, wanted = reference(model, ECHO, ids, mask, positions)
    found = made(ids, attention_mask=mask, position_ids=positions).logits
    real = mask.bool()
    assert torch.allclose(found[real], wanted[real], atol=2e-5)
    for logits in (found, wanted):
        F.cross_entropy(logits[real], ids[real]).backward()
    gradients = dict(theirs.named_parameters())
    for key, parameter in made.named_parameters():
        assert torch.allclose(parameter.grad, gradients[key].grad, atol=2e-5, rtol=1e-4), key


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
@pytest.mark.parametrize("reuse", ["map", "fused"])
def test_long_texts_cross_blocks_of_a_map(implementation, reuse):
    model = decoders.model()
    ids = torch.randint(3, 97, (2, 2 * echo_attention.BLOCK + 33))
    made = echoes.convert(model, ECHO)
    made.config.reuse = reuse
    made.set_attn_implementation(implementation)
    _, wanted = reference(model, ECHO, ids, None, None)
    with torch.no_grad():
        assert torch.allclose(made(ids).logits, wanted, atol=2e-5)


def test_gradient_checkpointing_changes_nothing():
    made = echoes.convert(decoders.model(), ALL).train()
    ids, mask, positions = decoders.texts()
    found = []
    for again in (False, True):
        if again:
            made.gradient_checkpointing_enable()
        made.zero_grad()
        made(ids, attention_mask=mask, position_ids=positions, use_cache=False).logits.square().mean().backward()
        found.append([p.grad.clone() for p in made.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


@pytest.mark.parametrize("name", ["map", "fused"])
def test_bfloat16_stays_near_float32(name):
    made = mode(echoes.convert(decoders.model(), ECHO), name)
    ids, mask, positions = decoders.texts()
    given = {"attention_mask": mask, "position_ids": positions}
    wanted = made(ids, **given).logits[mask.bool()]
    found = made.to(torch.bfloat16)(ids, **given).logits[mask.bool()].float()
    assert (found - wanted).norm() / wanted.norm() < 0.03


@pytest.mark.parametrize("family", ["llama", "mistral", "qwen2 windows", "qwen3"])
@pytest.mark.parametrize("name", ["map", "all", "fused", "eager"])
@pytest.mark.parametrize("attention", [ECHO, ALL], ids=["echo", "all"])
def test_steps_of_decoding_give_the_logits_of_one_pass(family, name, attention):
    if family == "qwen2 windows" and attention is ALL:
        pytest.skip("its layer 2 is the first with a window")
    made = mode(echoes.convert(decoders.model(family), attention), name)
    ids, mask, positions = decoders.texts(2, 30)
    mask[1, :6] = 0
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    with torch.no_grad():
        whole = made(ids, attention_mask=mask, position_ids=positions).logits
        out = made(ids[:, :11], attention_mask=mask[:, :11], position_ids=positions[:, :11], use_cache=True)
        parts = [out.logits]
        for start, stop in ((11, 12), (12, 13), (13, 19), *((i, i + 1) for i in range(19, 30))):
            given = {"attention_mask": mask[:, :stop], "position_ids": positions[:, start:stop]}
            out = made(ids[:, start:stop], past_key_values=out.past_key_values, use_cache=True, **given)
            parts.append(out.logits)
    assert torch.allclose(torch.cat(parts, 1)[mask.bool()], whole[mask.bool()], atol=3e-5)


def test_echoes_keep_no_keys_and_readers_keep_nothing():
    made = echoes.convert(decoders.model(), ALL)
    cache = made(torch.randint(3, 97, (2, 9)), use_cache=True).past_key_values
    size = [sum(t.numel() for t in (layer.keys, layer.values) if t is not None) for layer in cache.layers]
    own = 2 * 2 * 2 * 9 * 8
    assert size == [own, 0, own, 0, own // 2]


@pytest.mark.parametrize("name", ["map", "fused"])
@pytest.mark.parametrize(
    "how",
    [
        {"cache_implementation": "static"},
        {"num_beams": 3},
        {"num_beams": 2, "cache_implementation": "static"},
        {"prompt_lookup_num_tokens": 3},
    ],
    ids=str,
)
def test_generation_is_the_same_by_every_cache_and_search(name, how):
    made = mode(echoes.convert(decoders.model(), ALL), name)
    ids = torch.randint(3, 97, (1 if "prompt_lookup_num_tokens" in how else 2, 12))
    given = {"attention_mask": torch.ones_like(ids), "max_new_tokens": 14, "do_sample": False}
    beams = {k: v for k, v in how.items() if k == "num_beams"}
    assert torch.equal(made.generate(ids, **given, **how), made.generate(ids, **given, **beams, use_cache=False))


def test_a_draft_model_assists():
    model = decoders.model()
    made = echoes.convert(model, ECHO)
    ids = torch.randint(3, 97, (1, 12))
    given = {"attention_mask": torch.ones_like(ids), "max_new_tokens": 12, "do_sample": False}
    assert torch.equal(made.generate(ids, assistant_model=model, **given), made.generate(ids, **given))
    assert torch.equal(model.generate(ids, assistant_model=made, **given), model.generate(ids, **given))


@pytest.mark.parametrize("name", ["map", "fused"])
def test_packed_texts_do_not_see_each_other(name):
    made = mode(echoes.convert(decoders.model(), ECHO), name)
    one, other = torch.randint(3, 97, (1, 20)), torch.randint(3, 97, (1, 13))
    both = torch.cat([one, other], 1)
    positions = torch.cat([torch.arange(20), torch.arange(13)])[None]
    packed = made(both, position_ids=positions, use_cache=False).logits
    assert torch.allclose(packed[:, :20], made(one).logits, atol=2e-5)
    assert torch.allclose(packed[:, 20:], made(other).logits, atol=2e-5)


@pytest.mark.parametrize(
    ("name", "backend"),
    [
        pytest.param("map", "aot_eager", marks=pytest.mark.slow), pytest.param("fused", "aot_eager", marks=pytest.mark.slow),
        pytest.param("auto", "inductor", marks=pytest.mark.slow), ("auto", "aot_eager"),
    ],
)  # fmt: skip
def test_it_compiles_as_one_graph(name, backend):
    if backend == "inductor" and not shutil.which("g++"):
        pytest.skip("inductor needs a C++ compiler")
    entries = [OWN, {"kind": "echo", "source": 0, "heads": [0, 3, 1, 5, 2, 2]}, {"kind": "shared_kv", "source": 0}]
    made = mode(echoes.convert(decoders.model(num_hidden_layers=3), entries), name)
    ids = torch.randint(3, 97, (2, 24))
    torch.compiler.reset()
    compiled = torch.compile(made, fullgraph=True, backend=backend, dynamic=False)
    with torch.no_grad():
        assert torch.allclose(compiled(ids, use_cache=False).logits, made(ids, use_cache=False).logits, atol=2e-5)
    compiled(ids, use_cache=False).logits.mean().backward()
    assert all(p.grad is not None for p in made.parameters())


def test_saved_and_loaded_again(tmp_path):
    made = echoes.convert(decoders.model("qwen3"), ECHO)
    made.save_pretrained(tmp_path)
    ids = torch.randint(3, 97, (2, 12))
    again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    assert isinstance(again, echo_attention.EchoForCausalLM)
    assert torch.equal(again(ids).logits, made(ids).logits)
    assert [dict(a) for a in again.config.attention] == ECHO


def test_import_tutelage_alone_lets_auto_classes_know_it(tmp_path):
    echoes.convert(decoders.model(), ECHO).save_pretrained(tmp_path)
    code = (
        "import sys, tutelage\nassert 'transformers' not in sys.modules\nfrom transformers import AutoModelForCausalLM\n"
        f"print(type(AutoModelForCausalLM.from_pretrained({str(tmp_path)!r})).__module__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "tutelage.models.echo_attention", done.stderr


def test_the_folder_loads_where_tutelage_is_not_imported(tmp_path):
    made = echoes.convert(decoders.model(), ALL)
    made.save_pretrained(tmp_path / "model")
    ids = torch.randint(3, 97, (2, 12))
    torch.save(ids, tmp_path / "x.pt")
    code = f"""
import torch
from transformers import AutoModelForCausalLM
model = AutoModelForCausalLM.from_pretrained({str(tmp_path / "model")!r}, trust_remote_code=True).eval()
torch.save(model(torch.load({str(tmp_path / "x.pt")!r})).logits.detach(), {str(tmp_path / "y.pt")!r})
"""
    parts.said_without_tutelage(code, tmp_path)
    assert torch.equal(torch.load(tmp_path / "y.pt"), made(ids).logits)


def test_more_tokens_and_adapters():
    made = echoes.convert(decoders.model(), ECHO)
    ids = torch.randint(3, 97, (2, 12))
    before = made(ids).logits
    made.resize_token_embeddings(101)
    assert torch.equal(made(ids).logits[..., :97], before) and made.config.vocab_size == 101
    peft = pytest.importorskip("peft")
    adapted = peft.get_peft_model(made, peft.LoraConfig(target_modules=["q_proj", "v_proj", "o_proj"], r=2))
    adapted(ids, labels=ids).loss.backward()
    touched = {n for n, p in adapted.named_parameters() if p.requires_grad and p.grad is not None}
    assert any("layers.1.self_attn.v_proj.lora_A" in n for n in touched) and not any("layers.1.self_attn.q_proj" in n for n in touched)


def test_attention_maps_are_shown_by_eager():
    made = mode(echoes.convert(decoders.model(), ECHO), "eager")
    maps = made(torch.randint(3, 97, (2, 12)), output_attentions=True).attentions
    assert len(maps) == 5 and all(m.shape == (2, 6, 12, 12) for m in maps)
    assert torch.equal(maps[1], maps[0][:, ECHO[1]["heads"]]) and torch.allclose(maps[3].sum(-1), torch.ones(2, 6, 12))


def test_the_measured_rule_is_kept_and_training_does_not_measure():
    made = mode(echoes.convert(decoders.model(), ECHO), "auto")
    echo_attention.Reuse.known.clear()
    ids = torch.randint(3, 97, (2, 12))
    made(ids)
    assert not echo_attention.Reuse.known, "gradients flow"
    with torch.no_grad():
        made(ids)
        assert list(echo_attention.Reuse.known.values()) in (["all"], ["map"], ["fused"])
        made.generate(ids, max_new_tokens=6, do_sample=False, attention_mask=torch.ones_like(ids))
    assert all(kind[-2] in (1, 16) for kind in echo_attention.Reuse.known)


def test_a_settled_model_measures_no_more(tmp_path):
    made = mode(echoes.convert(decoders.model(), ECHO), "auto")
    found = made.settle(2, 12)
    assert set(found) == {"prefill", "decode"} and set(found.values()) <= {"all", "map", "fused"}
    echo_attention.Reuse.known.clear()
    made.save_pretrained(tmp_path)
    again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    again.generate(torch.randint(3, 97, (2, 12)), max_new_tokens=3, do_sample=False, attention_mask=torch.ones(2, 12))
    assert again.config.settled == found and not echo_attention.Reuse.known


def test_parameters_of_tinyllamas_shape():
    """5, 9 and 17 echoing layers of TinyLlama-1.1B remove 23.6, 42.5 and 80.2 million parameters."""
    shape = transformers.LlamaConfig(
        vocab_size=32000, hidden_size=2048, intermediate_size=5632, num_hidden_layers=22, num_attention_heads=32, num_key_value_heads=4
    )

    def count(echoing):
        entries = [OWN if i not in echoing else {"kind": "echo", "source": 0} for i in range(22)]
        with torch.device("meta"):
            return echo_attention.EchoForCausalLM(echoes.config_of(shape, entries)).num_parameters()

    for number, millions in ((5, 23.6), (9, 42.5), (17, 80.2)):
        assert round((count(()) - count(range(1, number + 1))) / 1e6, 1) == millions


# ---- surgeries


def test_the_surgery_follows_a_plan_and_leaves_the_model_untouched(tmp_path):
    model = decoders.model()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    of_pairs({1: 0, 3: (2, [1, 0, 2, 3, 4, 5])}, model.config).write(tmp_path / "plan.json")
    small = EchoAttention(plan=str(tmp_path / "plan.json"), reuse="fused")(model)
    assert [a["kind"] for a in small.config.attention] == ["own", "echo", "own", "echo", "own"]
    assert small.config.reuse == "fused" and all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    small.model.layers[0].mlp.up_proj.weight.data.zero_()
    assert torch.equal(model.model.layers[0].mlp.up_proj.weight, before["model.layers.0.mlp.up_proj.weight"])
    again = EchoAttention(layers={1: 0, 3: 2})(model)
    assert again.config.attention[3] == {"kind": "echo", "source": 2}


def test_surgeries_follow_one_another():
    model = decoders.model()
    both = DropAttention(layers=(4,))(EchoAttention(layers={1: 0})(model))
    assert [a["kind"] for a in both.config.attention] == ["own", "echo", "own", "own", "none"]
    shared = ShareKeys(group=2)(model)
    assert [a.get("source") for a in shared.config.attention] == [None, 0, None, 2, None]
    assert [a.get("source") for a in ShareKeys(layers=(2, 3))(model).config.attention] == [None, None, 1, 1, None]


def test_a_dropped_sublayer_adds_nothing():
    model = decoders.model()
    ids, mask, positions = decoders.texts()
    small = DropAttention(layers=(1, 3))(model)
    for number in (1, 3):
        model.model.layers[number].self_attn.o_proj.weight.data.zero_()
    given = {"attention_mask": mask, "position_ids": positions}
    assert torch.allclose(small(ids, **given).logits, model(ids, **given).logits, atol=1e-6)


def test_shared_keys_and_values_are_the_sources():
    model = decoders.model()
    small = ShareKeys(layers=(1,))(model)
    ids, mask, positions = decoders.texts()
    theirs = copy.deepcopy(model)
    left = {}
    for number in (0, 1):
        attention = theirs.model.layers[number].self_attn
        for name in ("k_proj", "v_proj"):
            if number == 0:
                getattr(attention, name).register_forward_hook(lambda m, a, out, n=name: left.__setitem__(n, out))
            else:
                getattr(attention, name).register_forward_hook(lambda m, a, out, n=name: left[n])
    given = {"attention_mask": mask, "position_ids": positions}
    assert torch.allclose(small(ids, **given).logits, theirs(ids, **given).logits, atol=1e-5)


@pytest.mark.parametrize(
    ("make", "fault", "sentence"),
    [
        (lambda m: EchoAttention(layers={1: 3})(m), ConfigError, "layer 1 cannot echo layer 3, which comes later"),
        (lambda m: EchoAttention(layers={2: 2})(m), ConfigError, "layer 2 cannot echo layer 2"),
        (lambda m: EchoAttention(layers={1: 0, 2: 1})(m), ConfigError, "layer 2 echoes layer 1, which itself echoes"),
        (lambda m: EchoAttention(layers={9: 0})(m), ConfigError, "there is no layer 9; the model has layers 0 to 4"),
        (lambda m: EchoAttention(plan="nowhere.json")(m), ConfigError, "nowhere.json: no such plan"),
        (lambda m: DropAttention(layers=(7,))(m), ConfigError, "there is no layer 7"),
        (lambda m: ShareKeys(layers=(7,))(m), ConfigError, "there is no layer 7"),
        (lambda m: echoes.convert(EchoAttention(layers={1: 0})(m), [OWN] * 5), ModelError, "the model has no .*k_proj.* any more"),
        (lambda m: echoes.convert(m, [OWN] * 4), ModelError, "has 4 entries for 5 layers"),
    ],
)
def test_bad_plans_are_refused_in_one_sentence(make, fault, sentence):
    with pytest.raises(fault, match=sentence) as caught:
        make(decoders.model())
    assert "\n" not in str(caught.value)


def test_windows_and_whole_views_are_not_mixed():
    with pytest.raises(ModelError, match=r"layer 2 \(sliding_attention\) takes from layer 0 \(full_attention\)"):
        EchoAttention(layers={2: 0})(decoders.model("qwen2 windows"))


def test_other_families_are_refused_by_name():
    other = transformers.GPT2LMHeadModel(transformers.GPT2Config(n_layer=2, n_embd=16, n_head=2, vocab_size=20))
    with pytest.raises(ModelError, match="models of type 'gpt2' cannot echo attention; families that can: llama, mistral, qwen2, qwen3"):
        EchoAttention(layers={1: 0})(other)


def test_a_plan_for_another_model_and_a_file_that_is_none(tmp_path):
    of_pairs({1: 0}, decoders.model(num_hidden_layers=3).config).write(tmp_path / "plan.json")
    with pytest.raises(ConfigError, match="is for a model with 3 layers, 6 heads and 2 key heads, this one has 5 layers"):
        EchoAttention(plan=str(tmp_path / "plan.json"))(decoders.model())
    (tmp_path / "bad.json").write_text('{"shape": {}}')
    with pytest.raises(ConfigError, match="is no plan of attention"):
        Plan.read(tmp_path / "bad.json")
    written = Plan.read(tmp_path / "plan.json")
    assert written.echoes == (1,) and written.layers == 3
