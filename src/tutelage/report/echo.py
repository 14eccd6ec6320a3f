"""The report of an analysis of attention, and of a plan made from it: pictures, a table, and the same in the terminal."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from . import page, plots, table, words


def write(found: Mapping[str, Any], path: Path) -> None:
    """Write the HTML report.

    `found` holds `about` (facts of the analysis), `similarity` (layers, layers), `scores` (layers,), `aligned` (layers, layers;
    each pair's similarity by its best heads), and where there is a plan `plan` (its entries), `price`, `loss` and perhaps `rivals`
    (see `tutelage.echo.rivals.Rival`).
    """
    about, plan = found["about"], found.get("plan")
    shown = {
        "kind": "attention report",
        "title": f"Attention of {about['model']}",
        "verdict": verdict(found),
        "when": f"{about['samples']} samples of {about['tokens']} tokens from {about['data']}",
        "figures": [
            {
                "title": "How alike layers attend",
                "picture": page.picture(lambda: heat(found), lambda: heat(found, 4.4)),
                "alt": _told(found),
                "caption": "Cosine of the attention maps of two layers, as they are (below) and with each head matched to the head "
                "that fits it best (above the diagonal).",
            },
            {
                "title": "Each layer's mean similarity to all others",
                "picture": page.picture(lambda: profile(found), lambda: profile(found, 4.4)),
                "alt": ", ".join(f"layer {i}: {s:.2f}" for i, s in enumerate(found["scores"])),
                "caption": "Filled marks are the layers that the plan lets echo; lines lead to their sources." if plan else
                "Layers above the largest gap are those that the paper's rule lets echo.",
            },
        ],
        "plan": plan and {"facts": _facts(found), "rows": rows(found)},
        "rivals": found.get("rivals") and {
            "picture": page.picture(lambda: beside(found["rivals"]), lambda: beside(found["rivals"], 4.4)),
            "alt": "; ".join(", ".join(row) for row in rival_rows(found["rivals"])), "rows": rival_rows(found["rivals"]),
        },
        "heads": RIVALS[1:],
        "made": [(k.replace("_", " "), str(v)) for k, v in about.items()],
    }  # fmt: skip
    page.render("echo.html.jinja", shown, path)


def verdict(found: Mapping[str, Any]) -> str:
    """What was found, in a sentence."""
    layers, plan = len(found["scores"]), found.get("plan")
    if not plan:
        best = np.argsort(found["scores"])[::-1][:3]
        return f"Of {layers} layers, {', '.join(str(i) for i in sorted(best))} attend most like the others."
    echoing, price, loss = _echoes(plan), found["price"], found.get("loss")
    dropped = sum(entry["kind"] == "none" for entry in plan)
    what = f"{len(echoing)} of {layers} layers echo" if not dropped else f"{dropped} of {layers} layers lose their attention"
    saved = f"{what}: {words.count(price['parameters_saved'])} parameters "
    saved += f"({price['parameters_saved'] / price['parameters']:.1%}) and {price['kv_share_saved']:.1%} of the key-value cache are saved"
    if not loss:
        return saved + "."
    again = f" ({loss['plan']:.3f} before output projections were refitted)" if loss.get("refit") else ""
    after = loss.get("refit") or loss["plan"]
    return f"{saved}; without training the loss goes from {loss['base']:.3f} to {after:.3f} nats a token{again}."


def _echoes(plan: Sequence[Mapping[str, Any]]) -> list[int]:
    return [i for i, entry in enumerate(plan) if entry["kind"] == "echo"]


def _told(found: Mapping[str, Any]) -> str:
    similarity = np.asarray(found["similarity"])
    near = [f"{i} and {i + 1}: {similarity[i, i + 1]:.2f}" for i in range(len(similarity) - 1)]
    return "Similarity of neighbouring layers: " + ", ".join(near)


def _facts(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    price, loss = found["price"], found.get("loss")
    out = [
        ("parameters", f"{words.count(price['parameters'])}, {words.count(price['parameters_saved'])} less than the model"),
        ("key-value cache", f"{price['kv_bytes']:,} bytes a token, {price['kv_share_saved']:.1%} less"),
        (f"operations a token at {price['tokens']} tokens", f"{price['flops_saved']:.1%} less from a stored map, "
                                                            f"{price['flops_saved_fused']:.1%} less by the fused kernel"),
    ]  # fmt: skip
    if loss:
        where = f"{loss['samples']} samples of {loss['tokens']} tokens that the plan was not made from"
        again = f", {loss['refit']:.4f} with refitted output projections" if loss.get("refit") else ""
        out.append(
            ("loss, nats a token", f"{loss['base']:.4f} unshared, {loss['plan']:.4f} by the plan{again}, without training ({where})")
        )
    return out


def rows(found: Mapping[str, Any]) -> list[tuple[str, str, str, str]]:
    """Layer, source, heads and similarity of each echo, as text."""
    aligned = np.asarray(found["aligned"])
    out = []
    for i, entry in enumerate(found["plan"]):
        if entry["kind"] == "none":
            out.append((str(i), "none, no attention", "", ""))
        if entry["kind"] != "echo":
            continue
        heads = " ".join(str(h) for h in entry["heads"]) if entry.get("heads") else "each its own number"
        out.append((str(i), str(entry["source"]), heads, f"{aligned[entry['source'], i]:.2f}"))
    return out


RIVALS = ("made smaller by", "layers", "loss", "speed", "parameters", "cache, bytes a token")


def rival_rows(rivals: Sequence[Any]) -> list[tuple[str, ...]]:
    """The columns of RIVALS, as text."""
    return [
        (r.family or "nothing", str(r.layers), f"{r.loss:.3f}", f"{r.speed:.2f}x", words.count(r.parameters), f"{r.kv_bytes:,}")
        for r in rivals
    ]  # fmt: skip


def show(found: Mapping[str, Any], file: TextIO | None = None) -> None:
    """The plan, or the layers' similarities, as a table in the terminal."""
    if found.get("plan"):
        table.grid([("layer", ""), ("echoes", ""), ("by heads", ""), ("similarity", "")], [[(c, "") for c in r] for r in rows(found)], file)
        if found.get("rivals"):
            table.grid([(head, "") for head in RIVALS], [[(c, "") for c in r] for r in rival_rows(found["rivals"])], file)
    else:
        scores = np.asarray(found["scores"])
        order = {int(i): n + 1 for n, i in enumerate(np.argsort(-scores, kind="stable"))}
        body = [[(str(i), ""), (f"{s:.3f}", ""), (str(order[i]), "")] for i, s in enumerate(scores)]
        table.grid([("layer", ""), ("mean similarity", ""), ("rank", "")], body, file)


def heat(found: Mapping[str, Any], width: float = 6.4) -> Figure:
    """The similarity of all pairs of layers; below the diagonal as it is, above it with heads matched. Width in inches."""
    plain, aligned = np.asarray(found["similarity"]), np.asarray(found["aligned"])
    shown = np.tril(plain) + np.triu(aligned, 1)
    figure, [axes] = plots.panels(width, 0.86 * width)
    image = axes.imshow(shown, vmin=0, vmax=1, cmap="viridis", interpolation="nearest")
    figure.colorbar(image, ax=axes, fraction=0.045, pad=0.03)
    axes.set_xlabel("layer")
    axes.set_ylabel("layer")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(integer=True, nbins=8))
    for i in _echoes(found.get("plan") or []):
        axes.plot(i, found["plan"][i]["source"], "s", markersize=4, markerfacecolor="none", markeredgecolor=plots.LIGHT["paper"])
    return figure


def profile(found: Mapping[str, Any], width: float = 7.0) -> Figure:
    """Each layer's mean similarity; with a plan, arcs from echoes to their sources. Width in inches."""
    scores, plan = np.asarray(found["scores"]), found.get("plan") or []
    echoing = _echoes(plan)
    figure, [axes] = plots.panels(width, 0.42 * width)
    axes.grid(axis="y")
    at = np.arange(len(scores))
    axes.plot(at, scores, "-", color=plots.SERIES[0], linewidth=0.8)
    own = [i for i in at if i not in echoing]
    axes.plot(own, scores[own], "o", color=plots.SERIES[0], markerfacecolor=plots.LIGHT["paper"], label="attends by itself")
    if echoing:
        axes.plot(echoing, scores[echoing], "o", color=plots.SERIES[1], label="echoes")
    for i in echoing:
        source = plan[i]["source"]
        line = {"arrowstyle": "-", "color": plots.SERIES[1], "linewidth": 0.7, "connectionstyle": "arc3,rad=0.4"}
        axes.annotate("", (source, scores[source]), (i, scores[i]), arrowprops=line)
    axes.set_xlabel("layer")
    axes.set_ylabel("mean similarity")
    axes.set_ylim(0, 1)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if echoing:
        axes.legend(loc="upper left")
    return figure


SCALES = {
    "speed": ("speed, the model 1", "{:g}x".format), "parameters": ("parameters", words.count),
    "kv_bytes": ("cache, bytes a token", "{:,.0f}".format),
}  # fmt: skip


def beside(rivals: Sequence[Any], width: float = 9.0) -> Figure:
    """Loss against speed, parameters and cache of a plan and its rivals, a line a family from the model itself. Width in inches.

    Losses above the paper's rule's are cut off.
    """
    wide = width > 6
    figure, many = plots.panels(width, 0.42 * width, columns=3) if wide else plots.panels(width, 2.2 * width, rows=3, shared=False)
    families = list(dict.fromkeys(r.family for r in rivals if r.family))
    start = next(r for r in rivals if not r.family)
    most = max(r.loss for r in rivals if r.family in ("the plan", "paper's rule"))
    room = 0.12 * (most - min(r.loss for r in rivals)) or 0.1
    for axes, (field, (title, number)) in zip(many, SCALES.items(), strict=True):
        for i, family in enumerate(families):
            own = [r for r in rivals if r.family == family]
            alone = family == "the plan"
            style: dict[str, Any] = {"color": plots.SERIES[1] if alone else plots.SERIES[(2 + i) % len(plots.SERIES)], "label": family}
            line = own if alone else [start, *own]
            axes.plot([getattr(r, field) for r in line], [r.loss for r in line], "*" if alone else "o-",
                      markersize=12 if alone else 4, linewidth=1, zorder=3 if alone else 2, **style)  # fmt: skip
        axes.plot(getattr(start, field), start.loss, "s", color=plots.SERIES[0], markersize=5, zorder=4, label="the model")
        axes.set_xlabel(title)
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.xaxis.set_major_formatter(FuncFormatter(functools.partial(_tick, number)))
        axes.set_ylim(start.loss - room, most + room)
        axes.grid(True)
    for axes in many[:1] if wide else many:
        axes.set_ylabel("loss, nats a token")
    figure.legend(*many[0].get_legend_handles_labels(), loc="outside lower left", ncols=3 if wide else 2)
    return figure


def _tick(number: Callable[[float], str], x: float, _: int) -> str:
    return number(x)
