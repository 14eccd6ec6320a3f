"""Pure maths: distances between a student's and a teacher's rows, one number a row. No model, no settings.

Rows are logits of shape (rows, classes). `kind` says what they mean: "choice" is one of the classes (softmax),
"binary" several labels at once (a sigmoid each), "value" real numbers. `allowed` (rows, classes) marks the cells
that exist; the others take no part. Functions use tensor methods alone, so this file imports no torch.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def log_probabilities(logits: Tensor, allowed: Tensor | None = None) -> Tensor:
    """Log-softmax over the allowed classes in float32; -inf elsewhere."""
    logits = logits.float()
    return (logits if allowed is None else logits.masked_fill(~allowed, -math.inf)).log_softmax(-1)


def divergence(student: Tensor, teacher: Tensor, *, temperature: float = 1.0, allowed: Tensor | None = None) -> Tensor:
    """KL(teacher || student) of tempered softmax distributions, times temperature squared; shape (rows,).

    Zero exactly when the two agree up to a constant; never negative. The square keeps the gradient's size free of the
    temperature. In nats. Source: Hinton, Vinyals, Dean 2015, arXiv:1503.02531, section 2.
    """
    log_s = log_probabilities(student / temperature, allowed)
    log_t = log_probabilities(teacher / temperature, allowed)
    gap = log_t - log_s
    if allowed is not None:
        gap = gap.masked_fill(~allowed, 0.0)
    return (log_t.exp() * gap).sum(-1) * temperature**2


def binary_divergence(student: Tensor, teacher: Tensor, *, temperature: float = 1.0, allowed: Tensor | None = None) -> Tensor:
    """Sum over labels of KL between Bernoulli distributions of tempered sigmoids, times temperature squared; (rows,).

    The form of `divergence` for several labels at once. In nats.
    """
    s, t = student.float() / temperature, teacher.float() / temperature
    yes = t.sigmoid()
    total = yes * (_log_sigmoid(t) - _log_sigmoid(s)) + (1 - yes) * (_log_sigmoid(-t) - _log_sigmoid(-s))
    if allowed is not None:
        total = total.masked_fill(~allowed, 0.0)
    return total.sum(-1) * temperature**2


def squared_distance(student: Tensor, teacher: Tensor, *, allowed: Tensor | None = None) -> Tensor:
    """Sum over classes of (student - teacher)^2; shape (rows,). Not shift-invariant: it needs raw logits."""
    gap = (student.float() - teacher.float()) ** 2
    return (gap if allowed is None else gap.masked_fill(~allowed, 0.0)).sum(-1)


def soft_targets(student: Tensor, teacher: Tensor, *, kind: str, temperature: float = 1.0, allowed: Tensor | None = None) -> Tensor:
    """The distillation distance that fits the rows' kind: `divergence`, `binary_divergence`, or squared error of values."""
    if kind == "value":
        return squared_distance(student, teacher, allowed=allowed)
    f = divergence if kind == "choice" else binary_divergence
    return f(student, teacher, temperature=temperature, allowed=allowed)


def label_loss(logits: Tensor, gold: Tensor, *, kind: str, allowed: Tensor | None = None) -> Tensor:
    """Loss against the labels; shape (rows,).

    "choice": cross-entropy, `gold` (rows,) of class numbers. "binary": sum over labels of binary cross-entropy, `gold`
    (rows, classes) of 0 and 1. "value": squared error, `gold` (rows,); the logits' single column is squeezed, never broadcast.
    """
    if kind == "choice":
        return -log_probabilities(logits, allowed).gather(-1, gold.long()[:, None])[:, 0]
    if kind == "binary":
        z, y = logits.float(), gold.float()
        return -(y * _log_sigmoid(z) + (1 - y) * _log_sigmoid(-z)).sum(-1)
    if kind == "value":
        return (logits.float()[:, 0] - gold.float()) ** 2
    raise ValueError(f"rows of kind '{kind}'")


def _log_sigmoid(x: Tensor) -> Tensor:
    """log(sigmoid(x)), exact for large |x|."""
    return x.clamp(max=0) - (1 + (-x.abs()).exp()).log()
