"""Written text: where it may stand in packed rows, what writes it, and that drawing follows the model's probabilities."""

from __future__ import annotations

import json
import math

import decoders
import numpy as np
import pytest
import torch
from test_language import place, recipe  # noqa: F401
from toys import Bench, method, text
from transformers import GenerationConfig

import tutelage
from tutelage.engine.write import continuations
from tutelage.errors import ConfigError
from tutelage.recipe import Training
from tutelage.tasks._packing import NO_TARGET, pack
from tutelage.tasks._task import Encoded
from tutelage.tasks.language import Language

TASK = Language(data="none", tokens=8)


def packed(documents, length=8):
    columns, targets, lengths = pack(documents, length)
    numbers = np.zeros(len(lengths), dtype=np.int64)
    encoded = Encoded(columns, lengths, numbers, extra={"target": targets - NO_TARGET}, pad={"input_ids": 0}, mask=False)
    return encoded.batch(np.arange(len(encoded)))


def test_stretches_by_hand():
    plain = ([11, 12, 13, 14, 15, 16, 17, 18, 19, 20], [True] * 10)  # 8 in the first row, 2 in the second
    chat = ([31, 32, 33, 34, 35], [False, True, False, True, True])  # says 32, then 34 and 35
    batch = packed([plain, chat, ([41], [True])])
    assert batch.inputs["input_ids"].tolist() == [[11, 12, 13, 14, 15, 16, 17, 18], [19, 20, 31, 32, 33, 34, 35, 41]]
    assert TASK.stretches(batch, 0.0) == [(0, 0, 1, 8), (1, 0, 1, 2), (1, 2, 5, 7)]
    assert TASK.stretches(batch, 0.5) == [(0, 0, 4, 8), (1, 0, 1, 2), (1, 2, 6, 7)]
    assert TASK.stretches(batch, 0.99) == [(0, 0, 7, 8), (1, 0, 1, 2), (1, 2, 6, 7)]


def test_rewritten_rows_by_hand():
    batch = packed([(list(range(11, 21)), [True] * 10)])
    ends = TASK.stretches(batch, 0.5)
    made = TASK.rewritten(batch, ends, [torch.tensor([50, 51]), torch.tensor([60])])
    assert made.inputs["input_ids"].tolist() == [[11, 12, 13, 14, 50, 51, 17, 18], [19, 60, 0, 0, 0, 0, 0, 0]]
    target = (made.extra["target"] + NO_TARGET).tolist()
    no = NO_TARGET
    assert target == [[no, no, no, 50, 51, no, no, no], [60, no, no, no, no, no, no, no]]
    assert made.extra["by"][:, 0].tolist() == [7 / 2, 1.0], "a row weighs as many tokens as before"
    assert batch.inputs["input_ids"][0, 4] == 15, "the batch itself stays"


def generators(number):
    return [torch.Generator().manual_seed(i) for i in range(number)]


def test_greedy_continuations_are_generates_one_by_one():
    model = decoders.model()
    prompts = [torch.arange(5, 5 + n) for n in (3, 7, 1)]
    found = continuations(model, prompts, [6, 2, 4], generators(3), 0.0)
    bare = GenerationConfig(eos_token_id=2, pad_token_id=2)
    for prompt, length, mine in zip(prompts, [6, 2, 4], found, strict=True):
        alone = model.generate(prompt[None], generation_config=bare, max_new_tokens=length)[0, len(prompt) :]
        assert mine.tolist() == alone.tolist()


def test_the_end_token_ends_a_continuation_and_stays():
    model = decoders.model()
    prompt = torch.arange(5, 9)
    first = continuations(model, [prompt], [5], generators(1), 0.0)[0]
    model.generation_config.eos_token_id = [int(first[2]), 96]
    cut = continuations(model, [prompt, torch.arange(20, 30)], [5, 5], generators(2), 0.0)[0]
    assert cut.tolist() == first[: first.tolist().index(int(first[2])) + 1].tolist()
    assert model.generation_config.eos_token_id == [int(first[2]), 96]


def test_draws_follow_the_tempered_probabilities_and_not_the_batch():
    model = decoders.model(vocab_size=12)
    prompt = torch.tensor([5, 6, 7])
    with torch.no_grad():
        wanted = (model(prompt[None]).logits[0, -1] / 1.7).softmax(-1)
    many = [int(t[0]) for t in continuations(model, [prompt] * 3000, [1] * 3000, generators(3000), 1.7)]
    found = torch.bincount(torch.tensor(many), minlength=12) / 3000
    assert (found - wanted).abs().max() < 5 * math.sqrt(0.25 / 3000)
    whole = continuations(model, [prompt, torch.arange(4, 9)], [6, 9], generators(2), 1.0)
    alone = continuations(model, [prompt], [6], generators(1), 1.0)
    assert whole[0].tolist() == alone[0].tolist()
    assert model.train().training and continuations(model, [prompt], [2], generators(1)) and model.training


@pytest.mark.parametrize(
    "settings",
    [{"share": 0.5}, {"writer": "teacher", "soft_weight": 0.0, "hard_weight": 1.0, "sampling": 0.0}, {"writer": "teacher", "prompt": 0.0}],
    ids=["student", "sequence", "teacher"],
)
def test_a_run_on_written_text(place, tmp_path, settings):  # noqa: F811
    made = recipe(place, method={"kind": "gkd", **settings}, train={"steps": 4, "learning_rate": 1e-3, "batch_size": 8})
    run = tutelage.distill(made, out=tmp_path / "run", store=tmp_path / "store")
    student = run.record["models"]["gkd"]
    assert math.isfinite(student["test"]["primary"])
    assert all(math.isfinite(v) for x in student["training"]["losses"] for v in x["losses"].values())


def test_greedy_text_of_the_teacher_is_its_own_label(tmp_path):
    """With sampling 0 and the prompt's first token alone, every written token is the teacher's likeliest next one."""
    made = method("gkd", writer="teacher", sampling=0.0, soft_weight=0.0, hard_weight=1.0, prompt=0.0)
    bench = Bench(tmp_path, made, Training(steps=2, batch_size=8, precision="float32"), source="auto")
    loop = bench.loop()
    loop.run()
    assert len(loop.columns.rows) == len(text()) and not loop.columns.rows.labelled.any()
    batch = loop.columns.rows.batch(np.arange(len(loop.columns.rows)))
    with torch.no_grad():
        likely = bench.teacher(**batch.inputs, use_cache=False).logits.argmax(-1)
    keep = batch.extra["target"] > 0
    assert torch.equal(likely[keep], (batch.extra["target"][keep] + NO_TARGET).long())


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"soft_weight": 0.0}, "learns nothing; give soft_weight or hard_weight"),
        ({"soft_weight": 0.0, "hard_weight": 1.0}, "must be above 0 with writer student"),
        ({"hard_weight": 0.5}, "hard_weight has no effect with writer student and share 1"),
        ({"every": 2}, "every has no effect with writer student"),
        ({"writer": "teacher", "share": 0.5}, "share has no effect with writer teacher"),
        ({"writer": "teacher", "soft_weight": 0.0, "hard_weight": 1.0, "form": "kl"}, "form has no effect with soft_weight 0"),
        ({"prompt": 1.0}, "prompt"),
    ],
)
def test_what_gkd_refuses(place, tmp_path, settings, sentence):  # noqa: F811
    with pytest.raises(ConfigError) as fault:
        tutelage.distill(recipe(place, method={"kind": "gkd", **settings}), out=tmp_path / "run", store=tmp_path / "store")
    assert sentence in str(fault.value).replace(": has", " has"), json.dumps(str(fault.value))


def test_gkd_needs_running_text(tmp_path):
    made = {"task": "rotten_tomatoes", "teacher": "minilm", "student": {"surgery": [{"kind": "fresh", "layers": 1}]}, "method": "gkd"}
    with pytest.raises(ConfigError, match="'gkd' writes running text, and this task has none"):
        tutelage.distill(made, out=tmp_path / "run", store=tmp_path / "store")
