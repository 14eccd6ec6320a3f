"""Rules that choose which layers echo which, and by which heads.

Source: EchoAtt, arXiv:2409.14595, section 3 and table 6 (`paper`), LazyFormer, arXiv:2102.12702 (`blocks`). `dynamic` and
`greedy` are ours. `drop` takes the attention itself away: LLM-Drop, arXiv:2406.15786, section 3.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ..errors import ConfigError
from ..find import near
from ..models.plan import OWN, Plan, of_pairs
from .analysis import Analysis
from .meter import Meter

RULES = ("dynamic", "greedy", "paper", "blocks", "drop")
Pairs = dict[int, int]
"""Echoing layer -> source."""
BLOCK, TRIALS = 2, 120
"""What rules take where nothing is said: layers of a block, and the most plans that are measured."""


def number_of(share: float, layers: int) -> int:
    """How many of so many layers a share is, to the nearest; raises ConfigError where that is none, or leaves no source."""
    count = round(share * layers)
    if not 1 <= count < layers:
        what = "leaves no layer to echo from" if count else "lets no layer echo"
        raise ConfigError(f"share: {share:g} of {layers} layers {what}; take another share")
    return count


def make(
    rule: str,
    analysis: Analysis,
    config: Any,
    *,
    share: float | None = None,
    block: int | None = None,
    head_maps: bool | None = None,
    meter: Meter | None = None,
    trials: int | None = None,
    advance: Callable[[int], None] = lambda n: None,
) -> Plan:
    """A plan by one of RULES for a share of all layers.

    `head_maps` lets heads echo the head that fits them best; the default is what the rule's source does (not `paper` and
    `blocks`). `paper` takes the layers that it ranks first, without a share those above the largest gap that leaves the others at
    the ends. `blocks` cuts the layers above that gap in blocks of `block` layers. `greedy` needs a `meter` and measures at most
    `trials` plans. `drop` lets the layers whose attention changes hidden states least do without it, and no layer echoes. Where
    `block` or `trials` is None it is BLOCK or TRIALS.
    Raises ConfigError for a share that leaves no source, and for a rule that cannot reach it.
    """
    foresee(rule, share=share, block=block, trials=trials, head_maps=head_maps)
    block = block or BLOCK
    layers = analysis.layers
    if analysis.heads.shape[-1] != config.num_attention_heads or layers != config.num_hidden_layers:
        raise ConfigError("analysis: is of a model of another shape; analyse this one")
    if rule == "drop":
        assert share is not None
        gone = set(idlest(analysis.idle[0], number_of(share, layers)))
        entries = tuple({"kind": "none"} if i in gone else OWN for i in range(layers))
        return Plan(entries, config.num_attention_heads, config.num_key_value_heads, {"rule": rule, "share": share})
    maps = rule in ("dynamic", "greedy") if head_maps is None else head_maps
    choose = Heads(analysis) if maps else None
    if rule == "blocks":
        pairs = blocks(analysis.scores, block)
    elif rule == "paper":
        pairs = ranked(analysis.scores, None if share is None else number_of(share, layers), config.layer_types)
    else:
        assert share is not None
        costs = choose.costs() if choose else identity_costs(analysis)
        pairs = dynamic(costs, number_of(share, layers), analysis.distance)
        if rule == "greedy":
            if meter is None:
                raise ConfigError("rule: greedy measures losses and needs text; give --data")
            pairs = greedy(pairs, costs, choose, meter, config, trials or TRIALS, advance)
    about = {"rule": rule, "share": share, "head_maps": maps} | ({"block": block} if rule == "blocks" else {})
    return with_heads(pairs, choose, config, about)


def foresee(rule: str, *, share: float | None, block: int | None, trials: int | None, head_maps: bool | None) -> None:
    """Refuse what neither model nor analysis can help; raises ConfigError."""
    if rule not in RULES:
        raise ConfigError(f"rule: no rule '{rule}'{near(rule, RULES)} ({', '.join(RULES)}, or explicit pairs)")
    if rule == "drop" and head_maps is not None:
        raise ConfigError("head_maps: has no effect on rule drop, whose layers echo nothing; leave it out")
    for name, value, least, owner in (("block", block, 2, "blocks"), ("trials", trials, 1, "greedy")):
        if value is not None and rule != owner:
            raise ConfigError(f"{name}: has an effect on rule {owner} alone, not on {rule}; leave it out")
        if value is not None and value < least:
            raise ConfigError(f"{name}: must be {least} or more; got {value}")
    if rule == "blocks" and share is not None:
        raise ConfigError("share: has no effect on rule blocks, set block")
    if share is None and rule not in ("blocks", "paper"):
        raise ConfigError(f"share: rule {rule} needs one, such as 0.4")
    if share is not None and not 0 < share < 1:
        raise ConfigError(f"share: must lie between 0 and 1; got {share:g}")


def with_heads(pairs: Mapping[int, int], choose: Heads | None, config: Any, about: Mapping[str, Any] | None = None) -> Plan:
    """The plan of these pairs, each echo with the head map that fits it best, or without maps."""
    return of_pairs({j: (i, choose.best(i, j)[1]) if choose else i for j, i in sorted(pairs.items())}, config, about)


def idlest(idle: np.ndarray, count: int) -> list[int]:
    """The `count` layers of the highest cosine before and after, by number."""
    return sorted(int(i) for i in np.argsort(-idle, kind="stable")[:count])


# ---- the paper's rule


def above_gap(scores: np.ndarray) -> range:
    """The layers on the high side of the largest gap between sorted scores that leaves the low side at the model's ends.

    They are neighbours, two or more. Raises ConfigError where no gap does so.
    """
    order = np.argsort(-scores, kind="stable")
    sides = [order[:size] for size in range(2, len(order))]
    fit = [side for side in sides if side.max() - side.min() == len(side) - 1]
    if not fit:
        raise ConfigError("rule: no gap between the layers' similarities leaves the unchanged ones at the ends; take a share, or dynamic")
    found = max(fit, key=lambda side: scores[side[-1]] - scores[order[len(side)]])
    return range(int(found.min()), int(found.max()) + 1)


def ranked(scores: np.ndarray, count: int | None, types: list[str] | None = None) -> Pairs:
    """The layers of the highest scores echo, each the nearest earlier layer that does not (of its type of attention).

    Without a count, the layers above the largest gap that leaves the others at the ends. Layer 0 has nothing to echo and is passed over.
    """
    if count is None:
        return _nearest({i for i in above_gap(scores) if i > 0}, types)
    return _nearest({int(i) for i in [i for i in np.argsort(-scores, kind="stable") if i > 0][:count]}, types)


def _nearest(echoes: set[int], types: list[str] | None = None) -> Pairs:
    out = {}
    for layer in sorted(echoes):
        fits = (i for i in range(layer - 1, -1, -1) if i not in echoes and (types is None or types[i] == types[layer]))
        source = next(fits, None)
        if source is None:
            raise ConfigError(f"plan: layer {layer} has no earlier layer of its type of attention to echo; take a smaller share")
        out[layer] = source
    return out


def blocks(scores: np.ndarray, size: int) -> Pairs:
    """Every `size` consecutive layers share the map of the first, among the layers above the largest gap that leaves others at the ends."""
    above = above_gap(scores)
    return {i: above[0] + (i - above[0]) // size * size for i in above if (i - above[0]) % size}


# ---- what an echo changes, and the best heads for it


def identity_costs(analysis: Analysis) -> np.ndarray:
    """(layers, layers): the relative change where each head echoes the head of its own number, at [source, echo]."""
    return np.where(np.isnan(analysis.errors[..., 0, 0]), np.inf, np.einsum("abhh->ab", np.nan_to_num(analysis.errors)))


class Heads:
    """The best head map of each pair of layers, found once."""

    def __init__(self, analysis: Analysis):
        self.analysis = analysis
        self._known: dict[tuple[int, int], tuple[float, list[int]]] = {}

    def best(self, source: int, echo: int) -> tuple[float, list[int]]:
        """The relative change of the best map found, and the map: echo head -> source head.

        With a joint table heads are exchanged one by one while their summed change falls, from each head's own best; else
        each head takes its own best.  Pairs farther apart than the analysis looked take the most similar heads.
        """
        if (source, echo) not in self._known:
            self._known[source, echo] = self._find(source, echo)
        return self._known[source, echo]

    def costs(self) -> np.ndarray:
        """(layers, layers): the relative change by the best maps, at [source, echo]; inf where a source cannot stand."""
        errors = self.analysis.errors[..., 0, 0]
        out = np.full(errors.shape, np.inf)
        for source, echo in zip(*np.nonzero(~np.isnan(errors)), strict=True):
            out[source, echo] = self.best(int(source), int(echo))[0]
        return out

    def _find(self, source: int, echo: int) -> tuple[float, list[int]]:
        table = self.analysis.errors[source, echo]
        if np.isnan(table[0, 0]):
            return math.inf, [int(g) for g in self.analysis.heads[source, echo].argmax(0)]
        picked = [int(g) for g in table.argmin(1)]
        if self.analysis.joint is None:
            return float(table.min(1).sum()), picked
        return _exchange(self.analysis.joint[echo, echo - source - 1], picked)


def _exchange(table: np.ndarray, picked: list[int]) -> tuple[float, list[int]]:
    """Exchange one head at a time while the summed change falls."""
    heads = len(picked)
    places = np.arange(heads) * heads

    def change(choice: list[int]) -> float:
        at = places + choice
        return float(table[np.ix_(at, at)].sum())

    best, better = change(picked), True
    while better:
        better = False
        for head, other in itertools.product(range(heads), range(heads)):
            tried = [*picked[:head], other, *picked[head + 1 :]]
            if (found := change(tried)) < best - 1e-9:
                best, picked, better = found, tried, True
    return best, picked


# ---- dynamic programming


def dynamic(costs: np.ndarray, count: int, distance: int) -> Pairs:
    """The `count` echoes of the least summed cost, each source an earlier layer that does not echo, at most `distance` back.

    Exact: the state is which of the last `distance` layers attend by themselves, and how many echo so far.
    """
    layers = len(costs)
    full = (1 << distance) - 1
    states: dict[tuple[int, int], tuple[float, tuple[tuple[int, int], ...]]] = {(1, 0): (0.0, ())}
    for layer in range(1, layers):
        then: dict[tuple[int, int], tuple[float, tuple[tuple[int, int], ...]]] = {}
        for (recent, made), (cost, pairs) in states.items():
            options = [((recent << 1 | 1) & full, made, cost, pairs)]
            sources = [layer - 1 - back for back in range(min(distance, layer)) if recent >> back & 1]
            if made < count and sources:
                source = min(sources, key=lambda i: costs[i, layer])
                if math.isfinite(costs[source, layer]):
                    options.append((recent << 1 & full, made + 1, cost + costs[source, layer], (*pairs, (layer, source))))
            for key_recent, key_made, value, way in options:
                key = (key_recent, key_made)
                if key not in then or value < then[key][0]:
                    then[key] = (value, way)
        states = then
    ends = [(cost, pairs) for (_, made), (cost, pairs) in states.items() if made == count]
    if not ends:
        what = f"{count} of {layers} layers cannot echo a source at most {distance} layers back"
        raise ConfigError(f"share: {what}; analyse with a larger distance")
    return dict(min(ends)[1])


# ---- by measured loss


TRIED = 6
"""Exchanges measured in a round before it counts as failed."""


def greedy(
    pairs: Pairs, costs: np.ndarray, choose: Heads | None, meter: Meter, config: Any, trials: int, advance: Callable[[int], None]
) -> Pairs:
    """From a plan, exchange one echo for another while the measured loss falls, until about `trials` plans have been measured.

    A round measures the loss without each echo in turn, and with each other layer as one more echo; then it measures the
    exchanges that promise most, the sum of the two, and takes the first that is better.
    """

    def loss(of: Pairs, keep: bool = False) -> float:
        advance(1)
        spent.append(1)
        return meter.loss(with_heads(of, choose, config).attention, keep=keep)

    spent: list[int] = []
    best = loss(pairs, keep=True)
    while len(spent) + len(costs) <= trials:
        without = {gone: loss({j: i for j, i in pairs.items() if j != gone}) for gone in pairs}
        more = {new: loss(tried) for new in range(1, len(costs)) if new not in pairs and (tried := _moved({*pairs, new}, pairs, costs))}
        order = sorted(itertools.product(without, more), key=lambda two: without[two[0]] + more[two[1]])
        for gone, new in order[:TRIED]:
            tried = _moved({*pairs, new} - {gone}, pairs, costs)
            if tried and loss(tried) < best:
                best, pairs = loss(tried, keep=True), tried
                break
        else:
            break
    return pairs


def _moved(echoes: set[int], pairs: Pairs, costs: np.ndarray) -> Pairs | None:
    """These echoes with the sources that they have, or where those are gone or were never, the best ones; None where one has none."""
    out = {}
    for layer in sorted(echoes):
        sources = [i for i in range(layer) if i not in echoes and math.isfinite(costs[i, layer])]
        if not sources:
            return None
        out[layer] = pairs[layer] if pairs.get(layer) in sources else min(sources, key=lambda i: costs[i, layer])
    return out
