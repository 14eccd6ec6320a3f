"""Terms to one loss: sums over rows whose logits exist already, and sums over rows whose logits are made tile by tile.

Logits of (rows, vocabulary) never exist as a whole, for student or teacher: each tile's share of the loss is differentiated at
once, and its logits are dropped. All terms over the same rows share one pass.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..rows import Sparse, States, Term, Tiled

BYTES = 1 << 25
"""Of logits of one tile."""
Part = tuple[str, Tiled, float]
"""A term's name, its rows, and what its sum is multiplied with."""


def loss_of(terms: Mapping[str, Term], counts: Mapping[str, float]) -> tuple[Any, dict[str, Tensor]]:
    """The weighted sum of all terms, each divided by the count of its unit, and each term's share without gradient."""
    total: Any = 0
    shares: dict[str, Tensor] = {}
    tiled: dict[tuple[int, int], list[Part]] = {}
    for name, term in terms.items():
        factor = term.weight / max(counts[term.unit], 1e-12)
        if isinstance(term.sum, Tiled):
            key = (id(term.sum.student.hidden), id(term.sum.student.weight))
            tiled.setdefault(key, []).append((name, term.sum, factor))
        else:
            value = factor * term.sum.float()
            shares[name], total = value.detach(), total + value
    for parts in tiled.values():
        states = parts[0][1].student
        found: dict[str, Tensor] = {}
        total = total + _Pass.apply(states.hidden, states.weight, parts, found)
        shares |= found
    return total, {name: shares[name] for name in terms}


class _Pass(torch.autograd.Function):
    """One pass over tiles of rows; hidden (rows, width) and weight (classes, width) to the loss, with both gradients made on the way.

    Going backward takes them as they stand, without a copy, and can be done once.
    """

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, parts: list[Part], found: dict[str, Tensor]) -> Tensor:
        moved, turned = ctx.needs_input_grad[:2]
        total = torch.zeros((), device=hidden.device)
        found |= {name: torch.zeros((), device=hidden.device) for name, _, _ in parts}
        to_hidden, to_weight = torch.zeros_like(hidden) if moved else None, None
        (low, head), parts = lowered(hidden, weight), _taught(parts)
        size = rows_of(head)
        for start in range(0, len(hidden), size):
            at = slice(start, start + size)
            logits = nn.functional.linear(low[at], head).detach().requires_grad_(moved or turned)
            with torch.set_grad_enabled(moved or turned):
                loss = _tile(logits, at, parts, found)
            total += loss.detach()
            if not loss.requires_grad:
                continue
            [slope] = torch.autograd.grad(loss, logits)
            if to_hidden is not None:
                to_hidden[at] = slope @ head
            if turned and to_weight is None:
                to_weight = (slope.t() @ low[at]).to(weight.dtype)
            elif to_weight is not None and slope.dtype == weight.dtype:
                to_weight.addmm_(slope.t(), low[at])
            elif to_weight is not None:  # under autocast the product is of lower precision than the sum
                to_weight.add_(slope.t() @ low[at])
        if turned and to_weight is None:
            to_weight = torch.zeros_like(weight)
        ctx.save_for_backward(to_hidden, to_weight)
        return total

    @staticmethod
    def backward(ctx: Any, *given: Tensor) -> Any:
        return *(None if g is None else g.mul_(given[0]) for g in ctx.saved_tensors), None, None


def lowered(*tensors: Tensor) -> tuple[Tensor, ...]:
    """As autocast would hand them to a matrix product, where it is on; once for all tiles, as it keeps no cast of what is not trained."""
    kind = tensors[0].device.type
    return tuple(x.to(torch.get_autocast_dtype(kind)) for x in tensors) if torch.is_autocast_enabled(kind) else tensors


def rows_of(weight: Tensor) -> int:
    """Rows of logits of one tile; weight (classes, width)."""
    return max(1, BYTES // (len(weight) * weight.element_size()))


def _taught(parts: list[Part]) -> list[Part]:
    """The parts with their teachers' states lowered, each teacher's once."""
    made = {id(t): States(*lowered(t.hidden, t.weight)) for _, term, _ in parts if isinstance(t := term.teacher, States)}
    return [(name, dataclasses.replace(term, teacher=made.get(id(term.teacher), term.teacher)), factor) for name, term, factor in parts]


def _tile(logits: Tensor, at: slice, parts: list[Part], found: dict[str, Tensor]) -> Tensor:
    """The loss of one tile; a teacher's logits are made once for all terms that look at them."""
    total = torch.zeros((), device=logits.device)
    taught: dict[int, Tensor | Sparse] = {}
    for name, term, factor in parts:
        teacher = None
        if term.teacher is not None:
            key = id(term.teacher)
            if key not in taught:
                taught[key] = logits_at(term.teacher, at)
            teacher = taught[key]
        share = factor * term.f(logits, teacher, None if term.gold is None else term.gold[at]).sum()
        found[name] += share.detach()
        total = total + share
    return total


def logits_at(states: States | Sparse, at: slice) -> Tensor | Sparse:
    """A tile's logits, without gradient; a sparse teacher's rows as they are."""
    if isinstance(states, Sparse):
        return states[at]
    with torch.no_grad():
        return nn.functional.linear(states.hidden[at], states.weight)
