"""Courses over a stage: learning rates now, temperatures and shares of losses for methods. Plain floats."""

from __future__ import annotations

import math


def learning_rate(step: int, total: int, *, peak: float, warmup: float, decay: str) -> float:
    """The rate of optimizer step `step` (0 first) of `total`.

    Rises linearly over the first `ceil(warmup * total)` steps (the first is above 0), then: 'linear' falls to 0
    just after the last step; 'cosine' does so along half a cosine; 'steps' is peak, a tenth from one half and a
    hundredth from three quarters of the whole course; 'constant' stays.
    """
    rising = math.ceil(warmup * total)
    if step < rising:
        return peak * (step + 1) / rising
    if decay == "steps":
        return peak * (1.0 if step < total / 2 else 0.1 if step < 3 * total / 4 else 0.01)
    through = (step - rising) / max(1, total - rising)
    return peak * {"linear": 1 - through, "cosine": (1 + math.cos(math.pi * through)) / 2, "constant": 1.0}[decay]
