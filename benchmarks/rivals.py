"""Ways to run epochs of distillation that people use today, each timed on the same slice of its own sampler's epoch.

Every system has the same form: `system(work, epochs) -> list[Epoch]`. All share the data, the models, the loss
(cross-entropy plus KL at temperature 4 times its square), AdamW at 5e-5 without weight decay and clipping at norm 1.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.utils.data import DataLoader, RandomSampler, Sampler

TEMPERATURE = 4.0
RATE = 5e-5
CLIP = 1.0


@dataclasses.dataclass
class Work:
    """What is trained: the models, tokenised rows, and which part of an epoch is timed."""

    name: str
    teacher: nn.Module
    """Frozen, in eval mode, float32."""
    student: nn.Module
    """In train mode (dropout on), float32."""
    rows: list[dict[str, Any]]
    """The sampler's rows: `input_ids`, a list of token numbers, and `labels`, a class number."""
    keep: int
    """Batches timed in an epoch."""
    seed: int
    folder: str
    """An empty folder for whatever a system insists on writing."""
    batch: int = 32
    whole: list[float] = dataclasses.field(default_factory=list)
    """Padded tokens an example over each full epoch that a sampler drew, timed or not."""

    def __post_init__(self) -> None:
        self.lengths = np.array([len(r["input_ids"]) for r in self.rows])


@dataclasses.dataclass
class Epoch:
    """What one epoch took, counted by hooks on the models and on every optimizer, not by the system itself."""

    begun: float = 0.0
    """`time.monotonic()` at its start."""
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    """Time of all threads of the process."""
    rows: int = 0
    """Rows that went through the student."""
    teacher_rows: int = 0
    steps: int = 0
    """Steps of the optimizer."""
    padded: int = 0
    """Cells of the student's batches, padding included."""
    tokens: int = 0
    """Cells of the student's batches that are not padding."""
    whole: float = 0.0
    """Padded tokens an example over the full epoch that the slice stands for."""
    done: str = ""


class Meter:
    """Counts what passes through `work`'s models and splits it into epochs; `begin` once, `mark` after every epoch."""

    def __init__(self, work: Work):
        self.work, self.epochs, self.now = work, [], Epoch()
        work.student.register_forward_pre_hook(self._student, with_kwargs=True)
        work.teacher.register_forward_pre_hook(self._teacher, with_kwargs=True)
        register_optimizer_step_post_hook(self._step)

    def begin(self) -> None:
        self.now, self._cpu = Epoch(begun=time.monotonic()), time.process_time()

    def mark(self, done: str = "") -> None:
        """End the epoch; `done` says in a few words what it consisted of."""
        now, cpu = time.monotonic(), time.process_time()
        self.now.seconds, self.now.cpu_seconds = now - self.now.begun, cpu - self._cpu
        self.now.whole, self.now.done = self.work.whole[-1] if self.work.whole else 0.0, done
        self.epochs.append(self.now)
        self.now, self._cpu = Epoch(begun=now), cpu

    def _student(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        ids = args[0] if args else kwargs["input_ids"]
        self.now.rows, self.now.padded = self.now.rows + len(ids), self.now.padded + ids.numel()
        self.now.tokens += int(kwargs["attention_mask"].sum()) if "attention_mask" in kwargs else ids.numel()

    def _teacher(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.now.teacher_rows += len(args[0] if args else kwargs["input_ids"])

    def _step(self, *_: Any) -> None:
        self.now.steps += 1


def representative(batches: Sequence[Sequence[int]], lengths: np.ndarray, keep: int, seed: Sequence[int]) -> list[int]:
    """Positions of `keep` batches that stand for the whole epoch, in order.

    One batch from each of `keep` equal stretches of the epoch, and of 500 such draws the one whose padded tokens and
    their squares (what attention costs) come closest to the epoch's. The first batches would not do: a sampler that
    sorts by length in mega-batches gives its longest rows first.
    """
    if keep >= len(batches):
        return list(range(len(batches)))
    widths = np.array([lengths[list(b)].max() for b in batches], dtype=float)
    edges = np.arange(keep) * len(batches) / keep
    draws = (edges + np.random.default_rng(list(seed)).random((500, keep)) * len(batches) / keep).astype(int)
    off = sum(np.abs((widths[draws] ** p).mean(1) / (widths**p).mean() - 1) for p in (1, 2))
    return [int(i) for i in draws[off.argmin()]]


class Slice(Sampler):
    """The representative batches of another sampler's epoch, anew in each epoch."""

    def __init__(self, sampler: Any, work: Work):
        self.sampler, self.work, self.epoch = sampler, work, 0

    def __len__(self) -> int:
        return self.work.keep * self.work.batch

    def __iter__(self) -> Iterator[int]:
        order, size, lengths = list(self.sampler), self.work.batch, self.work.lengths
        batches = [order[i : i + size] for i in range(0, len(order) - size + 1, size)]
        self.work.whole.append(float(np.mean([lengths[b].max() for b in batches])))
        kept = representative(batches, lengths, self.work.keep, (self.work.seed, self.epoch))
        self.epoch += 1
        return iter([row for i in kept for row in batches[i]])


def collate(rows: list[dict[str, Any]]) -> dict[str, Tensor]:
    """A batch padded to its longest row: `input_ids` and `attention_mask` (rows, tokens), `labels` (rows,)."""
    ids = [torch.tensor(r["input_ids"]) for r in rows]
    mask = [torch.ones_like(i) for i in ids]
    return {
        "input_ids": nn.utils.rnn.pad_sequence(ids, batch_first=True),
        "attention_mask": nn.utils.rnn.pad_sequence(mask, batch_first=True),
        "labels": torch.tensor([r["labels"] for r in rows]),
    }


def soft(student: Tensor, teacher: Tensor) -> Tensor:
    """KL(teacher || student) at temperature 4, mean over rows, times 16."""
    s, t = functional.log_softmax(student / TEMPERATURE, -1), functional.softmax(teacher / TEMPERATURE, -1)
    return functional.kl_div(s, t, reduction="batchmean") * TEMPERATURE**2


def plain(work: Work, epochs: int) -> list[Epoch]:
    """The loop most people write: shuffled, padded to the longest of the batch, float32, teacher live under no_grad."""
    meter = Meter(work)
    sampler = Slice(RandomSampler(work.rows), work)
    loader = DataLoader(work.rows, batch_size=work.batch, sampler=sampler, collate_fn=collate)
    optimizer = torch.optim.AdamW(work.student.parameters(), lr=RATE, weight_decay=0.0)
    meter.begin()
    for _ in range(epochs):
        for batch in loader:
            with torch.no_grad():
                given = work.teacher(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
            seen = work.student(**batch)
            loss = soft(seen.logits, given) + seen.loss
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(work.student.parameters(), CLIP)
            optimizer.step()
        meter.mark("live teacher")
    return meter.epochs


def trainer(work: Work, epochs: int, **more: Any) -> list[Epoch]:
    """A Hugging Face Trainer subclass as commonly written; `more` are further TrainingArguments."""
    from transformers import Trainer, TrainerCallback, TrainingArguments

    meter = Meter(work)

    class Marks(TrainerCallback):
        def on_train_begin(self, *_: Any, **__: Any) -> None:
            meter.begin()

        def on_epoch_end(self, *_: Any, **__: Any) -> None:
            meter.mark("live teacher")

    class Distiller(Trainer):
        def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **_: Any) -> Any:
            seen = model(**inputs)
            with torch.no_grad():
                given = work.teacher(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"]).logits
            loss = soft(seen.logits, given) + seen.loss
            return (loss, seen) if return_outputs else loss

        def _get_train_sampler(self, *args: Any) -> Slice:
            return Slice(super()._get_train_sampler(*args), work)

    arguments = TrainingArguments(
        output_dir=work.folder, num_train_epochs=epochs, per_device_train_batch_size=work.batch, learning_rate=RATE,
        max_grad_norm=CLIP, seed=work.seed, save_strategy="no", report_to="none", disable_tqdm=True, use_cpu=True,
        dataloader_pin_memory=False, **more,
    )  # fmt: skip
    Distiller(work.student, arguments, train_dataset=work.rows, data_collator=collate, callbacks=[Marks()]).train()
    return meter.epochs


def tuned(work: Work, epochs: int) -> list[Epoch]:
    """The same Trainer with its two switches for speed; `bf16` reaches the student alone."""
    return trainer(work, epochs, train_sampling_strategy="group_by_length", bf16=True)


def textbrewer(work: Work, epochs: int, cached: bool = False) -> list[Epoch]:
    """TextBrewer's GeneralDistiller, or its BasicDistiller with `is_caching_logits`, which freezes the batches too.

    Its soft loss lacks the square of the temperature, so the weight carries it. The checkpoint that it writes after
    every epoch is left out of the time.
    """
    from textbrewer import BasicDistiller, DistillationConfig, GeneralDistiller, TrainingConfig

    meter = Meter(work)
    sampler = Slice(RandomSampler(work.rows), work)
    loader = DataLoader(work.rows, batch_size=work.batch, sampler=sampler, collate_fn=collate)
    distiller = (BasicDistiller if cached else GeneralDistiller)(
        train_config=TrainingConfig(log_dir=None, output_dir=work.folder, device="cpu"),
        distill_config=DistillationConfig(
            temperature=TEMPERATURE, kd_loss_weight=TEMPERATURE**2, hard_label_weight=1.0, is_caching_logits=cached
        ),
        model_T=work.teacher,
        model_S=work.student,
        adaptor_T=lambda batch, seen: {"logits": seen.logits},
        adaptor_S=lambda batch, seen: {"logits": seen.logits, "losses": seen.loss},
    )
    optimizer = torch.optim.AdamW(work.student.parameters(), lr=RATE, weight_decay=0.0)

    def end(*_: Any) -> None:
        first = "teacher's pass, then training" if not meter.epochs else "cached logits, frozen batches"
        meter.mark(first if cached else "live teacher")

    distiller.save_and_callback = end
    with distiller:
        meter.begin()
        distiller.train(optimizer, loader, num_epochs=epochs, max_grad_norm=CLIP)
    return meter.epochs


def textbrewer_cached(work: Work, epochs: int) -> list[Epoch]:
    """TextBrewer's BasicDistiller with its cache of logits."""
    return textbrewer(work, epochs, cached=True)


def bound(work: Work, epochs: int) -> list[Epoch]:
    """What no loop undercuts on these kernels: batches by length made beforehand, bfloat16, the teacher run once."""
    meter = Meter(work)
    order = np.argsort(work.lengths, kind="stable").tolist()
    batches = [order[i : i + work.batch] for i in range(0, len(order) - work.batch + 1, work.batch)]
    work.whole.append(float(np.mean([work.lengths[b].max() for b in batches])))
    kept = representative(batches, work.lengths, work.keep, (work.seed, 0))
    ready = [collate([work.rows[row] for row in batches[i]]) for i in kept]
    optimizer = torch.optim.AdamW(work.student.parameters(), lr=RATE, weight_decay=0.0, fused=True)
    given: list[Tensor] = []
    meter.begin()
    for epoch in range(epochs):
        for i, batch in enumerate(ready):
            with torch.autocast("cpu", torch.bfloat16):
                if not epoch:
                    with torch.inference_mode():
                        seen = work.teacher(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])
                    given.append(seen.logits.float().clone())
                seen = work.student(**batch)
            (soft(seen.logits.float(), given[i]) + seen.loss).backward()
            nn.utils.clip_grad_norm_(work.student.parameters(), CLIP)
            optimizer.step()
            optimizer.zero_grad()
        meter.mark("kept logits" if epoch else "teacher once")
    return meter.epochs


System = Callable[..., list[Epoch]]
BERT = "transformers.models.bert.modeling_bert"
RIVALS: dict[str, tuple[System, tuple[str, ...]]] = {
    "plain": (plain, (BERT,)),
    "trainer": (trainer, (BERT, "transformers.trainer")),
    "tuned": (tuned, (BERT, "transformers.trainer")),
    "textbrewer": (textbrewer, (BERT, "textbrewer")),
    "textbrewer_cached": (textbrewer_cached, (BERT, "textbrewer")),
    "bound": (bound, (BERT,)),
}
"""Each system with the modules that it imports, which are timed apart."""
