"""Numbers and sentences of a report: a figure reads the same in the terminal, the page and the card."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

Record = Mapping[str, Any]
NAMES = {
    "f1": "F1",
    "macro_f1": "macro F1",
    "micro_f1": "micro F1",
    "mcc": "Matthews correlation",
    "rmse": "root mean squared error",
    "pearson": "Pearson correlation",
    "spearman": "Spearman correlation",
    "loss": "loss (nats a token)",
}
LESS = ("loss", "perplexity", "rmse")
"""Metrics that are better where they are less."""
FIDELITY = ("agreement", "kl", "mse")
"""Measures of how closely a student matches its teacher, where the record has them."""
SHARES = ("accuracy", "f1", "precision", "recall", "exact")
NONE = "\u2013"
DASH = "\u2013"
MINUS = "\u2212"


def known(x: Any) -> bool:
    """Whether x is a finite number; missing parts of a record are None or NaN."""
    return isinstance(x, int | float) and math.isfinite(x)


def metric_name(metric: str) -> str:
    """A metric in words: 'f1' is F1, 'exact_match' is exact match."""
    return NAMES.get(metric, metric.replace("_", " "))


def is_share(metric: str) -> bool:
    """Whether the metric lies in [0, 1] and is read in per cent; others are read as plain numbers."""
    return any(word in metric.lower() for word in SHARES)


def value(metric: str, x: Any) -> str:
    """A metric's value: '84.1 %' for shares, '0.871' for others, a dash where there is none."""
    if not known(x):
        return NONE
    return f"{100 * x:.1f} %" if is_share(metric) else signed(f"{x:.3f}")


def span(low: str, high: str) -> str:
    """A range of two figures, the first without its unit: '82.4-85.6 %', '-0.1 to 0.2'; empty where one is missing."""
    if NONE in (low, high):
        return ""
    first = low.split(" ")[0]
    return f"{first} to {high}" if first.startswith(MINUS) else f"{first}{DASH}{high}"


def signed(text: str) -> str:
    """The text of a number with a true minus sign."""
    return text.replace("-", MINUS)


def gap(metric: str, x: Any, unit: bool = True) -> str:
    """A difference with its sign: '+0.8 points' (hundredths) for shares, '+0.012' for others."""
    if not known(x):
        return NONE
    if not is_share(metric):
        return signed(f"{x:+.3f}")
    return signed(f"{100 * x:+.1f}") + (" points" if unit else "")


def count(x: Any) -> str:
    """A count to three figures: '22.7 M', '45.1 k'; below 1,000 in full."""
    if not known(x):
        return NONE
    for size, unit in ((1e9, " B"), (1e6, " M"), (1e3, " k")):
        if abs(x) >= 0.9995 * size:
            return f"{x / size:.{2 if x < 10 * size and size == 1e9 else 1}f}{unit}"
    return f"{x:,.0f}"


def size(x: Any) -> str:
    """Bytes in units of 1,000: '90.9 MB'."""
    if not known(x):
        return NONE
    for unit, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if x >= 0.9995 * unit:
            return f"{x / unit:.1f} {name}"
    return f"{x:.0f} bytes"


def milliseconds(x: Any) -> str:
    """'13.9 ms'; two decimals below 1, none from 1,000 on."""
    if not known(x):
        return NONE
    return f"{x:,.{2 if x < 1 else 1 if x < 1000 else 0}f} ms"


def seconds(x: Any) -> str:
    """'4.2 s', '216 s' below ten minutes, then '12 min', '1 h 5 min'."""
    if not known(x):
        return NONE
    if x < 600:
        return f"{x:.{1 if x < 9.95 else 0}f} s"
    minutes = round(x / 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"


def split(record: Record) -> str:
    """'test' if any model was scored there, else 'dev': the one split that a report compares on."""
    return "test" if any(m.get("test") for m in record["models"].values()) else "dev"


def score(record: Record, model: Mapping[str, Any]) -> dict[str, Any]:
    """A model's primary metric on the record's split: value, low, high, level, method, rows; None where unknown."""
    out: dict[str, Any] = {"value": None, "low": None, "high": None, "level": None, "method": None, "rows": None}
    if split(record) == "dev":
        return out | {"value": (model.get("dev") or {}).get(primary(record))}
    test = model.get("test") or {}
    return out | {k: test.get(k) for k in out} | {"value": test.get("primary")}


def primary(record: Record) -> str:
    """The name of the metric that selects."""
    return str((record.get("data") or {}).get("primary") or "score")


def fidelity(record: Record, key: str) -> str:
    """How closely a student matches its teacher, in a sentence; empty where that is not known."""
    model = record["models"][key]
    found = model.get("fidelity") or {}
    many = sum(m.get("role") == "teacher" for m in record["models"].values()) > 1

    def figure(name: str, write: Callable[[float], str]) -> str:
        one = found[name]
        between = span(write(one["low"]), write(one["high"])).removesuffix(" %")
        return f"{write(one['value'])} ({100 * one['level']:g} % interval {between}, {one['method']})"

    whose = "the teachers' average" if many else "the teacher"
    parts = []
    if "agreement" in found:
        parts.append(f"predicts the same as {whose} in {figure('agreement', lambda x: f'{100 * x:.1f} %')} of all cases")
    if "kl" in found:
        parts.append(f"lies at KL({whose} \u2016 student) = {figure('kl', lambda x: f'{x:.3f}')} nats a row, at temperature 1")
    if "mse" in found:
        parts.append(f"lies at a mean squared difference of {figure('mse', lambda x: f'{x:.4g}')} from {whose}")
    return f"The {model['title']} {' and '.join(parts)}." if parts else ""


def latency(model: Mapping[str, Any], rows: int) -> dict[str, Any]:
    """A model's latency at a batch of so many rows, in ms; empty where it was not measured."""
    return dict((model.get("latency") or {}).get(str(rows)) or {})


def headline(record: Record) -> tuple[str | None, str | None, str | None]:
    """Keys of the student that the report is about, of its teacher and of its baseline; None for one that is absent.

    The student is the last of that role, else the last model that is no teacher. Of several teachers it is the best,
    of several baselines the one fine-tuned without a teacher.
    """
    models = record["models"]
    teachers = [k for k, m in models.items() if m.get("role") == "teacher"]
    learners = [k for k in models if k not in teachers]
    main = next((k for k in reversed(learners) if models[k].get("role") == "student"), learners[-1] if learners else None)
    others = sorted((k for k in learners if k != main), key=lambda k: not alone(models[k]))
    sign = -1 if primary(record) in LESS else 1
    return main, max(teachers, key=lambda k: sign * (score(record, models[k])["value"] or 0), default=None), next(iter(others), None)


def alone(model: Mapping[str, Any]) -> bool:
    """Whether a model was fine-tuned on the labels, without a teacher."""
    return (model.get("method") or {}).get("kind") == "finetune"


def comparison(record: Record, a: str, b: str) -> dict[str, Any] | None:
    """The comparison of a with b, turned round where the record holds it the other way; None where it was not made."""
    for one in record.get("comparisons") or ():
        if (one["a"], one["b"]) == (a, b):
            return dict(one)
        if (one["a"], one["b"]) == (b, a):
            return {**one, "a": a, "b": b, "difference": -one["difference"], "low": -one["high"], "high": -one["low"]}
    return None


def finding(one: Mapping[str, Any]) -> str:
    """What a comparison's interval lets one say; an interval that reaches 0 shows no difference."""
    if one["low"] <= 0 <= one["high"]:
        return "no difference is shown"
    return "it is better" if (one["low"] > 0) != (one["metric"] in LESS) else "it is worse"


def difference(one: Mapping[str, Any]) -> str:
    """'+0.8 points (95 % interval -0.5 to +2.1)', with true minus signs."""
    low, high = gap(one["metric"], one["low"], unit=False), gap(one["metric"], one["high"], unit=False)
    return f"{gap(one['metric'], one['difference'])} ({100 * one.get('level', 0.95):g} % interval {low} to {high})"


def verdict(record: Record) -> str:
    """One sentence: the student's score beside its teacher's, its size and speed, and its gain over the baseline."""
    main, teacher, baseline = headline(record)
    if main is None:
        return "No student was trained in this run."
    student, over = record["models"][main], record["models"][teacher] if teacher else {}
    gains = [gain for gain in (_smaller(student, over), _faster(student, over)) if gain]
    out = f"The {student['title']} {_level(record, student, over)}"
    out += f" with {' and '.join(gains)}" if gains else ""
    against = comparison(record, main, baseline) if baseline else None
    if baseline and against:
        base = record["models"][baseline]
        name = "fine-tuning alone" if alone(base) and not alone(student) else f"the {base['title']}"
        out += f"; against {name}: {difference(against)}, so {finding(against)}"
    return out + "."


def _level(record: Record, student: Mapping[str, Any], teacher: Mapping[str, Any]) -> str:
    """'keeps 97.1 % of the teacher's test accuracy (81.9 % against 84.3 %)', or what can be said of it."""
    metric, own = primary(record), score(record, student)
    name = f"{split(record)} {metric_name(metric)}"
    theirs = score(record, teacher)["value"]
    if not known(own["value"]):
        return f"has no {name} on record"
    figures = value(metric, own["value"])
    if known(theirs) and metric in LESS:
        return f"has a {name} of {figures} against the teacher's {value(metric, theirs)}"
    if known(theirs) and theirs > 0 and own["value"] > 0:
        kept = own["value"] / theirs
        verb = "keeps" if kept <= 1 else "reaches"
        whose = "the teacher's" if sum(m.get("role") == "teacher" for m in record["models"].values()) == 1 else "its best teacher's"
        return f"{verb} {100 * kept:.1f} % of {whose} {name} ({figures} against {value(metric, theirs)})"
    reach = span(value(metric, own["low"]), value(metric, own["high"]))
    reach = f" ({100 * (own['level'] or 0.95):g} % interval {reach})" if reach else ""
    return f"reaches a {name} of {figures}{reach}"


def _smaller(student: Mapping[str, Any], teacher: Mapping[str, Any]) -> str:
    ours, theirs = student.get("parameters"), teacher.get("parameters")
    if not (ours and theirs):
        return ""
    change = 100 * (ours / theirs - 1)
    if abs(change) < 0.5:
        return "as many parameters"
    return f"{abs(change):.0f} % {'fewer' if change < 0 else 'more'} parameters"


def _faster(student: Mapping[str, Any], teacher: Mapping[str, Any]) -> str:
    """'2.9x lower latency at batch 32'; spreads that overlap are called about the same."""
    for rows in (32, 1):
        ours, theirs = latency(student, rows), latency(teacher, rows)
        if known(ours.get("median_ms")) and known(theirs.get("median_ms")):
            if ours["low_ms"] <= theirs["high_ms"] and theirs["low_ms"] <= ours["high_ms"]:
                return f"about the same latency at batch {rows}"
            ratio = theirs["median_ms"] / ours["median_ms"]
            return f"{max(ratio, 1 / ratio):.1f}x {'lower' if ratio > 1 else 'higher'} latency at batch {rows}"
    return ""
