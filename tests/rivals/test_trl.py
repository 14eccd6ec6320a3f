"""Losses against TRL's, where it can be imported (see README.md)."""

from __future__ import annotations

import pytest
import torch

from tutelage import losses

rival = pytest.importorskip("trl.experimental.gkd", reason="TRL is not here; tests/rivals/README.md", exc_type=ImportError)
pytestmark = pytest.mark.slow
theirs = rival.GKDTrainer.generalized_jsd_loss
ROWS, TOKENS, CLASSES = 3, 5, 7
GOLD = torch.tensor([[-100, 1, 2, 3, 4], [-100, -100, 2, 3, -100], [0, 1, 2, 3, 4]])


def draw(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A student's and a teacher's logits: (rows, tokens, classes)."""
    many = torch.Generator().manual_seed(seed)
    s, t = (torch.randn(ROWS, TOKENS, CLASSES, generator=many) * 2 for _ in range(2))
    return s.requires_grad_(), t


@pytest.mark.parametrize("temperature", [1.0, 3.0])
@pytest.mark.parametrize("beta", [0.0, 0.1, 0.5, 1.0])
@pytest.mark.parametrize("seed", range(2))
def test_our_divergences_are_their_generalised_jsd_times_the_square_that_they_leave_out(seed, beta, temperature):
    """Their beta is our mix: 0 is the forward, 1 the reverse KL. Both are means over the tokens that count."""
    s, t = draw(seed)
    keep = GOLD != -100
    rows, theirs_rows = s[keep], t[keep]
    if beta == 0:
        each = losses.divergence(rows, theirs_rows, temperature=temperature)
    elif beta == 1:
        each = losses.divergence(theirs_rows, rows, temperature=temperature)
    else:
        each = losses.divergence_to_mixture(rows, theirs_rows, of="both", mix=beta, temperature=temperature)
    ours, found = each.mean(), theirs(s, t, GOLD, beta=beta, temperature=temperature) * temperature**2
    [one], [two] = torch.autograd.grad(ours, s, retain_graph=True), torch.autograd.grad(found, s)
    assert torch.allclose(ours, found, rtol=1e-4)
    assert torch.allclose(one, two, rtol=1e-3, atol=1e-6)
