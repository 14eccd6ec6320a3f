"""Points of a search, chosen by Optuna's samplers from what is finished; which cells there are and who runs them is ours."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .. import config
from ..errors import MissingExtra
from ..report import words
from ..seeds import stream
from .cells import Ask
from .plan import Plan, Point
from .tables import CellRow


def score(rows: Sequence[CellRow]) -> float | None:
    """A trial's mean score on dev over its seeds; None while one of them is not done."""
    each = [dev_score(r.result) for r in rows if r.result]
    return float(np.mean(each)) if len(each) == len(rows) and all(r.state == "done" for r in rows) else None


def dev_score(result: Mapping[str, Any]) -> float:
    """A cell's score on dev by the metric that selects; NaN where its training never looked."""
    return float((result["dev"] or {}).get(result["metric"], "nan"))


def asker(plan: Plan) -> Ask:
    """What chooses the next trial's point. Raises MissingExtra without Optuna."""
    try:
        import optuna
    except ModuleNotFoundError:
        raise MissingExtra("a search", "study") from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    search, space = plan.study.search, _space(plan)
    assert search is not None

    def ask(rows: Sequence[CellRow]) -> tuple[Point, Mapping[int, Mapping[str, Any]]]:
        trials = [[r for r in rows if r.trial == n] for n in range(search.trials)]
        number = next(n for n, own in enumerate(trials) if own[0].point is None)
        seed = stream(search.seed, "trial", number) % 2**32
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            sampler: Any = optuna.samplers.RandomSampler(seed=seed)
            if search.sampler == "tpe":
                sampler = optuna.samplers.TPESampler(seed=seed, multivariate=True, constant_liar=True)
        less = any(r.result and r.result["metric"] in words.LESS for r in rows)
        study = optuna.create_study(sampler=sampler, direction="minimize" if less else "maximize")
        study.add_trials([_told(own, space) for own in trials if own[0].point is not None])
        chosen = study.ask(space).params
        made = {s: config.dump(plan.recipe(chosen, s)) for s in plan.study.seeds}
        return chosen, made

    return ask


def _space(plan: Plan) -> dict[str, Any]:
    """The axes as Optuna has them."""
    from optuna import distributions

    out: dict[str, Any] = {}
    for name, axis in plan.axes.items():
        if not axis.range:
            out[name] = distributions.CategoricalDistribution(axis.values)
        else:
            kind = distributions.IntDistribution if axis.range.get("whole") else distributions.FloatDistribution
            out[name] = kind(axis.range["low"], axis.range["high"], log=bool(axis.range.get("log")))
    return out


def _told(rows: Sequence[CellRow], space: dict[str, Any]) -> Any:
    """A trial as Optuna has it: with its score, running, or failed."""
    from optuna.trial import TrialState, create_trial

    value = score(rows)
    failed = any(r.state == "failed" for r in rows)
    state = TrialState.COMPLETE if value is not None else TrialState.FAIL if failed else TrialState.RUNNING
    return create_trial(state=state, params=rows[0].point, distributions=space, value=value)
