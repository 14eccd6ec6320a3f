"""The losses of single methods: by hand, by identities, against numpy, scipy and torch, and in naive loops."""

from __future__ import annotations

import functools
import math

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from tutelage import losses


def draw(*shape: int, seed: int = 0, scale: float = 3.0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * scale


seeds = st.integers(0, 10_000)
GOLD = torch.tensor([0, 3, 1, 2, 3, 0])
ALLOWED = torch.tensor([[1, 1, 0, 1], [1, 0, 1, 1], [1, 1, 1, 1], [0, 1, 1, 1], [1, 1, 0, 1], [1, 1, 1, 0]], dtype=torch.bool)
"""Cells that exist, the true class of `GOLD` among them."""


def entropy(p: torch.Tensor) -> torch.Tensor:
    return torch.special.entr(p).sum(-1)


# ---- cross-entropy, uniform and virtual teachers


@given(seeds)
def test_cross_entropy_is_the_divergence_plus_the_teachers_entropy(seed):
    s, t = draw(2, 5, 4, seed=seed)
    assert torch.allclose(losses.cross_entropy(s, t, kind="choice"), losses.divergence(s, t) + entropy(t.softmax(-1)), atol=1e-4)
    yes = torch.stack([t.sigmoid(), (-t).sigmoid()], -1)
    both = losses.binary_divergence(s, t) + entropy(yes).sum(-1)
    assert torch.allclose(losses.cross_entropy(s, t, kind="binary"), both, atol=1e-4)
    assert torch.equal(losses.cross_entropy(s, t, kind="value"), ((s - t) ** 2).sum(-1))


def test_cross_entropy_is_torchs_for_soft_labels():
    s, t = draw(2, 5, 4)
    assert torch.allclose(losses.cross_entropy(s, t, kind="choice"), F.cross_entropy(s, t.softmax(-1), reduction="none"), atol=1e-5)
    rival = F.binary_cross_entropy_with_logits(s, t.sigmoid(), reduction="none").sum(-1)
    assert torch.allclose(losses.cross_entropy(s, t, kind="binary"), rival, atol=1e-5)


@pytest.mark.parametrize("temperature", [1.0, 3.0])
@pytest.mark.parametrize("mix", [0.1, 0.5, 0.8])
def test_divergences_to_a_mixture_by_scipy(mix, temperature):
    s, t = draw(2, 6, 4)
    q, p = ((x / temperature).softmax(-1).double().numpy() for x in (s, t))
    wanted = {
        "teacher": scipy.stats.entropy(p, mix * p + (1 - mix) * q, axis=-1),
        "student": scipy.stats.entropy(q, (1 - mix) * p + mix * q, axis=-1),
        "both": mix * scipy.stats.entropy(p, mix * p + (1 - mix) * q, axis=-1)
        + (1 - mix) * scipy.stats.entropy(q, mix * p + (1 - mix) * q, axis=-1),
    }
    for of, value in wanted.items():
        found = losses.divergence_to_mixture(s, t, of=of, mix=mix, temperature=temperature)
        assert np.allclose(found, temperature**2 * value, atol=1e-5)
        assert torch.allclose(losses.divergence_to_mixture(t, t, of=of, mix=mix), torch.zeros(6), atol=1e-6)
        some = losses.divergence_to_mixture(s, t, of=of, mix=mix, allowed=ALLOWED)
        for i, cells in enumerate(ALLOWED):
            alone = losses.divergence_to_mixture(s[i : i + 1, cells], t[i : i + 1, cells], of=of, mix=mix)
            assert torch.allclose(some[i : i + 1], alone, atol=1e-5)


@pytest.mark.parametrize("alpha", [0.1, 0.5])
def test_label_loss_and_uniform_cross_entropy_make_torchs_label_smoothing(alpha):
    z = draw(6, 4)
    ours = (1 - alpha) * losses.label_loss(z, GOLD, kind="choice") + alpha * losses.uniform_cross_entropy(z, GOLD)
    assert torch.allclose(ours, F.cross_entropy(z, GOLD, label_smoothing=alpha, reduction="none"), atol=1e-5)


def test_uniform_cross_entropy_of_even_logits_is_the_log_of_the_classes_that_exist():
    found = losses.uniform_cross_entropy(torch.full((2, 4), 7.0), GOLD[:2], allowed=torch.tensor([[1, 1, 1, 1], [1, 0, 0, 1]]).bool())
    assert found.tolist() == pytest.approx([math.log(4), math.log(2)])


def test_the_virtual_teacher_by_hand():
    even = torch.zeros(1, 3)
    by_hand = 0.9 * math.log(0.9 * 3) + 2 * 0.05 * math.log(0.05 * 3)
    assert losses.virtual_teacher(even, torch.tensor([1]), correct=0.9).item() == pytest.approx(by_hand, rel=1e-5)
    root = [math.sqrt(0.05), math.sqrt(0.9), math.sqrt(0.05)]
    p = [x / sum(root) for x in root]
    tempered = 4 * sum(x * math.log(x * 3) for x in p)
    assert losses.virtual_teacher(even, torch.tensor([1]), correct=0.9, temperature=2.0).item() == pytest.approx(tempered, rel=1e-5)


@given(seeds, st.floats(0.5, 8), st.floats(0.9, 0.999))
def test_the_virtual_teacher_is_the_kl_of_explicit_distributions(seed, temperature, correct):
    z = draw(6, 4, seed=seed)
    p = torch.full((6, 4), (1 - correct) / 3, dtype=torch.float64)
    p[torch.arange(6), GOLD] = correct
    p = p ** (1 / temperature)
    p = p / p.sum(-1, keepdim=True)
    explicit = torch.distributions.kl_divergence(
        torch.distributions.Categorical(probs=p), torch.distributions.Categorical(logits=z.double() / temperature)
    )
    ours = losses.virtual_teacher(z, GOLD, correct=correct, temperature=temperature)
    assert torch.allclose(ours.double(), explicit * temperature**2, rtol=1e-4, atol=1e-4)


# ---- decoupled, standardised, correlations


@given(seeds, st.floats(0.5, 8))
def test_decoupled_with_the_teachers_doubt_as_weight_is_the_whole_divergence(seed, temperature):
    s, t = draw(2, 6, 4, seed=seed, scale=1.5)
    first = losses.decoupled(s, t, GOLD, target=1.0, others=0.0, temperature=temperature)
    second = losses.decoupled(s, t, GOLD, target=0.0, others=1.0, temperature=temperature)
    sure = (t / temperature).softmax(-1).gather(-1, GOLD[:, None])[:, 0]
    whole = losses.divergence(s, t, temperature=temperature)
    assert torch.allclose(first + (1 - sure) * second, whole, rtol=1e-3, atol=1e-4)
    assert torch.allclose(losses.decoupled(s, t, GOLD, target=2.0, others=3.0, temperature=temperature), 2 * first + 3 * second, rtol=1e-4)


def test_decoupled_has_no_second_part_with_two_classes():
    s, t = draw(2, 6, 2)
    gold = GOLD % 2
    assert losses.decoupled(s, t, gold, target=0.0, others=5.0, temperature=3.0).abs().max() == 0
    whole = losses.divergence(s, t, temperature=3.0)
    assert torch.allclose(losses.decoupled(s, t, gold, target=1.0, others=5.0, temperature=3.0), whole, rtol=1e-4, atol=1e-5)


@given(seeds)
def test_standardized_is_scipys_zscore(seed):
    z = draw(5, 7, seed=seed)
    assert np.allclose(losses.standardized(z).numpy(), scipy.stats.zscore(z.double().numpy(), axis=-1), atol=1e-5)
    allowed = torch.ones(5, 7, dtype=torch.bool)
    allowed[:, 4:] = False
    found = losses.standardized(z, allowed)
    assert np.allclose(found[:, :4].numpy(), scipy.stats.zscore(z[:, :4].double().numpy(), axis=-1), atol=1e-5)
    assert found[:, 4:].abs().max() == 0


@given(seeds)
def test_correlation_distance_is_one_less_numpys_corrcoef(seed):
    s, t = draw(2, 5, 7, seed=seed)
    rival = [1 - np.corrcoef(a, b)[0, 1] for a, b in zip(s.double().numpy(), t.double().numpy(), strict=True)]
    assert np.allclose(losses.correlation_distance(s, t).numpy(), rival, atol=1e-5)
    assert torch.allclose(losses.correlation_distance(3 * t + 2, t), torch.zeros(5), atol=1e-5)
    assert torch.allclose(losses.correlation_distance(-t, t), torch.full((5,), 2.0), atol=1e-5)
    allowed = torch.ones(5, 7, dtype=torch.bool)
    allowed[:, 4:] = False
    alone = losses.correlation_distance(s[:, :4], t[:, :4])
    assert torch.allclose(losses.correlation_distance(s, t, allowed), alone, atol=1e-5)


# ---- relations and scores, in naive loops over examples, heads and tokens


def by_loops(student, teacher, mask, heads: int) -> list[float]:
    """KL(teacher || student) of rows of relations, summed over real tokens, a mean over relation heads."""

    def row(side, example: int, head: int, token: int) -> np.ndarray:
        a, b = (x[example].double().numpy() for x in side)
        joined = lambda x, i: np.concatenate([x[h, i] for h in range(x.shape[0])])
        size = a.shape[0] * a.shape[2] // heads
        part = slice(head * size, (head + 1) * size)
        real = [j for j in range(mask.shape[1]) if mask[example, j]]
        scores = np.array([joined(a, token)[part] @ joined(b, j)[part] for j in real]) / math.sqrt(size)
        return scores - np.log(np.exp(scores).sum())

    out = []
    for example in range(len(mask)):
        total = 0.0
        for head in range(heads):
            for token in range(mask.shape[1]):
                if mask[example, token]:
                    s, t = row(student, example, head, token), row(teacher, example, head, token)
                    total += float((np.exp(t) * (t - s)).sum()) / heads
        out.append(total)
    return out


MASK = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [1, 0, 0, 0, 0]])


@pytest.mark.parametrize("heads", [1, 2, 4])
def test_relation_divergence_is_the_sum_that_loops_make_with_padding_and_other_widths(heads):
    student = draw(3, 2, 5, 4, seed=1, scale=1.0), draw(3, 2, 5, 4, seed=2, scale=1.0)
    teacher = draw(3, 4, 5, 3, seed=3, scale=1.0), draw(3, 4, 5, 3, seed=4, scale=1.0)
    found = losses.relation_divergence(student, teacher, MASK, heads)
    assert found.tolist() == pytest.approx(by_loops(student, teacher, MASK, heads), rel=1e-4, abs=1e-5)
    assert losses.relation_divergence(teacher, teacher, MASK, heads).abs().max() < 1e-6


def test_score_distance_is_the_mean_that_loops_make_over_heads_and_real_pairs():
    student, teacher = (draw(3, 2, 5, 4, seed=1), draw(3, 2, 5, 4, seed=2)), (draw(3, 2, 5, 6, seed=3), draw(3, 2, 5, 6, seed=4))
    by_hand = []
    for n in range(3):
        real = [i for i in range(5) if MASK[n, i]]
        gaps = [
            float(student[0][n, h, i] @ student[1][n, h, j]) / 2.0 - float(teacher[0][n, h, i] @ teacher[1][n, h, j]) / math.sqrt(6)
            for h in range(2)
            for i in real
            for j in real
        ]
        by_hand.append(sum(g**2 for g in gaps) / len(gaps))
    assert losses.score_distance(student, teacher, MASK).tolist() == pytest.approx(by_hand, rel=1e-4)


# ---- cells that do not exist, and extreme logits

CHOICE = {
    "cross_entropy": functools.partial(losses.cross_entropy, kind="choice"),
    "decoupled": lambda s, t, allowed=None, gold=GOLD: losses.decoupled(
        s, t, gold, target=1.0, others=2.0, temperature=2.0, allowed=allowed
    ),
    "standardized": lambda s, t, allowed=None: losses.divergence(
        losses.standardized(s, allowed), losses.standardized(t, allowed), allowed=allowed
    ),
    "uniform": lambda s, t, allowed=None, gold=GOLD: losses.uniform_cross_entropy(s, gold, allowed=allowed),
    "virtual": lambda s, t, allowed=None, gold=GOLD: losses.virtual_teacher(s, gold, allowed=allowed, temperature=2.0),
}
WITH_GOLD = ("decoupled", "uniform", "virtual")


@pytest.mark.parametrize("name", [*CHOICE, "binary"])
def test_cells_that_do_not_exist_take_no_part_and_get_no_gradient_on_either_side(name):
    f = CHOICE.get(name, functools.partial(losses.cross_entropy, kind="binary"))
    s, t = (draw(6, 4, seed=i).requires_grad_() for i in (1, 2))
    found = f(s, t, allowed=ALLOWED)
    for i, there in enumerate(ALLOWED):
        more = {"gold": torch.tensor([int(there[: GOLD[i]].sum())])} if name in WITH_GOLD else {}
        alone = f(s[i : i + 1, there], t[i : i + 1, there], **more)
        assert torch.allclose(found[i], alone[0], rtol=1e-4, atol=1e-5), f"row {i}"
    found.sum().backward()
    for side in (s, t):
        if side.grad is not None:
            assert torch.isfinite(side.grad).all() and side.grad[~ALLOWED].abs().max() == 0


def test_a_value_of_cells_that_do_not_exist_is_no_part_of_the_cross_entropy():
    s, t = draw(2, 6, 4)
    found = losses.cross_entropy(s, t, kind="value", allowed=ALLOWED)
    assert torch.allclose(found, (((s - t) ** 2) * ALLOWED).sum(-1))


EXTREME = torch.tensor([[1e4, -1e4, 0.0, 5.0], [-1e4, -1e4, 1e4, -1e4]])


@pytest.mark.parametrize("name", [*CHOICE, "binary"])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_extreme_logits_give_finite_losses_and_gradients(name, sign):
    f = CHOICE.get(name, functools.partial(losses.cross_entropy, kind="binary"))
    s, t = EXTREME.clone().requires_grad_(), (sign * EXTREME.flip(-1)).requires_grad_()
    more = {"gold": torch.tensor([1, 2])} if name in WITH_GOLD else {}
    found = f(s, t, **more)
    found.sum().backward()
    assert torch.isfinite(found).all()
    assert all(torch.isfinite(x.grad).all() for x in (s, t) if x.grad is not None)


@settings(max_examples=20)
@given(seeds, st.sampled_from([1e-3, 1.0, 50.0]))
def test_states_of_any_size_give_finite_relations_scores_and_gradients(seed, scale):
    student, teacher = ([draw(3, 2, 5, 4, seed=seed + i + 2 * j, scale=scale) for i in (0, 1)] for j in (0, 1))
    for x in student:
        x.requires_grad_()
    total = losses.relation_divergence(tuple(student), tuple(teacher), MASK, 2).sum()
    total = total + losses.score_distance(tuple(student), tuple(teacher), MASK).sum()
    total.backward()
    for x in student:
        assert torch.isfinite(x.grad).all() and (x.grad * (1 - MASK)[:, None, :, None]).abs().max() == 0


def test_rows_without_spread_have_no_correlation_and_a_finite_gradient():
    even, other = torch.zeros(2, 4, requires_grad=True), draw(2, 4)
    found = losses.correlation_distance(even, other)
    found.sum().backward()
    assert found.tolist() == [1.0, 1.0] and torch.isfinite(even.grad).all()
