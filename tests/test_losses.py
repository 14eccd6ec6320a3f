"""Losses by hand, by identities, and against torch's own."""

from __future__ import annotations

import functools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from tutelage import losses, schedules

rows = st.integers(0, 10_000).map(lambda seed: torch.randn(2, 5, 4, generator=torch.Generator().manual_seed(seed)) * 3)


def test_divergence_by_hand():
    student, teacher = torch.tensor([[0.0, 0.0]]), torch.tensor([[math.log(3.0), 0.0]])
    by_hand = 0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)
    assert losses.divergence(student, teacher).item() == pytest.approx(by_hand, rel=1e-6)


@given(rows, st.floats(0.5, 8))
def test_divergence_is_torchs_batch_sum_times_the_square(pair, temperature):
    s, t = pair
    ours = losses.divergence(s, t, temperature=temperature).sum()
    rival = F.kl_div((s / temperature).log_softmax(-1), (t / temperature).softmax(-1), reduction="sum") * temperature**2
    assert torch.allclose(ours, rival, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("cells", [1, 10, 1000])
def test_slopes_of_a_divergence_are_autograds(cells, dtype, monkeypatch):
    monkeypatch.setattr("tutelage.slopes.CELLS", cells)
    allowed = torch.rand(5, 4, generator=torch.Generator().manual_seed(1)) > 0.3
    pair = torch.randn(2, 5, 4, generator=torch.Generator().manual_seed(0)).mul(3).to(dtype)
    weight = torch.arange(5.0)
    found, wanted = [x.clone().requires_grad_() for x in pair], [x.float().requires_grad_() for x in pair]
    (weight * losses.divergence(*found, temperature=2.0, allowed=allowed)).sum().backward()
    s, t = ((x / 2).masked_fill(~allowed, -1e30).log_softmax(-1) for x in wanted)
    (4 * weight * (t.exp() * (t - s)).sum(-1)).sum().backward()
    for mine, its in zip(found, wanted, strict=True):
        assert mine.grad.dtype == dtype and torch.allclose(mine.grad.float(), its.grad, atol=1e-5 if dtype == torch.float32 else 0.02)
    assert losses.divergence(torch.zeros(0, 4, requires_grad=True), torch.zeros(0, 4)).shape == (0,)


@given(rows)
def test_distances_vanish_at_the_teacher_and_nowhere_below(pair):
    s, t = pair
    for kind in ("choice", "binary", "value"):
        assert losses.soft_targets(t, t, kind=kind, temperature=3.0).abs().max() < 1e-5
        assert losses.soft_targets(s, t, kind=kind, temperature=3.0).min() > -1e-5
    assert torch.allclose(losses.divergence(s, t), losses.divergence(s + 7, t - 2), atol=1e-4)


@given(rows)
def test_binary_divergence_is_the_sum_of_two_class_divergences(pair):
    s, t = pair
    two = [torch.stack([x, torch.zeros_like(x)], -1) for x in (s, t)]
    assert torch.allclose(losses.binary_divergence(s, t, temperature=2.0), losses.divergence(*two, temperature=2.0).sum(-1), atol=1e-4)


@given(rows, st.floats(0.5, 8))
def test_the_square_frees_the_gradient_of_the_temperature(pair, temperature):
    s, t = (x * 1e-2 for x in pair)
    grads = []
    for tau in (temperature, 20.0):
        x = s.clone().requires_grad_()
        losses.divergence(x, t, temperature=tau).sum().backward()
        grads.append(x.grad.norm())
    assert grads[0] / grads[1] == pytest.approx(1.0, abs=0.05)


@given(rows)
def test_cells_that_do_not_exist_take_no_part(pair):
    s, t = pair
    allowed = torch.ones(5, 4, dtype=torch.bool)
    allowed[:, 2:] = False
    mean = functools.partial(losses.squared_distance, reduction="mean")
    for f in (losses.divergence, losses.binary_divergence, losses.squared_distance, mean):
        x = s.clone().requires_grad_()
        value = f(x, t, allowed=allowed)
        assert torch.allclose(value, f(s[:, :2], t[:, :2]), atol=1e-5)
        value.sum().backward()
        assert x.grad[:, 2:].abs().max() == 0 and torch.isfinite(x.grad).all()


def test_label_losses_are_torchs():
    z = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
    gold = torch.tensor([0, 2, 1, 1, 0, 2])
    assert torch.allclose(losses.label_loss(z, gold, kind="choice"), F.cross_entropy(z, gold, reduction="none"))
    many = F.one_hot(gold, 3).float()
    rival = F.binary_cross_entropy_with_logits(z, many, reduction="none").sum(-1)
    assert torch.allclose(losses.label_loss(z, many, kind="binary"), rival, atol=1e-6)


def test_a_value_loss_never_broadcasts():
    z, y = torch.randn(4, 1), torch.randn(4)
    loss = losses.label_loss(z, y, kind="value")
    assert loss.shape == (4,) and torch.allclose(loss, (z[:, 0] - y) ** 2)


def test_extreme_logits_stay_finite():
    z = torch.tensor([[1e4, -1e4]], requires_grad=True)
    loss = losses.binary_divergence(z, -z.detach()) + losses.divergence(z, -z.detach())
    loss.sum().backward()
    assert torch.isfinite(loss).all() and torch.isfinite(z.grad).all()


@pytest.mark.parametrize(
    ("decay", "table"),
    [
        ("linear", [0.5, 1.0, 1.0, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125]),
        ("constant", [0.5, 1.0] + [1.0] * 8),
        ("steps", [0.5, 1.0, 1.0, 1.0, 1.0, 0.1, 0.1, 0.1, 0.01, 0.01]),
    ],
)
def test_learning_rates_by_hand(decay, table):
    assert [schedules.learning_rate(i, 10, peak=1.0, warmup=0.2, decay=decay) for i in range(10)] == pytest.approx(table)


def test_the_cosine_ends_near_zero_and_halves_in_the_middle():
    many = [schedules.learning_rate(i, 100, peak=2.0, warmup=0.0, decay="cosine") for i in range(100)]
    assert many[0] == 2.0 and many[50] == pytest.approx(1.0) and many[-1] < 1e-3 and sorted(many, reverse=True) == many


GOLD = torch.tensor([0, 0, 0, 0, 0])
TEMPERED = {
    **{kind: functools.partial(losses.soft_targets, kind=kind, temperature=1.5) for kind in ("choice", "binary")},
    **{
        f"mixture-{of}": functools.partial(losses.divergence_to_mixture, of=of, mix=0.3, temperature=1.5)
        for of in ("teacher", "student", "both")
    },
    "decoupled": lambda s, t, **how: losses.decoupled(s, t, GOLD, target=1.0, others=2.0, temperature=1.5, **how),
    "virtual": lambda s, t, **how: losses.virtual_teacher(s, GOLD, temperature=1.5, **how),
    "probabilities": lambda s, t, **how: losses.log_probabilities(s, temperature=1.5, **how)[:, 0],
}
MORE = {
    "cross_entropy": functools.partial(losses.cross_entropy, kind="choice"),
    "correlation": losses.correlation_distance,
    "standardized": lambda s, t, **how: losses.standardized(s, **how).sum(-1),
    "uniform": lambda s, t, **how: losses.uniform_cross_entropy(s, GOLD, **how),
}


@pytest.mark.parametrize("name", TEMPERED)
def test_logits_of_less_precision_are_tempered_in_float32(name):
    s, t = (torch.randn(2, 5, 4, generator=torch.Generator().manual_seed(0)) * 3).bfloat16()
    assert torch.equal(TEMPERED[name](s, t), TEMPERED[name](s.float(), t.float()))


@pytest.mark.parametrize("classes", ["one", "one allowed"])
@pytest.mark.parametrize("name", {**TEMPERED, **MORE})
def test_rows_of_a_single_class_give_finite_values_and_slopes(name, classes):
    f, wide = {**TEMPERED, **MORE}[name], 1 if classes == "one" else 3
    s, t = (x.requires_grad_() for x in torch.randn(2, 5, wide, generator=torch.Generator().manual_seed(0)))
    how = {} if classes == "one" else {"allowed": torch.tensor([[True, False, False]]).expand(5, 3)}
    found = f(s, t, **how)
    found.sum().backward()
    slopes = [x.grad for x in (s, t) if x.grad is not None]
    assert found.isfinite().all() and slopes and all(x.isfinite().all() for x in slopes)
    if name in ("choice", "decoupled") or name.startswith("mixture"):
        assert all(torch.allclose(x, torch.zeros_like(x), atol=1e-6) for x in (found, *slopes)), "there is nothing to disagree on"
