"""What a study file says: a base recipe, axes, seeds, skips and claims; its cells, and its hash. Imports no torch."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from .. import catalogue, config, records
from .. import recipe as recipes
from ..config import Positive, settings
from ..errors import ConfigError
from ..find import near
from ..recipe import Recipe
from ..robustness import suites
from .axes import Axis, label

FIXED: dict[str, Any] = {"compare": [], "trackers": [], "measure": False}
"""Settings of the base that a study leaves out: its cells train one student each, and it compares them itself."""
Point = dict[str, Any]
"""A value of each axis: its name, or in a range the number."""


@settings
class Claim:
    """A statement on one axis that the study's results are held against."""

    name: str
    """The statement in words."""
    kind: Literal["gain", "equivalent", "models"] = "gain"
    """gain: better than `against`; equivalent: the difference lies within `margin`; models: two models of one seed (McNemar)."""
    axis: str = "method"
    """The axis whose values are compared."""
    values: tuple[Any, ...] = ()
    """The values that are compared with `against`, each; empty takes all others."""
    against: Any
    """The value that they are compared with."""
    where: dict[str, Any] | None = None
    """Values of other axes that it is about; null takes all, each point a comparison of its own."""
    suite: str | None = None
    """A suite of `robustness` that it is about; null takes the students' own test part."""
    margin: Positive | None = None
    """Kind equivalent: the largest difference that does not matter, in the metric's own unit (0.01 is a point of accuracy)."""
    seed: int | None = None
    """Kind models: the seed of the two models."""

    def faults(self) -> Iterator[tuple[str, str]]:
        for field, kind in (("margin", "equivalent"), ("seed", "models")):
            given = getattr(self, field) is not None
            if given != (self.kind == kind):
                yield field, f"has no effect for kind {self.kind}; leave it out" if given else f"is required for kind {kind}"
        if self.suite and self.kind == "models":
            yield "suite", "has no effect for kind models, which is about the own test part; leave it out"


@settings
class Searching:
    """A search instead of a grid: axes are the space, dev decides."""

    trials: Annotated[int, Field(ge=1, le=100_000)]
    """Points to try; each trains a student for every seed."""
    sampler: Literal["tpe", "random"] = "tpe"
    """tpe learns from the trials that are finished, so what it tries depends on their order; random does not."""
    seed: int = 0
    """Of the sampler."""


@settings
class Study:
    """A grid of recipes, or a search among them, each run with every seed."""

    name: str
    """Names the study in its storage and its folder; a file's own name unless given."""
    base: Any
    """The recipe that axes change: settings, a file beside the study's, or the name of one that comes along."""
    axes: dict[str, Any]
    """By axis: a list of values for the recipe's key of that name; or names, each with settings of its own; or in a search a range."""
    seeds: Annotated[tuple[int, ...], Field(min_length=1)] = (1, 2, 3, 4, 5)
    """Each cell's recipe seed."""
    skip: tuple[dict[str, Any], ...] = ()
    """A value or a list of values by axis; cells that have all of an entry's are left out."""
    claims: Annotated[tuple[Any, ...], Field()] = ()
    """Statements that are held against the results; no part of what identifies the study."""
    robustness: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Suites of `tutelage robustness` that each student is tried on, with changes of their settings: `words: {attack.queries: 100}`."""
    search: Searching | None = None
    """Search the axes instead of laying them out."""
    level: Annotated[float, Field(gt=0, lt=0.5)] = 0.05
    """Of the tests; intervals cover 1 - level."""
    lease: Annotated[float, Field(ge=1)] = 120.0
    """Seconds without a sign of life after which a worker's cell is another's."""
    keep: bool = False
    """Keep students' weights in the store, so that other studies find them again; else they go once their result is kept."""

    def faults(self) -> Iterator[tuple[str, str]]:
        if why := config.unfit_name(self.name):
            yield "name", why
        if len(set(self.seeds)) < len(self.seeds):
            yield "seeds", "holds a seed twice; leave one out"
        if self.search and (self.claims or self.skip):
            yield "search", "has no effect beside claims and skip, which are of grids; leave them out"


@dataclasses.dataclass(frozen=True)
class Cell:
    """One run of a study; without a point where a search has not chosen it yet."""

    number: int
    trial: int
    """Cells that differ in their seed alone have the same."""
    seed: int
    point: Point | None
    recipe: Recipe | None


class Plan:
    """A checked study: `cells` in order, and what identifies it."""

    def __init__(self, study: Study, base: Mapping[str, Any], source: str):
        self.study, self.base, self.source = study, base, source
        if not study.axes:
            raise ConfigError(f"{source}: axes: names none, so the grid is empty")
        self.suites = self._suites()
        self.axes = {name: Axis(name, given, bool(study.search), source) for name, given in study.axes.items()}
        self.claims: list[Claim] = [self._claim(i, tree) for i, tree in enumerate(study.claims)]
        for i, entry in enumerate(study.skip):
            self._known(f"skip[{i}]", entry)

    @functools.cached_property
    def cells(self) -> list[Cell]:
        """Every cell, seed by seed within a point. Raises ConfigError with every fault of their recipes."""
        if self.study.search:
            self._try_search()
            many = itertools.product(range(self.study.search.trials), self.study.seeds)
            return [Cell(i, trial, seed, None, None) for i, (trial, seed) in enumerate(many)]
        points = [p for p in self._grid() if not any(matches(p, s) for s in self.study.skip)]
        if not points:
            raise ConfigError(f"{self.source}: the grid is empty; every cell is skipped, or an axis has no values")
        out: list[Cell] = []
        faults: dict[tuple[str, str], None] = {}
        for trial, point in enumerate(points):
            try:
                made = [self.recipe(point, seed) for seed in self.study.seeds]
                self._fit(made[0])
            except ConfigError as fault:
                faults |= dict.fromkeys((self._blamed(path, point), what) for path, what in fault.faults)
                continue
            out += [Cell(len(out) + i, trial, r.seed, point, r) for i, r in enumerate(made)]
        if faults:
            raise ConfigError(list(faults), self.source)
        seen: dict[str, Point | None] = {}
        for cell in out:
            if (key := key_of(cell)) in seen:
                raise ConfigError(f"{self.source}: axes: {told(seen[key])} and {told(cell.point)} have the same settings; skip one of them")
            seen[key] = cell.point
        return out

    @property
    def definition(self) -> dict[str, Any]:
        """What may not change once the study began; workers, lease, level and claims may."""
        tree = config.dump(self.study)
        own = {k: tree[k] for k in ("axes", "seeds", "skip", "search")} | {"base": self.base}
        if self.suites:
            own["robustness"] = {suite.name: config.dump(suite) for suite in self.suites}
        return json.loads(json.dumps(own | {"recipes": records.digest([key_of(c) for c in self.cells])}))

    @property
    def hash(self) -> str:
        """A digest of the definition."""
        return records.digest(self.definition)

    def recipe(self, point: Point, seed: int) -> Recipe:
        """The recipe of a point and a seed."""
        tree = json.loads(json.dumps(self.base))
        for name, value in point.items():
            for key, setting in self.axes[name].settings(value).items():
                config.put(tree, key, setting, recipes.SHORTHAND)
        tree |= FIXED | {"name": self.study.name, "seed": seed, "threads": tree.get("threads") or 1}
        return _on_any_machine(recipes.load(tree))

    def _suites(self) -> list[suites.Suite]:
        """The suites of `robustness`, of which two kinds of setting are no part of a study."""
        try:
            found = suites.declared(self.study.robustness)
        except ConfigError as fault:
            raise ConfigError(fault.faults, self.source) from None
        for suite in found:
            where = f"{self.source}: robustness.{suite.name}"
            if suite.attack and suite.attack.by == "unified":
                raise ConfigError(f"{where}: pools the texts of all students; keep: true, and 'tutelage robustness' afterwards, do that")
            if suite.attack and suite.attack.seconds:
                raise ConfigError(f"{where}.attack.seconds: lets results depend on the machine; leave it out and lower queries or examples")
        return found

    def _fit(self, made: Recipe) -> None:
        """Raise ConfigError where suites are not for the students of a recipe."""
        for suite in self.suites:
            other = None if suites.labels_texts(made.task) else "is for tasks that give texts one label of several; leave it out"
            if why := other or suites.strange(suite, "the student", config.dump(made.task)):
                raise ConfigError([("robustness", why)])

    def _grid(self) -> Iterator[Point]:
        for values in itertools.product(*(axis.values for axis in self.axes.values())):
            yield dict(zip(self.axes, values, strict=True))

    def _try_search(self) -> None:
        """Build recipes at the ends of ranges and at every choice, so that faults show before anything runs."""
        ends = [axis.values or [axis.range["low"], axis.range["high"]] for axis in self.axes.values()]
        for values in itertools.zip_longest(*ends):
            point = {n: v if v is not None else e[0] for n, v, e in zip(self.axes, values, ends, strict=True)}
            try:
                self._fit(self.recipe(point, self.study.seeds[0]))
            except ConfigError as fault:
                raise ConfigError([(self._blamed(path, point), what) for path, what in fault.faults], self.source) from None

    def _blamed(self, path: str, point: Point) -> str:
        """A fault's path in the study file: the axis that set it, else the base."""
        for name, value in point.items():
            for key in self.axes[name].settings(value):
                if path == key or path.startswith((f"{key}.", f"{key}[")):
                    return f"axes.{name}" + ("" if name == key else f".{value}.{key}")
        return path if path == "robustness" else f"base.{path}" if path else "base"

    def _claim(self, number: int, tree: Any) -> Claim:
        where = f"claims[{number}]"
        try:
            made = config.build(Claim, tree)
        except ConfigError as fault:
            raise ConfigError([(f"{where}.{path}" if path else where, what) for path, what in fault.faults], self.source) from None
        made = dataclasses.replace(made, against=label(made.against), values=_many(made.values))
        self._known(f"{where}.axis", {made.axis: (made.against, *made.values)})
        self._known(f"{where}.where", made.where or {})
        if made.axis in (made.where or {}):
            raise ConfigError(f"{self.source}: {where}.where: names the axis that is compared; use values")
        if made.suite and made.suite not in (known := [suite.name for suite in self.suites]):
            raise ConfigError(
                f"{self.source}: {where}.suite: robustness has no '{made.suite}'{near(made.suite, known)} ({', '.join(known)})"
            )
        if made.seed is not None and made.seed not in self.study.seeds:
            raise ConfigError(f"{self.source}: {where}.seed: {made.seed} is none of the study's seeds")
        return made

    def _known(self, where: str, given: Mapping[str, Any]) -> None:
        """Raise ConfigError for an axis or a value that there is not."""
        for axis, values in given.items():
            for what, value, known in [("", axis, list(self.axes)), *((f".{axis}", v, None) for v in _many(values))]:
                known = self.axes[axis].values if known is None else known
                if value not in known:
                    raise ConfigError(f"{self.source}: {where}{what}: no '{value}'{near(value, known)} ({', '.join(known)})")


def load(path: str | Path) -> Plan:
    """Read and check a study file, or a study that comes along by its name. Raises ConfigError with every fault at once."""
    file = Path(catalogue.study_file(str(path)))
    tree = {"name": file.stem, **config.read(file, "study")}
    study = config.build(Study, tree, str(path))
    base = study.base
    if isinstance(base, str):
        beside = file.parent / base
        base = config.read(beside if os.path.isfile(beside) else catalogue.recipe_file(base))
    if not isinstance(base, Mapping):
        raise ConfigError(f"{path}: base: is a recipe's settings, a file or a name; got {base!r}")
    if "seed" in study.axes:
        raise ConfigError(f"{path}: axes.seed: seeds are no axis; list them under seeds")
    made = Plan(study, base, str(path))
    assert made.cells
    return made


def _on_any_machine(made: Recipe) -> Recipe:
    """The recipe in float32 where it leaves the precision to the machine."""

    def settle(one: Any) -> Any:
        return dataclasses.replace(one, precision="float32") if one is not None and one.precision == "auto" else one

    teacher = made.teacher and dataclasses.replace(made.teacher, train=settle(made.teacher.train))
    return dataclasses.replace(made, train=settle(made.train), signals=settle(made.signals), teacher=teacher)


def key_of(cell: Cell) -> str:
    """A digest of all of a cell's settings; of its number where a search has not chosen them yet."""
    return records.digest(config.dump(cell.recipe) if cell.recipe else [cell.number, cell.seed])


def matches(point: Point, entry: Mapping[str, Any]) -> bool:
    """Whether a point has one of the values that an entry names, for each of its axes."""
    return all(point[axis] in _many(values) for axis, values in entry.items())


def told(point: Point | None) -> str:
    """A point in words: 'kd, pretrained'."""
    return ", ".join(label(v) for v in point.values()) if point else "not chosen yet"


def _many(values: Any) -> tuple[str, ...]:
    return tuple(map(label, values)) if isinstance(values, list | tuple) else (label(values),)
