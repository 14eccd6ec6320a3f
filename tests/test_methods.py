"""Single methods: their stages, who teaches whom and when, and their terms by hand."""

from __future__ import annotations

import copy
import dataclasses
import types

import pytest
import torch
from toys import LABELS, Bench, Scripted, bert, rows, shown

from tutelage import find, records
from tutelage.engine import course
from tutelage.engine.roles import Roles
from tutelage.engine.workshop import Start
from tutelage.errors import ConfigError
from tutelage.methods._method import Facts, Progress, Stage, Turn
from tutelage.methods.annealing import Annealing
from tutelage.methods.continuation import Continuation
from tutelage.methods.dkd import Dkd
from tutelage.methods.pro_kd import ProKd
from tutelage.methods.rco import Rco, chosen
from tutelage.methods.self_kd import SelfKd
from tutelage.methods.takd import Takd
from tutelage.recipe import Training

FACTS = Facts(
    steps=40, steps_per_epoch=4, depths={"student": 2, "teacher": 4}, widths={"student": 16, "teacher": 16},
    heads={"student": 2, "teacher": 2}, kept_layers=None, checkpoints=10, task_kind="choice", labels=LABELS, mask_token=0,
)  # fmt: skip
WHOLE = Training(steps=12, batch_size=20, learning_rate=1e-2, precision="float32", optimizer="sgd", clip=None, warmup=0.0, select="last")
"""One step an epoch, so that the order of rows cannot matter."""


def weights(loop, role="student"):
    return {k: v.clone() for k, v in loop.models[role].state_dict().items()}


def equal(a, b, tolerance=0.0):
    return all(torch.allclose(a[k], b[k], rtol=0, atol=tolerance) for k in a)


def on_stages(loop, look):
    """Call `look(stage)` at the beginning of every stage."""
    inner = loop._stage
    loop._stage = lambda stage, advance: (look(stage), inner(stage, advance))


# ---- annealing and continuation


@pytest.mark.parametrize("decay", ["constant", "linear"])
@pytest.mark.parametrize(("margin", "same"), [(0.0, True), (0.5, False)])
def test_continuation_with_a_step_and_no_margin_is_annealing_without_reload(decay, margin, same, tmp_path):
    training = dataclasses.replace(WHOLE, decay=decay)
    run = lambda where, method: Bench(tmp_path / where, method, training, dropout=0.0, data=rows(20)).run()
    one = run("a", Annealing(max_temperature=3, label_share=0.25, reload=False, optimizer="continue"))
    smooth = {"labels": "step", "label_from": 0.75, "temperature": "equal", "anneal_share": 0.75, "max_temperature": 3}
    two = run("b", Continuation(margin=margin, **smooth))
    assert equal(one, two, 1e-6) is same
    start = {f"student.{k}": v for k, v in bert(1, seed=2, dropout=0.0).state_dict().items()}
    assert not equal(one, start, 1e-3), "nothing was learned, so nothing was compared"


@pytest.mark.parametrize(("reduction", "first"), [("sum", 1.25 - 0.2), ("mean", 1.25 / 3 - 0.2)])
def test_continuation_by_hand(reduction, first):
    """psi 1/40 and phi 1/10 in the first of 30 epochs; the margin is a tenth of a mean squared norm of 20, the hinge a row's own."""
    z, t, gold = torch.tensor([[1.0, 0, 0], [0.05, 0, 0]]), torch.tensor([[0.0, 5, 0], [0.5, 0, 0]]), torch.tensor([0, 1])
    [stage] = Continuation(margin=0.1, max_temperature=10, reduction=reduction).stages(dataclasses.replace(FACTS, steps=120))
    terms = stage.turns[0].terms(shown(z, t, gold, progress=Progress("train", 0, 120, 0, 30), scale=20.0))
    assert terms["match"].sum.item() == pytest.approx(first + 0.0)
    assert terms["match"].weight == pytest.approx(39 / 40) and terms["label"].weight == pytest.approx(1 / 40)
    assert terms["inactive"].measure and terms["inactive"].sum.item() == 1, "the second row is within the margin"


@pytest.mark.parametrize("source", ["cached", "live"])
@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_continuations_margin_is_of_the_teachers_mean_squared_norm_and_the_log_has_the_share_within_it(reduction, source, tmp_path):
    data, teacher = rows(20), bert(2, seed=1, dropout=0.0)
    loop = Bench(tmp_path, Continuation(margin=0.9, reduction=reduction), WHOLE, data=data, source=source, teacher=teacher).loop()
    loop.run()
    with torch.no_grad():
        logits = [teacher(torch.tensor(data.batch([i]).inputs["input_ids"].tolist())).logits[0] for i in range(20)]
    by_hand = torch.stack(logits).square().sum(1).mean().item() / (LABELS if reduction == "mean" else 1)
    assert loop.cast.scale == pytest.approx(by_hand, rel=1e-2)
    log = records.rows(tmp_path / "steps.jsonl")
    shares = [row["measures"]["inactive"] for row in log if row.get("measures")]
    assert shares and all(0 <= share <= 1 for share in shares) and "inactive" not in log[0]["losses"]


def test_annealings_second_stage_starts_from_the_best_of_the_first_with_a_new_optimizer(tmp_path):
    training = Training(epochs=4, batch_size=8, learning_rate=1e-2, precision="float32", select="last")
    task = Scripted(scores=iter([0.2, 0.9, 0.5, 0.4]))
    loop = Bench(tmp_path, Annealing(), training, task=task).loop()
    at, begun, optimizers = {}, {}, {}
    loop.job.on_step = lambda state: at.update({state.total: weights(loop)})
    on_stages(loop, lambda stage: (begun.update({stage.name: weights(loop)}), optimizers.update({stage.name: loop.optimizers[0]})))
    fresh = []
    on_stages(loop, lambda stage: fresh.append(not loop.optimizers[0].state))
    loop.run()
    assert [s.steps for s in loop.stages] == [15, 5]
    assert equal(begun["label"], at[10]) and not equal(begun["label"], at[15])
    assert optimizers["anneal"] is not optimizers["label"] and fresh == [True, True]


SMOOTH = [("annealing", {}), ("continuation", {}), ("combined", {}), ("combined", {"form": "bert"}), ("pro_kd", {"teacher": "online"})]


def smoothing(name, facts=FACTS, **settings):
    """The first stage of a method that anneals."""
    return next(s for s in find.find("methods", name)(**settings).stages(facts) if s.name != "prepare")


@pytest.mark.parametrize(("name", "settings"), [*(one for one in SMOOTH if one != ("combined", {})), ("pro_kd", {})])
def test_the_distance_is_that_of_the_authors_code_by_default_and_as_a_sum_the_classes_times_it(name, settings):
    s, t = torch.randn(2, 6, LABELS, generator=torch.Generator().manual_seed(0))
    found = {}
    for reduction in ("mean", "sum"):
        stage = smoothing(name, **settings, reduction=reduction)
        terms = stage.turns[-1].terms(shown(s, t, guide=t, progress=Progress(stage.name, 39, 40, 3, 10)))
        found[reduction] = next(v.sum.item() / len(s) for k, v in terms.items() if k in ("match", "follow"))
    phi = 0.1 if (name, settings) == ("pro_kd", {}) else 1.0
    assert found["mean"] == pytest.approx(torch.nn.functional.mse_loss(s, phi * t).item(), rel=1e-5)
    assert found["sum"] == pytest.approx(LABELS * found["mean"], rel=1e-5)


@pytest.mark.parametrize(("name", "settings"), SMOOTH)
def test_a_budget_of_two_epochs_has_as_many_temperatures_as_a_long_one(name, settings):
    """141 of 188 steps anneal, one and a half epochs."""
    stage = smoothing(name, dataclasses.replace(FACTS, steps=188, steps_per_epoch=94), **settings)
    assert stage.settled == {"max_temperature": 10} and not stage.warnings


@pytest.mark.parametrize(("name", "settings"), SMOOTH)
def test_more_temperatures_than_steps_are_refused_in_a_sentence_that_names_the_setting(name, settings):
    with pytest.raises(ConfigError, match=r"^method\.max_temperature: 41 temperatures are more than the \d+ optimizer steps [^\n]*$"):
        smoothing(name, max_temperature=41, **settings)


@pytest.mark.parametrize(("name", "settings"), SMOOTH)
def test_a_single_temperature_is_warned_of_unless_it_was_asked_for(name, settings):
    short = dataclasses.replace(FACTS, steps=2, steps_per_epoch=1)
    more = {"anneal_share": 0.5} if name == "continuation" else {}
    for given in ({}, {"max_temperature": 1}):
        stage = smoothing(name, short, **settings, **more, **given)
        assert stage.settled == {"max_temperature": 1} and len(stage.warnings) == (not given)


def test_algorithm_1_counts_epochs_and_warns_where_they_are_too_few_for_a_second_temperature():
    short = lambda epochs: dataclasses.replace(FACTS, steps=94 * epochs, steps_per_epoch=94)
    with pytest.raises(ConfigError, match=r"^method\.max_temperature: 11 temperatures are more than the 10 epochs "):
        smoothing("continuation", short(10), temperature="algorithm", max_temperature=11)
    assert [bool(smoothing("continuation", short(n), temperature="algorithm").warnings) for n in (2, 3)] == [True, False]


# ---- along the teacher's route


@pytest.mark.parametrize(
    ("have", "asked", "by_hand"),
    [(10, 5, [2, 4, 6, 8, 10]), (12, 4, [3, 6, 9, 12]), (10, 3, [4, 7, 10]), (10, 1, [10]), (5, None, [1, 2, 3, 4, 5])],
)
def test_anchors_lie_at_equal_distances_the_last_among_them(have, asked, by_hand):
    assert chosen(asked, "anchors", dataclasses.replace(FACTS, checkpoints=have), FACTS.steps) == by_hand


@pytest.mark.parametrize("method", [Rco(anchors=11), ProKd(checkpoints=11)])
def test_more_checkpoints_than_the_teacher_has_are_refused_in_one_sentence(method):
    with pytest.raises(ConfigError, match=r"^method\.(anchors|checkpoints): 11 checkpoints asked for; the teacher has 10; [^\n]*$"):
        method.stages(FACTS)


@pytest.mark.parametrize(("method", "optimizers"), [(ProKd(), 2), (Rco(), 3), (Rco(optimizer="continue"), 1)])
def test_checkpoints_teach_in_order_and_the_labels_come_last(method, optimizers, tmp_path):
    loop = Bench(tmp_path, method, Training(epochs=4, batch_size=8, precision="float32")).loop()
    asked, seen = [], []
    inner = loop.job.signals
    loop.job.signals = lambda role, stage: (asked.append(role), inner(role, stage))[1]
    on_stages(loop, lambda stage: seen.append(loop.optimizers[0]))
    loop.run()
    assert asked == ["teacher@1", "teacher@2", "teacher@3"] and len(set(map(id, seen))) == optimizers
    assert loop.stages[-1].teacher == (None if method.name == "pro_kd" else "teacher@3")
    follow = [s.steps for s in loop.stages if s.name.startswith("follow")]
    assert max(follow) - min(follow) <= 1 and sum(s.steps for s in loop.stages) == 20


@pytest.mark.parametrize(("smoothing", "scales"), [("phi", [0.25, 0.5, 0.75, 1]), ("inverse", [1 / 4, 1 / 3, 1 / 2, 1]), ("none", [1] * 4)])
def test_the_scale_of_pro_kds_checkpoints_rises_to_one(smoothing, scales):
    z, t = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(0))
    *follow, label = ProKd(smoothing=smoothing, reduction="sum").stages(dataclasses.replace(FACTS, checkpoints=4))
    found = [stage.turns[0].terms(shown(z, t))["follow"].sum.item() for stage in follow]
    assert found == pytest.approx([float(((z - scale * t) ** 2).sum()) for scale in scales], rel=1e-5)
    assert label.start_from == ":best"


def test_online_pro_kd_takes_a_turn_of_the_teacher_then_one_of_the_student(tmp_path):
    loop = Bench(tmp_path, ProKd(teacher="online", turn=2), Training(steps=8, batch_size=8, precision="float32")).loop()
    before, moved = {r: weights(loop, r) for r in ("guide", "student")}, []

    def look(state):
        now = {r: weights(loop, r) for r in before}
        moved.append([r for r in before if not equal(before[r], now[r])])
        before.update(now)

    loop.job.on_step = look
    loop.run()
    assert moved == ([["guide"]] * 2 + [["student"]] * 2) * 3 + [["student"]] * 2


# ---- assistants and copies


def test_takds_student_learns_from_what_the_assistant_was_at_its_best(tmp_path):
    training = Training(epochs=3, batch_size=8, learning_rate=1e-2, precision="float32")
    task = Scripted(scores=iter([0.1, 0.8, 0.3, 0.1, 0.2, 0.7]))
    loop = Bench(tmp_path, Takd(), training, task=task, source="auto").loop()
    assistant, student, begun = {}, weights(loop), {}
    loop.job.on_step = lambda state: assistant.update({state.total: weights(loop, "assistant")})
    on_stages(loop, lambda stage: begun.update({stage.name: (weights(loop, "assistant"), weights(loop), loop.cast.source)}))
    loop.run()
    taught_by, started_from, source = begun["train"]
    assert equal(taught_by, assistant[10]) and not equal(taught_by, assistant[15]) and equal(started_from, student)
    model = bert(loop.models["assistant"].config.num_hidden_layers)
    model.load_state_dict(taught_by)
    batch = loop.job.train.batch([0, 1, 2])
    with torch.no_grad():
        by_hand = model.eval()(**batch.inputs).logits
    assert torch.allclose(source.of(batch).outputs["logits"], by_hand, atol=1e-2), "in the precision of signals"


@pytest.mark.parametrize(("small", "large", "layers"), [(6, 12, 9), (1, 4, 2), (4, 4, 4)])
def test_the_assistant_has_the_depth_in_the_middle(small, large, layers):
    spec = Takd().roles(dataclasses.replace(FACTS, depths={"student": small, "teacher": large}))["assistant"]
    assert (spec.start, spec.layers) == ("teacher", layers)


def test_self_kds_copy_starts_where_the_student_starts_and_the_student_waits_for_it(tmp_path):
    student = bert(1, seed=2)
    shop = types.SimpleNamespace(machine=types.SimpleNamespace(device=torch.device("cpu")))
    made = Roles(shop, SelfKd(), FACTS, Start(student, None), None, seed=0)["copy"]
    start = copy.deepcopy(student.state_dict())
    assert made is not student and equal(start, made.state_dict())
    assert not {p.data_ptr() for p in made.parameters()} & {p.data_ptr() for p in student.parameters()}
    loop = Bench(tmp_path, SelfKd(), student=student, roles={"copy": lambda: made}, source="auto").loop()
    begun = []
    on_stages(loop, lambda stage: begun.append((weights(loop), weights(loop, "copy"), stage.teacher)))
    loop.run()
    assert equal(begun[1][0], start) and not equal(begun[1][1], start) and begun[1][2] == "copy"
    assert not equal(weights(loop), start)


# ---- decoupled forms


def test_dkd_takes_the_teachers_class_for_rows_without_a_label():
    s, t = torch.randn(2, 6, LABELS, generator=torch.Generator().manual_seed(1)) * 2
    gold = torch.tensor([-1, 2, -1, 0, -1, 1])
    terms = Dkd(temperature=1.0, target_weight=0.5, others_weight=3.0).terms(shown(s, t, gold))
    by_hand = 0.0
    for i in range(6):
        p, q, k = t[i].softmax(-1), s[i].softmax(-1), int(gold[i] if gold[i] >= 0 else t[i].argmax())
        rest = [j for j in range(LABELS) if j != k]
        first = p[k] * (p[k] / q[k]).log() + (1 - p[k]) * ((1 - p[k]) / (1 - q[k])).log()
        among = [x[rest] / x[rest].sum() for x in (p, q)]
        by_hand += float(0.5 * first + 3.0 * (among[0] * (among[0] / among[1]).log()).sum())
    assert terms["soft"].sum.item() == pytest.approx(by_hand, rel=1e-4)
    labels = -s.log_softmax(-1)[[1, 3, 5], [2, 0, 1]].sum()
    assert terms["label"].sum.item() == pytest.approx(labels.item(), rel=1e-5)


@pytest.mark.parametrize("labels", [1, 2])
@pytest.mark.parametrize("name", ["dkd", "dist", "standardized"])
def test_one_class_or_two_are_refused_in_one_sentence_where_a_method_has_nothing_to_match(name, labels):
    with pytest.raises(ConfigError, match=rf"^method: '{name}' [^\n]*take kd$"):
        find.find("methods", name)().stages(dataclasses.replace(FACTS, labels=labels))


@pytest.mark.parametrize("name", ["dkd", "dist", "standardized", "label_smoothing", "tf_reg"])
def test_labels_of_another_kind_are_refused_in_one_sentence(name):
    with pytest.raises(ConfigError, match=rf"^method: '{name}' is for one class of several[^\n]*take kd$"):
        find.find("methods", name)().stages(dataclasses.replace(FACTS, task_kind="value"))


def test_turns_and_rates_of_stages_that_continue_are_one_course():
    """Annealing with one optimizer: 9 and 3 steps, a rate that falls to 0 over all 12."""
    method = Annealing(max_temperature=3, label_share=0.25, reload=False, optimizer="continue")
    stages = method.stages(dataclasses.replace(FACTS, steps=12, steps_per_epoch=1))
    found = [course.rate(stages, n, i, WHOLE) for n, s in enumerate(stages) for i in range(s.steps)]
    assert found == pytest.approx([1e-2 * (12 - i) / 12 for i in range(12)])


def test_each_turn_warms_up_and_decays_over_steps_of_its_own():
    """By hand: 2 steps of a generator, 3 of the student, by turns for 9; both rise over the first half of their own steps."""
    stage = Stage("train", (Turn(lambda see: {}, "generator", 2, learning_rate=1.0), Turn(lambda see: {}, steps=3)), 9)
    found = [course.rate([stage], 0, i, dataclasses.replace(WHOLE, learning_rate=10.0, warmup=0.5)) for i in range(9)]
    assert found == pytest.approx([0.5, 1.0, 10 / 3, 20 / 3, 10, 1.0, 0.5, 10, 5])
    assert [course.own_steps(stage, 1, n) for n in range(10)] == [0, 0, 0, 1, 2, 3, 3, 3, 4, 5]
