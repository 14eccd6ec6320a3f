"""The one loop: stages, turns and steps of a method, resumable anywhere, exact however a step is cut.

An optimizer step's terms are sums divided by counts that are known from the data before the first forward pass, so that
micro-batches, processes and padding do not change the gradient. Every step draws its randomness from the seed and its own
number; nothing else needs to be saved for a replay to end in the same weights.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from .. import records
from ..errors import ConfigError, RunError
from ..methods._method import Progress, See, Stage
from ..rows import Batch
from ..seeds import by_row, stream
from ..tasks._task import Encoded
from . import augment, batches, course, optim
from .cast import NOBODY, Cast, Job
from .checkpoint import ANCHOR, INIT, Checkpoints, State
from .forward import move
from .judge import seen_by
from .talk import Advance
from .tiles import loss_of

LOG_EVERY = 10
MEASURE = "measure."
"""Begins the names of what is logged beside the losses."""
LOG = "steps.jsonl"
"""The step log's name in a training's folder."""


class Loop:
    """One training. `run` carries it to its end, from its last checkpoint if there is one."""

    def __init__(self, job: Job):
        self.job, self.machine = job, job.machine
        self.dtype = self.machine.precision(job.training.precision)
        self.stages = job.method.stages(job.facts)
        self.cast = Cast(job, self.stages, self.dtype)
        self.models, self.maps = self.cast.models, self.cast.maps
        self.checkpoints = Checkpoints(job.folder / "checkpoints", job.folder / LOG, lambda text: job.talk.say(f"{job.title}: {text}"))
        self.state = State()
        self.optimizers: dict[int, torch.optim.Optimizer] = {}
        self.columns = augment.Columns(job.train, self.machine, self.dtype)
        self.order: list[np.ndarray] = []
        self.planned: tuple[int, int] | None = None
        self.log: records.Log | None = None
        self.note = ""
        self.losses: dict[str, list[torch.Tensor]] = {}
        self.bad = torch.zeros((), dtype=torch.bool, device=self.machine.device)

    # ---- the whole course

    def run(self) -> State:
        """Train to the end; the roles' models then hold the selected weights. Raises RunError when a loss is not finite."""
        job = self.job
        loaded = self.checkpoints.load()
        if loaded:
            self.state = loaded[0]
            job.talk.say(f"{job.title}: goes on from step {self.state.total}")
        self.log = records.Log(job.folder / LOG, self.state.log) if self.machine.main else None
        self.began, self.saved_at, self.save_cost = time.monotonic() - self.state.seconds, time.monotonic(), 0.0
        total = sum(stage.steps for stage in self.stages)
        with job.talk.task(job.title, total, self.state.total) as advance:
            for number in range(self.state.stage, len(self.stages)):
                self._enter(number, loaded[1] if loaded else None)
                loaded = None
                self._stage(self.stages[number], advance)
        self.cast.own()
        if job.training.select == "best":
            self._select(_judged(self.stages[-1]), self.state.best.get(""))
        self.state.seconds = time.monotonic() - self.began
        if self.log:
            self.log.close()
        return self.state

    def _enter(self, number: int, tensors: dict[str, torch.Tensor] | None) -> None:
        """Begin a stage, or take it up again from a checkpoint's tensors."""
        stage, state = self.stages[number], self.state
        self.cast.own()
        if tensors is None and number > 0:
            before = self.stages[number - 1]
            if (judged := _judged(before)) != "student" and self.job.training.select == "best":
                self._select(judged, state.best.get(before.name))
            state.stage, state.step, state.epoch, state.position, state.looks_without, state.augmented = number, 0, 0, 0, 0, None
            if stage.start_from == "init":
                self._put_back({f"role.student.{k}": v for k, v in self._kept(INIT).items()})
            elif stage.start_from != "last":
                wanted = before.name if stage.start_from == "best" else stage.start_from.removesuffix(":best")
                self._select("student", state.best.get(wanted))
        elif tensors is None and any(s.start_from == "init" for s in self.stages):
            self._keep(INIT, self.models["student"].state_dict())
        if number == 0 or stage.optimizer == "fresh" or not self.optimizers:
            self.optimizers = {i: optim.build(self.cast.parameters(turn), self.job.training) for i, turn in enumerate(stage.turns)}
        if tensors is not None:
            self._put_back(tensors)
        self.columns.take(self._kept(state.augmented["file"]) if state.augmented and stage.augment else {})
        self.cast.enter(stage)
        if tensors is None:
            self._say(stage)

    def _say(self, stage: Stage) -> None:
        """What a stage settled by itself, and what it warns of."""
        lines = [f"takes {name} {value}" for name, value in stage.settled.items()]
        if self.cast.scale:
            lines.append(f"finds the mean squared norm of the teacher's logits to be {self.cast.scale:.4g}")
        for line in (*lines, *(f"warns: {warning}" for warning in stage.warnings)):
            self.job.talk.say(f"{self.job.title}: stage '{stage.name}' {line}")

    def _stage(self, stage: Stage, advance: Advance) -> None:
        state, job = self.state, self.job
        every, patience = job.training.evaluate_every, job.training.patience
        while state.step < stage.steps:
            if patience and state.looks_without >= patience:
                job.talk.say(
                    f"{job.title}: stage '{stage.name}' stopped at step {state.step}, {patience} looks at dev without a better score"
                )
                return advance(stage.steps - state.step, self.note)
            self._refresh(stage)
            if (planned := (state.stage, state.epoch)) != self.planned:
                own, training = stream(job.seed, "rows", stage.name), job.training
                self.order = batches.epoch(job.train.lengths, training.batch_size, bucket=training.bucket, seed=own, number=state.epoch)
                self.planned = planned
            self._step(stage, self.columns.rows, self.order[state.position])
            state.step, state.position, state.total = state.step + 1, state.position + 1, state.total + 1
            if epoch_over := state.position == len(self.order):
                state.epoch, state.position = state.epoch + 1, 0
            if state.step == stage.steps or (state.step % every == 0 if every else epoch_over):
                self._look(stage)
            advance(1, self.note)
            self._anchor()
            self._autosave()
            job.on_step(state)

    # ---- one optimizer step

    def _step(self, stage: Stage, encoded: Encoded, rows: np.ndarray) -> None:
        """One optimizer step on these rows, cut into micro-batches and over processes."""
        job, state = self.job, self.state
        number = course.turn_at(stage, state.step)
        turn = stage.turns[number]
        self.cast.train(turn)
        torch.manual_seed(stream(job.seed, "step", stage.name, state.step, self.machine.rank))
        drawn, seed = (stream(job.seed, what, stage.name, state.step) for what in ("view", "rows"))
        totals = job.task.counts(encoded, rows)
        chunks = batches.split(rows, self.machine.processes, self.machine.rank, job.training.micro_batch)
        whole = len(chunks) == 1 and self.machine.processes == 1
        optimizer = self.optimizers[number]
        optimizer.zero_grad(set_to_none=True)
        sums: dict[str, torch.Tensor] = {}
        for chunk in chunks:
            batch = job.task.view(move(encoded.batch(chunk), self.machine.device), by_row(drawn, chunk) if job.task.varies else None)
            with self.machine.autocast(self.dtype):
                see = self.cast.see(stage, turn, batch, encoded, self._progress(stage), seed)
                see.once = self.columns.once
                terms = turn.terms(see)
            if split := [name for name, term in terms.items() if term.scope == "step" and not whole]:
                why = f"term '{split[0]}' compares the examples of a step, which cannot be split"
                raise ConfigError(f"train.micro_batch: {why}; use one process and no micro_batch")
            with self.machine.autocast(self.dtype):
                loss, shares = loss_of(terms, totals)
            for name, share in shares.items():
                key = MEASURE + name if terms[name].measure else name
                sums[key] = sums.get(key, 0) + share
            if loss.requires_grad:
                loss.backward()
        parameters = [p for g in optimizer.param_groups for p in g["params"]]
        self.machine.sum_gradients(parameters)
        norm = nn.utils.clip_grad_norm_(parameters, job.training.clip or float("inf"))
        self.bad |= ~torch.isfinite(norm) | ~torch.isfinite(sum(sums.values(), torch.zeros((), device=norm.device)))
        rate = course.rate(self.stages, state.stage, state.step, job.training)
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()
        for name, value in sums.items():
            self.losses.setdefault(name, []).append(value)
        if (state.total + 1) % LOG_EVERY == 0 or state.step + 1 == stage.steps:
            self._log(stage, rate)

    def _progress(self, stage: Stage) -> Progress:
        epochs = -(-stage.steps // self.job.facts.steps_per_epoch)
        return Progress(stage.name, self.state.step, stage.steps, self.state.epoch, epochs)

    # ---- looks at dev, logs, checkpoints

    def _look(self, stage: Stage) -> None:
        """Score the stage's student on dev; keep it if it is this stage's best."""
        job, state, role = self.job, self.state, _judged(stage)
        self.machine.share_buffers(self.models[role])
        if stage.judge:
            metrics = self._perplexity(stage)
            score, name = -metrics["loss"], "perplexity"
        else:
            seen = seen_by(self.models[role], job.dev, job.task, self.machine, self.dtype)
            task = job.task.calibrated(seen, job.dev)
            metrics = task.score(task.predict(seen, job.dev), task.truth(job.dev))
            name = job.task.primary
            score = metrics[name] * (-1 if job.task.less_is_better else 1)
        state.history.append({"stage": stage.name, "step": state.total, "epoch": state.epoch, "dev": metrics, "score": score})
        self.note = f"dev {name} {metrics[name]:.4f}"
        if stage.judge:
            job.talk.say(f"{job.title}: {role}, step {state.total}: dev perplexity {metrics['perplexity']:.2f}")
        self.machine.track({f"{job.title}/dev {k}": v for k, v in metrics.items()})
        entry: dict[str, Any] = {"score": score, "step": state.total, "file": f"best-{state.stage}-{state.total:09d}.safetensors"}
        keys = [stage.name, ""] if stage.select and role == _judged(self.stages[-1]) else [stage.name]
        better = [k for k in keys if k not in state.best or score > state.best[k]["score"]]
        state.looks_without = 0 if stage.name in better or not stage.select else state.looks_without + 1
        for key in better:
            state.best[key] = entry
        wanted = job.training.select == "best" or any(s.start_from.endswith("best") for s in self.stages)
        if better and wanted:
            self._keep(entry["file"], self.models[role].state_dict())

    def _perplexity(self, stage: Stage) -> dict[str, float]:
        """A stage's own measure over dev: the mean loss in nats, and its exponential."""
        assert stage.judge is not None
        self.cast.rest()
        total, count, seed = 0.0, 0.0, stream(self.job.seed, "dev")
        for rows in batches.canonical(self.job.dev.lengths):
            batch = self.job.task.view(move(self.job.dev.batch(rows), self.machine.device))
            with torch.no_grad(), self.machine.autocast(self.dtype):
                loss, number = stage.judge(self.cast.see(stage, NOBODY, batch, self.job.dev, self._progress(stage), seed))
            total, count = total + float(loss), count + float(number)
        mean = total / max(count, 1.0)
        return {"loss": mean, "perplexity": math.exp(min(mean, 700.0))}

    def _select(self, role: str, best: dict[str, Any] | None) -> None:
        """Put a role's best weights back."""
        if best is None or best["step"] == self.state.total:
            return
        self.machine.wait()
        self.models[role].load_state_dict(self._kept(best["file"]))

    def _log(self, stage: Stage, rate: float) -> None:
        means = {name: float(self.machine.total(torch.stack(values).mean())) for name, values in self.losses.items()}
        self.losses = {}
        self._finite(stage, means)
        measures = {name.removeprefix(MEASURE): means.pop(name) for name in [*means] if name.startswith(MEASURE)}
        if self.log:
            row = {"step": self.state.total + 1, "stage": stage.name, "rate": rate, "losses": means}
            self.log.add(row | ({"measures": measures} if measures else {}))
        shown = {**means, **measures, "rate": rate, "step": self.state.total + 1}
        self.machine.track({f"{self.job.title}/{k}": v for k, v in shown.items()})

    def _finite(self, stage: Stage, means: Mapping[str, float]) -> None:
        if bool(self.bad):
            terms = ", ".join(f"{n} {v:.4g}" for n, v in means.items())
            where = f"stage '{stage.name}', step {self.state.step + 1}"
            mend = "lower train.learning_rate, set train.clip or train.precision=float32; the last good checkpoint is kept"
            raise RunError(f"{self.job.title}: the loss or its gradient is not a finite number by {where} ({terms}); {mend}")

    def _anchor(self) -> None:
        """Keep the weights where the way to the finished model is marked."""
        total = sum(stage.steps for stage in self.stages)
        marks = [k * total // self.job.anchors for k in range(1, self.job.anchors)] if self.job.anchors else []
        if self.state.total in marks:
            self._keep(f"{ANCHOR}{marks.index(self.state.total) + 1}.safetensors", self.models["student"].state_dict())

    def _keep(self, name: str, tensors: dict[str, torch.Tensor]) -> None:
        """Write tensors beside the checkpoints, and note their digest in the state of every process."""
        self.state.files[name] = self.machine.broadcast(self.checkpoints.keep(name, tensors) if self.machine.main else None)

    def _kept(self, name: str) -> dict[str, torch.Tensor]:
        return self.checkpoints.kept(name, self.state.files[name])

    def _autosave(self) -> None:
        """Save when it is time: `autosave` seconds after the last one, or later where saving takes more than 1 % of the time."""
        wait = max(self.job.autosave, 100 * self.save_cost) if self.job.autosave else 0.0
        if not self.machine.broadcast(time.monotonic() - self.saved_at >= wait):
            return
        self._finite(self.stages[self.state.stage], {})
        if self.machine.main:
            started = time.monotonic()
            self.state.seconds = started - self.began
            if self.log:
                self.state.log, self.state.log_sha256 = self.log.mark(), self.log.digest
            self.checkpoints.save(self.state, self._tensors())
            self.save_cost = time.monotonic() - started
        self.machine.wait()
        self.saved_at = time.monotonic()

    def _tensors(self) -> dict[str, torch.Tensor]:
        out = {f"role.{role}.{k}": v for role, model in self.models.items() for k, v in model.state_dict().items()}
        out |= {f"maps.{k}": v for k, v in self.maps.state_dict().items()}
        for number, optimizer in self.optimizers.items():
            out |= {f"optimizer.{number}.{k}": v for k, v in optim.state(optimizer).items()}
        out |= {f"losses.{n}": torch.stack(v) for n, v in self.losses.items() if v}
        return out

    def _put_back(self, tensors: dict[str, torch.Tensor]) -> None:
        for role, model in self.models.items():
            if own := augment.below(tensors, f"role.{role}."):
                model.load_state_dict(own)
        if own := augment.below(tensors, "maps."):
            self.maps.load_state_dict(own)
        for number, optimizer in self.optimizers.items():
            if own := augment.below(tensors, f"optimizer.{number}."):
                optim.restore(optimizer, own)
        self.losses = {n: list(v.unbind()) for n, v in augment.below(tensors, "losses.").items()}

    def _refresh(self, stage: Stage) -> None:
        """At the start of an epoch: make the method's columns anew when their life is over."""
        made, state, job = stage.augment, self.state, self.job
        if made is None or state.position or state.epoch < made.start or (state.epoch - made.start) % made.every:
            return
        if state.augmented and state.augmented["epoch"] == state.epoch:
            return
        torch.manual_seed(stream(job.seed, "augment", stage.name, state.epoch))
        self.cast.rest()
        seed = stream(job.seed, "augment rows", stage.name, state.epoch)

        def look(batch: Batch) -> See:
            see = self.cast.see(stage, NOBODY, job.task.view(batch), job.train, self._progress(stage), seed)
            see.stored, see.once = batch, self.columns.once
            return see

        tensors, measures = self.columns.make(made, self.cast.tables(stage), look)
        name = f"rows-{state.stage}-{state.epoch:06d}.safetensors"
        self._keep(name, tensors)
        state.augmented = {"file": name, "epoch": state.epoch}
        if measures and self.log:
            self.log.add({"step": state.total, "stage": stage.name, "losses": {}, "measures": measures})
        if said := made.report(measures):
            job.talk.say(f"{job.title}: {said}")


def _judged(stage: Stage) -> str:
    """The role that a stage's looks at dev score: the student where it is trained, else the last turn's."""
    roles = [turn.role for turn in stage.turns]
    return "student" if "student" in roles else roles[-1]
