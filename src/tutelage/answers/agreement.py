"""How far people agree: shares, kappas and Krippendorff's alpha, with intervals; and what they disagree on.

Source: Cohen 1960, Fleiss 1971, and Krippendorff 2011 (Computing Krippendorff's alpha-reliability), nominal metric. Ratings of "cannot
judge" are None and count as missing. NaN where a figure is not defined: no overlap, or one value alone (chance would agree as well).
"""

from __future__ import annotations

import dataclasses
import datetime
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any

import numpy as np

from ..errors import DataError

NAN = float("nan")


@dataclasses.dataclass(frozen=True)
class Rating:
    """One standing judgement: of a unit, by a rater, on a criterion."""

    unit: Hashable
    rater: str
    criterion: str
    value: Any
    """Any label; None cannot judge."""
    at: datetime.datetime | None = None
    suggestion: Any = None
    """The label that a model suggested first; None: no suggestion was shown."""


def table(ratings: Iterable[Rating]) -> tuple[np.ndarray, list[Hashable], list[str], list[Any]]:
    """(raters, units) of value numbers, -1 where missing; the units, raters and values that the numbers stand for.

    Raises DataError where a rater rated a unit twice on the same criterion.
    """
    many = list(ratings)
    units: list[Hashable] = list(dict.fromkeys((r.criterion, r.unit) for r in many))
    raters = sorted({r.rater for r in many})
    values = sorted({r.value for r in many if r.value is not None}, key=repr)
    out = np.full((len(raters), len(units)), -1, dtype=np.int64)
    at_unit, at_rater, at_value = ({x: i for i, x in enumerate(names)} for names in (units, raters, values))
    seen = set()
    for r in many:
        place = at_rater[r.rater], at_unit[r.criterion, r.unit]
        if place in seen:
            raise DataError(f"ratings: {r.rater} rated {r.unit} twice on '{r.criterion}'; keep the last one")
        seen.add(place)
        if r.value is not None:
            out[place] = at_value[r.value]
    return out, units, raters, values


# ---- figures of a table (raters, units), -1 where missing; with `times` (draws, units), how often each unit counts, (draws,) of them


def raw(found: np.ndarray, times: np.ndarray | None = None) -> Any:
    """The share of agreeing pairs among all pairs of ratings of the same unit."""
    counts = _counts(found)
    many = counts.sum(1)
    return _over(_sums(times, (counts * (counts - 1)).sum(1)), _sums(times, many * (many - 1)))


def cohen(found: np.ndarray, times: np.ndarray | None = None) -> Any:
    """Cohen's kappa of two raters (2, units) on the units that both rated."""
    both = np.all(found >= 0, axis=0)
    number = _sums(times, both)
    said = np.equal(found[:, :, None], np.arange(found.max(initial=0) + 1)) & both[:, None]
    first, second = (_over(_sums(times, each), number[..., None]) for each in said)
    agreed, chance = _over(_sums(times, both & (found[0] == found[1])), number), (first * second).sum(-1)
    return _over(agreed - chance, 1 - chance)


def fleiss(found: np.ndarray) -> float:
    """Fleiss' kappa; raises DataError where units were rated by unequally many."""
    counts = _counts(found)
    many = counts.sum(1)
    if len(set(many.tolist())) > 1:
        what = f"units have {int(many.min())} to {int(many.max())} ratings"
        raise DataError(f"Fleiss' kappa: {what}, and it needs equally many; take Krippendorff's alpha")
    if not len(many) or many[0] < 2:
        return NAN
    shares = counts.sum(0) / counts.sum()
    chance = float((shares**2).sum())
    agreed = float(((counts * (counts - 1)).sum(1) / (many * (many - 1))).mean())
    return (agreed - chance) / (1 - chance) if chance < 1 else NAN


def alpha(found: np.ndarray, times: np.ndarray | None = None) -> Any:
    """Krippendorff's alpha, nominal: 1 - observed over expected disagreement; units with one rating say nothing."""
    counts = _counts(found)
    counts = np.where(counts.sum(1, keepdims=True) > 1, counts, 0)
    many = counts.sum(1)
    total, each = _sums(times, many), _sums(times, counts)
    observed = _over(_sums(times, (many**2 - (counts**2).sum(1)) / np.maximum(many - 1, 1)), total)
    return 1 - _over(observed, _over(total**2 - (each**2).sum(-1), total * (total - 1)))


def undefined(found: np.ndarray) -> str | None:
    """Why chance-corrected figures of a table are NaN; None where alpha is defined."""
    counts = _counts(found)
    counts = counts[counts.sum(1) > 1]
    if not len(counts):
        return "no unit has two ratings"
    return "all ratings have the same value, so chance would agree as well" if (counts.sum(0) > 0).sum() == 1 else None


def _counts(found: np.ndarray) -> np.ndarray:
    """(units, values): how many raters gave each value."""
    number = int(found.max(initial=-1)) + 1
    return np.stack([(found == v).sum(0) for v in range(number)], axis=1) if number else np.zeros((found.shape[1], 1), dtype=np.int64)


def _sums(times: np.ndarray | None, each: np.ndarray) -> Any:
    """Sums over units."""
    return each.sum(0, dtype=np.float64) if times is None else times.astype(np.float64) @ each


def _over(part: Any, whole: Any) -> Any:
    """NaN for 0 of 0."""
    with np.errstate(invalid="ignore"):
        return part / whole


def interval(figure: Callable[..., Any], found: np.ndarray, *, draws: int = 1000, seed: int = 0) -> tuple[float, float]:
    """95 % percentile interval of a figure by a bootstrap that draws units; draws in which it is not defined are left out."""
    if not found.shape[1]:
        return NAN, NAN
    kinds, many = np.unique(found, axis=1, return_counts=True)
    each = figure(kinds, np.random.default_rng(seed).multinomial(many.sum(), many / many.sum(), size=draws))
    each = each[~np.isnan(each)]
    if not len(each):
        return NAN, NAN
    low, high = np.percentile(each, (2.5, 97.5))
    return float(low), float(high)


# ---- summaries


def summary(ratings: Sequence[Rating], *, draws: int = 1000) -> dict[str, Any]:
    """Raw agreement and alpha with intervals, Fleiss' kappa where it is defined, units, raters and the share of "cannot judge".

    `undefined` says why alpha is NaN.
    """
    found, units, raters, _ = table(ratings)
    overlap = int(((found >= 0).sum(0) > 1).sum())
    try:
        kappa = fleiss(found[:, (found >= 0).any(0)])
    except DataError:
        kappa = NAN
    missing = sum(r.value is None for r in ratings)
    return {
        "units": len(units), "overlapping": overlap, "raters": len(raters), "ratings": len(ratings),
        "cannot_judge": missing / len(ratings) if ratings else NAN,
        "raw": _spanned(raw, found, draws), "alpha": _spanned(alpha, found, draws),
        "fleiss": kappa, "undefined": undefined(found),
    }  # fmt: skip


def _spanned(figure: Callable[..., Any], found: np.ndarray, draws: int) -> dict[str, float]:
    low, high = interval(figure, found, draws=draws)
    return {"value": float(figure(found)), "low": low, "high": high}


def by_criterion(ratings: Sequence[Rating], *, draws: int = 1000) -> dict[str, dict[str, Any]]:
    """The summary of each criterion."""
    return {c: summary([r for r in ratings if r.criterion == c], draws=draws) for c in sorted({r.criterion for r in ratings})}


def by_suggestion(ratings: Sequence[Rating], *, draws: int = 1000) -> dict[str, dict[str, dict[str, Any]]]:
    """For each criterion with ratings of both kinds, the summaries of those made `with` a suggestion shown and `without`.

    `followed` is the share of the votes with a suggestion that are the suggested label.
    """
    out = {}
    for criterion in sorted({r.criterion for r in ratings}):
        own = [r for r in ratings if r.criterion == criterion]
        shown, bare = [r for r in own if r.suggestion is not None], [r for r in own if r.suggestion is None]
        if shown and bare:
            votes = [r.value == r.suggestion for r in shown if r.value is not None]
            followed = {"followed": sum(votes) / len(votes) if votes else NAN}
            out[criterion] = {"with": summary(shown, draws=draws) | followed, "without": summary(bare, draws=draws)}
    return out


def by_pair(ratings: Sequence[Rating], *, draws: int = 1000) -> list[dict[str, Any]]:
    """For each two raters with units in common: how many, the share on which they agree, and Cohen's kappa, with intervals."""
    found, _, raters, _ = table(ratings)
    out = []
    for i in range(len(raters)):
        for j in range(i + 1, len(raters)):
            two = found[[i, j]]
            two = two[:, (two >= 0).all(0)]
            if many := two.shape[1]:
                figures = {"raw": _spanned(raw, two, draws), "kappa": _spanned(cohen, two, draws)}
                out.append({"raters": (raters[i], raters[j]), "units": many, **figures})
    return out


def by_rater(ratings: Sequence[Rating]) -> dict[str, dict[str, Any]]:
    """For each rater: ratings, the share of "cannot judge", and the share of others' ratings of the same units that agree."""
    found, _, raters, _ = table(ratings)
    counts, out = _counts(found), {}
    for i, name in enumerate(raters):
        mine = found[i] >= 0
        others = (counts.sum(1) - 1)[mine]
        alike = counts[mine, found[i][mine]] - 1
        own = [r for r in ratings if r.rater == name]
        out[name] = {
            "ratings": len(own), "cannot_judge": sum(r.value is None for r in own) / len(own),
            "agree": float(alike.sum() / others.sum()) if others.sum() else NAN,
        }  # fmt: skip
    return out


def over_time(ratings: Sequence[Rating], days: int = 7, *, draws: int = 1000) -> list[dict[str, Any]]:
    """Raw agreement and alpha, with intervals, of the units whose last rating fell into each stretch of so many days, UTC; empty ones
    are left out."""
    known = [(r, r.at) for r in ratings if r.at is not None]
    if not known:
        return []
    last: dict[Hashable, datetime.datetime] = {}
    for r, at in known:
        key = (r.criterion, r.unit)
        last[key] = max(last.get(key, at), at)
    first = min(last.values()).astimezone(datetime.UTC).date()
    groups: dict[int, list[Rating]] = {}
    for r, _ in known:
        day = (last[r.criterion, r.unit].astimezone(datetime.UTC).date() - first).days
        groups.setdefault(day // days, []).append(r)
    out = []
    for number, own in sorted(groups.items()):
        found, units, _, _ = table(own)
        start = first + datetime.timedelta(days=number * days)
        figures = {"raw": _spanned(raw, found, draws), "alpha": _spanned(alpha, found, draws)}
        out.append({"from": start.isoformat(), "units": len(units), **figures})
    return out


def disagreements(ratings: Sequence[Rating]) -> list[dict[str, Any]]:
    """Units on which raters differ, the most evenly split first: who said what, and who could not judge."""
    groups: dict[tuple[str, Hashable], list[Rating]] = {}
    for r in ratings:
        groups.setdefault((r.criterion, r.unit), []).append(r)
    out = []
    for (criterion, unit), own in groups.items():
        said = Counter(r.value for r in own if r.value is not None)
        if len(said) > 1:
            shares = np.array(list(said.values())) / said.total()
            words = {r.rater: r.value for r in sorted(own, key=lambda r: r.rater)}
            out.append({"unit": unit, "criterion": criterion, "said": words, "split": float(1 - (shares**2).sum())})
    return sorted(out, key=lambda d: -d["split"])
