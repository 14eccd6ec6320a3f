"""Analysis against maps that transformers shows, rules against the paper's lists and brute force, losses against real models."""

from __future__ import annotations

import itertools
import json

import decoders
import numpy as np
import parts
import pytest
import torch
from click.testing import CliRunner
from torch.nn import functional as F

from tutelage.cli import main
from tutelage.echo import analysis, meter, price, refit, rivals, rules, samples
from tutelage.errors import ConfigError, DataError
from tutelage.models import echo_attention, echoes, load
from tutelage.models.plan import OWN, Plan, of_pairs
from tutelage.surgery.drop_attention import DropAttention
from tutelage.surgery.echo_attention import EchoAttention
from tutelage.surgery.keep_layers import KeepLayers
from tutelage.tasks import _corpus

TINYLLAMA = [2, 5, 4, 3, 7, 6, 18, 9, 8, 11, 12, 1, 17, 10, 14, 13, 16, 19, 15, 20, 21, 0]
"""Layers of TinyLlama by mean similarity: the order of the paper's lists, the rest as its figure 1 shows them."""


def scores():
    out = np.zeros(22)
    for rank, layer in enumerate(TINYLLAMA):
        out[layer] = 0.78 - 0.005 * rank
    out[[20, 21, 0]] = 0.34, 0.31, 0.16
    return out


@pytest.fixture(scope="module")
def looked():
    """A model without echoes, samples, and their analysis."""
    model = echoes.convert(decoders.model(), [OWN] * 5)
    ids = torch.randint(3, 97, (3, 24), generator=torch.Generator().manual_seed(1))
    return model, ids, analysis.analyse(model, ids, distance=3)


def maps_of(model, sample):
    model.set_attn_implementation("eager")
    found = torch.stack(model(sample[None], output_attentions=True).attentions)[:, 0]
    model.set_attn_implementation("sdpa")
    return found


def test_similarity_is_the_mean_cosine_of_the_maps_that_eager_attention_shows(looked):
    model, ids, found = looked
    plain, pairs = [], []
    with torch.no_grad():
        for sample in ids:
            maps = maps_of(model, sample)
            flat = F.normalize(maps.flatten(1), dim=1)
            plain.append(flat @ flat.T)
            each = F.normalize(maps.flatten(2), dim=2)
            pairs.append(torch.einsum("agx,bhx->abgh", each, each))
    assert np.allclose(found.similarity, torch.stack(plain).mean(0), atol=1e-5)
    assert np.allclose(found.heads, torch.stack(pairs).mean(0), atol=1e-5)
    assert np.allclose(np.diag(found.similarity), 1, atol=1e-5)
    assert np.allclose(found.scores[1], np.delete(found.similarity[1], 1).mean())


def test_the_error_of_a_map_is_the_relative_change_of_the_layers_output(looked):
    model, ids, found = looked
    heads = [3, 1, 0, 5, 4, 2]
    wanted = single = 0.0
    with torch.no_grad():
        for sample in ids:
            maps, states = maps_of(model, sample), model(sample[None], output_hidden_states=True).hidden_states
            layer = model.model.layers[3]
            before = states[3][0]
            v = layer.self_attn.v_proj(layer.input_layernorm(before)).view(-1, 2, 8).transpose(0, 1).repeat_interleave(3, 0)
            change = ((maps[1][heads] - maps[3]) @ v).transpose(0, 1)
            at = slice(analysis.STRIDE - 1, None, analysis.STRIDE)
            weight = before.norm(dim=-1)[at]
            out = layer.self_attn.o_proj(change.flatten(1))[at] / weight[:, None]
            wanted += out.square().sum(1).mean() / 3
            one = F.linear(change[:, 2], layer.self_attn.o_proj.weight[:, 16:24])[at] / weight[:, None]
            single += one.square().sum(1).mean() / 3
    places = np.arange(6) * 6 + heads
    assert np.isclose(found.joint[3, 1][np.ix_(places, places)].sum(), wanted, rtol=1e-4)
    assert np.isclose(found.errors[1, 3, 2, 0], single, rtol=1e-4)
    assert np.isnan(found.errors[0, 4]).all() and not np.isnan(found.errors[1, 4]).any()


def test_idleness_is_the_cosine_before_and_after_attention_and_layer(looked):
    model, ids, found = looked
    with torch.no_grad():
        wanted = torch.zeros(2, 5)
        for sample in ids:
            states = model.model(sample[None], output_hidden_states=True).hidden_states
            ends = [*states[1:-1], None]  # the last one shown is behind the final norm
            for i, layer in enumerate(model.model.layers):
                kept = []
                hook = layer.post_attention_layernorm.register_forward_hook(lambda m, given, out, kept=kept: kept.append(given[0]))
                last = layer.register_forward_hook(lambda m, given, out, kept=kept: kept.append(out[0]))
                model.model(sample[None])
                hook.remove()
                last.remove()
                assert ends[i] is None or torch.allclose(kept[1], ends[i])
                wanted[:, i] += torch.stack([F.cosine_similarity(states[i], k, dim=-1).mean() for k in kept])
    assert np.allclose(found.idle, wanted / 3, atol=1e-5)


def test_dropping_takes_the_idlest_attention_and_its_measured_loss_is_the_models(looked):
    model, ids, found = looked
    made = rules.make("drop", found, model.config, share=0.4)
    gone = [i for i, a in enumerate(made.attention) if a["kind"] == "none"]
    assert set(gone) == set(np.argsort(found.idle[0])[-2:].tolist()) and not made.echoes
    student = echoes.convert(model, made.attention).eval()
    with torch.no_grad():
        loss = F.cross_entropy(student(ids).logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())
    assert np.isclose(meter.Meter(model, ids).loss(made.attention), float(loss), rtol=1e-5)


def test_rivals_have_the_losses_and_sizes_of_the_models_that_surgeries_make(looked):
    model, ids, found = looked
    made = rules.make("dynamic", found, model.config, share=0.4)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    counted = []
    several = rivals.compare(model, found, made, refit.refit(model, made, ids), ids, advance=counted.append)
    assert sum(counted) == rivals.number_of(made) and [r.family for r in several][:2] == ["", "the plan"]
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items()), "the model itself stays"
    one = {(r.family, r.layers): r for r in several}
    dropped = rules.idlest(found.idle[0], 2)
    gone = rules.idlest(found.idle[1], 1)
    pairs = rules.dynamic(rules.identity_costs(found), 2, found.distance)
    shared = [{"kind": "shared_kv", "source": pairs[i]} if i in pairs else OWN for i in range(5)]
    students = {
        ("", 0): model,
        ("the plan", 2): echoes.convert(model, made.attention),
        ("attention dropped", 2): DropAttention(layers=tuple(dropped))(model),
        ("layers dropped", 1): KeepLayers(layers=tuple(i for i in range(5) if i not in gone))(model),
        ("keys shared", 2): echoes.convert(model, shared),
    }
    echoes.put_projections(students["the plan", 2], refit.refit(model, made, ids))
    for key, student in students.items():
        with torch.no_grad():
            loss = F.cross_entropy(student(ids).logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())
        assert np.isclose(one[key].loss, float(loss), rtol=1e-5), key
        assert one[key].parameters == student.num_parameters() and one[key].speed > 0
    assert one["attention dropped", 2].kv_bytes == one["", 0].kv_bytes * 3 // 5 == one["keys shared", 2].kv_bytes


def test_a_model_around_anothers_tensors_holds_no_copy(looked):
    model, ids, _ = looked
    student = echoes.sharing(model, echoes.config_of(model.config, decoders.ECHO))
    mine = {p.data_ptr() for p in model.parameters()}
    assert all(p.data_ptr() in mine for p in student.parameters())
    with torch.no_grad():
        assert torch.equal(student(ids).logits, echoes.convert(model, decoders.ECHO)(ids).logits)


def test_an_analysis_is_the_same_after_it_was_saved(looked, tmp_path):
    found = looked[2]
    found.write(tmp_path)
    again = analysis.Analysis.read(tmp_path)
    assert again.about == found.about and again.key_heads == 2
    for name in ("similarity", "heads", "errors", "joint"):
        assert np.array_equal(getattr(again, name), getattr(found, name), equal_nan=True)
    (tmp_path / "analysis.npz").write_bytes((tmp_path / "analysis.npz").read_bytes()[:100])
    with pytest.raises(ConfigError, match="holds no whole analysis"):
        analysis.Analysis.read(tmp_path)


# ---- rules


@pytest.mark.parametrize(
    ("share", "echoing", "sources"),
    [
        (0.23, [2, 5, 4, 3, 7], {2: 1, 5: 1, 7: 6}),
        (0.41, [2, 5, 4, 3, 7, 6, 18, 9, 8], {**dict.fromkeys(range(2, 10), 1), 18: 17}),
        (0.77, [2, 5, 4, 3, 7, 6, 18, 9, 8, 11, 12, 1, 17, 10, 14, 13, 16], {**dict.fromkeys(range(1, 15), 0), 16: 15, 17: 15, 18: 15}),
    ],
)
def test_the_papers_lists_for_tinyllama(share, echoing, sources):
    pairs = rules.ranked(scores(), rules.number_of(share, 22))
    assert set(pairs) == set(echoing)
    assert {layer: pairs[layer] for layer in sources} == sources


def test_the_largest_gap_leaves_first_and_last_layers_alone():
    assert set(rules.ranked(scores(), None)) == set(range(1, 20))
    assert rules.blocks(scores(), 2) == {i: i - 1 for i in range(2, 20, 2)}
    assert rules.blocks(scores(), 4) == {i: 1 + (i - 1) // 4 * 4 for i in range(1, 20) if (i - 1) % 4}


def test_without_a_share_unchanged_layers_are_at_the_ends():
    """Sorted: 0.8, 0.7, 0.7, 0.2, 0.1, 0.1. The largest gap would leave layer 2 unchanged amid the others, the next does not."""
    amid = np.array([0.1, 0.8, 0.2, 0.7, 0.7, 0.1])
    assert set(rules.ranked(amid, None)) == {1, 2, 3, 4} and set(rules.blocks(amid, 2)) == {2, 4}
    assert set(rules.ranked(np.array([0.5, 0.9, 0.8, 0.1]), None)) == {1, 2}, "layer 0 is above the gap and has nothing to echo"
    with pytest.raises(ConfigError, match="no gap between the layers' similarities leaves the unchanged ones at the ends; take a share"):
        rules.ranked(np.array([0.9, 0.1, 0.8]), None)


@pytest.mark.parametrize("seed", range(8))
def test_dynamic_programming_finds_what_brute_force_finds(seed):
    draw = np.random.default_rng(seed)
    layers, count, distance = 7, 3, 3
    costs = draw.random((layers, layers))
    found = rules.dynamic(costs, count, distance)
    best = np.inf
    for echoing in itertools.combinations(range(1, layers), count):
        total = 0.0
        for j in echoing:
            total += min((costs[i, j] for i in range(max(0, j - distance), j) if i not in echoing), default=np.inf)
        best = min(best, total)
    assert np.isclose(sum(costs[i, j] for j, i in found.items()), best)
    assert len(found) == count and all(0 < j - i <= distance and i not in found for j, i in found.items())


def test_exchanged_heads_are_never_worse_than_each_heads_own_best(looked):
    found = looked[2]
    choose = rules.Heads(found)
    for source, echo in ((0, 1), (1, 2), (1, 3), (2, 4)):
        table = found.joint[echo, echo - source - 1]
        value, heads = choose.best(source, echo)

        def change(of, table=table):
            at = np.arange(6) * 6 + of
            return table[np.ix_(at, at)].sum()

        assert np.isclose(value, change(heads)) and value <= change(found.errors[source, echo].argmin(1)) + 1e-9
        assert all(change([*heads[:h], g, *heads[h + 1 :]]) >= value - 1e-6 for h in range(6) for g in range(6))


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"rule": "dynamic", "share": 0.99}, r"share: 0.99 of 5 layers leaves no layer to echo from"),
        ({"rule": "paper", "share": 0.01}, r"share: 0.01 of 5 layers lets no layer echo"),
        ({"rule": "dynamic"}, r"share: rule dynamic needs one"),
        ({"rule": "best", "share": 0.4}, r"rule: no rule 'best'"),
        ({"rule": "greedy", "share": 0.4}, r"rule: greedy measures losses and needs text"),
        ({"rule": "blocks", "block": 1}, r"block: must be 2 or more"),
        ({"rule": "blocks", "share": 0.4}, r"share: has no effect on rule blocks"),
        ({"rule": "drop", "share": 0.4, "head_maps": True}, r"head_maps: has no effect on rule drop"),
    ],
)
def test_rules_refuse_what_cannot_be(looked, settings, sentence):
    model, _, found = looked
    with pytest.raises(ConfigError, match=sentence):
        rules.make(settings.pop("rule"), found, model.config, **settings)


# ---- losses and prices


def test_the_meter_measures_what_a_model_of_the_plan_would(looked):
    model, ids, _ = looked
    gauge = meter.Meter(model, ids, rows=2)

    @torch.no_grad()
    def real(entries):
        logits = echoes.convert(model, entries)(ids).logits[:, :-1]
        return float(F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten()))

    assert np.isclose(gauge.base, real([OWN] * 5), rtol=1e-5)
    plans = [decoders.ECHO, of_pairs({3: 1}, model.config).attention, of_pairs({1: 0, 3: 2}, model.config).attention, [OWN] * 5]
    for keep in (False, True):
        for entries in plans:
            assert np.isclose(gauge.loss(entries, keep=keep), real(entries), rtol=1e-5)


def test_greedy_is_no_worse_than_where_it_starts(looked):
    model, ids, found = looked
    gauge = meter.Meter(model, ids)
    start = rules.make("dynamic", found, model.config, share=0.4)
    counted = []
    made = rules.make("greedy", found, model.config, share=0.4, meter=gauge, trials=40, advance=counted.append)
    assert gauge.loss(made.attention) <= gauge.loss(start.attention) and len(made.echoes) == 2 and sum(counted) <= 40


def test_prices_by_hand():
    config = decoders.model().config
    made = price.price(config, decoders.ECHO, tokens=3, item=2)
    assert made["parameters_saved"] == 3 * (48 * 48 + 48 * 16)
    assert made["kv_bytes"] == (2 * 2 + 3) * 16 * 2 and np.isclose(made["kv_share_saved"], 0.3)
    dense = 5 * 2 * 48 * (2 * 48 + 2 * 16 + 3 * 64) + 2 * 48 * 97
    scores = 48 * 2 * 2  # one product over two keys on average
    assert np.isclose(made["flops"], dense + 5 * 2 * scores)
    assert np.isclose(made["flops_saved_fused"], 3 * 2 * 48 * (48 + 16) / made["flops"])
    assert np.isclose(made["flops_saved"] - made["flops_saved_fused"], 3 * scores / made["flops"])


# ---- refitted projections


def test_a_refitted_projection_is_the_ridge_regression_of_what_the_layer_added(looked):
    model, ids, _ = looked
    plan = of_pairs({1: (0, [1, 0, 2, 3, 5, 4]), 3: 2}, model.config)
    found = refit.refit(model, plan, ids, ridge=0.2)
    assert set(found) == {1, 3}
    student = echoes.convert(model, plan.attention)

    def watched(side, number):
        """Inputs and outputs of a projection over the norm of the model's own states."""
        kept, states = [], []
        layer = side.model.layers[number]
        hooks = [layer.self_attn.o_proj.register_forward_hook(lambda m, a, out: kept.append((a[0], out)))]
        hooks += [model.model.layers[number].register_forward_pre_hook(lambda m, a: states.append(a[0]))]
        with torch.no_grad():
            side(ids)
            model(ids) if side is not model else None
        for hook in hooks:
            hook.remove()
        norm = states[0].norm(dim=-1, keepdim=True)
        return [(x / norm).flatten(0, 1).double() for x in kept[0]]

    for number in (1, 3):
        features, wanted = watched(student, number)[0], watched(model, number)[1]
        start = model.model.layers[number].self_attn.o_proj.weight.double()
        pull = 0.2 * (features.T @ features).diagonal().mean().sqrt() * torch.eye(48, dtype=torch.float64) / 0.2**0.5
        stacked, target = torch.cat([features, pull]), torch.cat([wanted, pull @ start.T])
        best = torch.linalg.lstsq(stacked, target).solution.T
        assert torch.allclose(found[number].double(), best, atol=1e-4)
        student.model.layers[number].self_attn.o_proj.weight.data.copy_(found[number])
        before = (features @ start.T - wanted).square().sum()
        assert (features @ found[number].double().T - wanted).square().sum() < before


# ---- text


class Words:
    """A tokenizer of one number a letter."""

    def __call__(self, texts, **others):
        return {"input_ids": [[ord(c) for c in text] for text in texts]}


def test_samples_take_the_start_of_each_text_first():
    made = samples.samples(["abcdefg", "hi", "klmnop"], Words(), 3, 4)
    assert ["".join(chr(i) for i in row) for row in made] == ["abc", "klm", "def", "nop"]
    assert torch.equal(samples.samples(["abcdefg", "hi", "klmnop"], Words(), 3, 2, skip=1), made[1:3])
    with pytest.raises(DataError, match=r"the text has 4 samples of 3 tokens \(its longest document has 7 tokens\), and 5 are needed"):
        samples.samples(["abcdefg", "hi", "klmnop"], Words(), 3, 5)
    with pytest.raises(ConfigError, match="samples of 3 tokens are longer than the 2 positions of the model"):
        samples.samples(["abc"], Words(), 3, 1, limit=2)


def test_documents_of_every_form(tmp_path):
    import gzip

    (tmp_path / "a.txt").write_text("one\n\ntwo")
    (tmp_path / "b.txt.gz").write_bytes(gzip.compress(b"three"))
    (tmp_path / "c.jsonl").write_text('{"text": "four", "other": 1}\n{"text": ""}\n{"other": 2}\n')
    assert _corpus.documents(str(tmp_path)).texts == ["one\n\ntwo", "three"]
    found = _corpus.documents(str(tmp_path / "c.jsonl"))
    assert found.texts == ["four"] and found.rows == [1]
    assert found.note == "c.jsonl: 2 of 3 lines have no text in column 'text' and are left out, first line 2"
    assert len(_corpus.documents("imdb")) == 25000
    (tmp_path / "g.jsonl").write_text('{"text": "four"}\n{"text": 5}\n')
    with pytest.raises(DataError, match="line 2: column 'text' holds a number, which is not text"):
        _corpus.documents(str(tmp_path / "g.jsonl"))
    (tmp_path / "d.txt.gz").write_bytes(gzip.compress(b"three" * 99)[:20])
    (tmp_path / "e.txt").write_text("  ")
    for name, sentence in (
        ("d.txt.gz", "cut short"),
        ("e.txt", "holds no text"),
        ("f.txt", "no such file"),
        ("imbd", "did you mean 'imdb'"),
    ):
        with pytest.raises(DataError, match=sentence):
            _corpus.documents(str(tmp_path / name) if "." in name else name)
    with pytest.raises(DataError, match="no column 'body'"):
        _corpus.documents(str(tmp_path / "c.jsonl"), "body")


# ---- the verbs


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A tiny model with a tokenizer, and text for it."""
    folder = tmp_path_factory.mktemp("echo")
    decoders.model(vocab_size=len(parts.WORDS)).save_pretrained(folder / "tiny")
    parts.tokenizer().save_pretrained(folder / "tiny")
    rng = np.random.default_rng(0)
    (folder / "text.txt").write_text(" ".join(rng.choice(parts.WORDS[5:], 900)))
    return folder


def run(*words):
    return CliRunner().invoke(main, [str(w) for w in words])


def test_analyze_and_plan_by_the_verbs(small, tmp_path):
    text = ("--data", small / "text.txt", "--tokens", 32, "--samples", 3, "--threads", 1)
    done = run("echo", "analyze", small / "tiny", *text, "--out", tmp_path / "found", "--json")
    assert done.exit_code == 0, done.output
    facts = json.loads(done.stdout)
    assert len(facts["scores"]) == 5 and facts["about"]["samples"] == 3 and (tmp_path / "found" / "report.html").exists()
    made = run(
        "echo", "plan", small / "tiny", *text, "--share", 0.4, "--analysis", tmp_path / "found", "--out", tmp_path / "plan", "--held-out", 2
    )
    assert made.exit_code == 0, made.output
    assert "2 of 5 layers echo" in made.stdout and "without training the loss goes from" in made.stdout
    plan = Plan.read(tmp_path / "plan" / "plan.json")
    assert plan.about["loss"]["refit"] and "before output projections were refitted" in made.stdout
    assert len(plan.echoes) == 2 and plan.about["loss"]["samples"] == 2 and plan.about["rule"] == "dynamic"
    html = (tmp_path / "plan" / "report.html").read_text()
    assert "The plan" in html and "attention report" in html and 'src="http' not in html
    told = run(
        "echo", "plan", small / "tiny", *text, "--share", 0.4, "--analysis", tmp_path / "found", "--out", tmp_path / "plan", "--rivals"
    )
    assert told.exit_code == 0 and "keys shared" in told.stdout, told.output
    assert "Beside its rivals" in (tmp_path / "plan" / "report.html").read_text()
    explicit = run(
        "echo", "plan", small / "tiny", *text, "--layers", "1:0,3:2", "--analysis", tmp_path / "found", "--out", tmp_path / "two", "--json"
    )
    assert [a.get("source") for a in json.loads(explicit.stdout)["plan"]] == [None, 0, None, 2, None]


def test_a_plan_that_drops_attention_is_made_told_and_followed(small, tmp_path):
    text = ("--data", small / "text.txt", "--tokens", 32, "--samples", 2, "--threads", 1)
    done = run("echo", "plan", small / "tiny", *text, "--share", 0.4, "--rule", "drop", "--analysis", small / "seen", "--out", tmp_path)
    assert done.exit_code == 2 and "holds no whole analysis" in done.stderr
    assert run("echo", "analyze", small / "tiny", *text, "--out", tmp_path, "--json").exit_code == 0
    done = run("echo", "plan", small / "tiny", *text, "--share", 0.4, "--rule", "drop", "--analysis", tmp_path, "--out", tmp_path)
    assert done.exit_code == 0 and "2 of 5 layers lose their attention" in done.stdout and "none, no attention" in done.stdout
    assert "none, no attention" in (tmp_path / "report.html").read_text()
    student = EchoAttention(plan=str(tmp_path / "plan.json"))(load.open_model(str(small / "tiny"), {}, auto="AutoModelForCausalLM").model)
    assert sum(layer.attends for layer in student.model.layers) == 3


def test_the_surgery_puts_refitted_projections_in(small, tmp_path):
    text = ("--data", small / "text.txt", "--tokens", 32, "--samples", 2, "--threads", 1)
    done = run("echo", "plan", small / "tiny", *text, "--layers", "1:0,3:2", "--analysis", tmp_path, "--out", tmp_path, "--json")
    assert done.exit_code == 2 and "holds no whole analysis" in done.stderr
    assert run("echo", "analyze", small / "tiny", *text, "--out", tmp_path, "--json").exit_code == 0
    done = run("echo", "plan", small / "tiny", *text, "--layers", "1:0,3:2", "--analysis", tmp_path, "--out", tmp_path, "--json")
    losses = json.loads(done.stdout)["loss"]
    model = load.open_model(str(small / "tiny"), {}, auto="AutoModelForCausalLM").model
    student = EchoAttention(plan=str(tmp_path / "plan.json"))(model)
    assert not torch.equal(student.model.layers[1].self_attn.o_proj.weight, model.model.layers[1].self_attn.o_proj.weight)
    assert torch.equal(student.model.layers[2].self_attn.o_proj.weight, model.model.layers[2].self_attn.o_proj.weight)
    many = samples.samples(_corpus.documents(str(small / "text.txt")).texts, parts.tokenizer(), 32, 6, skip=2)
    with torch.no_grad():
        found = F.cross_entropy(student(many).logits[:, :-1].flatten(0, 1), many[:, 1:].flatten())
    assert np.isclose(losses["refit"], float(found), rtol=1e-4)
    model.model.layers[0].mlp.up_proj.weight.data.mul_(2)
    with pytest.raises(ConfigError, match="refitted output projections are for other weights than this model's"):
        EchoAttention(plan=str(tmp_path / "plan.json"))(model)
    model.model.layers[0].mlp.up_proj.weight.data.div_(2)
    (tmp_path / "refit.safetensors").write_bytes(b"short")
    with pytest.raises(ConfigError, match=r"refit.safetensors: is cut short or altered"):
        EchoAttention(plan=str(tmp_path / "plan.json"))(model)
    (tmp_path / "refit.safetensors").unlink()
    with pytest.raises(ConfigError, match=r"refit.safetensors: cannot be read"):
        EchoAttention(plan=str(tmp_path / "plan.json"))(model)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--share", 0.95], "share: 0.95 of 5 layers leaves no layer to echo from"),
        (["--layers", "1:3"], "layer 1 cannot echo layer 3, which comes later"),
        (["--layers", "1:0,2:1"], "which itself echoes"),
        (["--layers", "one"], "is not written ECHO:SOURCE"),
        (["--layers", "1:0", "--share", 0.4], "share: has no effect beside explicit pairs"),
        (["--layers", "1:0", "--rule", "paper"], "rule: has no effect beside explicit pairs"),
        (["--share", 1.5], "share: must lie between 0 and 1; got 1.5"),
        (["--share", 0.4, "--trials", 9], "trials: has an effect on rule greedy alone, not on dynamic"),
        (["--share", 0.4, "--rule", "greedy", "--block", 3], "block: has an effect on rule blocks alone, not on greedy"),
        (["--share", 0.4, "--rule", "greedy", "--trials", 0], "trials: must be 1 or more; got 0"),
        (["--share", 0.4, "--tokens", 513], "are longer than the 512 positions of the model"),
        (["--share", 0.4, "--tokens", 500, "--samples", 2], "samples of 500 tokens"),
        (["--share", 0.4, "--data", "nothing.txt"], "nothing.txt: no such file"),
        (["--share", 0.4, "--rivals", "--held-out", 0], "--rivals: are measured on held-out samples"),
        (["--share", 0.4, "--analysis", "nowhere"], "nowhere: holds no whole analysis"),
    ],
)
def test_the_verbs_refuse_in_one_sentence(small, tmp_path, words, sentence, monkeypatch):
    monkeypatch.chdir(tmp_path)
    base = {"--data": small / "text.txt", "--tokens": 32, "--samples": 2, "--threads": 1}
    given = [w for k, v in base.items() if k not in words for w in (k, v)]
    done = run("echo", "plan", small / "tiny", *given, *words)
    assert done.exit_code == 2 and sentence in done.stderr and "Traceback" not in done.output, done.output
    assert len(done.stderr.strip().splitlines()) <= 2


def test_costs_of_an_echoing_model_are_less_and_it_is_not_exported(small, tmp_path):
    student = EchoAttention(layers={1: 0, 3: 2})(load.open_model(str(small / "tiny"), {}, auto="AutoModelForCausalLM").model)
    student.save_pretrained(tmp_path / "student")
    parts.tokenizer().save_pretrained(tmp_path / "student")
    echo_attention.Reuse.known.clear()
    sheets = json.loads(run("cost", small / "tiny", tmp_path / "student", "--threads", 1, "--json").stdout)
    before, after = sheets.values()
    assert after["parameters"]["total"] < before["parameters"]["total"] and after["flops"] < before["flops"]
    done = run("export", tmp_path / "student", tmp_path / "out")
    assert done.exit_code == 2 and "is a language model, and only classifiers are exported" in done.stderr


def test_an_analysis_of_other_weights_is_not_used(small, tmp_path):
    decoders.model(vocab_size=len(parts.WORDS), seed=5).save_pretrained(tmp_path / "other")
    parts.tokenizer().save_pretrained(tmp_path / "other")
    text = ("--data", small / "text.txt", "--tokens", 32, "--samples", 2, "--threads", 1)
    assert run("echo", "analyze", small / "tiny", *text, "--out", tmp_path / "found", "--json").exit_code == 0
    done = run("echo", "plan", tmp_path / "other", *text, "--share", 0.4, "--analysis", tmp_path / "found")
    assert done.exit_code == 2 and "is an analysis of other weights (tiny)" in done.stderr


def test_an_analysis_of_another_look_is_refused_by_name_and_replaced_unnamed(small, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    common = ("--threads", 1, "--held-out", 0, "--no-refit", "--json")
    text, place = ("--data", small / "text.txt", "--tokens", 32), tmp_path / "runs" / "echo-tiny"
    assert run("echo", "analyze", small / "tiny", *text, "--samples", 3, "--distance", 2, "--threads", 1, "--json").exit_code == 0

    def about():
        return json.loads((place / "analysis.json").read_text())

    done = run("echo", "plan", small / "tiny", "--data", small / "text.txt", "--share", 0.4, *common)
    assert done.exit_code == 0, done.output  # what is not said is as the analysis had it
    assert (about()["samples"], about()["tokens"], about()["distance"]) == (3, 32, 2)
    done = run("echo", "plan", small / "tiny", *text, "--samples", 2, "--share", 0.4, "--analysis", place, *common)
    assert done.exit_code == 2 and f"samples: the analysis in {place} had 3; leave it out, or analyse anew" in done.stderr
    done = run("echo", "plan", small / "tiny", "--share", 0.4, "--analysis", place, *common)
    assert done.exit_code == 2 and f"data: the analysis in {place} looked at 'text.txt'; name that text" in done.stderr
    assert run("echo", "plan", small / "tiny", *text, "--samples", 2, "--share", 0.4, *common).exit_code == 0
    assert (about()["samples"], about()["tokens"], about()["distance"]) == (2, 32, 6)
