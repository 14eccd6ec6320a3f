"""A plan beside other ways of making the same model faster: loss without training, measured speed, parameters, cache."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from ..models import anatomy, cost, echoes
from ..models.echo_attention import EchoForCausalLM
from ..models.plan import OWN, Plan
from . import rules
from .analysis import Analysis
from .meter import Meter
from .price import sizes

REPEATS = 7
SECONDS = 3.0
POINTS = 3


@dataclasses.dataclass(frozen=True)
class Rival:
    """One model on the picture."""

    family: str
    """How it was made smaller; '' for the model itself."""
    layers: int
    """How many layers it was done to."""
    loss: float
    """Nats a token on the held-out samples, without training."""
    speed: float
    """How many times as fast as the model in a forward pass over a sample, by turns."""
    parameters: int
    kv_bytes: int
    """Bytes of cache a token, in two bytes a number."""


def compare(
    model: EchoForCausalLM,
    found: Analysis,
    made: Plan,
    projections: dict[int, Tensor],
    samples: Tensor,
    *,
    advance: Callable[[int], None] = lambda n: None,
) -> list[Rival]:
    """The model, the plan, and rivals up to as many layers as the plan changes: the paper's rule, attention dropped, layers dropped
    (both in LLM-Drop's order), and keys and values shared with the nearest earlier layer.

    `samples` are token numbers (samples, tokens) that nothing was made from; `advance` counts `number_of(made)` models.
    """
    several = list(_students(model, found, made, projections))
    losses = []
    for _, _, student in several:
        losses.append(Meter(student, samples, entries=student.config.attention).base)
        advance(1)
    row = samples[:1].to(next(model.parameters()).device)
    calls = {str(i): _call(student, row) for i, (_, _, student) in enumerate(several)}
    times = [t["median_ms"] for t in cost.alternate(calls, repeats=REPEATS, seconds=SECONDS).values()]
    advance(len(several))
    return [
        Rival(family, layers, loss, times[0] / time, *sizes(student.config))
        for (family, layers, student), loss, time in zip(several, losses, times, strict=True)
    ]


def number_of(made: Plan) -> int:
    """Steps that `compare` advances by."""
    return 2 * sum(1 for _ in _counts(made))


def _counts(made: Plan) -> Iterator[tuple[str, int]]:
    """Families and how many layers, the model and the plan first; layers that go altogether save more each, so fewer go."""
    changed = sum(a["kind"] != "own" for a in made.attention)
    yield "", 0
    yield "the plan", changed
    most = {"paper's rule": changed, "attention dropped": changed, "layers dropped": changed // 3, "keys shared": changed}
    for family, many in most.items():
        yield from ((family, n) for n in sorted({max(1, round(many * (i + 1) / POINTS)) for i in range(POINTS)}))


def _students(model: EchoForCausalLM, found: Analysis, made: Plan, projections: dict[int, Tensor]) -> Iterator[tuple[str, int, Any]]:
    layers = found.layers
    for family, count in _counts(made):
        if family == "layers dropped":
            gone = rules.idlest(found.idle[1], count)
            kept = [i for i in range(layers) if i not in gone]
            yield family, count, echoes.sharing(model, anatomy.resize(model.config, layers=kept), anatomy.kept_state(model, kept))
            continue
        entries: list[Any] = [OWN] * layers
        if family == "the plan":
            entries = list(made.attention)
        elif family == "paper's rule":
            for echo, source in rules.ranked(found.scores, count, model.config.layer_types).items():
                entries[echo] = {"kind": "echo", "source": source}
        elif family == "attention dropped":
            for layer in rules.idlest(found.idle[0], count):
                entries[layer] = {"kind": "none"}
        elif family == "keys shared":
            for layer, source in rules.dynamic(rules.identity_costs(found), count, found.distance).items():
                entries[layer] = {"kind": "shared_kv", "source": source}
        student = echoes.sharing(model, echoes.config_of(model.config, entries))
        for layer, weight in (projections if family == "the plan" else {}).items():
            own = student.model.layers[layer].self_attn.o_proj
            own.weight = torch.nn.Parameter(weight.to(own.weight), requires_grad=False)
        yield family, count, student


def _call(student: Any, row: Tensor) -> Callable[[], object]:
    def run() -> None:
        with torch.no_grad():
            student.base_model(row, use_cache=False)

    return run
