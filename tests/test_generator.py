"""The masked-LM generator of MATE-KD and Combined-KD: what it masks, writes, learns, and whom its gradient reaches."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import scipy.stats
import torch
from test_methods import FACTS, equal, on_stages, weights
from toys import LABELS, VOCABULARY, Bench, Scripted, bert, rows, shown
from transformers import BertForMaskedLM

from tutelage.engine import course
from tutelage.errors import ConfigError
from tutelage.methods._generator import Adversary
from tutelage.methods._method import Progress
from tutelage.methods.combined import Combined
from tutelage.methods.mate import Mate
from tutelage.recipe import Training
from tutelage.rows import Seen
from tutelage.tasks._task import Encoded

SPECIAL = (7, 8, 9)
QUICK = Training(steps=8, batch_size=8, learning_rate=1e-2, precision="float32")


class Look:
    """A method's view of some rows, and what each role was fed."""

    def __init__(self, folder, method, data=None, seed: int = 1, width: int = 16):
        self.loop = Bench(folder, method, QUICK, dropout=0.0, source="live", data=data or rows(40), student=bert(1, 2, 0.0, width)).loop()
        self.facts = dataclasses.replace(self.loop.job.facts, special_tokens=SPECIAL)
        self.method, self.fed, self.stage, self.seed = method, {}, self.loop.stages[-1], seed

    def at(self, index, turn: int = 0, step: int = 0):
        self.loop.state.step = step
        stage = next(s for s in self.loop.stages if len(s.turns) == 2)
        self.loop.cast.train(stage.turns[turn])
        data, seed = self.loop.job.train, 100 + step
        see = self.loop.cast.see(stage, stage.turns[turn], data.batch(index), data, self.loop._progress(stage), seed)
        live = see._live
        see._live = lambda role, inputs, places=None: (self.fed.update({role: inputs}), live(role, inputs, places))[1]
        return see


def nearest(embedded: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
    """The token whose embedding each place holds; -1 where it is nobody's."""
    gap, token = torch.cdist(embedded.detach(), table.detach()).min(-1)
    return token.where(gap < 1e-4, -1)


def test_the_generator_takes_10_steps_of_each_110():
    [stage] = Mate(prepare=0).stages(dataclasses.replace(FACTS, steps=330))
    roles = [stage.turns[course.turn_at(stage, i)].role for i in range(330)]
    assert roles == (["generator"] * 10 + ["student"] * 100) * 3
    assert stage.turns[0].learning_rate == 5e-7 and stage.turns[1].learning_rate is None


def test_padding_and_special_tokens_are_never_masked_and_three_in_ten_others_are(tmp_path):
    data = rows(400, seed=3)
    look = Look(tmp_path, Mate(prepare=0), data)
    see = look.at(range(400))
    ids, hidden, _ = look.method._masked(see, look.facts)
    free = see.batch.inputs["attention_mask"].bool() & ~torch.isin(ids, torch.tensor(SPECIAL))
    assert not hidden[~free].any() and torch.isin(ids, torch.tensor(SPECIAL)).any()
    number = int(free.sum())
    assert abs(int(hidden.sum()) - 0.3 * number) < 4 * math.sqrt(0.21 * number)


def test_a_rows_mask_and_writing_are_the_same_in_any_batch_and_another_at_the_next_step(tmp_path):
    look = Look(tmp_path, Mate(prepare=0))
    masks, texts = {}, {}
    for name, index, step in [("eight", range(8), 0), ("alone", [3], 0), ("other", [30, 3, 21], 0), ("next", [3], 1)]:
        see = look.at(index, step=step)
        masks[name] = look.method._masked(see, look.facts)[1][list(index).index(3)]
        look.method.written(see, look.facts, learn=False)
        texts[name] = nearest(look.fed["student"]["inputs_embeds"], see.embeddings("student"))[list(index).index(3)]
    length = int(look.loop.job.train.lengths[3])
    for name in ("eight", "other"):
        assert torch.equal(masks[name][:length], masks["alone"][:length]) and torch.equal(texts[name][:length], texts["alone"][:length])
    assert not torch.equal(masks["next"], masks["alone"]) or not torch.equal(texts["next"], texts["alone"])
    several = {tuple(look.method._masked(look.at([3], step=i), look.facts)[1][0].tolist()) for i in range(6)}
    assert len(several) > 1


def test_the_generators_scores_of_masked_places_are_those_of_its_whole_output(tmp_path):
    look = Look(tmp_path, Mate(prepare=0))
    see = look.at(range(8))
    ids, hidden, _ = look.method._masked(see, look.facts)
    scores = look.method._scores(see, ids, hidden, look.facts)
    whole = see("generator", look.fed["generator"]).outputs["logits"]
    assert whole.shape[:2] == ids.shape and torch.allclose(scores, whole[hidden], atol=1e-6)


@pytest.mark.parametrize("learn", [True, False])
def test_written_tokens_are_one_token_each_the_same_for_both_roles_and_the_rest_stays(learn, tmp_path):
    look = Look(tmp_path, Mate(prepare=0), width=24)
    see = look.at(range(12))
    look.method.written(see, look.facts, learn=learn)
    ids, hidden, _ = look.method._masked(see, look.facts)
    small, large = (nearest(look.fed[r]["inputs_embeds"], see.embeddings(r)) for r in ("student", "teacher"))
    assert look.fed["student"]["inputs_embeds"].shape[-1] == 24 and look.fed["teacher"]["inputs_embeds"].shape[-1] == 16
    assert torch.equal(small, large) and (small >= 0).all() and torch.equal(small[~hidden], ids[~hidden])
    assert (small[hidden] != ids[hidden]).any()


@pytest.mark.parametrize("learn", [True, False])
def test_tokens_are_written_with_the_generators_probabilities(learn, tmp_path):
    """Pearson's statistic over many draws of the same places; 99.9 % of such draws stay below the bound."""
    look = Look(tmp_path, Mate(prepare=0, gumbel=2.0))
    counts, wanted = torch.zeros(VOCABULARY), torch.zeros(VOCABULARY)
    generator = look.loop.models["generator"]
    with torch.no_grad():
        generator.get_output_embeddings().bias.copy_(torch.randn(VOCABULARY, generator=torch.Generator().manual_seed(0)))
        for step in range(40):
            see = look.at(range(32), step=step)
            ids, hidden, best, soft = look.method.chosen(see, look.facts, learn)
            counts += best.bincount(minlength=VOCABULARY)
            wanted += look.method._scores(see, ids, hidden, look.facts).softmax(-1).sum(0)
            assert (soft is not None) == learn and len(best) == int(hidden.sum())
    assert counts.sum() > 2000 and scipy.stats.chi2.sf(float(((counts - wanted) ** 2 / wanted).sum()), VOCABULARY - 1) > 0.001


def test_the_generators_gradient_is_that_of_the_soft_choice_and_the_others_get_none(tmp_path):
    """The hard choice's gradient by the chain rule: J_softmax^T (table . dL/d embedding), summed over both roles."""
    look = Look(tmp_path, Mate(prepare=0, gumbel=2.0))
    see = look.at(range(8))
    scores, inner = [], look.loop.models["generator"].forward

    def watched(**inputs):
        out = inner(**inputs)
        out.logits.retain_grad()
        scores.append(out.logits)
        return out

    look.loop.models["generator"].forward = watched
    [stage] = look.loop.stages
    seen_live = see._live

    def keep(role, inputs, places=None):
        if "inputs_embeds" in inputs:
            inputs["inputs_embeds"].retain_grad()
        return seen_live(role, inputs, places)

    see._live = keep
    term = stage.turns[0].terms(see)["apart"]
    (1e6 * term.weight * term.sum).backward()
    _, hidden, draws = look.method._masked(see, dataclasses.replace(look.facts, special_tokens=()))
    drawn = [torch.rand(int(n), VOCABULARY, dtype=torch.float64, generator=g) for n, g in zip(hidden.sum(-1), draws, strict=True)]
    soft = ((scores[0].detach() - torch.cat(drawn).log().neg().log().float()) / 2.0).softmax(-1)
    pull = sum(look.fed[r]["inputs_embeds"].grad[hidden] @ see.embeddings(r).T for r in ("student", "teacher"))
    by_hand = soft * (pull - (soft * pull).sum(-1, keepdim=True)) / 2.0
    size = by_hand.abs().max().item()
    assert size > 0.01 and torch.allclose(scores[0].grad, by_hand.detach(), rtol=1e-3, atol=1e-4 * size)
    assert any(p.grad is not None and p.grad.abs().max() > 0 for p in look.loop.models["generator"].parameters())
    others = [look.loop.models["student"], look.loop.cast.model(stage, "teacher")]
    assert all(p.grad is None and not p.requires_grad for model in others for p in model.parameters())


def test_mates_terms_are_a_third_each_and_the_generator_wants_the_opposite(monkeypatch):
    s, t, es, et = torch.randn(4, 6, LABELS, generator=torch.Generator().manual_seed(0))
    gold = torch.tensor([0, 1, 2, -1, 1, 0])
    monkeypatch.setattr(
        Adversary, "written", lambda self, see, facts, learn: {"student": Seen({"logits": es}), "teacher": Seen({"logits": et})}
    )
    [stage] = Mate(prepare=0).stages(FACTS)
    apart, learn = (turn.terms(shown(s, t, gold)) for turn in stage.turns)
    cross = lambda a, b: -(b.softmax(-1) * a.log_softmax(-1)).sum().item()
    assert (apart["apart"].weight, apart["apart"].sum.item()) == (-1.0, pytest.approx(cross(es, et), rel=1e-5))
    assert {k: v.weight for k, v in learn.items()} == pytest.approx(dict.fromkeys(("written", "soft", "label"), 1 / 3))
    assert learn["written"].sum.item() == pytest.approx(cross(es, et), rel=1e-5)
    assert learn["soft"].sum.item() == pytest.approx(cross(s, t), rel=1e-5)


def four_words(number: int) -> Encoded:
    """Rows of tokens drawn evenly from four: no model of them has a perplexity below four, a good one nearly that."""
    draw = np.random.default_rng(number)
    lengths = draw.integers(8, 13, number)
    return Encoded({"input_ids": draw.integers(1, 5, lengths.sum()).astype(np.int32)}, lengths, np.zeros(number, dtype=np.int64))


def test_the_generator_learns_to_fill_masks_first_and_its_perplexity_is_recorded(tmp_path):
    training = Training(steps=4, batch_size=16, learning_rate=1e-2, precision="float32", evaluate_every=10)
    loop = Bench(tmp_path, Mate(prepare=40), training, dropout=0.0, source="live", data=four_words(80)).loop()
    loop.job.dev = four_words(40)
    student = weights(loop)
    waits = []
    loop.job.on_step = lambda state: waits.append(all(torch.equal(v, student[k]) for k, v in weights(loop).items()))
    state = loop.run()
    looks = [h["dev"] for h in state.history if h["stage"] == "prepare"]
    assert len(looks) == 4 and all(one["perplexity"] == pytest.approx(math.exp(one["loss"])) for one in looks)
    assert looks[0]["perplexity"] > looks[-1]["perplexity"] and 3.5 < looks[-1]["perplexity"] < 5.5
    assert all(waits[:40]), "the student waits"
    assert state.best[""]["step"] > 40, "a perplexity never chooses the student"


def test_the_preparation_lasts_an_epoch_where_no_generator_is_named_and_is_left_out_where_one_is():
    assert [(s.name, s.steps) for s in Mate().stages(FACTS)] == [("prepare", 4), ("train", 40)]
    assert [s.name for s in Mate(generator="some/masked-lm").stages(FACTS)] == ["train"]
    assert [(s.name, s.steps) for s in Mate(generator="some/masked-lm", prepare=7).stages(FACTS)] == [("prepare", 7), ("train", 40)]


@pytest.mark.parametrize("method", [Mate, Combined])
def test_a_generator_beside_the_budget_leaves_the_student_all_of_it(method):
    """A cycle of 3 and 7 steps; the budget ends in the middle of one, and each starts with the generator."""
    made = method(generator_steps=3, student_steps=7, generator_budget="beside", generator="some/masked-lm")
    stages = made.stages(FACTS)
    turns = [(s, course.turn_at(s, i)) for s in stages for i in range(s.steps)]
    roles = [s.turns[n].role for s, n in turns]
    assert roles.count("student") == FACTS.steps and roles[-1] == "student"
    alone = stages[0].steps - roles.count("generator")
    assert roles.count("generator") == 3 * -(-alone // 7)


def test_a_generator_with_another_vocabulary_is_refused_in_one_sentence(tmp_path):
    def other():
        made = bert(1, cls=BertForMaskedLM)
        made.resize_token_embeddings(VOCABULARY + 10)
        return made

    bench = Bench(tmp_path, Mate(prepare=0), QUICK, roles={"generator": other})
    with pytest.raises(ConfigError, match=r"^method\.generator: the generator writes 60 tokens, the student knows 50; [^\n]*$"):
        bench.run()


def test_a_tokenizer_without_a_mask_is_refused_in_one_sentence():
    with pytest.raises(ConfigError, match=r"^method: the student has no tokenizer with a mask token[^\n]*$"):
        Mate().roles(dataclasses.replace(FACTS, mask_token=None))


# ---- Combined-KD


def test_combineds_phases_by_hand(monkeypatch):
    """30 of 40 steps anneal, with 3 temperatures: phi 1/3, 2/3, 1 for ten steps each; then the labels alone."""
    s, t, es, et = torch.randn(4, 6, LABELS, generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr(
        Adversary, "written", lambda self, see, facts, learn: {"student": Seen({"logits": es}), "teacher": Seen({"logits": et})}
    )
    prepare, anneal, label = Combined(max_temperature=3, reduction="sum").stages(FACTS)
    assert [x.name for x in (prepare, anneal, label)] == ["prepare", "anneal", "label"] and (anneal.steps, label.steps) == (30, 10)
    assert [t.role for t in anneal.turns] == ["generator", "student"] and [t.role for t in label.turns] == ["student"]
    assert (label.start_from, label.optimizer, label.teacher) == ("best", "fresh", None)
    for step, phi in [(0, 1 / 3), (9, 1 / 3), (10, 2 / 3), (20, 1), (29, 1)]:
        see = shown(s, t, progress=Progress("anneal", step, 30, 0, 8))
        apart, learn = (turn.terms(see) for turn in anneal.turns)
        assert apart["apart"].weight * apart["apart"].sum.item() == pytest.approx(-float(((es - et) ** 2).sum()), rel=1e-5)
        halves = {k: v.weight * v.sum.item() for k, v in learn.items()}
        by_hand = {k: 0.5 * float(((a - phi * b) ** 2).sum()) for k, (a, b) in {"match": (s, t), "written": (es, et)}.items()}
        assert halves == pytest.approx(by_hand, rel=1e-5)


def test_the_bert_form_of_combined_is_half_labels_and_half_distance_and_writes_nothing(monkeypatch):
    s, t = torch.randn(2, 6, LABELS, generator=torch.Generator().manual_seed(0))
    gold = torch.tensor([0, 1, 2, 2, 1, 0])
    monkeypatch.setattr(Adversary, "written", lambda *given, **more: pytest.fail("something was written"))
    method = Combined(form="bert", max_temperature=2, reduction="sum")
    anneal, _ = method.stages(FACTS)
    assert method.roles(FACTS) == {} and [turn.role for turn in anneal.turns] == ["student"]
    terms = anneal.turns[0].terms(shown(s, t, gold, progress=Progress("anneal", 0, 30, 0, 8)))
    found = {k: v.weight * v.sum.item() for k, v in terms.items()}
    label = -0.5 * s.log_softmax(-1).gather(-1, gold[:, None]).sum().item()
    assert found == pytest.approx({"label": label, "match": 0.5 * float(((s - t / 2) ** 2).sum())}, rel=1e-5)


def test_combined_learns_labels_from_the_best_student_of_its_first_phase_without_dropout_where_asked(tmp_path):
    method = Combined(prepare=2, generator_steps=1, student_steps=2, dropout=False)
    loop = Bench(tmp_path, method, QUICK, source="live", task=Scripted(scores=iter([0.9, 0.1, 0.5]))).loop()
    inner, turns, at, begun = loop.cast._freeze, [], {}, {}
    loop.cast._freeze = lambda turn: (inner(turn), turns.append((turn.role, loop.models["student"].training)))
    loop.job.on_step = lambda state: at.update({state.total: weights(loop)})
    on_stages(loop, lambda stage: begun.update({stage.name: weights(loop)}))
    loop.run()
    assert [role for role, _ in turns if role] == ["generator", "generator", "student", "generator", "student", "student"]
    assert not any(training for _, training in turns), "dropout is off"
    assert equal(begun["label"], at[7]) and not equal(at[7], at[8])
