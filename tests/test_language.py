"""Packed rows, terms tile by tile, and whole runs of language models against plain torch."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path

import decoders
import numpy as np
import parts
import pytest
import torch
from click.testing import CliRunner
from torch.nn import functional as F
from toys import Bench, Stop, decoder, method, stop_at

import tutelage
from tutelage import config, losses
from tutelage.cli import main
from tutelage.engine import few, tiles
from tutelage.engine.cast import Cast
from tutelage.engine.forward import forward
from tutelage.engine.machine import Machine
from tutelage.errors import ConfigError, DataError, ModelError
from tutelage.methods.echo import Echo
from tutelage.models import echoes
from tutelage.models.plan import of_pairs
from tutelage.recipe import Training
from tutelage.rows import LAST_STATES, OutputLayer, Seen, States, Term, Tiled
from tutelage.tasks._packing import NO_TARGET, pack
from tutelage.tasks.language import Language


def words(number: int, rows: int, seed: int = 0) -> list[str]:
    """Documents in which each word tells much of the next."""
    rng = np.random.default_rng(seed)
    known = parts.WORDS[5:]
    out = []
    for _ in range(rows):
        at, said = int(rng.integers(len(known))), []
        for _ in range(int(rng.integers(number // 2, number))):
            said.append(known[at])
            at = (at * 2 + int(rng.integers(2))) % len(known)
        out.append(" ".join(said))
    return out


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A tiny decoder with a tokenizer, and documents."""
    folder = tmp_path_factory.mktemp("language")
    decoders.model(vocab_size=len(parts.WORDS), num_hidden_layers=3, num_attention_heads=6).save_pretrained(folder / "tiny")
    parts.tokenizer().save_pretrained(folder / "tiny")
    (folder / "docs.jsonl").write_text("".join(json.dumps({"text": t}) + "\n" for t in words(30, 120)))
    return folder


def recipe(place, **changes):
    """In float32 on every machine, unless told otherwise."""
    made = {
        "task": {"kind": "language", "data": str(place / "docs.jsonl"), "tokens": 32, "dev_share": 0.15, "test_share": 0.15},
        "teacher": {"model": str(place / "tiny"), "train": {"epochs": 1, "learning_rate": 3e-3}},
        "student": {"surgery": [{"kind": "echo_attention", "layers": {1: 0}}]},
        "method": {"kind": "kd"}, "train": {"epochs": 1, "learning_rate": 3e-3, "batch_size": 8}, "threads": 1, "measure": False,
    } | changes  # fmt: skip
    for name in ("train", "signals"):
        made[name] = {"precision": "float32"} | made.get(name, {})
    return made


# ---- packing


def test_packing_by_hand():
    long, short = ([11, 12, 13, 14, 15], [True] * 5), ([21, 22], [True, True])
    columns, targets, lengths = pack([long, short, ([31, 32, 33], [False, False, True])], 4)
    no = NO_TARGET
    assert columns["input_ids"].tolist() == [11, 12, 13, 14, 15, 21, 22, 31, 32, 33]
    assert columns["position_ids"].tolist() == [0, 1, 2, 3, 0, 0, 1, 0, 0, 1]
    assert targets.tolist() == [12, 13, 14, no, no, 22, no, no, 33, no]
    assert lengths.tolist() == [4, 4, 2]


def test_the_loss_of_packed_rows_is_that_of_the_pieces_alone(place):
    task = config.build(Language, {"data": str(place / "docs.jsonl"), "tokens": 32})
    tokenizer = parts.tokenizer()
    split = task.load().splits["dev"]
    encoded = task.encode(split, tokenizer)
    model = decoders.model(vocab_size=len(parts.WORDS))
    batch = encoded.batch(np.arange(len(encoded)))
    with torch.no_grad():
        sums = task.shown(forward(model, batch.inputs, task.outputs), batch)["sums"].sum(0)
        loss = count = right = 0.0
        for text in split.columns["text"]:
            ids = tokenizer(text, add_special_tokens=False)["input_ids"]
            start = 0
            while start < len(ids):  # pieces as rows cut them
                before = int(count_tokens(task, split, text, tokenizer)) % 32
                stop = min(len(ids), start + 32 - (before + start) % 32)
                piece = torch.tensor(ids[start:stop])[None]
                logits = model(piece).logits[0, :-1]
                loss += float(F.cross_entropy(logits, piece[0, 1:], reduction="sum")) if stop - start > 1 else 0.0
                right += float((logits.argmax(-1) == piece[0, 1:]).sum())
                count += stop - start - 1
                start = stop
    assert torch.allclose(sums, torch.tensor([loss, right, count]), rtol=1e-4)
    metrics = task.score(sums[None].numpy(), np.zeros(1))
    assert math.isclose(metrics["loss"], loss / count, rel_tol=1e-4) and math.isclose(metrics["perplexity"], math.exp(metrics["loss"]))


def count_tokens(task, split, text, tokenizer):
    """Tokens of all documents before this one."""
    total = 0
    for other in split.columns["text"]:
        if other == text:
            return total
        total += len(tokenizer(other, add_special_tokens=False)["input_ids"])
    raise AssertionError(text)


def test_only_the_assistant_is_predicted(tmp_path):
    tokenizer = parts.tokenizer()
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m.role == 'user' and 'the ' or 'a ' }}{{ m.content }} {% endfor %}"
        "{% if add_generation_prompt %}a {% endif %}"
    )
    chat = [{"role": "user", "content": "good film"}, {"role": "assistant", "content": "bad plot"}, {"role": "user", "content": "fine"}]
    file = tmp_path / "chats.jsonl"
    file.write_text("".join(json.dumps({"messages": chat}) + "\n" for _ in range(1)))
    task = config.build(Language, {"train": str(file), "dev": str(file), "test": str(file), "chat": "messages", "tokens": 16})
    encoded = task.encode(task.load().splits["train"], tokenizer)
    said = tokenizer.convert_ids_to_tokens(encoded.ragged["input_ids"])
    assert said == ["the", "good", "film", "a", "bad", "plot", "the", "fine"]
    wanted = encoded.extra["target"] + NO_TARGET
    learned = [tokenizer.convert_ids_to_tokens(int(t)) for t in wanted if t != NO_TARGET]
    assert learned == ["bad", "plot"] and wanted[3] != NO_TARGET


# ---- tiles


def test_tiles_under_autocast_are_whole_logits_under_autocast(monkeypatch):
    torch.manual_seed(0)
    hidden, weight = torch.randn(9, 4, requires_grad=True), torch.randn(5, 4, requires_grad=True)
    other, theirs, found = torch.randn(9, 3), torch.randn(5, 3), {}
    for size in (7, 1 << 20):
        monkeypatch.setattr(tiles, "BYTES", 2 * size)
        soft = Tiled(lambda s, t, g: losses.divergence(s, t), States(hidden, OutputLayer(weight)), States(other, OutputLayer(theirs)))
        with torch.autocast("cpu", torch.bfloat16):
            loss, _ = tiles.loss_of({"soft": Term(soft, "token")}, {"token": 9.0})
        found[size] = (loss, *torch.autograd.grad(loss, (hidden, weight)))
    with torch.autocast("cpu", torch.bfloat16):
        logits = F.linear(hidden, weight)
        whole = losses.divergence(logits, F.linear(other, theirs)).mean()
    assert logits.dtype == torch.bfloat16
    wanted = (whole, *torch.autograd.grad(whole, (hidden, weight)))
    for mine in found.values():
        assert all(a.dtype == torch.float32 and torch.allclose(a, b, rtol=0.02, atol=2e-3) for a, b in zip(mine, wanted, strict=True))


@pytest.mark.parametrize("cells", [7, 40, 1 << 20])
@pytest.mark.parametrize(("tied", "scale", "cap"), [(False, 1.0, None), (True, 1.0, None), (True, 0.25, 1.5)])
def test_tiles_give_the_loss_and_gradients_of_whole_logits(cells, tied, scale, cap, monkeypatch):
    monkeypatch.setattr(tiles, "BYTES", 4 * cells)
    torch.manual_seed(0)
    hidden, weight = torch.randn(9, 4, requires_grad=True), torch.randn(5, 4, requires_grad=True)
    other, theirs, bias = torch.randn(9, 3), torch.randn(5, 3), torch.randn(5, requires_grad=True)
    gold = torch.randint(5, (9,))
    student, teacher = (
        States(hidden * (weight.sum() if tied else 1.0), OutputLayer(weight, bias, scale, cap)),
        States(other, OutputLayer(theirs)),
    )
    soft = Tiled(lambda s, t, g: losses.divergence(s, t, temperature=2.0), student, teacher)
    hard = Tiled(lambda s, t, g: losses.label_loss(s, g, kind="choice"), student, gold=gold)
    terms = {"soft": Term(soft, "token", 0.7), "plain": Term(hidden.square().sum(), "example", 0.1), "hard": Term(hard, "label", 0.3)}
    counts = {"token": 9.0, "label": 4.0, "example": 2.0}
    loss, shares = tiles.loss_of(terms, counts)
    found = torch.autograd.grad(2 * loss, (hidden, weight, bias), retain_graph=True)
    logits = scale * (student.hidden @ weight.T + bias)
    logits = logits if cap is None else cap * torch.tanh(logits / cap)
    whole = 0.7 / 9 * losses.divergence(logits, other @ theirs.T, temperature=2.0).sum()
    label = 0.3 / 4 * F.cross_entropy(logits, gold, reduction="sum")
    wanted = whole + 0.05 * hidden.square().sum() + label
    assert torch.allclose(loss, wanted) and list(shares) == ["soft", "plain", "hard"]
    assert torch.allclose(shares["soft"], whole) and torch.allclose(shares["hard"], label)
    for a, b in zip(found, torch.autograd.grad(2 * wanted, (hidden, weight, bias)), strict=True):
        assert torch.allclose(a, b, atol=1e-6)


def test_a_frozen_side_gets_no_gradient():
    hidden, weight = torch.randn(6, 4, requires_grad=True), torch.randn(5, 4)
    term = Term(
        Tiled(lambda s, t, g: losses.label_loss(s, g, kind="choice"), States(hidden, OutputLayer(weight)), gold=torch.zeros(6).long()),
        "token",
    )
    loss, _ = tiles.loss_of({"x": term}, {"token": 6.0})
    loss.backward()
    assert hidden.grad is not None and weight.grad is None
    with torch.no_grad():
        again, _ = tiles.loss_of({"x": term}, {"token": 6.0})
    assert torch.equal(again, loss.detach())


# ---- output layers padded to different widths


@pytest.mark.parametrize(
    ("name", "source", "wide"),
    [("kd", "cached", "teacher"), ("gkd-half", "live", "teacher"), ("gkd-teacher", "live", "teacher"), ("kd-mse", "live", "student")],
)
def test_rows_that_only_one_output_layer_has_take_no_part_in_the_distance(name, source, wide, tmp_path):
    """As if the wide layer had been cut by hand; of a wide student the other rows stay, as the label loss is all that sees them."""
    padded = decoder(2, seed=1, vocab_size=127, tie_word_embeddings=False)
    by_hand = copy.deepcopy(padded)
    by_hand.resize_token_embeddings(97)
    other = decoder(1, seed=2, tie_word_embeddings=False)
    found = []
    for number, model in enumerate((padded, by_hand)):
        models = {wide: copy.deepcopy(model), "student" if wide == "teacher" else "teacher": copy.deepcopy(other)}
        more = {"hard_weight": 0.0} if wide == "student" else {}
        training = Training(steps=3, batch_size=8, learning_rate=1e-2, precision="float32")
        bench = Bench(tmp_path / str(number), method(name, **more), training, source=source, text=True, **models)
        found.append(bench.run())
    for key, value in found[1].items():
        assert torch.allclose(found[0][key][: len(value)], value, atol=1e-5), key
    if wide == "student":
        assert torch.equal(found[0]["student.lm_head.weight"][97:], padded.lm_head.weight[97:])


def test_few_classes_are_of_those_that_both_layers_have():
    torch.manual_seed(0)
    states, weight = torch.randn(2, 3, 4), torch.randn(9, 4)
    made = []
    for layer, words in ((OutputLayer(weight), 6), (OutputLayer(weight[:6]), None)):
        for kind in few.KINDS:
            made.append(few.read(few.Few(kind, 4, 2.0, words).name).make(Seen({LAST_STATES: states}, head=layer), np.arange(2)))
    assert torch.equal(made[0], made[2]) and torch.equal(made[1], made[3])


def test_a_vocabulary_that_lacks_words_of_the_data_is_refused_before_anything_is_trained(place, tmp_path):
    decoders.model(vocab_size=8, num_hidden_layers=2).save_pretrained(tmp_path / "narrow")
    parts.tokenizer().save_pretrained(tmp_path / "narrow")
    with pytest.raises(ModelError, match=r"^student: knows 8 tokens, and the tokenizer makes number \d+ of the data; take the tokenizer"):
        tutelage.distill(recipe(place, student={"model": str(tmp_path / "narrow")}), out=tmp_path / "run", store=tmp_path / "store")
    assert not list(tmp_path.rglob("checkpoints"))


# ---- runs


def test_a_run_from_teacher_to_echoing_student(place, tmp_path):
    made = recipe(place, compare=[{"kind": "finetune"}])
    made["teacher"]["train"]["epochs"] = made["train"]["epochs"] = 3
    result = tutelage.distill(made, out=tmp_path / "run", store=tmp_path / "store")
    models = result.record["models"]
    teacher, student = models["teacher"], models["kd"]
    guess = math.log(len(parts.WORDS))
    assert teacher["test"]["metrics"]["loss"] < guess - 0.4 and student["test"]["metrics"]["loss"] < guess - 0.4, "both learned"
    assert student["parameters"] < teacher["parameters"]
    assert student["test"]["low"] < student["test"]["primary"] < student["test"]["high"]
    assert list(student["fidelity"]) == ["agreement"] and 0.05 < student["fidelity"]["agreement"]["value"] < 1
    again = tutelage.distill(made, out=tmp_path / "again", store=tmp_path / "elsewhere")
    assert again.record["models"]["kd"]["weights"] == student["weights"]
    from transformers import AutoModelForCausalLM

    loaded = AutoModelForCausalLM.from_pretrained(result.student)
    assert type(loaded).__name__ == "EchoForCausalLM" and (result.student / "echo_attention.py").exists()
    lines = [json.loads(x) for x in (result.folder / "examples-kd.jsonl").read_text().splitlines()]
    weighed = sum(x["loss"] * x["tokens"] for x in lines) / sum(x["tokens"] for x in lines)
    assert math.isclose(weighed, student["test"]["primary"], abs_tol=1e-4)
    said = CliRunner().invoke(main, ["evaluate", str(result.student), "--json"])
    assert said.exit_code == 0, said.output
    rounding = 1e-5 if Machine(1).precision("auto") == torch.float32 else 5e-3
    assert math.isclose(json.loads(said.stdout)["metrics"]["loss"], student["test"]["primary"], rel_tol=rounding)
    (tmp_path / "other.txt").write_text(" ".join(words(60, 4, seed=5)))
    told = str(tmp_path / "told.jsonl")
    said = CliRunner().invoke(main, ["evaluate", str(result.student), f"data={tmp_path / 'other.txt'}", "--examples", told, "--json"])
    assert said.exit_code == 0 and json.loads(said.stdout)["metrics"]["perplexity"] > 1, said.output
    rows = [json.loads(x) for x in Path(told).read_text().splitlines()]
    assert [r["row"] for r in rows] == list(range(len(rows))) and len(rows) > 1, "one document in several packed rows"
    page = result.report.read_text()
    assert "against the teacher" in page and "loss (nats a token)" in page
    [code] = (result.student / "README.md").read_text().split("```python\n")[1:]
    code = code.split("```")[0].replace("path/to/this/folder", str(result.student))
    assert "Do you wish" not in parts.said_without_tutelage(code, tmp_path)


@pytest.mark.parametrize("settings", [{"train": {"micro_batch": 3}}, {"signals": {"source": "live"}}, {"train": {"bucket": 0}}], ids=str)
def test_how_a_step_is_cut_and_where_signals_come_from_changes_nothing(place, tmp_path, settings):
    base = recipe(place, train={"steps": 4, "learning_rate": 3e-3, "batch_size": 8, "bucket": 0, "select": "last"})
    changed = {**base, **{k: {**base[k], **v} for k, v in settings.items()}}
    found = []
    for number, one in enumerate((base, changed)):
        run = tutelage.distill(one, out=tmp_path / str(number), store=tmp_path / "store")
        from safetensors.torch import load_file

        found.append(load_file(run.student / "model.safetensors"))
    assert all(torch.allclose(found[0][k], found[1][k], atol=2e-5) for k in found[0])


def test_kd_is_hintons_on_every_predicted_token(place, tmp_path):
    """The first step's terms against whole logits by plain torch."""
    base = recipe(place, train={"steps": 1, "learning_rate": 1e-9, "batch_size": 200, "select": "last"})
    base["teacher"] = {"model": str(place / "tiny")}
    run = tutelage.distill(base, out=tmp_path / "run", store=tmp_path / "store")
    logged = run.record["models"]["kd"]["training"]["losses"][0]["losses"]
    from transformers import AutoModelForCausalLM

    from tutelage.surgery.echo_attention import EchoAttention

    teacher = AutoModelForCausalLM.from_pretrained(place / "tiny").eval()
    student = EchoAttention(layers={1: 0})(teacher)
    task = config.build(Language, base["task"] | {"kind": "language"})
    encoded = task.encode(task.load().splits["train"], parts.tokenizer())
    batch = encoded.batch(np.arange(len(encoded)))
    keep = batch.extra["target"] > 0
    gold = batch.extra["target"][keep] + NO_TARGET
    with torch.no_grad():
        s, t = (m(**batch.inputs, use_cache=False).logits[keep] for m in (student, teacher))
        soft = 4 * F.kl_div((s / 2).log_softmax(-1), (t / 2).softmax(-1), reduction="batchmean")
    assert math.isclose(logged["soft"], float(soft), rel_tol=1e-4)
    assert math.isclose(logged["label"], 0.5 * float(F.cross_entropy(s, gold)), rel_tol=1e-4)


def test_echo_is_its_formula_in_both_stages(place, tmp_path):
    base = recipe(place, train={"steps": 2, "learning_rate": 1e-9, "batch_size": 200, "select": "last"})
    base |= {"teacher": {"model": str(place / "tiny")}, "method": {"kind": "echo", "label_share": 0.5}}
    run = tutelage.distill(base, out=tmp_path / "run", store=tmp_path / "store")
    first, second = (x["losses"] for x in run.record["models"]["echo"]["training"]["losses"])
    from transformers import AutoModelForCausalLM

    from tutelage.surgery.echo_attention import EchoAttention

    teacher = AutoModelForCausalLM.from_pretrained(place / "tiny").eval()
    student = EchoAttention(layers={1: 0})(teacher)
    task = config.build(Language, base["task"] | {"kind": "language"})
    encoded = task.encode(task.load().splits["train"], parts.tokenizer())
    batch = encoded.batch(np.arange(len(encoded)))
    keep = batch.extra["target"] > 0
    gold = batch.extra["target"][keep] + NO_TARGET
    with torch.no_grad():
        s, t = (m(**batch.inputs, use_cache=False, output_hidden_states=True) for m in (student, teacher))
    hidden = 0.25 * (s.hidden_states[2][keep] - t.hidden_states[2][keep]).square().mean()
    soft = 0.25 * F.kl_div(t.logits[keep].log_softmax(-1), s.logits[keep].softmax(-1), reduction="batchmean")
    guess = 0.5 * F.cross_entropy(s.logits[keep], t.logits[keep].argmax(-1))
    for name, value in (("hidden", hidden), ("soft", soft), ("guess", guess)):
        assert math.isclose(first[name], float(value), rel_tol=2e-3), name
    assert math.isclose(second["label"], float(F.cross_entropy(s.logits[keep], gold)), rel_tol=1e-4)


# ---- a few classes in place of the vocabulary


def first_losses(place, folder, **changes):
    train = {"steps": 1, "learning_rate": 1e-9, "batch_size": 200, "select": "last"}
    made = recipe(place, **{"train": train, "teacher": {"model": str(place / "tiny")}, **changes})
    run = tutelage.distill(made, out=folder / "run", store=folder / "store")
    return run.record["models"][made["method"]["kind"]]["training"]["losses"][0]["losses"]


WORDS = len(parts.WORDS)


@pytest.mark.parametrize(
    "method",
    [{"kind": "kd"}, {"kind": "kd", "form": "reverse_kl"}, {"kind": "kd", "form": "jsd", "temperature": 1.5}, {"kind": "echo"}],
    ids=lambda m: m.get("form", m["kind"]),
)
def test_all_classes_but_one_are_the_whole_vocabulary(place, tmp_path, method):
    whole = first_losses(place, tmp_path / "whole", method=method)
    few = first_losses(place, tmp_path / "few", method=method, signals={"top_k": WORDS - 1})
    fewer = first_losses(place, tmp_path / "fewer", method=method, signals={"top_k": 2})
    assert all(math.isclose(whole[k], few[k], rel_tol=1e-3) for k in whole), (whole, few)
    assert 0 < fewer["soft"] < whole["soft"], "merged classes cannot tell more"
    assert math.isclose(fewer.get("guess", 0), whole.get("guess", 0), rel_tol=1e-3), "the likeliest class is kept"


def test_drawn_classes_give_kl_without_bias(place, tmp_path):
    whole = first_losses(place, tmp_path / "whole")
    drawn = first_losses(place, tmp_path / "drawn", signals={"draws": 500})
    assert math.isclose(whole["soft"], drawn["soft"], rel_tol=0.02)
    torch.manual_seed(0)
    s, t = torch.randn(1, 6, requires_grad=True), torch.randn(1, 6)
    ids = torch.multinomial((t / 2).softmax(-1), 100_000, replacement=True)
    found = losses.drawn_divergence(s, ids, (t / 2).log_softmax(-1).gather(-1, ids), 2.0)
    wanted = losses.divergence(s, t, temperature=2.0)
    assert torch.allclose(found, wanted, atol=0.02)
    assert torch.allclose(*(torch.autograd.grad(x.sum(), s)[0] for x in (found, wanted)), atol=0.02)


def test_few_classes_by_hand():
    logits = torch.tensor([[1.0, 2.0, 3.0, 0.0]]).log()[:, :3]  # probabilities 1/6, 2/6, 3/6
    found = losses.few_classes(logits, torch.tensor([[2]]))
    assert torch.allclose(found.exp(), torch.tensor([[0.5, 0.5]]))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"signals": {"top_k": 500}}, "signals.top_k: 500 of a vocabulary of .* keeps it all"),
        ({"signals": {"top_k": 2, "draws": 2}}, "draws has no effect beside top_k|signals.draws: has no effect beside top_k"),
        ({"signals": {"top_k": 2, "source": "live"}}, "has no effect with source live"),
        ({"signals": {"draws": 4}, "method": {"kind": "kd", "form": "jsd"}}, "the method takes more from the teacher than its drawn"),
        ({"signals": {"top_k": 4}, "method": {"kind": "kd", "form": "mse"}}, "takes more from the teacher than its likeliest"),
        ({"signals": {"top_k": 4}, "method": {"kind": "standardized"}}, "takes more from the teacher than its likeliest"),
        ({"signals": {"top_k": 4, "budget_mb": 0.001}}, "signals.budget_mb: 0 are fewer than the"),
    ],
)  # fmt: skip
def test_few_classes_where_they_cannot_serve(place, tmp_path, changes, sentence):
    with pytest.raises(ConfigError, match=sentence):
        first_losses(place, tmp_path, **changes)
    if "takes more" in sentence:
        assert not list(tmp_path.rglob("trainings")), "refused before anything was trained"


def test_few_classes_need_a_vocabulary(tmp_path):
    made = {"task": "rotten_tomatoes", "teacher": "minilm", "student": {"surgery": [{"kind": "fresh", "layers": 1}]}, "method": "kd"}
    with pytest.raises(ConfigError, match=r"signals.top_k: keeps a few of a vocabulary's classes, and this task has no vocabulary"):
        tutelage.distill(made | {"signals": {"top_k": 4}}, out=tmp_path / "run", store=tmp_path / "store")


def test_echo_needs_layers_to_match(place, tmp_path):
    made = recipe(place, method={"kind": "echo"}, student={"surgery": [{"kind": "drop_attention", "layers": [1]}]})
    with pytest.raises(ConfigError, match="the student has no echoing layers whose ends could be matched"):
        tutelage.distill(made, out=tmp_path / "run", store=tmp_path / "store")


def test_the_recipe_that_comes_along_runs(place, tmp_path):
    tree = config.read(Path(__file__).parents[1] / "recipes/echo-smollm2.yaml")
    of_pairs({1: (0, [1, 0, 2, 4, 3, 5])}, decoders.model(num_hidden_layers=3).config).write(tmp_path / "plan.json")
    assert [s["kind"] for s in tree["student"]["surgery"]] == ["echo_attention"]
    tree["task"] |= {"data": str(place / "docs.jsonl"), "tokens": 32, "dev_share": 0.15, "test_share": 0.15}
    tree["teacher"]["model"] = str(place / "tiny")
    tree["train"] |= {"tokens": 1000}
    with pytest.raises(ConfigError, match=r"plan.json: no such plan; make one with 'tutelage echo plan'"):
        tutelage.distill({**tree, "name": "x", "measure": False, "threads": 1}, out=tmp_path / "none", store=tmp_path / "store")
    tree["student"]["surgery"][0]["plan"] = str(tmp_path / "plan.json")
    run = tutelage.distill({**tree, "name": "x", "measure": False, "threads": 1}, out=tmp_path / "run", store=tmp_path / "store")
    assert run.record["models"]["echo"]["training"]["stages"] == ["echo", "label"]


def test_forward_shows_states_and_the_output_layer():
    model = decoders.model()
    ids = torch.randint(3, 97, (2, 6))
    seen = forward(model, {"input_ids": ids}, [LAST_STATES])
    assert torch.allclose(seen.head(seen.outputs[LAST_STATES]), model(ids).logits, atol=1e-6)


@pytest.mark.parametrize(
    ("task", "fault", "sentence"),
    [
        ({"data": "nothing.txt"}, DataError, "nothing.txt: no such file"),
        ({"data": "x", "train": "y"}, ConfigError, "give exactly one of the two"),
        ({"data": "one.txt"}, DataError, "1 documents are too few to cut test and dev from; name texts for them"),
        ({"data": "chats.jsonl", "chat": "messages"}, DataError, "chats.jsonl, line 2: column 'messages' is no chat"),
    ],
)
def test_bad_text_is_refused_in_one_sentence(tmp_path, monkeypatch, task, fault, sentence):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "one.txt").write_text("the film was good")
    good = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}
    (tmp_path / "chats.jsonl").write_text(json.dumps(good) + "\n" + json.dumps({"messages": "x"}) + "\n")
    with pytest.raises(fault, match=sentence):
        config.build(Language, task).load()


def test_a_document_beyond_the_models_positions_is_refused_before_anything_is_trained(place, tmp_path):
    shape = {"vocab_size": len(parts.WORDS), "num_hidden_layers": 2, "max_position_embeddings": 16}
    decoders.model(**shape).save_pretrained(tmp_path / "short")
    parts.tokenizer().save_pretrained(tmp_path / "short")
    made = recipe(place, student={"model": str(tmp_path / "short")})
    with pytest.raises(ConfigError, match=r"^task\.tokens: .* fills \d\d positions of a row and the student has 16; take 16 or fewer$"):
        tutelage.distill(made, out=tmp_path / "run", store=tmp_path / "store")
    assert not list(tmp_path.rglob("checkpoints"))


def test_several_language_teachers_are_refused(place, tmp_path):
    made = recipe(place, teacher={"models": [str(place / "tiny"), str(place / "tiny")]}, student={"model": str(place / "tiny")})
    with pytest.raises(ConfigError, match="hidden states of several language models have no average"):
        tutelage.distill(made, out=tmp_path / "run", store=tmp_path / "store")


def test_what_rests_stands_in_the_teachers_memory_until_it_learns(place, tmp_path, monkeypatch):
    """The same weights as without sharing, the teacher untouched, and a resumed run too."""

    def bench(folder, **changes):
        teacher = decoders.model(num_hidden_layers=3)
        student = echoes.convert(teacher, [{"kind": "own"}, {"kind": "echo", "source": 0}, {"kind": "own"}])
        training = Training(steps=8, batch_size=8, learning_rate=1e-2, precision="float32")
        method = Echo(trained="echoes", label_share=0.5)
        made = Bench(tmp_path / folder, method, training, source="live", teacher=teacher, student=student, text=True, **changes)
        return made, teacher, {k: v.clone() for k, v in teacher.state_dict().items()}

    made, teacher, before = bench("shared", echoes={1: 0})
    seen = []

    def look(state):
        mine, theirs = dict(loop.models["student"].named_parameters()), dict(teacher.named_parameters())
        seen.append([k for k in mine if k in theirs and mine[k].data_ptr() == theirs[k].data_ptr()])

    loop = made.loop(look)
    loop.run()
    first, last = seen[0], seen[-1]
    assert "model.embed_tokens.weight" in first and not any("layers.1." in k for k in first) and not last
    assert all(torch.equal(before[k], v) for k, v in teacher.state_dict().items())
    shared = {k: v.clone() for k, v in loop.models["student"].state_dict().items()}
    again, *_ = bench("resumed", echoes={1: 0}, autosave=0.0)
    with pytest.raises(Stop):
        again.run(stop_at(2))
    again, teacher, before = bench("resumed", echoes={1: 0}, autosave=0.0)
    resumed = again.run()
    assert all(torch.equal(resumed[f"student.{k}"], v) for k, v in shared.items())
    assert all(torch.equal(before[k], v) for k, v in teacher.state_dict().items())
    monkeypatch.setattr(Cast, "_share", lambda self, stage, teacher: None)
    apart, *_ = bench("apart", echoes={1: 0})
    apart = apart.run()
    assert all(torch.equal(apart[f"student.{k}"], v) for k, v in shared.items())
