"""From a recipe to a student, a record and a report."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import datetime
import functools
import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from .. import catalogue, config, records
from ..errors import ConfigError, TutelageError
from ..methods._method import Method
from ..models import anatomy, cost
from ..models.load import Loaded
from ..models.trust import trusting
from ..recipe import Recipe, Training
from ..rows import LAST_STATES
from . import account, fidelity, fits, judge
from .hire import Hire
from .machine import Machine
from .talk import Talk
from .teacher import Teacher
from .warm import Warm
from .workshop import Start, Trained, Workshop

DEFAULT_RUNS = "runs"


@dataclasses.dataclass(frozen=True)
class Result:
    """A finished distillation: its folder, its record, the student's folder, and the report's path."""

    folder: Path
    record: dict[str, Any]
    student: Path
    report: Path


def folder_of(recipe: Recipe, runs: str | Path) -> Path:
    """Where a recipe's run lives unless told otherwise: its name, method and seed, and a digest of all settings."""
    return Path(runs) / f"{recipe.name}-{config.kind_of(recipe.method)}-{recipe.seed}-{records.digest(_deciding(config.dump(recipe)))[:8]}"


def _deciding(tree: dict[str, Any]) -> dict[str, Any]:
    """The settings that decide what comes out; the others may change when a run is taken up again."""
    return {k: v for k, v in tree.items() if k not in ("autosave", "trackers", "measure")}


def distill(
    recipe: str | Path | dict[str, Any] | Recipe,
    changes: Iterable[str] = (),
    *,
    out: str | Path | None = None,
    store: str | Path | None = None,
    talk: Talk | None = None,
    on_step: Any = lambda state: None,
) -> Result:
    """Carry out one recipe: teacher, students, test, record and report; resume it where it was interrupted.

    `recipe` is a YAML file, the name of a recipe that comes along, a tree of plain values, or settings; `changes` are
    `key=value` texts. `out` is the run's folder (default `runs/NAME-METHOD-SEED-DIGEST`), `store` keeps what runs share,
    teachers, students and signals (default `store` beside the run, or TUTELAGE_STORE). Raises a TutelageError for
    every fault a user can mend.
    """
    made = catalogue.load(recipe, changes)
    folder = Path(out) if out else folder_of(made, DEFAULT_RUNS)
    place = Path(store or os.environ.get("TUTELAGE_STORE") or folder.parent / "store")
    trackers = made.trackers
    machine = Machine(made.threads, trackers, folder)
    talk = talk if talk and machine.main else Talk()
    with records.locked(folder) if machine.main else contextlib.nullcontext(), trusting((*made.trusted, str(place))):
        if (finished := machine.broadcast(_finished(folder, made, talk) if machine.main else None)) is not None:
            talk.say(f"{folder}: this recipe has run to its end; remove the folder to run it again")
            return finished
        begun = folder / "recipe.yaml"
        new = not begun.exists()
        made = _with_threads(made, machine, begun)
        run = Run(made, place, machine, talk, on_step)
        if machine.main:
            records.write(begun, config.text(made))
        if trackers:
            machine.accelerator.init_trackers(made.name, config=_flat(config.dump(made)))
        try:
            record = _carry_out(run, folder)
        except TutelageError:
            if new and machine.main:
                begun.unlink()  # the settings must change, so the folder is not theirs; what was trained is in the store
            raise
        machine.end_tracking()
        machine.wait()
        return _result(folder, record)


def _with_threads(recipe: Recipe, machine: Machine, begun: Path) -> Recipe:
    """Return the recipe with its number of threads: one that was chosen by default stays as the run began with it.

    Sums over another number of threads differ in their last digits, so that a resumed run would end in other weights.
    """
    if recipe.threads is None:
        known = None
        with contextlib.suppress(ConfigError):  # damaged settings are written anew
            known = config.read(begun).get("threads") if machine.main and begun.exists() else None
        machine.use_threads(machine.broadcast(known) or machine.threads)
    return dataclasses.replace(recipe, threads=machine.threads)


def _finished(folder: Path, recipe: Recipe, talk: Talk) -> Result | None:
    """The run's result if it is there and whole; ConfigError if the folder holds a run of other settings."""
    record, begun, wanted = records.sealed(folder / "record.json"), folder / "recipe.yaml", _deciding(config.dump(recipe))
    before = record["recipe"] if record else None
    try:
        before = config.read(begun) if begun.exists() else before
    except ConfigError:
        if record is None:
            why = "its recipe.yaml is damaged, so that nobody knows whose run it holds"
            raise ConfigError(f"{folder}: {why}; remove the folder (what was trained is in the store) or name another with --out") from None
    if before is None:
        if folder.exists() and any(p.name[0] != "." for p in folder.iterdir()):
            raise ConfigError(f"{folder}: is not empty and not a run's folder; name another one with --out")
        return None
    if recipe.threads is None:
        before = before | {"threads": None}
    if changed := config.difference(_deciding(before), wanted):
        raise ConfigError(
            f"{folder}: holds a run of other settings ({'; '.join(changed[:3])}); name another folder with --out or remove it"
        )
    harm = "record.json" if record is None and (folder / "record.json").exists() else account.harm(folder, record) if record else ""
    if harm:
        talk.say(f"{folder / harm}: is damaged or gone; the run is carried out again, and takes from the store what it holds")
    return _result(folder, record) if record and not harm else None


def _result(folder: Path, record: dict[str, Any]) -> Result:
    return Result(folder, record, folder / "student", folder / "report.html")


def _carry_out(run: Run, folder: Path) -> dict[str, Any]:
    """Everything in order; returns the record."""
    began = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    examples = run.examples()
    if run.recipe.measure and run.machine.main:
        run.measure()
    record = account.record(run.shop, run.models, examples, run.teacher, began, run.times())
    if run.machine.main:
        account.write(folder, record, examples, run.data, run.loaded[list(run.models)[-1]])
    return record


class Run:
    """One recipe's models, trained and tested; `warm` lends what earlier runs of this process know."""

    def __init__(self, recipe: Recipe, store: Path, machine: Machine, talk: Talk, on_step: Any, warm: Warm | None = None):
        self.recipe, self.machine, self.talk, self.warm = recipe, machine, talk, warm or Warm()
        self.started, self.seconds = time.monotonic(), {"teacher": 0.0, "students": 0.0, "evaluation": 0.0, "measuring": 0.0}
        self.data = self.warm.data(recipe.task)
        for note in self.data.notes:
            talk.say(note)
        self.shop = Workshop(recipe, self.data, machine, talk, store, on_step, self.warm.encodings(recipe.task))
        self.models: dict[str, dict[str, Any]] = {}
        self.loaded: dict[str, Loaded] = {}
        self.teacher: Teacher | None = None
        self.students: list[Trained] = []
        """Every training of a student, those of the search among them."""

    def examples(self) -> dict[str, judge.Judged]:
        """Train everything in order and test it; returns what each model said of the test split."""
        recipe = self.recipe
        self._kinds()
        self._foresee()
        if recipe.teacher:
            self.teacher = self._teacher()
        for method in (*recipe.compare, recipe.method):
            self._student(method, self.teacher)
        return self._test()

    def times(self) -> dict[str, float]:
        """Seconds by what they went to."""
        return {**self.seconds, "signals": self.shop.cache.seconds, "total": time.monotonic() - self.started}

    @contextlib.contextmanager
    def _timed(self, what: str) -> Any:
        began = time.monotonic()
        yield
        self.seconds[what] += time.monotonic() - began

    def _kinds(self) -> None:
        """Settings that have no effect for this kind of labels."""
        given = self.recipe.teacher
        for name in ("top_k", "draws"):
            if getattr(self.recipe.signals, name) and LAST_STATES not in self.recipe.task.outputs:
                raise ConfigError(f"signals.{name}: keeps a few of a vocabulary's classes, and this task has no vocabulary; leave it out")
        if given and "token" in self.recipe.task.outputs.values():
            for name, wrong in (("probabilities", given.probabilities), ("average", given.average == "probabilities")):
                if wrong:
                    why = "needs one row of probabilities an example, and this task's outputs stand token by token"
                    raise ConfigError([(f"teacher.{name}", f"{why}; take models and the average of logits")])
        if given and given.average == "probabilities" and self.recipe.task.kind == "value":
            raise ConfigError("teacher.average: has no effect on a task of values, whose outputs are averaged as they are; leave it out")
        for i, method in enumerate((self.recipe.method, *self.recipe.compare)):
            where = f"compare[{i - 1}]" if i else "method"
            if self.recipe.task.kind == "value" and _other_number(method, "temperature"):
                raise ConfigError(
                    f"{where}.temperature: has no effect on a task of values, whose distance is the squared error; leave it out"
                )

    def _foresee(self) -> None:
        """Let every method look at its budget and models before anything is trained: what it refuses then costs nothing."""
        recipe, start = self.recipe, self._start(trained=False)
        if not recipe.search:
            recipe.train.rated(self._model, anatomy.width(start.model.config), "train")
        fits.try_out("student", start.model, self.shop.encoded(start.tokenizer, "train"), recipe.task)
        budgets = [recipe.train] + ([self._short(recipe.search.learning_rates[0])] if recipe.search else [])
        for method in (*recipe.compare, recipe.method):
            for training in budgets:
                self.shop.plan(method, start, training)

    # ---- teacher

    def _teacher(self) -> Teacher:
        """The recipe's teacher, fine-tuned where asked."""
        hire = Hire(self.shop)
        with self._timed("teacher"):
            teacher = hire.teacher()
        for key, (name, loaded, trained) in hire.members.items():
            self.loaded[key] = loaded
            self.models[key] = account.model(f"teacher ({Path(name).name})", "teacher", loaded, trained, None)
        return teacher

    # ---- students

    def _short(self, rate: float) -> Training:
        """How a candidate of the search is trained."""
        assert self.recipe.search
        return dataclasses.replace(self.recipe.train, learning_rate=rate, epochs=self.recipe.search.epochs, steps=None, tokens=None)

    @property
    def _model(self) -> str:
        """The name of the model that the student is, or is made from."""
        return self.recipe.student.model or str(self.recipe.teacher.model)  # type: ignore[union-attr]

    def _start(self, trained: bool = True) -> Start:
        """The student before training: the same for every method. `trained` False stands in where the teacher is not yet."""
        recipe, shop = self.recipe, self.shop
        if trained and recipe.student.start == "teacher" and recipe.teacher and recipe.teacher.train:
            loaded = self.loaded["teacher"]
            loaded = dataclasses.replace(loaded, model=copy.deepcopy(loaded.model).requires_grad_(True))
        else:
            loaded = shop.open(self._model, recipe.seed)
        return shop.cut(loaded.model, loaded.tokenizer, recipe.seed)

    def _student(self, method: Method, teacher: Teacher | None) -> None:
        """Search the rate where asked, then train one student by one method."""
        recipe, name = self.recipe, config.kind_of(method) or ""
        main, count = method is recipe.method, 1 + sum(k.rsplit("-", 1)[0] == name for k in self.models)
        key = name if main or (name != config.kind_of(recipe.method) and name not in self.models) else f"{name}-{count + 1}"
        with self._timed("students"):
            training = recipe.train
            tried: list[dict[str, Any]] = []
            if recipe.search:
                for rate in recipe.search.learning_rates:
                    found = self.shop.train(f"{key}, rate {rate:g}", method, self._start(), self._short(rate), recipe.seed, teacher)
                    self.students.append(found)
                    tried.append({"learning_rate": rate, "score": found.facts["score"]})
                best = max(tried, key=lambda t: t["score"])
                training = dataclasses.replace(training, learning_rate=best["learning_rate"])
                self.talk.say(
                    f"{key}: learning rate {best['learning_rate']:g} is best on dev of "
                    + ", ".join(f"{t['learning_rate']:g} ({t['score']:.4f})" for t in tried)
                )
            start = self._start()
            if not recipe.search:
                training, why = training.rated(self._model, anatomy.width(start.model.config), "train")
                if not self.students:
                    self.talk.say(f"students: {why}")
            trained = self.shop.train(key, method, start, training, recipe.seed, teacher)
            self.students.append(trained)
            self.shop.say_reused(key, trained)
            loaded = self.shop.open(str(trained.model), recipe.seed) if trained.reused else Loaded(start.model, start.tokenizer, False)
            loaded.model.to(self.machine.device).eval().requires_grad_(False)
        self.loaded[key] = loaded
        title = f"student ({key})" if main or method.uses_teacher else f"student without a teacher ({key})"
        self.models[key] = account.model(title, "student" if main else "baseline", loaded, trained, method)
        if tried:
            self.models[key]["search"] = tried

    # ---- proof

    def _test(self) -> dict[str, judge.Judged]:
        """Look at the test split, once, with every model."""
        out: dict[str, judge.Judged] = {}
        if "test" not in self.data.splits:
            return out
        with self._timed("evaluation"):
            dtype = self.machine.precision(self.recipe.train.precision)
            for key, loaded in self.loaded.items():
                judged = functools.partial(self._judged, loaded, dtype)
                shared = self.models[key]["role"] == "teacher"
                out[key] = self.warm.judged(self.recipe.task, self.models[key]["weights"], dtype, judged) if shared else judged()
                self.models[key]["test"] = out[key].facts
            if self.teacher:
                encoded = {key: self.shop.encoded(loaded.tokenizer, "test") for key, loaded in self.loaded.items()}
                teachers = [key for key in out if self.models[key]["role"] == "teacher"]
                outputs = {key: judged.raw for key, judged in out.items()}
                for key, found in fidelity.of_students(self.recipe.task, outputs, encoded, teachers, self.teacher).items():
                    self.models[key]["fidelity"] = found
        return out

    def _judged(self, loaded: Loaded, dtype: torch.dtype) -> judge.Judged:
        dev = self.shop.encoded(loaded.tokenizer, "dev") if self.recipe.task.calibrates else None
        return judge.on(loaded.model, self.shop.encoded(loaded.tokenizer, "test"), self.recipe.task, self.machine, dtype, dev=dev)

    def measure(self) -> None:
        """Time every model in turn."""
        with self._timed("measuring"):
            dtype = self.machine.precision(self.recipe.train.precision)
            models = {k: v.model for k, v in self.loaded.items()}
            timed = cost.latency(models, rows=(1, 32), seconds=1.5, autocast=lambda: self.machine.autocast(dtype))
            for key, latency in timed.items():
                self.models[key]["latency"] = latency


def _other_number(method: Method, name: str) -> bool:
    """Whether a setting of that name is a number and not the default."""
    value = getattr(method, name, None)
    return isinstance(value, int | float) and value != getattr(type(method), name, None)


def _flat(tree: Any, path: str = "") -> dict[str, Any]:
    """A tree as `a.b: value`, the form that trackers take."""
    if isinstance(tree, dict):
        return {k: v for key, one in tree.items() for k, v in _flat(one, f"{path}.{key}" if path else key).items()}
    return {path: tree if isinstance(tree, str | int | float | bool) else str(tree)}
