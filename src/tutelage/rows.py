"""What passes between tasks, methods and the loop: batches in, what a model showed, rows of logits, terms out."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from torch import Tensor

LAST_STATES = "last_hidden_state"
"""The output that stands in for logits over a vocabulary: the body runs alone, and the output layer's weight is given beside."""


@dataclasses.dataclass
class Sparse:
    """Rows of a teacher's outputs by a few classes of a vocabulary, tempered.

    `packed` (rows, ..., numbers) holds the classes, then their log-probabilities, then, unless they were drawn from the teacher's
    probabilities with replacement, that of all other classes together; the likeliest class comes first.
    """

    packed: Tensor
    temperature: float
    drawn: bool

    def __getitem__(self, at: Any) -> Sparse:
        return Sparse(self.packed[at], self.temperature, self.drawn)

    @property
    def ids(self) -> Tensor:
        """(rows, classes kept)."""
        return self.packed[..., : self.packed.shape[-1] // 2].long()

    @property
    def log(self) -> Tensor:
        """(rows, classes kept), and one more where they were not drawn."""
        return self.packed[..., self.packed.shape[-1] // 2 :]


@dataclasses.dataclass
class OutputLayer:
    """How a language model makes logits over its vocabulary from last hidden states: cap * tanh(scale * (W h + b) / cap)."""

    weight: Tensor
    """(classes, width)."""
    bias: Tensor | None = None
    """(classes,)."""
    scale: float = 1.0
    cap: float | None = None
    """None leaves logits as they are."""
    words: int | None = None
    """Classes that distances to another model compare, the first ones, where output layers are padded to different widths; None
    compares all."""

    def __len__(self) -> int:
        return len(self.weight)

    def __call__(self, hidden: Tensor) -> Tensor:
        """(..., width) to logits (..., classes)."""
        from torch.nn import functional

        return self.shaped(functional.linear(hidden, self.weight, self.bias))

    def shaped(self, product: Tensor) -> Tensor:
        """Logits of W h + b."""
        product = product if self.scale == 1 else product * self.scale
        return product if self.cap is None else (product / self.cap).tanh() * self.cap

    def compared(self) -> OutputLayer:
        """Without the classes that distances do not compare."""
        if self.words in (None, len(self)):
            return self
        return dataclasses.replace(self, weight=self.weight[: self.words], bias=None if self.bias is None else self.bias[: self.words])


@dataclasses.dataclass
class Seen:
    """What a forward pass showed."""

    outputs: dict[str, Any]
    """Tensors by name; `Sparse` where a teacher's last hidden states are stood in for by a few classes."""
    hidden: dict[int, Tensor] = dataclasses.field(default_factory=dict)
    """By layer, 0 the embeddings: (rows, tokens, width)."""
    attention: dict[int, Tensor] = dataclasses.field(default_factory=dict)
    """Post-softmax maps by layer, 1 the first: (rows, heads, tokens, tokens)."""
    heads: dict[int, tuple[Tensor, Tensor, Tensor]] = dataclasses.field(default_factory=dict)
    """Queries, keys and values by layer, 1 the first: (rows, heads, tokens, size) each."""
    head: OutputLayer | None = None
    """The output layer, where the last hidden states stand in for logits."""
    memo: dict[str, Any] = dataclasses.field(default_factory=dict)
    """What a task has made of these outputs and need not make again."""


@dataclasses.dataclass(frozen=True)
class Inside:
    """Which inner states of a model are asked for, by layer."""

    hidden: tuple[int, ...] = ()
    """Hidden states: 0 the embeddings, n the output of layer n."""
    attention: tuple[int, ...] = ()
    """Post-softmax attention maps, 1 the first layer; the model then runs its eager attention."""
    heads: tuple[int, ...] = ()
    """Queries, keys and values, 1 the first layer; the model keeps its fused attention."""

    def __bool__(self) -> bool:
        return bool(self.hidden or self.attention or self.heads)


NOTHING = Inside()


@dataclasses.dataclass
class Batch:
    """Rows of data as tensors: model inputs, gold labels, and the rows' numbers."""

    inputs: dict[str, Tensor]
    gold: Tensor
    labelled: Tensor
    """(rows,) of bool: whether the row has a label."""
    index: Tensor
    """(rows,) of the rows' numbers in the training part."""
    weight: Tensor | None = None
    """Weight of each label in the label loss, in the shape of `gold`; None weighs all alike."""
    extra: dict[str, Tensor] = dataclasses.field(default_factory=dict)
    """What the task keeps beside the inputs, and what a method made of the rows (`Augment`); no model is fed with it."""
    memo: dict[str, Any] = dataclasses.field(default_factory=dict)
    """What a task has fixed for all models that look at this batch, by whose outputs it was asked first."""

    def at(self, rows: Tensor) -> Batch:
        """Some of its rows, by their places in the batch."""
        inputs, extra = ({name: column[rows] for name, column in many.items()} for many in (self.inputs, self.extra))
        weight = None if self.weight is None else self.weight[rows]
        return Batch(inputs, self.gold[rows], self.labelled[rows], self.index[rows], weight, extra)


@dataclasses.dataclass
class States:
    """Rows of logits that are never made as a whole: hidden states (rows, width) and the layer above them, tile by tile."""

    hidden: Tensor
    head: OutputLayer

    def compared(self) -> States:
        """For a distance to another model's rows."""
        return States(self.hidden, self.head.compared())


@dataclasses.dataclass
class Rows:
    """A task's outputs as rows of logits: classes, span starts, tokens, grid cells."""

    logits: Tensor | States | Sparse
    kind: str
    gold: Tensor | None = None
    allowed: Tensor | None = None
    unit: str = "example"
    by: Tensor | None = None
    """What each row's distance is multiplied with, (rows,); None weighs all alike. For rows of `States`."""
    share: float = 1.0
    """This kind's share among the task's kinds of rows; 1/2 each for span starts and ends."""


@dataclasses.dataclass(frozen=True)
class Tiled:
    """A sum over rows of `f(student logits, teacher logits or None, gold or None)`, one number a row, still to be made.

    A sparse teacher's rows reach `f` as they are.
    """

    f: Callable[..., Tensor]
    student: States
    teacher: States | Sparse | None = None
    gold: Tensor | None = None


@dataclasses.dataclass(frozen=True)
class Term:
    """A sum over items with the unit it is counted in; the loop divides by the count of the whole optimizer step."""

    sum: Tensor | Tiled
    """Tiled where the rows' logits are never made as a whole; the loop then makes all terms of them in one pass."""
    unit: str = "example"
    weight: float = 1.0
    scope: Literal["item", "step"] = "item"
    """'step' for terms that compare examples with each other: the loop refuses to split their step."""
    measure: bool = False
    """True for what the log shows beside the losses, and nothing learns from: its sum has no gradient."""
