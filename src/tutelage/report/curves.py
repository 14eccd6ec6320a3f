"""How a model learned, as a picture: its dev metric and its losses by step, stages shaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from . import words
from .plots import LIGHT, SERIES, cut, looks, panels, score_axis


def learning(record: Mapping[str, Any], key: str, width: float = 4.4) -> Figure | None:
    """One model's dev metric by step with its best step marked, and its losses by term; None without a history.

    Stages are shaded by turns. The dev axis is the same for all models of a record, so that pictures compare.
    """
    training = record["models"][key].get("training") or {}
    metric = words.primary(record)
    dev, losses = history(training, metric), _losses(training)
    if not dev and not losses:
        return None
    figure, stack = panels(width, 4.2 if dev and losses else 2.5, rows=2 if dev and losses else 1)
    for axes in stack:
        axes.grid(True)
        _shade(axes, training, named=axes is stack[0])
    if dev:
        _dev(stack[0], dev, training.get("best_step"), looks(record)[key])
        score_axis(stack[0].yaxis, metric)
        stack[0].set_ylim(*_dev_range(record))
        stack[0].set_ylabel(f"Dev {words.metric_name(metric)}")
    if losses:
        _terms(stack[-1], losses)
    stack[-1].set_xlabel("Optimizer step")
    stack[-1].xaxis.set_major_locator(MaxNLocator(5, integer=True))
    stack[-1].set_xlim(0, 1.02 * max([s for s, _ in dev] + [s for line in losses.values() for s, _ in line]))
    return figure


def history(training: Mapping[str, Any], metric: str) -> list[tuple[int, float]]:
    """(step, dev metric) of every look at dev; the selecting score where the metric is not on record."""
    rows = [(r["step"], (r.get("dev") or {}).get(metric, r.get("score"))) for r in training.get("history") or ()]
    return [(step, y) for step, y in rows if words.known(y)]


def stages(training: Mapping[str, Any]) -> list[tuple[str, int, int]]:
    """(name, first step, last step) of each stage that left a trace, in order."""
    last: dict[str, int] = {}
    for row in [*(training.get("history") or ()), *(training.get("losses") or ())]:
        last[row["stage"]] = max(row["step"], last.get(row["stage"], 0))
    ends = sorted(last.items(), key=lambda item: item[1])
    return [(name, before, end) for (name, end), before in zip(ends, [0, *(e for _, e in ends)], strict=False)]


def _losses(training: Mapping[str, Any]) -> dict[str, list[tuple[int, float]]]:
    out: dict[str, list[tuple[int, float]]] = {}
    for row in training.get("losses") or ():
        for term, y in row["losses"].items():
            if words.known(y):
                out.setdefault(term, []).append((row["step"], y))
    return out


def _dev_range(record: Mapping[str, Any]) -> tuple[float, float]:
    """The dev axis of all models: from the lowest to the highest value, with some room."""
    lines = [history(m.get("training") or {}, words.primary(record)) for m in record["models"].values()]
    values = np.array([y for line in lines for _, y in line])
    low, high = float(values.min()), float(values.max())
    room = max(0.1 * (high - low), 0.01 * abs(high), 1e-6)
    return low - room, high + room


def _shade(axes: Axes, training: Mapping[str, Any], named: bool) -> None:
    """Shade every second stage; name them above the panel where there are few enough to fit."""
    many = stages(training)
    for i, (name, first, last) in enumerate(many if len(many) > 1 else ()):
        if i % 2 == 0:
            axes.axvspan(first, last, color=LIGHT["shade"], linewidth=0, zorder=0)
        if named and len(many) <= 3:
            above: dict[str, Any] = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points", "ha": "center"}
            axes.annotate(cut(name, 16), ((first + last) / 2, 1), (0, 3), fontsize=8, color=LIGHT["muted"], **above)


def _dev(axes: Axes, dev: Sequence[tuple[int, float]], best: int | None, look: tuple[str, str]) -> None:
    steps, values = zip(*dev, strict=True)
    axes.plot(steps, values, color=look[0], linewidth=1.6, marker=".", markersize=5)
    for step, y in dev:
        if step == best:
            axes.axvline(step, color=look[0], linewidth=0.8, linestyle=(0, (2, 2)))
            axes.plot([step], [y], "o", markersize=9, markerfacecolor="none", markeredgecolor=look[0])


def _terms(axes: Axes, losses: Mapping[str, Sequence[tuple[int, float]]]) -> None:
    """A line a term; of many points, faint, with their running mean over a thirtieth of them."""
    for i, (term, line) in enumerate(losses.items()):
        steps, values = (np.array(column) for column in zip(*line, strict=True))
        colour, wide = SERIES[(i + 3) % len(SERIES)], max(1, len(line) // 30)
        if wide > 1:
            axes.plot(*_thin(steps, values), color=colour, linewidth=0.6, alpha=0.3)
            steps = np.convolve(steps, np.ones(wide) / wide, "valid")
            values = np.convolve(values, np.ones(wide) / wide, "valid")
        dots = "." if len(line) < 12 else None
        axes.plot(*_thin(steps, values), color=colour, linewidth=1.4, label=cut(term, 24), marker=dots)
    axes.set_ylabel("Loss by term")
    axes.legend(loc="lower left", bbox_to_anchor=(-0.02, 1), ncols=3, borderaxespad=0, handlelength=1.4)


def _thin(steps: np.ndarray, values: np.ndarray, most: int = 400) -> tuple[np.ndarray, np.ndarray]:
    """Every nth point, so that a long run does not make a heavy picture."""
    every = -(-len(steps) // most)
    return steps[::every], values[::every]
