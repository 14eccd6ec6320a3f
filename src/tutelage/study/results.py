"""From finished cells to comparisons and verdicts: paired by seed, on test; what is missing is named, never averaged over."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .. import config, records
from ..report import study as report
from ..report import words
from ..tasks import _metrics
from . import statistics
from .cells import Cells, examples_of
from .plan import Claim, Plan, Point, matches
from .sampling import dev_score, score
from .tables import CellRow

SHOWN = 3
"""Texts that mislead a point's first student on the page, an attack."""
ATTACK = ("clean", "success", "queries", "changed")
"""Of an attack, in the table of cells."""


class Results:
    """The cells of a study by point and seed."""

    def __init__(self, plan: Plan, rows: Sequence[CellRow]):
        self.plan, self.rows, self.level = plan, rows, plan.study.level
        self.trials = [[r for r in rows if r.trial == n] for n in range(1 + max(r.trial for r in rows))]
        self._by_point = {_key(own[0].point): own for own in self.trials if own[0].point}
        self._given: dict[int, dict[str, np.ndarray]] = {}

    def points(self) -> list[dict[str, Any]]:
        """Each point: scores on dev and test as means over seeds with t intervals, or which seeds are missing."""
        out = []
        for own in self.trials:
            missing = _missing(own)
            line: dict[str, Any] = {"point": own[0].point, "seeds": len(own), "missing": missing, "metric": None}
            if not missing:
                first, tests = own[0].result or {}, [_score(r) for r in own]
                low, high = statistics.mean_interval(tests, self.level)
                line |= {"metric": first["metric"], "dev": score(own), "test": float(np.mean(tests)), "low": low, "high": high,
                         "teacher": first["teacher"].get("teacher"), "at_chance": [r.seed for r in own if _at_chance(r)],
                         "suites": {suite.name: self._on(suite.name, own) for suite in self.plan.suites},
                         "seconds": float(np.mean([r.result["seconds"]["total"] for r in own if r.result]))}  # fmt: skip
            out.append(line)
        return out

    def _on(self, suite: str, own: Sequence[CellRow]) -> dict[str, Any]:
        """A point on a suite: accuracy as a mean over seeds with its t interval; what an attack took, on average; some of its texts."""
        each = [(r.result or {})["robustness"][suite] for r in own]
        low, high = statistics.mean_interval([_score(r, suite) for r in own], self.level)
        out: dict[str, Any] = {"accuracy": float(np.mean([_score(r, suite) for r in own])), "low": low, "high": high}
        for name in ("clean", "queries", "changed", "similarity", "perplexity"):
            known = [one[name] for one in each if one.get(name) is not None]
            out[name] = float(np.mean(known)) if known else None
        rates = [one["success"]["value"] for one in each if one.get("success")]
        out["success"] = float(np.mean(rates)) if rates else None
        return out | {"rows": each[0]["rows"], "masked": each[0].get("masked"), "examples": each[0].get("examples", [])[:SHOWN]}

    def best(self) -> dict[str, Any] | None:
        """Of a search, the finished point that dev prefers."""
        done = [p for p in self.points() if p["metric"]]
        return max(done, key=lambda p: -p["dev"] if p["metric"] in words.LESS else p["dev"], default=None)

    def verdicts(self) -> list[dict[str, Any]]:
        """Each claim with its comparisons, corrected by Holm within the claim, and what they say together.

        Of a claim of equivalence, the tests of equivalence are one family and those of a difference beyond the margin another.
        """
        out = []
        for claim in self.plan.claims:
            compare = self._two_models if claim.kind == "models" else self._compare
            made = [compare(claim, *pair) for pair in self._pairs(claim)]
            for p in ("p", "beyond") if claim.margin else ("p",):
                for one, adjusted in zip(made, statistics.holm([float(one[p]) for one in made]), strict=True):
                    one["adjusted" if p == "p" else "adjusted_beyond"] = adjusted
            for one in made:
                one["finding"] = self._finding(claim, one)
            told = {k: getattr(claim, k) for k in ("name", "kind", "axis", "margin", "seed", "against", "suite")}
            told["detectable"] = statistics.detectable(len(self.plan.study.seeds), self.level, max(1, len(made)))
            out.append({**told, "comparisons": made, "verdict": _verdict(claim, [one["finding"] for one in made])})
        return out

    def _pairs(self, claim: Claim) -> Iterator[tuple[Point, str, list[CellRow], list[CellRow]]]:
        """What a claim compares: the rest of the point, the value, its cells and those that it is compared with."""
        values = claim.values or tuple(v for v in self.plan.axes[claim.axis].values if v != claim.against)
        for own in self._by_point.values():
            point = own[0].point or {}
            if point[claim.axis] in values and matches(point, claim.where or {}):
                rest = {k: v for k, v in point.items() if k != claim.axis}
                if other := self._by_point.get(_key(point | {claim.axis: claim.against})):
                    yield rest, point[claim.axis], own, other

    def _compare(self, claim: Claim, rest: Point, value: str, own: list[CellRow], other: list[CellRow]) -> dict[str, Any]:
        """One value against another at the same point: paired differences over seeds, positive where it is better."""
        out: dict[str, Any] = {"at": rest, "value": value, "against": claim.against, "seeds": len(own)}
        out |= {"p": math.nan, "beyond": math.nan}
        lacking = [f"{v}, seed {m['seed']} ({m['state']})" for v, rows in ((value, own), (claim.against, other)) for m in _missing(rows)]
        out["missing"] = lacking
        if lacking:
            return out
        metric = "accuracy" if claim.suite else (own[0].result or {})["metric"]
        sign = -1 if metric in words.LESS else 1
        gaps = [sign * (_score(a, claim.suite) - _score(b, claim.suite)) for a, b in zip(own, other, strict=True)]
        low, high = statistics.mean_interval(gaps, self.level)
        p = statistics.equivalence(gaps, claim.margin) if claim.margin else statistics.difference(gaps)
        out |= {"metric": metric, "mean": float(np.mean(gaps)), "low": low, "high": high, "p": p, "effect": statistics.effect(gaps)}
        if claim.margin:
            out["beyond"] = statistics.beyond(gaps, claim.margin)
        out["each"], out["rows"] = gaps, None
        drawn = statistics.metric_draws(metric, [self._examples(r, claim.suite) for r in (*own, *other)])
        if drawn is not None and len(own) > 1:
            out["rows"] = statistics.over_seeds_and_rows(gaps, sign * (drawn[:, : len(own)] - drawn[:, len(own) :]), self.level)
        return out

    def _examples(self, row: CellRow, suite: str | None) -> dict[str, np.ndarray]:
        """What a cell's student said of its test items, or whether it was right on a suite's rows; unpacked once."""
        if row.number not in self._given:
            self._given[row.number] = examples_of(row)
        given = self._given[row.number]
        if not suite:
            return given
        right = given.get(f"on.{suite}")
        return {"each": np.empty(0) if right is None else right.astype(np.float64)}

    def _finding(self, claim: Claim, one: dict[str, Any]) -> str:
        """'gain', 'loss', 'equivalent', 'different', 'not shown', or 'open' where a seed is missing or there are too few."""
        if one["missing"] or one["p"] != one["p"]:
            return "open"
        if claim.margin:
            return "equivalent" if one["adjusted"] < self.level else "different" if one["adjusted_beyond"] < self.level else "not shown"
        return "not shown" if one["adjusted"] >= self.level else "gain" if one["mean"] > 0 else "loss"

    def _two_models(self, claim: Claim, rest: Point, value: str, own: list[CellRow], other: list[CellRow]) -> dict[str, Any]:
        """McNemar's test of the two models of one seed."""
        a, b = (next(r for r in rows if r.seed == claim.seed) for rows in (own, other))
        out: dict[str, Any] = {"at": rest, "value": value, "against": claim.against, "seeds": 1, "p": float("nan")}
        out["missing"] = [f"{v}, seed {r.seed} ({_state(r)})" for v, r in ((value, a), (claim.against, b)) if r.state != "done"]
        mine, theirs = (None if out["missing"] else _right(r) for r in (a, b))
        if mine is not None and theirs is not None and len(mine) == len(theirs):
            out |= {"metric": "accuracy", "mean": float(mine.mean() - theirs.mean()), "p": statistics.mcnemar(mine, theirs)}
        return out


def _verdict(claim: Claim, findings: Sequence[str]) -> str:
    """What a claim's comparisons say together."""
    right, wrong = ("equivalent", "different") if claim.kind == "equivalent" else ("gain", "loss")
    if "open" in findings or not findings:
        return "open"
    if all(f == right for f in findings):
        return "holds"
    if wrong in findings:
        return "mixed" if right in findings else "contradicted"
    return "holds in part" if right in findings else "not shown"


def write(cells: Cells, folder: Path, status: Mapping[str, Any]) -> dict[str, Any]:
    """Write report.html and cells.csv; returns their paths, and the verdicts on the claims."""
    plan = cells.plan
    found = Results(plan, cells.rows())
    facts: dict[str, Any] = {
        "status": status, "points": found.points(), "verdicts": found.verdicts(), "level": found.level,
        "best": found.best() if plan.study.search else None, "seeds": list(plan.study.seeds), "axes": list(plan.axes),
        "power": {"floor": statistics.floor(len(plan.study.seeds)), "detectable": statistics.detectable(len(plan.study.seeds), found.level),
                  "chance": statistics.POWER},
        "later": _said(cells.claims_at_start()) != _said(config.dump(plan.claims)), "hash": plan.hash, "storage": cells.shown,
        "suites": {s.name: {"kind": s.kind, "summary": s.summary} for s in plan.suites},
        "where": _places(found.rows), "settings": config.text(plan.study),
    }  # fmt: skip
    page, table = folder / "report.html", folder / "cells.csv"
    report.write(facts, page)
    records.write(table, _csv(found))
    return {"report": str(page), "table": str(table), "verdicts": facts["verdicts"]}


def _csv(found: Results) -> str:
    """One line a cell: its point, seed, state, scores, times, and why it failed."""
    out, axes = io.StringIO(), list(found.plan.axes)
    kept = ("metric", "score", "rows", "learning_rate", "steps", "best_step", "parameters", "weights")
    matched = words.FIDELITY
    line = csv.writer(out, lineterminator="\n")
    suites = [(suite.name, key) for suite in found.plan.suites for key in ("accuracy", *(ATTACK if suite.attack else ()))]
    line.writerow(["cell", *axes, "seed", "state", "dev", *kept, *matched, *(f"{n}.{k}" for n, k in suites), "seconds", "worker", "reason"])
    for r in found.rows:
        result = r.result or {}
        point = [(r.point or {}).get(a, "") for a in axes]
        dev = dev_score(result) if result else ""
        seconds = result.get("seconds", {}).get("total", "")
        tried = [_plain(result.get("robustness", {}).get(n, {}).get(k)) for n, k in suites]
        known = [*(result.get(k, "") for k in kept), *(_plain((result.get("fidelity") or {}).get(k)) for k in matched)]
        line.writerow([r.number, *point, r.seed, r.state, dev, *known, *tried, seconds, r.worker or "", r.reason or ""])
    return out.getvalue()


def _said(claims: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Claims without what they leave open, so that settings which came later change none."""
    return [{k: v for k, v in claim.items() if v is not None} for claim in claims]


def _plain(value: Any) -> Any:
    return "" if value is None else value["value"] if isinstance(value, Mapping) else value


def _missing(rows: Sequence[CellRow]) -> list[dict[str, Any]]:
    return [{"seed": r.seed, "state": _state(r)} for r in rows if r.state != "done"]


def _state(row: CellRow) -> str:
    return "missing" if row.state == "open" else row.state


def _score(row: CellRow, suite: str | None = None) -> float:
    """A cell's score on test, or its accuracy on a suite; NaN where no row of the suite counts."""
    result = row.result or {}
    value = result["robustness"][suite]["accuracy"] if suite else result["score"]
    return float("nan" if value is None else value)


def _at_chance(row: CellRow) -> bool:
    """Whether a student's accuracy on its own test part does not lie above the commonest label's share, by Wilson's interval."""
    right = _right(row)
    if right is None:
        return False
    gold = examples_of(row)["gold"]
    most = np.bincount(gold[statistics.labelled(gold)]).max()
    return bool(_metrics.wilson(int(right.sum()), len(right), 0.95)[0] <= most / len(right))


def _right(row: CellRow) -> np.ndarray | None:
    """(items,) of bool: which items a model got right; None where items are not right or wrong."""
    given = examples_of(row)
    if (row.result or {})["kind"] != "choice" or "gold" not in given:
        return None
    keep = statistics.labelled(given["gold"])
    return (given["predicted"] == given["gold"])[keep]


def _places(rows: Sequence[CellRow]) -> list[str]:
    """The different surroundings that cells were computed in."""
    return sorted({", ".join(f"{k} {v}" for k, v in r.result["where"].items()) for r in rows if r.result})


def _key(point: Point | None) -> str:
    return records.digest(point)
