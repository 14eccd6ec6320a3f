"""Where models are trained and found again: one role's training, named by everything that determines it."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import functools
import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers

from .. import __version__, config, records
from ..errors import ConfigError, ModelError
from ..methods._method import Facts, Method, RoleSpec, Stage
from ..models import anatomy
from ..models.load import MASKED_LM, Loaded, open_config, open_model, weights_digest
from ..recipe import Recipe, Training
from ..seeds import stream
from ..tasks._task import Data, Encoded, Task
from .checkpoint import State
from .loop import Job, Loop
from .machine import Machine
from .signals import Cache, Live
from .talk import Talk
from .teacher import Teacher

FORMAT = 1
DECIDING = ("kind", "target", "class_weights", "metric", "augment", "crop", "flip")
"""Settings of a task that change a training and are not in its encoded rows."""


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
        self, recipe: Recipe, data: Data, machine: Machine, talk: Talk, store: Path, on_step: Callable[[State], None] = lambda state: None
    ):
        self.recipe, self.data, self.machine, self.talk, self.store = recipe, data, machine, talk, store
        self.task: Task = recipe.task
        self.head = self.task.head(data)
        self.cache = Cache(store / "signals", machine, talk)
        self.on_step = on_step
        self.truncated: dict[str, int] = {}
        self._encoded: dict[tuple[str, str], Encoded] = {}

    # ---- data

    def encoded(self, tokenizer: Any, part: str) -> Encoded:
        """A part of the data as this tokenizer encodes it; 'train+transfer' has the unlabelled rows behind the others."""
        key = (tokenizer_digest(tokenizer), part)
        if key not in self._encoded:
            first, *more = [self.task.encode(self.data.splits[p], tokenizer) for p in part.split("+")]
            own = functools.reduce(Encoded.join, more, first)
            if own.truncated and part not in self.truncated:
                self.truncated[part] = own.truncated
                limit = getattr(self.task, "max_length", None)
                self.talk.say(f"{part}: {own.truncated} of {len(own)} texts are longer than {limit} tokens and were cut (task.max_length)")
            self._encoded[key] = own
        return self._encoded[key]

    @property
    def taught(self) -> str:
        """The part that a teacher's students learn from."""
        return "train+transfer" if "transfer" in self.data.splits else "train"

    # ---- starts

    def open(self, name: str, seed: int) -> Loaded:
        """A model by name or folder, its head fitted to the labels (a new one drawn from the seed)."""
        torch.manual_seed(stream(seed, "head"))
        return open_model(name, self.head, auto=self.task.auto, labels=self.data.labels, text=self.task.text)

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

    def train(self, title: str, method: Method, start: Start, training: Training, seed: int, teacher: Teacher | None = None) -> Trained:
        """Train one role, or find the same training done before. Resumes what was interrupted."""
        teacher = teacher if method.uses_teacher else None
        rows = self.encoded(start.tokenizer, self.taught if method.uses_teacher else "train")
        dev = self.encoded(start.tokenizer, "dev")
        facts = self.facts(method, start, training, rows, teacher)
        key = self._key(method, start, training, seed, rows, dev, teacher)
        folder = self.store / "trainings" / key
        with records.locked(folder, wait=True) if self.machine.main else contextlib.nullcontext():
            done = folder / "result" / "training.json"
            reused = self.machine.broadcast(done.exists())
            if not reused:
                self._run(title, method, start, training, seed, teacher, facts, rows, dev, folder)
            self.machine.wait()
            known = records.read_json(done)
        return Trained(folder / "result", known["weights"], known, reused)

    def _run(
        self,
        title: str,
        method: Method,
        start: Start,
        training: Training,
        seed: int,
        teacher: Teacher | None,
        facts: Facts,
        rows: Encoded,
        dev: Encoded,
        folder: Path,
    ) -> None:
        models = _Roles(self, method, facts, start, teacher, seed)

        def signals(role: str, stage: Stage) -> Any:
            needs = method.needs(facts, stage.name)
            if role == "teacher" and teacher is not None:
                return teacher.source(needs, max(1, len(self.data.labels)), tokenizer_digest(start.tokenizer))
            own = models[role]
            names = dict(self.task.outputs) | {f"hidden:{i}": "token" for i in needs.teacher.hidden}
            dtype = self.machine.precision(self.recipe.signals.precision)
            if self.task.varies:
                return Live(own, None, tuple(self.task.outputs), needs.teacher, self.machine, dtype)
            return self.cache.fetch(rows, weights_digest(own), names, dtype, lambda: own, f"{role} signals", self.task.view)

        job = Job(
            title,
            method,
            self.task,
            training,
            seed,
            facts,
            models,
            signals,
            rows,
            dev,
            folder,
            self.machine,
            self.talk,
            self.recipe.autosave,
            self.on_step,
        )
        loop = Loop(job)
        state = loop.run()
        if self.machine.main:
            model = models["student"].eval()
            known = {
                "weights": weights_digest(model),
                "seconds": state.seconds,
                "steps": state.total,
                "seed": seed,
                "best_step": state.best.get("", {}).get("step", state.total),
                "score": state.best.get("", {}).get("score"),
                "learning_rate": training.learning_rate,
                "stages": [s.name for s in loop.stages],
                "history": state.history,
                "losses": records.rows(folder / "steps.jsonl"),
                "precision": str(loop.dtype).removeprefix("torch."),
            }
            with records.whole_folder(folder / "result") as result, records.saving(folder):
                Loaded(model, start.tokenizer, False).save(result / "model")
                records.write_json(result / "training.json", known)
            loop.checkpoints.clear()

    def facts(self, method: Method, start: Start, training: Training, rows: Encoded, teacher: Teacher | None) -> Facts:
        """What the method may know, and the budget in optimizer steps."""
        per_epoch = -(-len(rows) // training.batch_size)
        steps = training.steps or (training.epochs or 3) * per_epoch
        if training.tokens:
            steps = max(1, round(training.tokens / max(1, int(rows.starts[-1])) * per_epoch))
        shapes = {"student": start.model.config}
        if teacher is not None and len(teacher.members) == 1 and self.recipe.teacher and self.recipe.teacher.model:
            shapes["teacher"] = open_config(self.recipe.teacher.model)
        known = {role: anatomy.shape(c) for role, c in shapes.items() if c.model_type in anatomy.STACKS}
        return Facts(
            steps=steps,
            steps_per_epoch=per_epoch,
            depths={r: s.depth for r, s in known.items()},
            widths={r: s.width for r, s in known.items()},
            heads={r: s.heads for r, s in known.items()},
            kept_layers=start.kept_layers,
            checkpoints=0,
            task_kind=self.task.kind,
            labels=len(self.data.labels),
        )

    def _key(
        self, method: Method, start: Start, training: Training, seed: int, rows: Encoded, dev: Encoded, teacher: Teacher | None
    ) -> str:
        return records.digest(
            {
                "format": FORMAT, "version": __version__,
                "code": records.file_digest(Path(inspect.getfile(type(method)))),
                "method": config.dump(method),
                "training": config.dump(training),
                "seed": seed,
                "task": {k: v for k, v in config.dump(self.task).items() if k in DECIDING},
                "start": weights_digest(start.model),
                "rows": rows.digest,
                "gold": records.digest(rows.gold.tobytes()),
                "dev": [dev.digest, records.digest(dev.gold.tobytes())],
                "labels": self.data.labels,
                "teacher": [[m.weights, m.tokenizer] for m in teacher.members] + [teacher.average, config.dump(self.recipe.signals)]
                if teacher
                else None,
                "given": records.digest(teacher.given.tobytes()) if teacher and teacher.given is not None else None,
                "dtype": str(self.machine.precision(training.precision)),
                "device": self.machine.device.type, "threads": self.machine.threads, "processes": self.machine.processes,
                "torch": torch.__version__, "transformers": transformers.__version__,
            }
        )[:24]  # fmt: skip


class _Roles(dict):
    """Models by role, made when first asked: the student, the live teacher, and the roles the method adds."""

    def __init__(self, shop: Workshop, method: Method, facts: Facts, start: Start, teacher: Teacher | None, seed: int):
        super().__init__(student=start.model)
        self.shop, self.teacher, self.specs, self.seed = shop, teacher, method.roles(facts), seed
        for role, spec in self.specs.items():
            if spec.start == "student":
                self[role] = self._cut(copy.deepcopy(start.model), spec)

    def __missing__(self, role: str) -> Any:
        shop, spec = self.shop, self.specs.get(role)
        torch.manual_seed(stream(self.seed, "role", role))
        if spec is None:
            if role != "teacher" or self.teacher is None or not self.teacher.members:
                raise ConfigError(f"method: needs a model for the role '{role}', and the recipe has none; give teacher.model")
            model = self.teacher.members[0].load()
        else:
            of = shop.recipe.teacher
            name = of.model if spec.start == "teacher" and of else spec.start
            auto, head = (MASKED_LM, {}) if spec.head == "masked_lm" else (shop.task.auto, shop.head)
            model = open_model(name or "", head, auto=auto, labels=shop.data.labels, text=shop.task.text).model
        self[role] = self._cut(model, spec)
        return self[role]

    def _cut(self, model: Any, spec: RoleSpec | None) -> Any:
        for surgery in spec.surgery if spec else ():
            model = surgery(model)
        return model.to(self.shop.machine.device).eval().requires_grad_(False)


@functools.lru_cache(maxsize=16)
def tokenizer_digest(tokenizer: Any) -> str:
    """What tells tokenizers apart: their definition without the padding and truncation set for a call; '' for none."""
    if tokenizer is None:
        return ""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return records.digest(tokenizer.get_vocab())
    whole = json.loads(backend.to_str())
    return records.digest({k: v for k, v in whole.items() if k not in ("padding", "truncation")})


def refuse_new_head(name: str, loaded: Loaded, labels: tuple[str, ...]) -> None:
    """Raise ModelError for a teacher whose head is not one for the task's labels."""
    if loaded.new_head:
        raise ModelError(
            f"teacher {name}: its head does not know the task's labels ({', '.join(labels) or 'one value'}); "
            "fine-tune it first (teacher.train: {epochs: 2}) or name a model fine-tuned on this task"
        )
