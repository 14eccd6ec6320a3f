"""Where models are trained and found again: one role's training, named by everything that determines it."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from .. import records
from ..errors import ConfigError, ModelError
from ..methods._method import Facts, Method, Stage
from ..models import anatomy
from ..models.load import Loaded, model_digest, open_config, open_model, open_tokenizer, tokenizer_digest, weights_digest
from ..recipe import Recipe, Training
from ..rows import LAST_STATES
from ..seeds import stream
from ..tasks._task import Data, Encoded, Task
from . import course, fits, naming
from .checkpoint import ANCHOR, State
from .loop import LOG, Job, Loop
from .machine import Machine
from .roles import Roles, foresee
from .signals import Cache, Live
from .talk import Talk
from .teacher import Teacher, refuse

TRAINING = "training.json"
"""Says what a finished training came to, in the folder of its result."""


@dataclasses.dataclass
class Trained:
    """A finished training: its model's folder, its weights' digest, its facts, and whether it was found rather than made."""

    folder: Path
    weights: str
    facts: dict[str, Any]
    reused: bool

    @property
    def model(self) -> Path:
        """The trained model's folder."""
        return self.folder / "model"


@dataclasses.dataclass
class Start:
    """What a training starts from: a model, its tokenizer, and what its method may know of it."""

    model: Any
    tokenizer: Any
    kept_layers: tuple[int, ...] | None = None


class Workshop:
    """The task's data in every tokenizer's encoding, the store of trainings, and the store of signals."""

    def __init__(
        self, recipe: Recipe, data: Data, machine: Machine, talk: Talk, store: Path,
        on_step: Callable[[State], None] = lambda state: None, encodings: dict[tuple[str, str], Encoded] | None = None,
    ):  # fmt: skip
        self.recipe, self.data, self.machine, self.talk, self.store = recipe, data, machine, talk, store
        self.task: Task = recipe.task
        self.head = self.task.head(data)
        self.cache = Cache(store / "signals", machine, talk)
        self.on_step = on_step
        self.patience: float | None = None
        """Seconds to wait for a student's training that another process holds; None waits until it ends."""
        self.truncated: dict[str, int] = {}
        self._encoded: dict[tuple[str, str], Encoded] = {} if encodings is None else encodings
        self._vocabularies: dict[str, str] = {}

    # ---- data

    def encoded(self, tokenizer: Any, part: str) -> Encoded:
        """A part of the data as this tokenizer encodes it; 'train+transfer' has the unlabelled rows behind the others."""
        key = (self._rows_of(tokenizer), part)
        if key not in self._encoded:
            first, *more = [self.task.encode(self.data.splits[p], tokenizer) for p in part.split("+")]
            self._encoded[key] = functools.reduce(Encoded.join, more, first)
        own = self._encoded[key]
        if own.truncated and part not in self.truncated:
            self.truncated[part] = own.truncated
            self.talk.say(f"{part}: {self.task.cut(own)}")
        return own

    def _rows_of(self, tokenizer: Any) -> str:
        """What decides the rows that a tokenizer makes of a text: its definition, and where it cuts."""
        longest = min(getattr(self.task, "max_length", 0), getattr(tokenizer, "model_max_length", 0))
        return f"{tokenizer_digest(tokenizer)}/{longest}"

    def vocabulary(self, name: str) -> str:
        """What decides a model's rows (`_rows_of`), by the model's name or folder; read once."""
        if name not in self._vocabularies:
            self._vocabularies[name] = self._rows_of(open_tokenizer(name))
        return self._vocabularies[name]

    @property
    def taught(self) -> str:
        """The part that a teacher's students learn from."""
        return "train+transfer" if "transfer" in self.data.splits else "train"

    def say_reused(self, title: str, trained: Trained) -> None:
        """Tell the user where a training was found, not made."""
        if trained.reused:
            self.talk.say(f"{title}: trained before with the same settings, data and start; reused")

    # ---- starts

    def open(self, name: str, seed: int) -> Loaded:
        """A model by name or folder, its head fitted to the labels (a new one drawn from the seed)."""
        torch.manual_seed(stream(seed, "head"))
        loaded = open_model(name, self.head, auto=self.task.auto, labels=self.data.labels, text=self.task.tokenized)
        if LAST_STATES in self.task.outputs:
            anatomy.check_language_model(loaded.model)
        for note in loaded.notes:
            if note not in self.talk.notes:
                self.talk.say(note)
        return loaded

    def cut(self, model: Any, tokenizer: Any, seed: int) -> Start:
        """The recipe's surgeries on a model, in order."""
        own = self.recipe.student.model is not None
        kept = None if own else tuple(range(model.config.num_hidden_layers))
        before = sum(p.numel() for p in model.parameters())
        for i, surgery in enumerate(self.recipe.student.surgery):
            torch.manual_seed(stream(seed, "surgery", i))
            inner = surgery.kept(model.config.num_hidden_layers)
            kept = tuple(kept[j] for j in inner) if kept is not None and inner is not None else None
            model = surgery(model)
        if self.recipe.student.surgery and sum(p.numel() for p in model.parameters()) > before:
            raise ConfigError("student.surgery: the result has more parameters than what it was cut from; make it smaller")
        return Start(model, tokenizer, kept)

    # ---- trainings

    def train(
        self,
        title: str,
        method: Method,
        start: Start,
        training: Training,
        seed: int,
        teacher: Teacher | None = None,
        anchors: int = 0,
    ) -> Trained:
        """Train one role, or find the same training done before. Resumes what was interrupted.

        `anchors` checkpoints of the training are kept beside the result, the finished model being the last.
        """
        teacher = teacher if method.uses_teacher else None
        rows, facts = self.plan(method, start, training)
        dev = self.encoded(start.tokenizer, "dev")
        if anchors > facts.steps:
            raise ConfigError(f"teacher.checkpoints: {anchors} for {facts.steps} optimizer steps of the teacher's training; lower it")
        folder = self.store / "trainings" / naming.name_of(self, method, start, training, seed, rows, facts, teacher, anchors)
        patience = self.patience if method is self.recipe.method else None
        with records.room(folder, patience) if self.machine.main else contextlib.nullcontext(folder) as folder:
            known = self.machine.broadcast(self._found(folder / "result", title) if self.machine.main else None)
            reused = known is not None
            if not reused:
                models = Roles(self, method, facts, start, teacher, seed)
                job = Job(
                    title=title, method=method, task=self.task, training=training, seed=seed, facts=facts, models=models,
                    signals=self._signals(method, facts, start, teacher, models, rows), train=rows, dev=dev, folder=folder,
                    machine=self.machine, talk=self.talk, autosave=self.recipe.autosave, anchors=anchors, on_step=self.on_step,
                )  # fmt: skip
                self._run(job, start)
            self.machine.wait()
            known = known or records.sealed(folder / "result" / TRAINING)
        assert known is not None
        return Trained(folder / "result", known["weights"], known, reused)

    def _found(self, result: Path, title: str) -> dict[str, Any] | None:
        """What a finished training says, or None; a harmed one is said and removed."""
        if not result.exists():
            return None
        known = records.sealed(result / TRAINING)
        harmed = TRAINING if known is None else records.harmed(result, known["files"])
        if harmed:
            self.talk.say(f"{title}: was trained before, but {result / harmed} is damaged; it is trained again")
            shutil.rmtree(result, ignore_errors=True)
            return None
        return known

    def _signals(
        self, method: Method, facts: Facts, start: Start, teacher: Teacher | None, models: Roles, rows: Encoded
    ) -> Callable[[str, Stage], Any]:
        """What finds a frozen role's signals for a stage: the teacher's and its checkpoints', or another role's."""

        def signals(role: str, stage: Stage) -> Any:
            needs = method.needs(facts, stage.name)
            if role.split("@")[0] == "teacher" and teacher is not None:
                return teacher.at(role).source(needs, self.task.width(self.data), facts.words)
            own = models[role]
            names = dict(self.task.outputs) | {f"hidden:{i}": "token" for i in needs.teacher.hidden}
            dtype = self.machine.precision(self.recipe.signals.precision)
            if self.task.varies:
                return Live(own, None, tuple(self.task.outputs), needs.teacher, self.machine, dtype)
            return self.cache.fetch(rows, model_digest(own), names, dtype, lambda: own, f"{role} signals", self.task.view)

        return signals

    def _run(self, job: Job, start: Start) -> None:
        """Carry one training to its end, and keep its result."""
        loop = Loop(job)
        state = loop.run()
        if self.machine.main:
            model, folder = job.models["student"].eval(), job.folder
            known = {
                "weights": weights_digest(model),
                "seconds": state.seconds,
                "steps": state.total,
                "seed": job.seed,
                "best_step": state.best.get("", {}).get("step", state.total),
                "score": state.best.get("", {}).get("score"),
                "learning_rate": job.training.peak,
                "stages": [s.name for s in loop.stages],
                "settled": {s.name: dict(s.settled) for s in loop.stages if s.settled},
                "history": state.history,
                "losses": records.rows(folder / LOG),
                "precision": str(loop.dtype).removeprefix("torch."),
            }
            with records.whole_folder(folder / "result") as result, records.saving(folder):
                Loaded(model, start.tokenizer, False).save(result / "model")
                for number in range(1, job.anchors):
                    shutil.copy(loop.checkpoints.folder / f"{ANCHOR}{number}.safetensors", result)
                records.seal(result / TRAINING, known | {"files": records.digests(result)})
            loop.checkpoints.clear()

    def plan(self, method: Method, start: Start, training: Training) -> tuple[Encoded, Facts]:
        """The rows that a method learns from and what it may know; raises ConfigError for what it refuses."""
        rows = self.encoded(start.tokenizer, self.taught if method.uses_teacher else "train")
        if not len(rows):
            raise ConfigError(f"method: '{method.name}' learns from labels, and no training row has one; leave it out, or label some rows")
        facts = self.facts(method, start, training, rows)
        own = self._rows_of(start.tokenizer)
        same_tokens = lambda name: self.vocabulary(name) == own  # noqa: E731
        for spec in method.roles(facts).values():
            foresee(spec, self, same_tokens)
        if method.writes_text and LAST_STATES not in self.task.outputs:
            raise ConfigError(f"method: '{method.name}' writes running text, and this task has none; take the task language, or kd")
        if method.whole_step and (self.machine.processes > 1 or (training.micro_batch or training.batch_size) < training.batch_size):
            why = f"method '{method.name}' compares the examples of a step, which cannot be split"
            raise ConfigError(f"train.micro_batch: {why}; use one process and no micro_batch")
        stages = method.stages(facts)
        for stage in stages:
            if self.recipe.teacher and method.uses_teacher and stage.teacher:
                refuse(self.recipe.teacher, self.recipe.signals, self.task, method.needs(facts, stage.name), same_tokens)
        if not any(stage.turns[course.turn_at(stage, step)].role == "student" for stage in stages for step in range(stage.steps)):
            raise ConfigError(
                f"method: other roles take the whole budget of {facts.steps} optimizer steps, none is the student's; train longer"
            )
        return rows, facts

    def facts(self, method: Method, start: Start, training: Training, rows: Encoded) -> Facts:
        """What the method may know, and the budget in optimizer steps; raises as `fits.check` does."""
        per_epoch = -(-len(rows) // training.batch_size)
        steps = training.steps or (training.epochs or 3) * per_epoch
        if training.tokens:
            steps = max(1, round(training.tokens / max(1, int(rows.starts[-1])) * per_epoch))
        shapes = {"student": start.model.config}
        teacher = self.recipe.teacher if method.uses_teacher else None
        if teacher and teacher.model:
            shapes["teacher"] = open_config(teacher.model)
        together = shapes if "token" in self.task.outputs.values() else {"student": start.model.config}
        words = fits.check(self.task, rows, together, start.tokenizer)
        known = {role: anatomy.shape(c) for role, c in shapes.items() if anatomy.body(c).model_type in anatomy.STACKS}
        return Facts(
            steps=steps,
            steps_per_epoch=per_epoch,
            depths={r: s.depth for r, s in known.items()},
            widths={r: s.width for r, s in known.items()},
            heads={r: s.heads for r, s in known.items() if anatomy.body(shapes[r]) is shapes[r]},
            kept_layers=start.kept_layers,
            checkpoints=(teacher.checkpoints or (len(teacher.route) + 1 if teacher.route else 0)) if teacher else 0,
            task_kind=self.task.kind,
            labels=len(self.data.labels),
            mask_token=getattr(start.tokenizer, "mask_token_id", None),
            special_tokens=tuple(getattr(start.tokenizer, "all_special_ids", ())),
            words=words,
            echoes=anatomy.echoes(start.model.config),
            tokenized=self.task.tokenized,
        )


def refuse_new_head(name: str, loaded: Loaded, labels: tuple[str, ...], head: Mapping[str, Any]) -> None:
    """Raise ModelError for a teacher whose head is not one for the task's labels, or for the task where `head` has none."""
    if loaded.new_head:
        what = f"its head does not know the task's labels ({', '.join(labels) or 'one value'})" if head else "has no head for the task"
        mend = "fine-tune it first (teacher.train: {epochs: 2}) or name a model fine-tuned on this task"
        raise ModelError(f"teacher {name}: {what}; {mend}")
