"""Optimizers over named parameters."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from ..recipe import Training

FUSED = True
"""One kernel a step where torch has it: on a CPU the fused AdamW took a seventh of the plain one's time (docs/log.md)."""


def build(named: Iterable[tuple[str, nn.Parameter]], training: Training) -> torch.optim.Optimizer:
    """The recipe's optimizer; vectors (biases, normalisation weights) are spared from weight decay.

    The rate is set by the loop before every step.
    """
    parameters = [p for _, p in named]
    groups: list[dict[str, Any]] = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": training.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    groups = [g for g in groups if g["params"]]
    if training.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=training.peak, momentum=0.9, fused=FUSED)
    return torch.optim.AdamW(groups, lr=training.peak, betas=(0.9, 0.999), eps=1e-8, fused=FUSED)


def state(optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """The optimizer's tensors by flat names `<number>.<name>`, for a checkpoint."""
    many = optimizer.state_dict()["state"]
    return {f"{i}.{name}": value for i, own in many.items() for name, value in own.items() if torch.is_tensor(value)}


def restore(optimizer: torch.optim.Optimizer, tensors: dict[str, torch.Tensor]) -> None:
    """Put back what `state` gave."""
    many: dict[int, dict[str, torch.Tensor]] = {}
    for key, value in tensors.items():
        number, name = key.split(".", 1)
        many.setdefault(int(number), {})[name] = value
    optimizer.load_state_dict({"state": many, "param_groups": optimizer.state_dict()["param_groups"]})
