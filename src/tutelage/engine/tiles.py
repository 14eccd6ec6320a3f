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

from ..rows import OutputLayer, Sparse, States, Term, Tiled

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
            key = (id(term.sum.student.hidden), id(term.sum.student.head.weight))
            tiled.setdefault(key, []).append((name, term.sum, factor))
        else:
            value = factor * term.sum.float()
            shares[name], total = value.detach(), total + value
    for parts in tiled.values():
        states = parts[0][1].student
        found: dict[str, Tensor] = {}
        total = total + _Pass.apply(states.hidden, states.head.weight, states.head.bias, states.head, parts, found)
        shares |= found
    return total, {name: shares[name] for name in terms}


class _Pass(torch.autograd.Function):
    """One pass over tiles of rows; hidden states, weight and bias to the loss, with their gradients made on the way.

    Going backward takes them as they stand, without a copy, and can be done once.
    """

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, layer: OutputLayer, parts: list[Part], found: dict[str, Tensor]
    ) -> Tensor:
        moved, turned, shifted = ctx.needs_input_grad[:3]
        learns = any(ctx.needs_input_grad)
        total = torch.zeros((), device=hidden.device)
        found |= {name: torch.zeros((), device=hidden.device) for name, _, _ in parts}
        to_hidden, to_weight = torch.zeros_like(hidden) if moved else None, None
        to_bias = torch.zeros_like(bias) if bias is not None and shifted else None
        (low, head), parts = lowered(hidden, layer), _taught(parts)
        size = rows_of(head.weight)
        for start in range(0, len(hidden), size):
            at = slice(start, start + size)
            product = nn.functional.linear(low[at], head.weight, head.bias).detach().requires_grad_(learns)
            with torch.set_grad_enabled(learns):
                loss = _tile(layer.shaped(product), at, parts, found)
            total += loss.detach()
            if not loss.requires_grad:
                continue
            [slope] = torch.autograd.grad(loss, product)
            if to_hidden is not None:
                to_hidden[at] = slope @ head.weight
            if to_bias is not None:
                to_bias += slope.sum(0)
            if turned and to_weight is None:
                to_weight = (slope.t() @ low[at]).to(weight.dtype)
            elif to_weight is not None and slope.dtype == weight.dtype:
                to_weight.addmm_(slope.t(), low[at])
            elif to_weight is not None:  # under autocast the product is of lower precision than the sum
                to_weight.add_(slope.t() @ low[at])
        if turned and to_weight is None:
            to_weight = torch.zeros_like(weight)
        ctx.save_for_backward(to_hidden, to_weight, to_bias)
        return total

    @staticmethod
    def backward(ctx: Any, *given: Tensor) -> Any:
        return *(None if g is None else g.mul_(given[0]) for g in ctx.saved_tensors), None, None, None


def lowered(hidden: Tensor, layer: OutputLayer) -> tuple[Tensor, OutputLayer]:
    """As autocast would hand them to a matrix product, where it is on; once for all tiles, as it keeps no cast of what is not trained."""
    kind = hidden.device.type
    if not torch.is_autocast_enabled(kind):
        return hidden, layer
    low = torch.get_autocast_dtype(kind)
    bias = None if layer.bias is None else layer.bias.to(low)
    return hidden.to(low), dataclasses.replace(layer, weight=layer.weight.to(low), bias=bias)


def rows_of(weight: Tensor) -> int:
    """Rows of logits of one tile; weight (classes, width)."""
    return max(1, BYTES // (len(weight) * weight.element_size()))


def _taught(parts: list[Part]) -> list[Part]:
    """The parts with their teachers' states lowered, each teacher's once."""
    made = {id(t): States(*lowered(t.hidden, t.head)) for _, term, _ in parts if isinstance(t := term.teacher, States)}
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
        return states.head(states.hidden[at])
