"""Losses against TextBrewer's, where it can be imported (see README.md)."""

from __future__ import annotations

import types
from typing import Any

import pytest
import torch

from tutelage import losses
from tutelage.methods.hidden_states import HiddenStates
from tutelage.rows import Seen

rival = pytest.importorskip("textbrewer.losses", reason="TextBrewer is not here; tests/rivals/README.md", exc_type=ImportError)
pytestmark = pytest.mark.slow
ROWS, HEADS, TOKENS, SIZE = 3, 2, 5, 4
MASK = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [1, 1, 0, 0, 0]])


def draw(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * 2


def logits(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    return draw(6, 4, seed=seed).requires_grad_(), draw(6, 4, seed=seed + 100)


def gradient(loss: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
    [out] = torch.autograd.grad(loss, s)
    return out


@pytest.mark.parametrize("temperature", [1.0, 4.0])
@pytest.mark.parametrize("seed", range(3))
def test_their_cross_entropy_has_our_divergences_gradient_without_the_square(seed, temperature):
    """Theirs is a mean over rows, holds the teacher's entropy and has no T^2: values differ, gradients by T^2."""
    s, t = logits(seed)
    soft = (t / temperature).softmax(-1)
    theirs = rival.kd_ce_loss(s, t, temperature)
    ours = losses.divergence(s, t, temperature=temperature).mean()
    entropy = torch.special.entr(soft).sum(-1).mean()
    assert torch.allclose(ours / temperature**2 + entropy, theirs, rtol=1e-4)
    assert torch.allclose(gradient(ours, s), gradient(theirs, s) * temperature**2, rtol=1e-3, atol=1e-6)


def test_our_cross_entropy_is_theirs_at_temperature_one():
    s, t = logits(0)
    assert torch.allclose(losses.cross_entropy(s, t, kind="choice").mean(), rival.kd_ce_loss(s, t), rtol=1e-5)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_their_mse_of_logits_is_a_mean_over_classes_of_tempered_logits_and_ours_a_sum_of_raw_ones(temperature):
    s, t = logits(0)
    theirs = rival.kd_mse_loss(s, t, temperature)
    assert torch.allclose(losses.squared_distance(s, t).mean(), theirs * s.shape[1] * temperature**2, rtol=1e-5)


def test_the_hidden_term_over_real_tokens_is_their_masked_mean():
    student, teacher = draw(ROWS, TOKENS, 6, seed=1), draw(ROWS, TOKENS, 6, seed=2)
    see: Any = types.SimpleNamespace(
        student=Seen({}, hidden={0: student}),
        teacher=Seen({}, hidden={0: teacher}),
        maps={"0": torch.nn.Identity()},
        task=types.SimpleNamespace(real=lambda batch: batch.inputs["attention_mask"]),
        batch=types.SimpleNamespace(inputs={"attention_mask": MASK}),
    )
    term = HiddenStates(attention=False)._match(see, [(0, 0)])["hidden"]
    assert term.unit == "token"
    assert torch.allclose(term.sum / MASK.sum(), rival.hid_mse_loss(student, teacher, MASK), rtol=1e-5)


def test_score_distance_of_one_example_is_their_attention_mse():
    """Both are means over heads and real pairs of tokens; theirs over the pairs of the whole batch, ours by example."""
    student, teacher = ((draw(ROWS, HEADS, TOKENS, SIZE, seed=i), draw(ROWS, HEADS, TOKENS, SIZE, seed=i + 10)) for i in (1, 2))
    ours = losses.score_distance(student, teacher, MASK)
    s, t = (q @ k.transpose(-1, -2) / SIZE**0.5 for q, k in (student, teacher))
    theirs = [rival.att_mse_loss(s[i : i + 1], t[i : i + 1], MASK[i : i + 1]) for i in range(ROWS)]
    assert torch.allclose(ours, torch.stack(theirs), rtol=1e-4)
    pairs = MASK.sum(-1).float() ** 2
    pooled = (ours * pairs).sum() / pairs.sum()
    assert torch.allclose(pooled, rival.att_mse_loss(s, t, MASK), rtol=1e-4)
