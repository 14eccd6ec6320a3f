"""The report of a run as one HTML file: nothing is loaded from elsewhere, nothing runs, and it reads on a phone."""

from __future__ import annotations

import base64
import datetime
import itertools
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jinja2

from .. import config, records
from . import curves, kinds, plots, table, words

Record = Mapping[str, Any]
_HERE = Path(__file__).parent


def write(record: Record, path: Path) -> None:
    """Write the report of a record, whole or not at all. Text of the record is shown as text, whatever it holds."""
    render("page.html.jinja", {"kind": "distillation report", **contents(record)}, path)


def render(template: str, shown: Mapping[str, Any], path: Path) -> None:
    """Write a page of one of the templates, atomically."""
    frame = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE), autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    frame.filters["whole"] = _whole
    records.write(Path(path), frame.get_template(template).render(shown))


def figure(record: Record, path: Path) -> bool:
    """Write the trade-off picture alone, as PNG or SVG by the path's ending; False where there is nothing to draw."""
    path = Path(path)

    def draw() -> Any:
        return plots.tradeoff(record)

    drawn: str | bytes = plots.svg(draw) if path.suffix == ".svg" else plots.png(draw)
    if drawn:
        records.write(path, drawn)
    return bool(drawn)


def contents(record: Record) -> dict[str, Any]:
    """Everything the template shows, as text."""
    rows = table.rows(record)
    heads, body = table.cells(rows)
    return {
        "title": record["name"],
        "verdict": words.verdict(record),
        "when": _when(record),
        "heads": heads,
        "rows": list(zip([r["key"] for r in rows], body, strict=True)),
        "main": words.headline(record)[0],
        "under_table": list(_under_table(record)),
        "tradeoff": _tradeoff(record),
        "comparisons": [_comparison(record, one) for one in record.get("comparisons") or ()],
        "learning": [made for key in record["models"] if (made := _learning(record, key))],
        "metrics": _metrics(record),
        "data": list(_data(record)),
        "notes": [*((record.get("data") or {}).get("notes") or ()), *(record.get("notes") or ())],
        "times": list(_times(record)),
        "surroundings": list(_surroundings(record)),
        "hashes": list(_hashes(record)),
        "settings": config.text(record.get("recipe") or {}),
    }


def _whole(text: str) -> str:
    """Keep a number and its unit on one line."""
    return re.sub(r"(?<=\d) (?=(%|ms|s|min|MB|kB|GB|M|k|B|points)\b|%)", "\u00a0", text)


def _when(record: Record) -> str:
    parts = []
    if record.get("finished"):
        at = datetime.datetime.fromisoformat(record["finished"])
        parts.append(f"Finished {at:%Y-%m-%d %H:%M} {at.tzname() or ''}".strip())
    total = (record.get("seconds") or {}).get("total")
    if words.known(total):
        parts.append(f"{words.seconds(total)} in all")
    seed = (record.get("recipe") or {}).get("seed")
    return ", ".join([*parts, *([f"seed {seed}"] if seed is not None else [])])


def _under_table(record: Record) -> Iterator[str]:
    """What the table's figures mean, in sentences."""
    tests = [m["test"] for m in record["models"].values() if m.get("test")]
    if tests:
        how = f"{100 * tests[0]['level']:g} % intervals ({tests[0]['method']}, {tests[0]['rows']:,} test rows)"
        yield f"{how} tell how sure a figure is for other rows of the same kind, not for other training seeds: this is one run."
    else:
        yield "No test split was touched. These figures are on dev, which also chose the best step, so they flatter a little."
    yield from filter(None, (words.fidelity(record, key) for key in record["models"]))
    if any(m.get("latency") for m in record["models"].values()):
        around = record.get("surroundings") or {}
        where = f"{around['threads']} threads" if around.get("threads") else "one process"
        yield f"Latency is the median of one forward pass with {where}; the range holds 9 of 10 passes."


def _uri(picture: str) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(picture.encode()).decode()


def picture(draw: Callable[[], Any], narrow: Callable[[], Any] | None = None) -> dict[str, str]:
    """Data URIs of a picture: for a light and a dark page, and for a narrow one where it is drawn anew."""
    wide = plots.svg(draw)
    small = plots.svg(narrow) if narrow and wide else ""
    every = {"light": wide, "dark": plots.darken(wide), "narrow": small, "narrow_dark": plots.darken(small)}
    return {name: _uri(picture) for name, picture in every.items() if picture}


def _tradeoff(record: Record) -> dict[str, Any] | None:
    many, metric = plots.points(record), words.primary(record)
    if not many:
        return None
    unit = words.milliseconds if plots.cost(record) == "latency" else words.count
    told = "; ".join(f"{p['title']}: {words.value(metric, p['y'])} at {unit(p['x'])}" for p in many)
    against = "latency of a batch of 32 rows" if plots.cost(record) == "latency" else "number of parameters"
    score = f"{words.split(record).capitalize()} {words.metric_name(metric)}"
    upward = "further up is better" if metric not in words.LESS else "further up is better, for the scale runs downwards"
    caption = f"{score} against {against}; {upward}, further left is cheaper."
    if any(p["low"] < p["high"] for p in many):
        caption += " Bars are the intervals of the table."
    places = sorted(p["x"] for p in many)
    if any(b - a < 0.05 * places[-1] for a, b in itertools.pairwise(places)):
        caption += " Points at almost the same place are drawn side by side."
    missing = [m["title"] for k, m in record["models"].items() if k not in [p["key"] for p in many]]
    if missing:
        caption += f" Not measured, so not shown: {', '.join(missing)}."
    drawn = picture(lambda: plots.tradeoff(record), lambda: plots.tradeoff(record, 4.2))
    return {"picture": drawn, "alt": f"{score} against {against}. {told}.", "caption": caption}


def _comparison(record: Record, one: Mapping[str, Any]) -> dict[str, str]:
    titles = [record["models"].get(one[k], {}).get("title", one[k]) for k in ("a", "b")]
    level = f"{100 * one.get('level', 0.95):g} %"
    return {
        "a": titles[0], "b": titles[1],
        "difference": words.gap(one["metric"], one["difference"]),
        "interval": f"{words.gap(one['metric'], one['low'], unit=False)} to {words.gap(one['metric'], one['high'], unit=False)}",
        "finding": words.finding(one),
        "how": f"{words.metric_name(one['metric'])}, {level}, {one['method']}, {one['rows']:,} rows",
    }  # fmt: skip


def _learning(record: Record, key: str) -> dict[str, Any] | None:
    model = record["models"][key]
    training, metric = model.get("training") or {}, words.primary(record)
    drawn = picture(lambda: curves.learning(record, key))
    if not drawn:
        return None
    best, dev = training.get("best_step"), curves.history(training, metric)
    parts = [f"dev {words.metric_name(metric)} {words.value(metric, y)} at its best step {s:,}" for s, y in dev if s == best]
    parts += [f"{training['steps']:,} steps"] if training.get("steps") else []
    parts += [f"learning rate {training['learning_rate']:g}"] if training.get("learning_rate") else []
    parts += [f"seed {training['seed']}"] if training.get("seed") is not None else []
    stages = curves.stages(training)
    if len(stages) > 1:
        parts.append("stages " + ", ".join(f"{name} to step {end:,}" for name, _, end in stages))
    parts += [f"{r['learning_rate']:g} tried: {words.value(metric, r['score'])}" for r in model.get("search") or ()]
    caption = "; ".join(parts) or "no facts on record"
    return {"title": model["title"], "picture": drawn, "alt": f"Learning curve of the {model['title']}: {caption}.", "caption": caption}


def _metrics(record: Record) -> dict[str, Any] | None:
    """Every metric of every model on dev and test, models down; None where there is only the one of the table."""
    models = record["models"].values()
    columns: list[tuple[str, str]] = []
    for part in ("dev", "test"):
        names = dict.fromkeys(n for m in models for n in _scores(m, part))
        columns += [(part, name) for name in names]
    if len(columns) < 2:
        return None
    rows = [(m["title"], [words.value(name, _scores(m, part).get(name)) for part, name in columns]) for m in models]
    return {"heads": [f"{part.capitalize()} {words.metric_name(name)}" for part, name in columns], "rows": rows}


def _scores(model: Mapping[str, Any], part: str) -> dict[str, Any]:
    return (model.get("dev") or {}) if part == "dev" else (model.get("test") or {}).get("metrics") or {}


def _data(record: Record) -> Iterator[tuple[str, str]]:
    data = record.get("data") or {}
    if data.get("source"):
        yield "Source", str(data["source"])
    yield "Rows", ", ".join(f"{n:,} {part}" for part, n in (data.get("rows") or {}).items()) or "unknown"
    labels = list(data.get("labels") or ())
    more = f" and {len(labels) - 30} more" if len(labels) > 30 else ""
    yield "Labels", ", ".join(map(str, labels[:30])) + more if labels else f"no names: {kinds.of(record).target}"
    cut = {part: n for part, n in (data.get("truncated") or {}).items() if n}
    if kinds.of(record).cuts:
        yield "Texts cut", ", ".join(f"{n:,} {part}" for part, n in cut.items()) + " rows" if cut else "none"


def _times(record: Record) -> Iterator[tuple[str, str]]:
    for name, taken in (record.get("seconds") or {}).items():
        if words.known(taken):
            yield name.capitalize(), words.seconds(taken)
    signals = record.get("signals") or {}
    if signals:
        parts = [{"cached": "from the cache", "live": "live, beside the student"}.get(signals["source"], f"from a {signals['source']}")]
        parts += [words.size(signals["bytes"])] if signals.get("bytes") else []
        parts += ["reused from an earlier run"] if signals.get("reused") else []
        yield "Teacher's signals", ", ".join(parts)
    reused = [m["title"] for m in record["models"].values() if m.get("reused")]
    if reused:
        yield "Trained in an earlier run", ", ".join(reused)


def _surroundings(record: Record) -> Iterator[tuple[str, str]]:
    around = dict(record.get("surroundings") or {})
    versions = around.pop("versions", {})
    for name, value in around.items():
        yield name.replace("_", " ").capitalize(), str(value)
    if versions:
        yield "Versions", ", ".join(f"{name} {version}" for name, version in versions.items())


def _hashes(record: Record) -> Iterator[tuple[str, str]]:
    yield "Data", (record.get("data") or {}).get("digest") or words.NONE
    for model in record["models"].values():
        yield f"Weights, {model['title']}", model.get("weights") or words.NONE
