"""The contract of a method: what it must see, which roles take which turns, and its weighted terms.

A method owns no loop, optimizer or model. It says in `stages` who is trained on what; the engine's one loop does it.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal, cast

from .. import losses
from ..errors import ConfigError
from ..rows import NOTHING, Batch, Inside, Seen, Sparse, States, Term, Tiled
from ..seeds import by_row

if TYPE_CHECKING:
    from torch import Generator, Tensor, nn


@dataclasses.dataclass(frozen=True)
class Facts:
    """What a method may know before anything is loaded."""

    steps: int
    """Optimizer steps of the whole budget."""
    steps_per_epoch: int
    depths: Mapping[str, int]
    """Layers of each role: 'student', 'teacher'."""
    widths: Mapping[str, int]
    """Hidden width of each role."""
    heads: Mapping[str, int]
    """Attention heads of each role whose queries, keys and values can be looked at, which those of windows cannot."""
    kept_layers: tuple[int, ...] | None
    """The teacher's layers that the student kept, or None."""
    checkpoints: int
    """Stored checkpoints of the teacher's own training."""
    task_kind: str
    """'choice', 'binary' or 'value'."""
    labels: int = 0
    """Labels of the task; 0 where it has none."""
    mask_token: int | None = None
    """Number of the tokenizer's mask token."""
    special_tokens: tuple[int, ...] = ()
    """Numbers of the tokenizer's special tokens."""
    words: int | None = None
    """Classes of the vocabulary that student and teacher share, where their output layers are of different widths; else None."""
    echoes: Mapping[int, int] = dataclasses.field(default_factory=dict)
    """Layers of the student that echo another's attention: echoing layer -> source, 0 the first."""
    tokenized: bool = True
    """Whether rows are tokens, with tables of embeddings."""

    @property
    def epochs(self) -> int:
        """Epochs of the budget, a started one included."""
        return -(-self.steps // self.steps_per_epoch)


@dataclasses.dataclass(frozen=True)
class Needs:
    """What a stage must see of student and teacher beyond their outputs; the engine computes nothing else."""

    student: Inside = NOTHING
    teacher: Inside = NOTHING
    raw_logits: bool = False
    """True for terms that are not free of a shift of the logits; a file of probabilities cannot serve them."""
    same_tokens: bool = False
    """True where teacher and student are fed the same tokens or embeddings; other tokenizers are refused."""
    live: bool = False
    """True where the teacher is asked about made rows alone, so that storing its signals of the training rows would be in vain."""
    few: Literal["", "likeliest", "drawn"] = ""
    """Which few classes of a vocabulary may stand in for the teacher's outputs: none; its likeliest, where all terms go through
    `over_rows` at `temperature`; also drawn ones, where all terms are KL(teacher || student)."""
    temperature: float = 1.0
    """What `few` classes are tempered with."""
    scale: Literal["", "sum", "mean"] = ""
    """Asks for `see.scale`: the mean over training rows of the squared norm of the teacher's logits, over classes a sum or a mean."""


@dataclasses.dataclass(frozen=True)
class RoleSpec:
    """A model beyond student and teacher: an assistant, a generator, a copy of the student."""

    start: str = "student"
    """'student' or 'teacher' for a copy of its start, else a name or folder."""
    layers: int | None = None
    """Keep so many of its layers, evenly spaced; None keeps all."""
    head: Literal["task", "masked_lm"] = "task"
    setting: str = "start"
    """The method's setting that names it, for messages."""


@dataclasses.dataclass(frozen=True)
class Turn:
    """A run of optimizer steps in which one role is trained and all others are frozen."""

    terms: Callable[[See], dict[str, Term]]
    role: str = "student"
    steps: int = 1
    only: Callable[[str], bool] | None = None
    """Which parameters, by name; None trains all."""
    learning_rate: float | None = None
    """Peak rate of this turn's optimizer; None takes the training's."""
    dropout: bool = True
    """False trains the role in eval mode, without dropout."""


@dataclasses.dataclass(frozen=True)
class Stage:
    """Part of the budget with its turns, taken in a cycle of optimizer steps; each step takes the next batch."""

    name: str
    turns: tuple[Turn, ...]
    steps: int
    teacher: str | None = "teacher"
    """The role that `see.teacher` shows: 'teacher', 'teacher@2' (its stored checkpoint), another frozen role, or None."""
    start_from: str = "last"
    """'last', 'init', 'best' (of the stage before), '<stage>:best' or ':best' (of all stages that select)."""
    optimizer: Literal["continue", "fresh"] = "fresh"
    """'continue' keeps moments and the course of the rate, which then spans all stages that continue."""
    select: bool = True
    """Whether looks at dev in this stage may choose the student that is kept."""
    judge: Callable[[See], tuple[Tensor, Tensor]] | None = None
    """What looks at dev measure instead of the task's metric: from a batch to a summed loss in nats and its count. Their
    ratio is recorded with its exponential, the perplexity; less is better."""
    augment: Augment | None = None
    settled: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Settings that the stage settles, by name; said when it begins, and recorded."""
    warnings: tuple[str, ...] = ()
    """Sentences that are said when the stage begins."""


@dataclasses.dataclass(frozen=True)
class Made:
    """What a method makes of a batch of training rows."""

    columns: Mapping[str, Tensor]
    """By name: (rows,), (rows, tokens, ...) for rows of tokens, or (rows, ...) for others. One that the batch's inputs or extra
    columns have stands in for it from then on; one with a new name stands in `Batch.extra`."""
    measures: Mapping[str, Tensor] = dataclasses.field(default_factory=dict)
    """Numbers by name, as many as a batch has to tell; their means over all rows are recorded."""


@dataclasses.dataclass(frozen=True)
class Augment:
    """Columns made from the training rows and refreshed every few epochs, such as displacements up a gradient."""

    refresh: Callable[[See], Made]
    """From a batch to its new columns; all roles are frozen, inputs may carry gradients. `see.stored` is the batch before
    `Task.view`."""
    once: Callable[[Callable[[str], Tensor]], dict[str, Tensor]] | None = None
    """Called once before each refresh with the look-up of roles' embedding tables; what it gives is `see.once` until the next
    one, and its single numbers are recorded."""
    every: int = 1
    """Epochs that columns live."""
    start: int = 0
    """First epoch of the stage that has them."""
    report: Callable[[Mapping[str, float]], str] = lambda measures: ""
    """What a user hears after a refresh, from what was recorded of it."""


@dataclasses.dataclass
class Progress:
    """Where the loop stands; all numbers start at 0."""

    stage: str
    step: int
    steps: int
    epoch: int
    epochs: int

    @property
    def through(self) -> float:
        """Share of the stage that is done before this step, in [0, 1)."""
        return self.step / self.steps


class See:
    """What terms look through: each role's forward pass, run when first asked for and kept for the step."""

    def __init__(
        self,
        look: Callable[..., Seen],
        embeddings: Callable[[str], Tensor],
        task: Any,
        batch: Batch,
        progress: Progress,
        maps: Mapping[str, nn.Module] | nn.ModuleDict,
        seed: int = 0,
        write: Callable[..., list[Tensor]] | None = None,
        scale: float = 0.0,
    ):
        self._look = functools.cache(look)
        self._live, self._write = look, write
        self.embeddings = embeddings
        """A role's table of input embeddings, (vocabulary, width), by the role's name."""
        self.task, self.batch, self.progress, self.maps, self._seed = task, batch, progress, maps, seed
        self.stored = batch
        """The batch before `Task.view`, while columns are refreshed."""
        self.once: Mapping[str, Tensor] = {}
        """What `Augment.once` gave."""
        self.scale = scale
        """The mean squared norm of the teacher's logits, where the stage needs it (`Needs.scale`)."""

    @property
    def student(self) -> Seen:
        """The student on this batch."""
        return self._look("student")

    @property
    def teacher(self) -> Seen:
        """The stage's teacher on this batch: no gradient, live or from the cache."""
        return self._look("teacher")

    def generators(self) -> list[Generator]:
        """A seeded generator for each row of the batch: what a row draws does not depend on how the step is cut."""
        import torch

        seeds = by_row(self._seed, self.batch.index.tolist())
        return [torch.Generator().manual_seed(seed) for seed in seeds]

    def rewritten(self, writer: str, *, kept: float, temperature: float) -> See:
        """This step on text that a role wrote: each stretch of predicted text after its first share `kept` (`Language.stretches`).

        The writer draws at this temperature, 0 being greedy, and stops at its end token. Only what it wrote is predicted.
        """
        assert self._write is not None
        ids, draws = self.batch.inputs["input_ids"], self.generators()
        ends = self.task.stretches(self.batch, kept)
        prompts = [ids[row, start:cut] for row, start, cut, _ in ends]
        texts = self._write(writer, prompts, [stop - cut for *_, cut, stop in ends], [draws[row] for row, *_ in ends], temperature)
        return self.on(self.task.rewritten(self.batch, ends, texts))

    def on(self, batch: Batch) -> See:
        """This step on another batch, of which nothing is stored: each role runs on its inputs."""

        def look(role: str, inputs: Mapping[str, Tensor] | None = None, places: Tensor | None = None) -> Seen:
            return self._live(role, batch.inputs if inputs is None else inputs, places)

        new = See(look, self.embeddings, self.task, batch, self.progress, self.maps, self._seed, self._write, self.scale)
        new.once = self.once
        return new

    def __call__(self, role: str, inputs: Mapping[str, Tensor] | None = None, places: Tensor | None = None) -> Seen:
        """Any role on this batch, or on other inputs; gradients flow through a frozen role to inputs that carry them.

        `places` (rows, tokens) of bool are where a role whose head is a vocabulary makes logits: (places, vocabulary).
        """
        return self._look(role) if inputs is None else self._live(role, inputs, places)


def over_rows(
    f: Callable[..., Tensor],
    student: Seen,
    teacher: Seen,
    see: See,
    *,
    weight: float = 1.0,
    of_few: Callable[[Tensor, Sparse], Tensor] | None = None,
) -> Term:
    """Sum `f(student row, teacher row)` over the task's rows.

    `f(student_logits, teacher_logits, kind=..., allowed=...)` gives one number a row. Where the teacher is known by a few classes,
    `of_few(student_logits, few)` does; without it, `f` is given both sides' kept classes, all others being one more.
    """
    pairs = list(zip(see.task.rows(student, see.batch), see.task.rows(teacher, see.batch), strict=True))
    if isinstance(states := pairs[0][0].logits, States):
        [(rows, theirs)] = pairs

        def each(s: Tensor, t: Tensor | Sparse, by: Tensor | None) -> Tensor:
            if isinstance(t, Sparse):
                return of_few(s, t) if of_few else _of_few(f, s, t)
            found = f(s, t, kind=rows.kind, allowed=rows.allowed)
            return found if by is None else found * by

        told = theirs.logits.compared() if isinstance(theirs.logits, States) else cast(Sparse, theirs.logits)
        return Term(Tiled(each, states.compared(), told, gold=rows.by), rows.unit, weight)
    total: Any = 0
    for s, t in pairs:
        total = total + s.share * f(s.logits, t.logits, kind=s.kind, allowed=s.allowed).sum()
    return Term(total, pairs[0][0].unit, weight)


def _of_few(f: Callable[..., Tensor], student: Tensor, teacher: Sparse) -> Tensor:
    """A distance of logits (rows, vocabulary) to a teacher known by a few classes."""
    if teacher.drawn:
        return losses.drawn_divergence(student, teacher.ids, teacher.log, teacher.temperature)
    own = losses.few_classes(student, teacher.ids, teacher.temperature)
    return f(own * teacher.temperature, teacher.log * teacher.temperature, kind="choice", allowed=None)


def scaled_distance(
    see: See, student: Seen, teacher: Seen, phi: float, *, margin: float = 0.0, weight: float = 1.0, reduction: str = "sum"
) -> Term:
    """Sum over rows of max(0, |z_S - phi z_T|^2 - margin * phi), the squared distance being a sum or a mean over classes."""

    def distance(s: Tensor, t: Tensor, *, kind: str, allowed: Tensor | None) -> Tensor:
        gap = losses.squared_distance(s, phi * t.float(), allowed=allowed, reduction=reduction)
        return (gap - margin * phi).clamp(min=0) if margin else gap

    return over_rows(distance, student, teacher, see, weight=weight)


def within_margin(see: See, student: Seen, teacher: Seen, phi: float, *, margin: float, reduction: str) -> Term:
    """The share of rows that `scaled_distance` leaves alone since they are within the margin; without gradient."""

    def inactive(s: Tensor, t: Tensor, *, kind: str, allowed: Tensor | None) -> Tensor:
        return (losses.squared_distance(s.detach(), phi * t.float(), allowed=allowed, reduction=reduction) <= margin * phi).float()

    return dataclasses.replace(over_rows(inactive, student, teacher, see), measure=True)


def over_labelled(f: Callable[..., Tensor], student: Seen, see: See, *, weight: float = 1.0) -> Term:
    """Sum `f(logits, gold, allowed=...)`, one number a row, over the rows that have a label, by the weight of their class."""
    batch = see.batch
    keep = batch.labelled.float() if batch.weight is None else batch.labelled * batch.weight
    total: Any = 0
    for rows in see.task.rows(student, batch):
        if isinstance(rows.logits, States):
            tiled = Tiled(lambda s, t, gold: f(s, gold, allowed=None), rows.logits, gold=rows.gold)
            return Term(tiled, rows.unit, weight)
        assert rows.gold is not None, "the task's rows have no gold"
        total = total + rows.share * (f(rows.logits, rows.gold.clamp(min=0), allowed=rows.allowed) * keep).sum()
    return Term(total, "label", weight)


def on_labels(see: See, weight: float = 1.0, who: str = "student") -> dict[str, Term]:
    """The task's label loss of a role; nothing where the weight is 0."""
    return {"label": see.task.label_term(see(who), see.batch, weight=weight)} if weight else {}


def cut(steps: int, parts: int) -> list[int]:
    """A number of steps in so many nearly equal parts, none empty where there are enough."""
    edges = [i * steps // parts for i in range(parts + 1)]
    return [b - a for a, b in itertools.pairwise(edges)]


def one_of_several(method: Method, facts: Facts) -> None:
    """Raise ConfigError where the task's rows are not one class of several."""
    if facts.task_kind != "choice":
        raise ConfigError(f"method: '{method.name}' is for one class of several; this task's labels are another kind, take kd")


class Method:
    """What the student learns. A simple method gives `terms` alone; the rest has defaults."""

    is_part = False
    name = ""
    uses_teacher = True
    writes_text = False
    """True for methods that learn from text which a role writes; they need a task of running text."""

    @property
    def whole_step(self) -> bool:
        """Whether a term compares the examples of a step (`Term.scope` is "step"), which then cannot be split."""
        return False

    def terms(self, see: See) -> dict[str, Term]:
        """The student's weighted terms by name, for methods of one stage and one turn."""
        raise NotImplementedError(type(self).__name__)

    def stages(self, facts: Facts) -> list[Stage]:
        """The stages; their steps add up to the budget unless the method says otherwise."""
        teacher = "teacher" if self.uses_teacher else None
        return [Stage("train", (Turn(self.terms),), facts.steps, teacher=teacher)]

    def needs(self, facts: Facts, stage: str) -> Needs:
        """What the named stage must see beyond the outputs."""
        return Needs()

    def roles(self, facts: Facts) -> dict[str, RoleSpec]:
        """Models beyond student and teacher."""
        return {}

    def maps(self, facts: Facts) -> dict[str, nn.Module]:
        """Modules trained with the student and thrown away."""
        return {}
