"""Losses against torchdistill's, where it can be imported (see README.md)."""

from __future__ import annotations

import math
import types
from typing import Any

import pytest
import torch

from tutelage import losses
from tutelage.methods._method import See
from tutelage.methods.dist import Dist
from tutelage.methods.standardized import Standardized
from tutelage.rows import Rows, Seen, Term

rival = pytest.importorskip(
    "torchdistill.losses.mid_level", reason="torchdistill is not here; tests/rivals/README.md", exc_type=ImportError
)
pytestmark = pytest.mark.slow
PLACE = ("logits", "output", "logits", "output")
ROWS, CLASSES = 6, 5


def draw(seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """A student's and a teacher's logits, and labels."""
    many = torch.Generator().manual_seed(seed)
    s, t = (torch.randn(ROWS, CLASSES, generator=many) * 3 for _ in range(2))
    return s.requires_grad_(), t, torch.randint(CLASSES, (ROWS,), generator=many)


def theirs(loss: Any, s: torch.Tensor, t: torch.Tensor, gold: torch.Tensor | None = None) -> torch.Tensor:
    return loss({"logits": {"output": s}}, {"logits": {"output": t}}, gold)


def ours(method: Any, s: torch.Tensor, t: torch.Tensor, gold: torch.Tensor) -> torch.Tensor:
    """A method's terms as the loop adds them up: sums over counts, by weights."""

    def label_term(seen: Seen, batch: Any, weight: float = 1.0) -> Term:
        return Term(losses.label_loss(seen.outputs["logits"], gold, kind="choice").sum(), "label", weight)

    task = types.SimpleNamespace(rows=lambda seen, batch: [Rows(seen.outputs["logits"], "choice", gold)], label_term=label_term)
    sides = {"student": Seen({"logits": s}), "teacher": Seen({"logits": t})}
    see = See(sides.__getitem__, dict, task, None, None, {})  # type: ignore[arg-type]
    total: Any = 0
    for term in method.terms(see).values():
        total = total + term.weight * term.sum / ROWS
    return total


def same(a: torch.Tensor, b: torch.Tensor, s: torch.Tensor) -> bool:
    """Whether two losses and their gradients for the student are equal."""
    [one], [two] = torch.autograd.grad(a, s, retain_graph=True), torch.autograd.grad(b, s)
    return torch.allclose(a, b, rtol=1e-4, atol=1e-5) and torch.allclose(one, two, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
@pytest.mark.parametrize("seed", range(3))
def test_kd_with_labels_is_their_sum_with_the_square_and_alpha_on_the_labels(seed, temperature):
    s, t, gold = draw(seed)
    mean = losses.divergence(s, t, temperature=temperature).mean()
    whole = 0.3 * losses.label_loss(s, gold, kind="choice").mean() + 0.7 * mean
    assert same(whole, theirs(rival.KDLoss(*PLACE, temperature=temperature, alpha=0.3), s, t, gold), s)


def test_kd_without_labels_is_theirs_times_the_square_that_they_drop():
    s, t, _ = draw(0)
    alone = theirs(rival.KDLoss(*PLACE, temperature=4.0, alpha=0.3), s, t)
    assert same(losses.divergence(s, t, temperature=4.0).mean(), alone * 16, s)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
@pytest.mark.parametrize("seed", range(3))
def test_dist_is_theirs_with_the_same_square_beta_and_gamma(seed, temperature):
    s, t, gold = draw(seed)
    method = Dist(temperature=temperature, inter_weight=2.0, intra_weight=0.5, hard_weight=0.0)
    assert same(ours(method, s, t, gold), theirs(rival.DISTLoss(*PLACE, beta=2.0, gamma=0.5, tau=temperature), s, t), s)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
@pytest.mark.parametrize("seed", range(3))
def test_standardised_kd_is_theirs_at_a_temperature_that_makes_up_for_their_sample_deviation(seed, temperature):
    """Theirs divides by the deviation over classes - 1, ours over classes: our logits are larger by sqrt(K / (K - 1))."""
    s, t, gold = draw(seed)
    by = math.sqrt(CLASSES / (CLASSES - 1))
    method = Standardized(temperature=temperature * by, soft_weight=0.7 / by**2, hard_weight=0.3)
    assert same(ours(method, s, t, gold), theirs(rival.LogitStdKDLoss(*PLACE, temperature=temperature, alpha=0.3), s, t, gold), s)
