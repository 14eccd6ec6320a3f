"""Output projections of echoing layers, refitted in closed form on text: no gradient, one pass of model and student.

An echo's heads carry the source's map and the layer's own values. Ridge regression finds the output projection that maps them
best to what the unshared layer would have added, W = argmin |F W' - Z|^2 + ridge * |W - W_0|^2: F (tokens, heads * size) is what
the student's heads carry, all layers before being refitted already, Z (tokens, width) what the unshared model's attention adds,
both divided by the norm of the hidden state, as in `analysis`. W_0 is the model's own projection.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ..models import echoes
from ..models.echo_attention import EchoForCausalLM
from ..models.plan import Plan
from .meter import around

RIDGE = 0.3
"""Weight of the pull towards the model's own projection, in mean squared features."""


@torch.no_grad()
def refit(
    model: EchoForCausalLM, plan: Plan, samples: Tensor, *, ridge: float = RIDGE, advance: Callable[[int], None] = lambda n: None
) -> dict[int, Tensor]:
    """New output projections (width, heads * size) by layer, for each echo of the plan.

    `model` attends by itself in every layer; `samples` are token numbers (samples, tokens) without padding.
    """
    student = echoes.convert(model, plan.attention).eval()
    sides = [_Side(model, samples), _Side(student, samples)]
    out: dict[int, Tensor] = {}
    for number in range(plan.layers):
        if plan.attention[number]["kind"] == "echo":
            out[number] = _solve(sides[0], sides[1], number, ridge)
        for side in sides:
            side.step(number)
        advance(1)
    return out


class _Side:
    """One model on its way through the layers, with the states of all samples."""

    def __init__(self, model: EchoForCausalLM, samples: Tensor):
        self.model, device = model, next(model.parameters()).device
        self.states = [model.model.embed_tokens(row[None].to(device)) for row in samples]
        self.masks, self.rest = around(model, self.states[0])
        self.left: list[dict[int, Any]] = [{} for _ in self.states]

    def run(self, number: int, at: int) -> tuple[Tensor, Any]:
        """One layer on one sample."""
        entry = self.model.config.attention[number]
        given = None if entry["kind"] in ("own", "none") else self.left[at][entry["source"]]
        mask = self.masks[self.model.config.layer_types[number]]
        state, made = self.model.model.layers[number](self.states[at], given, attention_mask=mask, **self.rest)
        return state, made

    def step(self, number: int) -> None:
        """All samples through a layer."""
        read = number in self.model.model.last_reader
        for at in range(len(self.states)):
            self.states[at], made = self.run(number, at)
            if read:
                self.left[at][number] = made

    def watched(self, number: int, at: int) -> tuple[Tensor, Tensor]:
        """What goes into a layer's output projection and what comes out, on one sample: (tokens, heads * size), (tokens, width)."""
        seen: list[Tensor] = []
        projection: nn.Module = self.model.model.layers[number].self_attn.o_proj  # type: ignore[union-attr]
        hook = projection.register_forward_hook(lambda module, given, out: seen.extend((given[0][0].float(), out[0].float())))
        try:
            self.run(number, at)
        finally:
            hook.remove()
        return seen[0], seen[1]


def _solve(own: _Side, other: _Side, number: int, ridge: float) -> Tensor:
    """Fit one layer's projection, put it into the student, and return it."""
    projection: Any = other.model.model.layers[number].self_attn.o_proj  # type: ignore[union-attr]
    start = projection.weight.float()
    size = start.shape[1]
    square, cross = (torch.zeros(size, n, device=start.device) for n in (size, start.shape[0]))
    for at in range(len(own.states)):
        weight = own.states[at][0].float().norm(dim=-1, keepdim=True).clamp(min=1e-6).reciprocal()
        features, wanted = other.watched(number, at)[0] * weight, own.watched(number, at)[1] * weight
        if projection.bias is not None:
            wanted = wanted - projection.bias.float() * weight
        square += features.T @ features
        cross += features.T @ wanted
    pull = ridge * square.diagonal().mean()
    square.diagonal().add_(pull)
    made = torch.linalg.solve(square, cross + pull * start.T).T.contiguous()
    projection.weight.copy_(made)
    return made
