"""Pictures of a run as SVG text: the trade-off of quality against cost, and how each model learned.

No pyplot and no global figure state. Text in a record is drawn as it is, never read as mathematics.
"""

from __future__ import annotations

import io
import itertools
import re
import textwrap
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from matplotlib.transforms import Bbox, ScaledTranslation

from . import words

LIGHT = {"ink": "#20272e", "muted": "#5d6872", "grid": "#e4e8eb", "shade": "#f1f4f6", "paper": "#fffffe"}
DARK = {"ink": "#e3e8ec", "muted": "#9aa6b0", "grid": "#2f3841", "shade": "#222a32", "paper": "#181e24"}
SERIES = ("#59656f", "#1b69b6", "#b86a00", "#107a60", "#8a4fa8", "#b23a54", "#6f7a12", "#0f7f91")
SERIES_DARK = ("#a9b5bf", "#6db3f2", "#f0a848", "#4fc7a1", "#c79be0", "#f08ba0", "#c3cd62", "#5fcbdc")
MARKERS = "soD^vPX<"
MOST_NAMES = 3
_SIDES = ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (1, -1), (-1, 1), (-1, -1))
_TO_DARK = {LIGHT[k]: DARK[k] for k in LIGHT} | dict(zip(SERIES, SERIES_DARK, strict=True))
_STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": LIGHT["muted"],
    "axes.labelcolor": LIGHT["ink"],
    "axes.titlecolor": LIGHT["ink"],
    "axes.facecolor": "none",
    "axes.axisbelow": True,
    "figure.facecolor": LIGHT["paper"],
    "text.color": LIGHT["ink"],
    "text.parse_math": False,
    "xtick.color": LIGHT["muted"],
    "ytick.color": LIGHT["muted"],
    "grid.color": LIGHT["grid"],
    "legend.frameon": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "tutelage",
}


@contextmanager
def _style() -> Iterator[None]:
    """The look of all pictures; a letter that the measuring font lacks is no reason for a warning."""
    with matplotlib.rc_context(_STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


def svg(draw: Callable[[], Figure | None]) -> str:
    """The picture that `draw` makes as SVG text, the same for equal records; empty where there is nothing to draw."""
    with _style():
        figure = draw()
        if figure is None:
            return ""
        out = io.StringIO()
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    family = r"\1system-ui, 'DejaVu Sans', sans-serif"
    return re.sub(r"(font-family: |font: [^'\";]*px )[^;\"]*", family, out.getvalue())


def darken(picture: str) -> str:
    """The same SVG for a dark page."""
    return re.sub("(?<=: )#[0-9a-f]{6}", lambda m: _TO_DARK.get(m[0], m[0]), picture)


def png(draw: Callable[[], Figure | None]) -> bytes:
    """The picture that `draw` makes as PNG bytes on white, 200 dots an inch; empty where there is nothing to draw."""
    with _style():
        figure = draw()
        if figure is None:
            return b""
        out = io.BytesIO()
        figure.savefig(out, format="png", dpi=200, metadata={"Software": None})
    return out.getvalue()


def looks(record: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """Colour and marker of each model, the same in every picture: grey the teacher, blue the student, the rest in order."""
    main, teacher, _ = words.headline(record)
    fixed = {teacher: (SERIES[0], MARKERS[0]), main: (SERIES[1], MARKERS[1])}
    others = [key for key in record["models"] if key not in fixed]
    rest = {key: (SERIES[2 + i % 6], MARKERS[2 + (i + i // 6) % 6]) for i, key in enumerate(others)}
    return {key: fixed.get(key) or rest[key] for key in record["models"]}


def cost(record: Mapping[str, Any]) -> str:
    """The trade-off's x: 'latency' at batch 32 or 'parameters', whichever is known of more models; else ''."""
    scored = [m for m in record["models"].values() if words.known(words.score(record, m)["value"])]
    timed = sum(words.known(words.latency(m, 32).get("median_ms")) for m in scored)
    sized = sum(words.known(m.get("parameters")) for m in scored)
    return "latency" if timed and timed >= sized else "parameters" if sized else ""


def points(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The trade-off's points: x, low_x and high_x in ms or parameters; y, low and high in natural units."""
    out, against = [], cost(record)
    for key, model in record["models"].items():
        score, time = words.score(record, model), words.latency(model, 32)
        x = time.get("median_ms") if against == "latency" else model.get("parameters")
        if not (words.known(x) and words.known(score["value"])):
            continue
        low, high = (time.get("low_ms"), time.get("high_ms")) if against == "latency" else (x, x)
        y = {"y": score["value"], "low": score["low"], "high": score["high"]}
        y |= {k: y["y"] for k in ("low", "high") if not words.known(y[k])}
        out.append({"key": key, "title": model["title"], "x": x, "low_x": low or x, "high_x": high or x, **y})
    return out


def tradeoff(record: Mapping[str, Any], width: float = 7.0) -> Figure | None:
    """Score with its interval against cost, one labelled point a model; None without points. Width in inches.

    Points that would hide each other are drawn side by side, a few points of type apart. More than MOST_NAMES of them
    are numbered, with their names below.
    """
    many, style = points(record), looks(record)
    if not many:
        return None
    numbered, columns = len(many) > MOST_NAMES, 1 if width < 5 else 2
    below = 0.2 * -(-len(many) // columns) if numbered else 0
    figure, [axes] = panels(width, max(3.2, 0.56 * width) + below)
    _scales(axes, record, many)
    if numbered:
        marks = [axes.plot([], [], style[p["key"]][1], color=style[p["key"]][0], markersize=7)[0] for p in many]
        names = [f"{i} {cut(p['title'], 48)}" for i, p in enumerate(many, 1)]
        figure.legend(marks, names, loc="outside lower left", ncols=columns, handletextpad=0.2, columnspacing=1.5)
    FigureCanvasAgg(figure)
    figure.draw_without_rendering()
    taken: list[Bbox] = []
    centres: list[Any] = []
    for point, shift in zip(many, _shifts(axes, many), strict=True):
        centre, boxes = _mark(axes, point, shift, *style[point["key"]])
        centres.append(centre)
        taken += boxes
        if numbered:
            at: dict[str, Any] = {"xytext": (shift, 2), "textcoords": "offset points", "ha": "center", "va": "bottom", "fontsize": 8.5}
            axes.annotate(str(len(centres)), (point["x"], point["high"]), color=style[point["key"]][0], **at)
    for point, centre in zip([] if numbered else many, centres, strict=not numbered):
        name = "\n".join(textwrap.wrap(cut(point["title"], 48), 16 if width < 5 else 26))
        taken += _label(axes, name, centre, style[point["key"]][0], taken)
    return figure


def _scales(axes: Axes, record: Mapping[str, Any], many: Sequence[Mapping[str, Any]]) -> None:
    """Axes with their limits: cost from 0, or in logarithms where it differs more than thirtyfold; score near its intervals."""
    against, metric = cost(record), words.primary(record)
    least, most = min(p["x"] for p in many), max(p["high_x"] for p in many)
    if most > 30 * least:
        axes.set_xscale("log")
        axes.set_xlim(least / 2, most * 3)
    else:
        axes.set_xlim(0, most * 1.18)
    low, high = min(p["low"] for p in many), max(p["high"] for p in many)
    room = max(0.22 * (high - low), 0.01 * abs(high), 1e-6)
    axes.set_ylim(*((high + room, low - room) if metric in words.LESS else (low - room, high + room)))
    axes.grid(True)
    score_axis(axes.yaxis, metric)
    axes.set_ylabel(f"{words.split(record).capitalize()} {words.metric_name(metric)}")
    axes.set_xlabel("Latency of a batch of 32 rows, in ms" if against == "latency" else "Parameters")
    number = words.count if against == "parameters" else "{:g}".format
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: number(x)))


def panels(width: float, height: float, rows: int = 1, columns: int = 1, shared: bool = True) -> tuple[Figure, list[Axes]]:
    """A figure of so many inches, and its panels: rows over one x axis, or columns beside one y axis, where that is shared."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, list(figure.subplots(rows, columns, sharex=shared and columns == 1, sharey=shared and columns > 1, squeeze=False).flat)


def score_axis(axis: Any, metric: str) -> None:
    """Ticks of a metric in its own unit."""
    axis.set_major_locator(MaxNLocator(6))
    places = (lambda y, _: f"{100 * y:g} %") if words.is_share(metric) else (lambda y, _: words.signed(f"{y:g}"))
    axis.set_major_formatter(FuncFormatter(lambda y, at: places(round(y, 6), at)))


def _shifts(axes: Axes, many: Sequence[Mapping[str, Any]], apart: float = 11.0) -> list[float]:
    """How far to move each point sideways, in points of type, so that neighbours stand at least `apart`."""
    scale = axes.figure.dpi / 72
    at = np.array([axes.transData.transform((p["x"], p["y"]))[0] / scale for p in many])
    order, placed = np.argsort(at, kind="stable"), at.copy()
    groups: list[list[int]] = []
    for i in order:
        if groups and at[i] - at[groups[-1][-1]] < apart:
            groups[-1].append(i)
        else:
            groups.append([i])
    for group in groups:
        placed[group] = at[group].mean() + apart * (np.arange(len(group)) - (len(group) - 1) / 2)
    return list(placed - at)


def _mark(axes: Axes, point: Mapping[str, Any], shift: float, colour: str, marker: str) -> tuple[Any, list[Bbox]]:
    """Draw one point with its intervals; its centre and the boxes it covers, in pixels."""
    moved = axes.transData + ScaledTranslation(shift / 72, 0, axes.figure.dpi_scale_trans)
    x, y, unit = point["x"], point["y"], axes.figure.dpi / 72
    bars = [[(x, point["low"]), (x, point["high"])], [(point["low_x"], y), (point["high_x"], y)]]
    for bar in bars:
        axes.plot(*zip(*bar, strict=True), color=colour, linewidth=1.6, solid_capstyle="butt", transform=moved)
    axes.plot([x], [y], marker, markersize=7.5, color=colour, markeredgecolor=LIGHT["paper"], transform=moved)
    centre = moved.transform((x, y))
    boxes = [Bbox(moved.transform(bar)).padded(1.5 * unit) for bar in bars]
    return centre, [*boxes, Bbox([centre, centre]).padded(5 * unit)]


def _label(axes: Axes, text: str, centre: np.ndarray, colour: str, taken: Sequence[Bbox]) -> list[Bbox]:
    """Name a point where the name and the line to it cover least, beside it if there is room; the boxes they cover."""
    canvas: Any = axes.figure.canvas
    renderer, unit = canvas.get_renderer(), axes.figure.dpi / 72
    label = axes.annotate(text, (0, 0), linespacing=1.15, annotation_clip=False)
    size = label.get_window_extent(renderer)
    label.remove()
    half = np.array([size.width, size.height]) / 2
    best: list[Bbox] = []
    least, place, apart = float("inf"), centre, False
    for far, side in itertools.product((9, 20, 34, 52, 75), _SIDES):
        middle = centre + np.array(side) * (far * unit + half)
        box = Bbox([middle - half, middle + half])
        boxes = [box.padded(2 * unit)]
        if far > 9:
            boxes += [Bbox([at, at]).padded(1.5 * unit) for at in np.linspace(centre, middle, 12)[3:-1]]
        outside = 4 * half.prod() - _overlap(box, axes.bbox)
        covered = sum(_overlap(one, other) for one in boxes for other in taken) + 3 * outside + far
        if covered < least:
            best, least, place, apart = boxes, covered, middle, far > 9
    line = {"arrowstyle": "-", "color": LIGHT["muted"], "linewidth": 0.7, "shrinkB": 6} if apart else None
    tip, at = axes.transData.inverted().transform([centre, place])
    label = axes.annotate(text, tuple(tip), tuple(at), arrowprops=line, annotation_clip=False)
    label.set(ha="center", va="center", color=colour, linespacing=1.15, in_layout=False)
    return best


def cut(text: str, most: int) -> str:
    """The text on one line, cut to so many letters."""
    text = " ".join(text.split())
    return text if len(text) <= most else text[: most - 1].rstrip() + "…"


def _overlap(a: Bbox, b: Bbox) -> float:
    """The area that two boxes share."""
    return max(0.0, min(a.x1, b.x1) - max(a.x0, b.x0)) * max(0.0, min(a.y1, b.y1) - max(a.y0, b.y0))
