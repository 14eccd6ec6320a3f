"""Courses over a stage: learning rates now, temperatures and shares of losses for methods. Plain floats."""

from __future__ import annotations

import math


def annealed(step: int, steps: int, levels: int) -> float:
    """phi(T) = 1 - (T - 1) / levels while T falls from `levels` to 1 in equal shares of `steps`; in [1 / levels, 1].

    `step` counts from 0; steps beyond the last stay at 1. Source: Jafari et al. 2021, arXiv:2104.07163, stage I.
    """
    return min(levels, step * levels // max(1, steps) + 1) / levels


def algorithm_1(epoch: int, epochs: int, levels: int) -> float:
    """phi(T) as Algorithm 1 of Continuation-KD steps it: T falls by 1 at each epoch that is a multiple of k = epochs // levels.

    `epoch` counts from 1 as in the paper, `levels` is at most `epochs`. Taken literally T reaches 0 and phi passes 1; T
    stays at 1 here. Source: Jafari et al. 2022, arXiv:2212.05998.
    """
    return 1 - (max(1, levels - epoch // (epochs // levels)) - 1) / levels


def label_share(epoch: int, epochs: int, form: str) -> float:
    """psi of Continuation-KD at `epoch` (1 the first) of `epochs`: the share of the label loss.

    'images' is equation 7, i / 150 up to epoch 150 of 200; 'glue' equation 8, i / 40 up to epoch 20 of 30; 1 after that.
    Other numbers of epochs stretch the same course.
    """
    through = epoch / epochs
    if form == "images":
        return min(1.0, through / 0.75)
    return through * 0.75 if through <= 2 / 3 + 1e-9 else 1.0


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
