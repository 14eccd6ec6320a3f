"""What a method's step costs in the engine, against the same step written by hand.

    python benchmarks/method_cost.py --rounds 5

A BERT of 6 layers teaches one of 2 (384 wide, random weights, 3 labels, dropout on in the student); 32 rows a step, lengths as
in short reviews. Engine and reference take the same batches by turns within a round, each its own models; the reference has
its batches padded beforehand and the teacher's logits at hand where the engine has them in its cache. Of `backward` the making
anew of all rows is compared; its steps are those of `kd`. Printed is engine over reference: median (lowest to highest round).
Asked are at most 1.15.
"""

from __future__ import annotations

import argparse
import copy
import functools
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ours import Timed, encoded
from torch import Tensor, nn
from torch.nn import functional as f

from tutelage import find
from tutelage.engine.batches import canonical
from tutelage.engine.loop import Job
from tutelage.engine.machine import Machine
from tutelage.engine.signals import Cache
from tutelage.engine.talk import Talk
from tutelage.engine.teacher import Member, Teacher
from tutelage.methods._method import Facts
from tutelage.recipe import Signals, Training
from tutelage.tasks.classify import Classify

WIDTH, HEADS, WORDS, MASK = 384, 12, 30522, 103
WRITERS = ("mate", "combined")
"""Their first step is the generator's."""
Batch = dict[str, Tensor]
Loss = Callable[[Any, Batch, Tensor], Tensor]


def bert(layers: int, seed: int, cls: str = "BertForSequenceClassification") -> Any:
    import transformers

    torch.manual_seed(seed)
    shape = transformers.BertConfig(
        hidden_size=WIDTH, num_hidden_layers=layers, num_attention_heads=HEADS, intermediate_size=4 * WIDTH, num_labels=3
    )
    return getattr(transformers, cls)(shape)


def rows(number: int) -> list[dict[str, Any]]:
    draw = np.random.default_rng(0)
    lengths = np.clip(draw.lognormal(np.log(25), 0.45, number), 5, 64).astype(int)
    return [{"input_ids": draw.integers(1000, 30000, n).tolist(), "labels": int(draw.integers(3))} for n in lengths]


# ---- losses by hand, means over the batch


def soft(s: Tensor, t: Tensor, temperature: float = 2.0) -> Tensor:
    return f.kl_div(f.log_softmax(s / temperature, -1), f.softmax(t / temperature, -1), reduction="batchmean") * temperature**2


def squared(s: Tensor, t: Tensor) -> Tensor:
    return ((s - t) ** 2).sum(-1).mean()


def dkd(s: Tensor, t: Tensor, y: Tensor) -> Tensor:
    hot = f.one_hot(y, 3).bool()
    ps, pt = f.softmax(s / 4, -1), f.softmax(t / 4, -1)
    yes_s, yes_t = ps[hot], pt[hot]
    first = f.kl_div(torch.stack([yes_s, 1 - yes_s], -1).log(), torch.stack([yes_t, 1 - yes_t], -1), reduction="batchmean")
    rest_s, rest_t = (x.masked_fill(hot, -1e4) for x in (s / 4, t / 4))
    second = f.kl_div(f.log_softmax(rest_s, -1), f.softmax(rest_t, -1), reduction="batchmean")
    return 16 * (first + 2 * second)


def pearson(a: Tensor, b: Tensor) -> Tensor:
    return (1 - f.cosine_similarity(a - a.mean(-1, keepdim=True), b - b.mean(-1, keepdim=True), dim=-1)).mean()


def dist(s: Tensor, t: Tensor) -> Tensor:
    ps, pt = f.softmax(s / 4, -1), f.softmax(t / 4, -1)
    return 16 * (pearson(ps, pt) + pearson(ps.T, pt.T))


def zscore(x: Tensor) -> Tensor:
    return (x - x.mean(-1, keepdim=True)) / x.std(-1, keepdim=True)


def on_logits(loss: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Loss:
    return lambda student, batch, given: loss(student(**batch["inputs"]).logits, given, batch["labels"])  # type: ignore[call-overload]


LOGITS: dict[str, tuple[str, Loss]] = {
    "finetune": ("train", on_logits(lambda s, t, y: f.cross_entropy(s, y))),
    "kd": ("train", on_logits(lambda s, t, y: soft(s, t) + 0.5 * f.cross_entropy(s, y))),
    "annealing": ("anneal", on_logits(lambda s, t, y: squared(s, 0.5 * t))),
    "continuation": (
        "train",
        on_logits(lambda s, t, y: 0.3 * f.cross_entropy(s, y) + 0.7 * (((s - 0.5 * t) ** 2).sum(-1) - 0.5).clamp(min=0).mean()),
    ),
    "label_smoothing": ("train", on_logits(lambda s, t, y: f.cross_entropy(s, y, label_smoothing=0.1))),
    "tf_reg": ("train", on_logits(lambda s, t, y: 0.9 * f.cross_entropy(s, y) + 0.1 * soft(s, 5.0 * f.one_hot(y, 3), 4.0))),
    "dkd": ("train", on_logits(lambda s, t, y: dkd(s, t, y) + f.cross_entropy(s, y))),
    "dist": ("train", on_logits(lambda s, t, y: dist(s, t) + f.cross_entropy(s, y))),
    "standardized": ("train", on_logits(lambda s, t, y: soft(zscore(s), zscore(t)) + 0.5 * f.cross_entropy(s, y))),
}
"""Method -> the stage that is timed, and its loss by hand from the student, a batch and the teacher's logits."""


def split(into: list[Tensor], module: nn.Module, given: Any, out: Tensor) -> None:
    """A hook that keeps a projection's output, split into heads."""
    into.append(out.unflatten(-1, (HEADS, -1)).transpose(1, 2))


class Live:
    """References that run the teacher beside the student."""

    def __init__(self, teacher: Any):
        self.teacher = teacher.eval().requires_grad_(False)
        self.generator = bert(6, 5, "BertForMaskedLM").eval().requires_grad_(False)
        self.maps = nn.ModuleList([nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(3)])

    def heads(self, model: Any, layers: tuple[int, ...], batch: Batch, hidden: bool) -> tuple[Any, dict[int, list[Tensor]]]:
        kept: dict[int, list[Tensor]] = {}
        hooks = []
        for layer in layers:
            kept[layer] = []
            inner = model.bert.encoder.layer[layer - 1].attention.self
            for module in (inner.query, inner.key, inner.value):
                hooks.append(module.register_forward_hook(functools.partial(split, kept[layer])))
        out = model(**batch["inputs"], output_hidden_states=hidden)  # type: ignore[arg-type]
        for hook in hooks:
            hook.remove()
        return out, kept

    def hidden_states(self, student: Any, batch: Batch, given: Tensor) -> Tensor:
        mask = batch["inputs"]["attention_mask"].float()  # type: ignore[call-overload]
        with torch.no_grad():
            large, big = self.heads(self.teacher, (3, 6), batch, True)
        small, little = self.heads(student, (1, 2), batch, True)
        pairs = zip(self.maps, small.hidden_states, [large.hidden_states[i] for i in (0, 3, 6)], strict=True)
        loss = sum((((m(s) - t) ** 2).mean(-1) * mask).sum() for m, s, t in pairs) / mask.sum()
        both = mask[:, :, None] * mask[:, None, :]
        for s, t in ((1, 3), (2, 6)):
            one, other = (x[0] @ x[1].transpose(-1, -2) / (WIDTH / HEADS) ** 0.5 for x in (little[s], big[t]))
            loss = loss + ((((one - other) ** 2).mean(1) * both).sum((1, 2)) / both.sum((1, 2))).mean()
        return loss

    def relations(self, student: Any, batch: Batch, given: Tensor) -> Tensor:
        mask = batch["inputs"]["attention_mask"].bool()  # type: ignore[call-overload]
        with torch.no_grad():
            large, big = self.heads(self.teacher, (6,), batch, False)
        small, little = self.heads(student, (2,), batch, False)
        loss = soft(small.logits, large.logits) + 0.5 * f.cross_entropy(small.logits, batch["labels"])
        for which in range(3):
            s, t = (
                (x @ x.transpose(-1, -2) / (WIDTH / HEADS) ** 0.5).masked_fill(~mask[:, None, None], -1e4).log_softmax(-1)
                for x in (little[2][which], big[6][which])
            )
            loss = loss + ((t.exp() * (t - s)).sum(-1).mean(1) * mask).sum() / mask.sum()
        return loss

    def written(self, student: Any, batch: Batch) -> tuple[Tensor, Tensor]:
        """Logits of student and teacher on the text with words written by the generator."""
        ids, mask = (batch["inputs"][k] for k in ("input_ids", "attention_mask"))  # type: ignore[call-overload]
        hidden = (torch.rand(ids.shape) < 0.3) & mask.bool()
        with torch.no_grad():
            scores = self.generator(input_ids=ids.masked_fill(hidden, MASK), attention_mask=mask).logits[hidden]
            chosen = f.gumbel_softmax(scores, hard=True).argmax(-1)
        written, out = ids.masked_scatter(hidden, chosen), {}
        for role, model in (("student", student), ("teacher", self.teacher)):
            with torch.set_grad_enabled(role == "student"):
                out[role] = model(inputs_embeds=model.bert.embeddings.word_embeddings(written), attention_mask=mask).logits
        return out["student"], out["teacher"]

    def mate(self, student: Any, batch: Batch, given: Tensor) -> Tensor:
        clean = student(**batch["inputs"]).logits  # type: ignore[arg-type]
        pairs = (self.written(student, batch), (clean, given))
        return (sum(f.cross_entropy(s, t.softmax(-1)) for s, t in pairs) + f.cross_entropy(clean, batch["labels"])) / 3

    def combined(self, student: Any, batch: Batch, given: Tensor) -> Tensor:
        return 0.5 * squared(*self.written(student, batch)) + 0.5 * squared(student(**batch["inputs"]).logits, given)  # type: ignore[arg-type]

    def moved(self, student: Any, many: list[Any]) -> list[Tensor]:
        """Backward-pass KD's displacements: three steps up the gradient, each a hundredth of the row's norm; and where the teacher ends."""
        small, large = (model.bert.embeddings.word_embeddings.weight.detach() for model in (student, self.teacher))
        both = [x.double() for x in (small, large)]
        bridge, out = torch.linalg.lstsq(both[0].T @ both[0], both[0].T @ both[1]).solution.float(), []
        for batch in many:
            ids, mask = batch.inputs["input_ids"], batch.inputs["attention_mask"]
            real = mask.bool()[..., None]
            x, own = small[ids], large[ids]
            by, scale = torch.zeros_like(x), (x * real).flatten(1).norm(dim=1)
            for _ in range(3):
                by.requires_grad_()
                theirs = self.teacher(inputs_embeds=own + by @ bridge, attention_mask=mask).logits
                apart = ((student(inputs_embeds=x + by, attention_mask=mask).logits - theirs) ** 2).sum()
                slope = torch.autograd.grad(apart, by)[0] * real
                by = (by + 0.01 * slope * (scale / slope.flatten(1).norm(dim=1))[:, None, None]).detach()
            with torch.no_grad():
                out += [by, self.teacher(inputs_embeds=own + by @ bridge, attention_mask=mask).logits]
        return out


def engine(name: str, folder: Path, data: Any, student: Any, teacher: Any, steps: int) -> tuple[Timed, int]:
    """The engine's loop for a method, and the number of the stage that is timed."""
    alone = {"prepare": 0, "generator_steps": 1, "student_steps": 10**6}
    settings = {
        "annealing": {"max_temperature": 1},
        "mate": alone,
        "combined": {"max_temperature": 1, **alone},
        "backward": {"share": 1.0},
    }.get(name, {})
    method, machine, talk = find.find("methods", name)(**settings), Machine(threads=torch.get_num_threads()), Talk()
    task, training = Classify(labels=("a", "b", "c")), Training(steps=4 * steps, decay="constant", warmup=0.0, precision="float32")
    sizes = {"depths": {"student": 2, "teacher": 6}, "widths": dict.fromkeys(("student", "teacher"), WIDTH)}
    facts = Facts(
        steps=4 * steps, steps_per_epoch=steps, heads=dict.fromkeys(("student", "teacher"), HEADS), kept_layers=None, checkpoints=0,
        task_kind="choice", labels=3, mask_token=MASK, **sizes,
    )  # fmt: skip
    cache = Cache(folder / "signals", machine, talk)
    hired = Teacher(
        [Member("teacher", lambda: teacher, "random", lambda: data, WIDTH, "same")], Signals(precision="float32"), task, cache, machine
    )
    models = {"student": student, "teacher": teacher, "generator": bert(6, 5, "BertForMaskedLM").eval()}
    signals = lambda role, stage: hired.source(method.needs(facts, stage.name), 3)  # noqa: E731
    job = Job("cost", method, task, training, 1, facts, models, signals, data, data, folder / "run", machine, talk)
    loop = Timed(job)
    loop.log = None
    number = [s.name for s in loop.stages].index(LOGITS[name][0] if name in LOGITS else loop.stages[0].name)
    loop._enter(number, None)
    loop.state.stage = number
    if name in WRITERS:
        loop.state.step = 1
    return loop, number


def compare(name: str, rounds: int, count: int, folder: Path) -> list[float]:
    """Engine over reference, a ratio a round; each round times every batch once on each side, by turns."""
    many, teacher = rows(32 * count), bert(6, 1).eval()
    data, student = encoded(many), bert(2, 2)
    mine, theirs = copy.deepcopy(student), copy.deepcopy(student).train()
    loop, number = engine(name, folder, data, mine, teacher, count)
    order = np.argsort(data.lengths, kind="stable").reshape(count, 32)
    live = Live(teacher)
    loss = LOGITS[name][1] if name in LOGITS else getattr(live, name)
    batches = [data.batch(index) for index in order]
    with torch.no_grad():
        given = [teacher(**b.inputs).logits for b in batches]
    parameters = [*theirs.parameters(), *(live.maps.parameters() if name == "hidden_states" else ())]
    optimizer = torch.optim.AdamW(parameters, lr=5e-5, weight_decay=0.0, fused=True)

    def reference(i: int) -> None:
        value = loss(theirs, {"inputs": batches[i].inputs, "labels": batches[i].gold}, given[i])  # type: ignore[dict-item]
        optimizer.zero_grad(set_to_none=True)
        value.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()

    def ours(i: int) -> None:
        loop._step(loop.stages[number], data, order[i])
        loop.state.step, loop.state.total = loop.state.step + 1, loop.state.total + 1

    ratios = []
    for turn in range(rounds + 1):
        taken = [0.0, 0.0]
        for i in range(count):
            for side in ((0, 1), (1, 0))[i % 2]:
                begun = time.perf_counter()
                (ours, reference)[side](i)
                taken[side] += time.perf_counter() - begun
        if turn:
            ratios.append(taken[0] / taken[1])
        loop.state.step = int(name in WRITERS)
    return ratios


def refreshes(rounds: int, count: int, folder: Path) -> list[float]:
    """Engine over reference, a ratio a round, of making backward-pass KD's rows anew; both take the same batches."""
    data, teacher, student = encoded(rows(32 * count)), bert(6, 1).eval(), bert(2, 2)
    loop, number = engine("backward", folder, data, student, teacher, count)
    live, theirs = Live(teacher), copy.deepcopy(student).eval().requires_grad_(False)
    many = [data.batch(index) for index in canonical(data.lengths)]
    loop.state.epoch, ratios = 1, []

    def ours() -> None:
        loop.state.augmented = None
        loop._refresh(loop.stages[number])

    for turn in range(rounds + 1):
        taken = []
        for call in (ours, lambda: live.moved(theirs, many)):
            begun = time.perf_counter()
            call()
            taken.append(time.perf_counter() - begun)
        if turn:
            ratios.append(taken[0] / taken[1])
    return ratios


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--methods", default=",".join([*LOGITS, "hidden_states", "relations", *WRITERS, "backward"]))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=8, help="optimizer steps of each side in a round")
    given = parser.parse_args()
    print("| method | engine over reference |\n|---|---|")
    for name in given.methods.split(","):
        with tempfile.TemporaryDirectory() as folder:
            found = (refreshes if name == "backward" else functools.partial(compare, name))(given.rounds, given.steps, Path(folder))
        print(f"| {name} | {statistics.median(found):.3f} ({min(found):.3f}-{max(found):.3f}) |", flush=True)


if __name__ == "__main__":
    main()
