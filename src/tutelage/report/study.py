"""What a study found: its status in the terminal, and a page with its claims, its points and how they were tested."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

import click
from matplotlib.figure import Figure

from . import page, plots, robustness, table, words

Facts = Mapping[str, Any]
MARKS = {
    "holds": "The claim holds over seeds, on these test rows",
    "holds in part": "The claim holds in part, over seeds and on these test rows",
    "mixed": "The results are mixed, for and against the claim",
    "contradicted": "The results contradict the claim",
    "not shown": "The claim is not shown",
    "open": "Open",
}
COLUMNS = (
    ("what", "Comparison", True), ("difference", "Difference", False), ("interval", "Over seeds", False),
    ("rows", "Over seeds and rows", False), ("effect", "Effect", False), ("p", "p", False), ("adjusted", "p, Holm", False),
    ("finding", "Finding", True),
)  # fmt: skip
"""Of a claim's table: key, head, and whether it is text."""
FINDINGS = {
    "gain": "better",
    "loss": "worse",
    "equivalent": "equivalent",
    "different": "different",
    "not shown": "not shown",
    "open": "open",
}


def show(facts: Facts, *, full: bool, file: TextIO | None = None) -> None:
    """Print a study's status; `full` also says who runs what and which cells are missing."""
    click.echo(f"{facts['study']}: {facts['done']} of {facts['cells']} cells done, {facts['running']} running, "
               f"{facts['failed']} failed, {facts['open']} missing", file=file)  # fmt: skip
    for one in facts["running_now"] if full else ():
        lost = ", its lease ran out" if one["lost"] else ""
        click.echo(f"running  {cell(one)}: {one['worker']}, {words.seconds(one['seconds'])}{lost}", file=file)
    for one in facts["failures"]:
        click.echo(f"failed   {cell(one)}: {one['reason']}", file=file)
    for one in facts["missing"] if full else ():
        click.echo(f"missing  {cell(one)}", file=file)
    for one in facts.get("verdicts", ()):
        click.echo(f"{verdict(one)} ({one['name']})", file=file)
    for name in ("report", "table"):
        if name in facts:
            click.echo(f"{name:<9}{facts[name]}", file=file)


def cell(one: Facts) -> str:
    """'kd, pretrained, seed 3'."""
    return f"{at(one['point'])}, seed {one['seed']}"


def at(point: Mapping[str, Any] | None) -> str:
    """A point in words."""
    return ", ".join(f"{v:.3g}" if isinstance(v, float) else str(v) for v in point.values()) if point else "not chosen yet"


def verdict(one: Facts) -> str:
    """What was found on a claim, in a sentence."""
    many = one["comparisons"]
    if one["kind"] == "models":
        told = "; ".join(f"{a['value']} against {a['against']}{_where(a)}: p {_p(a['adjusted'])}" for a in many)
        return f"Of these models of seed {one['seed']}, not of their methods: {told}"
    right = "equivalent" if one["kind"] == "equivalent" else "gain"
    counts = {f: sum(a["finding"] == f for a in many) for f in ("gain", "loss", "equivalent", "different", "not shown", "open")}
    word = f"equivalent within {one['margin']:g}" if right == "equivalent" else "better"
    told = f"{counts[right]} of {len(many)} comparisons with {one['against']} are {word}"
    more = {"loss": "worse", "different": "different by more", "not shown": "not shown either way", "open": "open for missing cells"}
    return f"{MARKS[one['verdict']]}: " + ", ".join([told, *(f"{counts[k]} {w}" for k, w in more.items() if counts[k])])


def write(facts: Facts, path: Path) -> None:
    """Write the page; `facts` are those that `tutelage.study.results` gathers."""
    status = facts["status"]
    shown = {
        "kind": "study report",
        "title": status["study"],
        "verdict": _headline(facts),
        "when": f"{status['done']} of {status['cells']} cells done, {status['failed']} failed, "
        f"{status['running']} running, {status['open']} missing",
        "claims": [_claim(one, facts) for one in facts["verdicts"]],
        "columns": COLUMNS,
        "axes": facts["axes"],
        "points": [_point(p, facts) for p in facts["points"]],
        "suites": _suites(facts),
        "level": f"{100 * (1 - facts['level']):g} %",
        "failures": [(cell(one), one["reason"]) for one in status["failures"]],
        "absent": [cell(one) for one in (*status["running_now"], *status["missing"])],
        "tests": list(_tests(facts)),
        "made": [("cells", f"{status['cells']:,}"), ("seeds", ", ".join(map(str, facts["seeds"]))), ("storage", facts["storage"]),
                 ("hash", facts["hash"][:16]), *(("computed on", w) for w in facts["where"])],
        "settings": facts["settings"],
    }  # fmt: skip
    page.render("study.html.jinja", shown, path)


def _headline(facts: Facts) -> str:
    if facts["best"]:
        best = facts["best"]
        metric = best["metric"]
        found = f"{words.value(metric, best['dev'])} on dev, which chose it, and {words.value(metric, best['test'])} on test"
        return f"Of {sum(bool(p['metric']) for p in facts['points'])} finished trials, {at(best['point'])} is best: {found}."
    return " ".join(f"{one['name']}: {verdict(one)}." for one in facts["verdicts"]) or "A grid without claims."


def _claim(one: Facts, facts: Facts) -> dict[str, Any]:
    drawn = [a for a in one["comparisons"] if a.get("low") is not None]
    out = {"name": one["name"], "verdict": verdict(one), "rows": [_comparison(a) for a in one["comparisons"]], "picture": None}
    out["power"] = _power(one, facts["power"]["chance"])
    if drawn:
        draw = functools.partial(forest, one)
        reach = f"{100 * (1 - facts['level']):g} % t intervals over seeds"
        band = f"; the band is the margin of {one['margin']:g}" if one["margin"] else ""
        out["picture"] = page.picture(draw, functools.partial(forest, one, 4.4))
        out["alt"] = "; ".join(f"{a['value']}{_where(a)}: {a['mean']:+.3f} ({a['low']:+.3f} to {a['high']:+.3f})" for a in drawn)
        out["caption"] = f"Differences to {one['against']} on test with {reach}{band}. To the right is better."
    return out


def _power(one: Facts, chance: float) -> str:
    """What so few seeds can find of a claim's differences after Holm; empty for two models."""
    many = len(one["comparisons"])
    if one["kind"] == "models" or not many or not words.known(one["detectable"]):
        return ""
    family = f"Holm's first step among {many} comparisons" if many > 1 else "one comparison"
    return f"At {family} a t test finds an effect of {one['detectable']:.1f} standard deviations with a chance of {chance:g}."


def _comparison(a: Facts) -> dict[str, Any]:
    """A comparison as text; where a seed is missing it has no figures."""
    metric, known = a.get("metric", ""), "mean" in a

    def gap(x: Any) -> str:
        return words.gap(metric, x, unit=False)

    return {
        "what": f"{a['value']} against {a['against']}", "at": at(a["at"]) if a["at"] else "",
        "difference": words.gap(metric, a["mean"]) if known else words.NONE,
        "interval": f"{gap(a['low'])} to {gap(a['high'])}" if words.known(a.get("low")) else words.NONE,
        "rows": f"{gap(a['rows'][0])} to {gap(a['rows'][1])}" if a.get("rows") else words.NONE,
        "effect": words.signed(f"{a['effect']:.2f}") if words.known(a.get("effect")) else words.NONE,
        "p": _p(a["p"]), "adjusted": _p(a["adjusted"]),
        "finding": _finding(a),
    }  # fmt: skip


def _finding(a: Facts) -> str:
    """A comparison's finding; one beyond the margin has a test of its own, whose p stands beside it."""
    if a["missing"]:
        return f"open: {'; '.join(a['missing'])}"
    found = FINDINGS[a["finding"]]
    return f"{found}, p, Holm {_p(a['adjusted_beyond'])}" if a["finding"] == "different" else found


def _point(p: Facts, facts: Facts) -> dict[str, Any]:
    metric = p["metric"]
    out = {"at": [at({"": v}) for v in (p["point"] or dict.fromkeys(facts["axes"], "?")).values()], "missing": "", "chance": ""}
    if not metric:
        lost = ", ".join(f"{m['seed']} ({m['state']})" for m in p["missing"])
        return out | {"metric": "", "dev": words.NONE, "test": words.NONE, "interval": "", "teacher": "", "missing": f"no seed {lost}"}
    if p["at_chance"]:
        out["chance"] = f"at chance with {len(p['at_chance'])} of {p['seeds']} seeds"
    low, high = (words.value(metric, p[k]) for k in ("low", "high"))
    figures = {k: words.value(metric, p[k]) for k in ("dev", "test", "teacher")}
    return {**out, **figures, "metric": words.metric_name(metric), "interval": words.span(low, high)}


def _suites(facts: Facts) -> dict[str, Any] | None:
    """The finished points on every suite, what attacks took, and which students were at chance; None for a study without suites."""
    done = [p for p in facts["points"] if p["metric"]]
    if not facts["suites"] or not done:
        return None
    heads = [("At", ""), ("Own test", ""), *((name, robustness.HEADS[s["kind"]]) for name, s in facts["suites"].items())]
    rows = []
    for p in done:
        tried = (p["suites"][name] for name in facts["suites"])
        rows.append([(at(p["point"]), "at chance" if p["at_chance"] else ""), _share(p["metric"], p["test"], p),
                     *(_share("accuracy", one["accuracy"], one) for one in tried)])  # fmt: skip
    chance = [f"{at(p['point'])} (seed {', '.join(map(str, p['at_chance']))})" for p in done if p["at_chance"]]
    return {
        "heads": heads, "rows": rows,
        "chance": f"At chance on their own test part, so that what they do elsewhere says nothing: {'; '.join(chance)}." if chance else "",
        "attacks": [_attack(name, done) for name, s in facts["suites"].items() if s["kind"] == "attack"],
        "heads_made": list(dict.fromkeys(robustness.head_note(name, p["suites"][name]) for name in facts["suites"] for p in done
                                         if p["suites"][name].get("perplexity"))),
    }  # fmt: skip


def _attack(name: str, done: Sequence[Facts]) -> tuple[str, list[table.Cell], list[list[table.Cell]], list[tuple[str, Any]]]:
    heads = [(h, "") for h in ("At", *robustness.TAKEN)]
    rows: list[list[table.Cell]] = []
    for p in done:
        cell = p["suites"][name]
        rows.append([(at(p["point"]), ""), *((text, "") for text in robustness.taken(cell, cell["success"]))])
    return name, heads, rows, [(at(p["point"]), p["suites"][name]["examples"]) for p in done if p["suites"][name]["examples"]]


def _share(metric: str, value: float, cell: Facts) -> table.Cell:
    low, high = (words.value(metric, cell[k]) for k in ("low", "high"))
    return words.value(metric, value), words.span(low, high).removesuffix(" %") if words.known(cell["low"]) else ""


def _tests(facts: Facts) -> Iterator[str]:
    """How it was tested, and what so few seeds cannot show."""
    seeds, power, level = len(facts["seeds"]), facts["power"], facts["level"]
    yield (
        "Settings are chosen on dev; what is compared is test. A difference is of two values under the same seed; its interval and its "
        "test are Student's t over seeds. Where a seed is missing, no mean is taken and the comparison stays open."
    )
    if facts["verdicts"]:
        yield (
            f"p is corrected by Holm within each claim, and a finding is p below {level:g} after it. 'Not shown' is no evidence of no "
            "difference: that is what equivalence tests (two one-sided t tests within the margin) are for. A difference beyond the "
            "margin is a finding by a t test of its own, corrected in the same way."
        )
        yield (
            "All of these tests draw seeds alone: they say what other seeds would give on these very test rows. The interval over seeds "
            "and rows is for other rows too: the squares of half the t interval and of half the rows' interval (bootstrap), added up. "
            "The effect is the mean difference over its standard deviation across seeds, corrected for few (Hedges)."
        )
    if seeds < 2:
        yield "One seed says nothing of methods: there is nothing to test."
    else:
        yield (
            f"With {seeds} paired seeds an exact permutation test cannot go below p = {power['floor']:.4g}. A single t test finds an "
            f"effect of {power['detectable']:.1f} standard deviations with a chance of {power['chance']:g}; what that becomes after Holm "
            "stands with each claim. Smaller effects are mostly missed. Ranks over a few tasks say less still, so no "
            "critical-difference picture is drawn."
        )
    if facts["later"]:
        yield "The claims were changed after the study had begun."
    if any(p.get("at_chance") for p in facts["points"]):
        yield (
            "At chance are students whose interval of right rows (Wilson) does not lie above the commonest label's share. Where two points "
            "are at chance, that they do not differ says nothing of their methods."
        )
    if len(facts["where"]) > 1:
        yield "Cells were computed in different surroundings, listed below; figures that differ between them may differ for that."


def forest(one: Facts, width: float = 7.0) -> Figure:
    """A claim's differences with their intervals, a line each, and its margin. Width in inches."""
    many: Sequence[Facts] = [a for a in one["comparisons"] if a.get("low") is not None]
    figure, [axes] = plots.panels(width, 0.8 + 0.27 * len(many))
    if one["margin"]:
        axes.axvspan(-one["margin"], one["margin"], color=plots.LIGHT["shade"], zorder=0)
    axes.axvline(0, color=plots.LIGHT["muted"], linewidth=0.8)
    for i, a in enumerate(reversed(many)):
        colour = plots.SERIES[1] if a["finding"] not in ("not shown", "open") else plots.SERIES[0]
        axes.plot([a["low"], a["high"]], [i, i], color=colour, linewidth=1.6, solid_capstyle="butt")
        axes.plot([a["mean"]], [i], "o", color=colour, markersize=6, markeredgecolor=plots.LIGHT["paper"])
    axes.set_yticks(range(len(many)), [plots.cut(f"{a['value']}{_where(a)}", 44 if width > 6 else 26) for a in reversed(many)])
    axes.set_ylim(-0.7, len(many) - 0.3)
    metrics = {words.metric_name(a["metric"]) for a in many}
    axes.set_xlabel(f"difference in {' or '.join(sorted(metrics))}")
    axes.grid(axis="x")
    axes.locator_params(axis="x", nbins=7 if width > 6 else 5)
    return figure


def _where(a: Facts) -> str:
    return f" ({at(a['at'])})" if a["at"] else ""


def _p(p: float) -> str:
    return words.NONE if p != p else "<0.001" if p < 0.001 else f"{p:.3f}"
