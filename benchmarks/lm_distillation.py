"""One step of distilling a language model: the ways people use today beside ours, by turns in one process.

    pip install trl==1.16.0
    python benchmarks/lm_distillation.py --tokens 512 --rows 2 --rounds 5

Teacher and student have SmolLM2's shape with random weights, in float32 or under autocast (`--bfloat16`); the student's 12 of 30 layers
echo (`--layers` for fewer).
A step is the teacher's pass, the student's pass, KL(teacher || student) over the vocabulary and the backward pass; no optimizer,
which is the same for all. All systems see the same tokens; their losses are compared before anything is timed.

- plain: whole logits of both models, torch's kl_div on their log-softmax.
- trl: whole logits of both models, the dense loss of TRL's GKDTrainer (`beta=0`, `reduction` as it is).
- live: ours, hidden states in and tiles of logits, the teacher beside the student.
- cached: ours with the teacher's hidden states at hand; likeliest: with its 32 likeliest tokens; drawn: with 12 drawn ones.
- bound: no system but a limit, what a loss that costs nothing would leave of live and of cached: both passes and all products with the
  heads, without softmax, logarithm or sum.

`tokens/s` is of whole steps. `loss MiB` is the most memory that the loss and its backward pass to the hidden states take beyond
both models' hidden states. Every ratio is within a round, to `trl` where it is there, else to `plain`: median (lowest to highest).
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from echoatt import SHAPES, entries
from memory import peak
from torch.nn import functional as F
from transformers import LlamaConfig, LlamaForCausalLM

from tutelage import losses
from tutelage.engine import few
from tutelage.engine.forward import forward
from tutelage.engine.tiles import loss_of
from tutelage.methods._method import over_rows
from tutelage.models import echoes
from tutelage.rows import LAST_STATES, OutputLayer, Rows, Seen, Sparse, States, Term

FEW = {"likeliest": few.Few("likeliest", 32, 1.0), "drawn": few.Few("drawn", 12, 1.0)}
BOUNDS = ("bound live", "bound cached")
Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""From the student's and the teacher's logits, (rows, tokens, vocabulary) each."""


class Vocabulary:
    """What the terms ask of a task: every place is a row."""

    def rows(self, seen: Seen, batch: None) -> list[Rows]:
        states = seen.outputs[LAST_STATES]
        return [Rows(states if isinstance(states, Sparse) else States(states.flatten(0, 1), seen.head), "choice", unit="token")]  # type: ignore[arg-type]


class Look:
    task, batch = Vocabulary(), None


def plain(s: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    return F.kl_div(s.log_softmax(-1), t.log_softmax(-1), reduction="sum", log_target=True) / s.shape[:-1].numel()


def trl(s: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    from trl.experimental.gkd import GKDTrainer

    return GKDTrainer.generalized_jsd_loss(s, t, torch.zeros(s.shape[:-1], dtype=torch.long), beta=0)


def free(s: torch.Tensor, t: torch.Tensor, **_: Any) -> torch.Tensor:
    """No loss, in the form of one: a number a row and a gradient for all logits."""
    return s[:, 0]


def ours(student: torch.Tensor, head: Any, teacher: Any, loss: Any = losses.soft_targets) -> torch.Tensor:
    seen, theirs = Seen({LAST_STATES: student}, head=head), Seen({LAST_STATES: teacher[0]}, head=teacher[1])
    term: Term = over_rows(loss, seen, theirs, Look())  # type: ignore[arg-type]
    return loss_of({"soft": term}, {"token": float(student.shape[:-1].numel())})[0]


def systems(given: argparse.Namespace) -> tuple[dict[str, Callable[[], float]], dict[str, Callable[[], None]]]:
    """Whole steps by system, each giving its loss, and the loss with its backward pass alone."""
    shape = SHAPES["smollm2"] | ({"num_hidden_layers": given.layers} if given.layers else {})
    torch.manual_seed(0)
    teacher = LlamaForCausalLM(LlamaConfig(**shape)).eval().requires_grad_(False)
    student = echoes.convert(teacher, entries(shape["num_hidden_layers"], 0.4)).train().requires_grad_(True)
    ids = torch.randint(5, 1000, (given.rows, given.tokens))
    known = forward(teacher, {"input_ids": ids}, [LAST_STATES])
    kept: dict[str, Any] = {"cached": (known.outputs[LAST_STATES], known.head)}
    kept["bound cached"] = kept["cached"]
    for name, signal in FEW.items():
        kept[name] = (signal.stored(signal.make(known, np.arange(given.rows)).flatten(0, 1)), None)
    dense: dict[str, Loss] = {"plain": plain} | ({"trl": trl} if importlib.util.find_spec("trl") else {})

    def loss_by(name: str) -> torch.Tensor:
        if name in dense:
            with torch.no_grad():
                theirs = teacher(ids, use_cache=False).logits
            return dense[name](student(ids, use_cache=False).logits, theirs)
        told = kept.get(name)
        if told is None:
            with torch.no_grad():
                live = forward(teacher, {"input_ids": ids}, [LAST_STATES])
            told = live.outputs[LAST_STATES], live.head
        own = forward(student, {"input_ids": ids}, [LAST_STATES])
        return ours(own.outputs[LAST_STATES], own.head, told, free if name in BOUNDS else losses.soft_targets)  # type: ignore[arg-type]

    def step(name: str) -> float:
        student.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=given.bfloat16):
            loss = loss_by(name)
        loss.backward()
        return float(loss.detach())

    own = forward(student, {"input_ids": ids}, [LAST_STATES])

    def alone(name: str) -> None:
        states, head = own.outputs[LAST_STATES].detach().requires_grad_(), OutputLayer(own.head.weight.detach().requires_grad_())  # type: ignore[union-attr]
        if name in dense:
            with torch.no_grad():
                theirs = known.head(known.outputs[LAST_STATES])  # type: ignore[misc]
            dense[name](head(states), theirs).backward()
        else:
            ours(states, head, kept.get(name, kept["cached"])).backward()

    names = [*dense, "live", *kept, "bound live"]
    return {n: lambda n=n: step(n) for n in names}, {n: lambda n=n: alone(n) for n in names if n not in BOUNDS}  # type: ignore[misc]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=int, default=2)
    parser.add_argument("--tokens", type=int, default=512)
    parser.add_argument("--layers", type=int, help="fewer layers of the shape")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--bfloat16", action="store_true")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    if given.threads:
        torch.set_num_threads(given.threads)
    steps, alone = systems(given)
    values = {name: call() for name, call in steps.items()}
    exact = [values[n] for n in values if n not in (*FEW, *BOUNDS)]
    apart = 5e-3 if given.bfloat16 else 1e-4 * max(map(abs, exact)) + 1e-6
    assert max(exact) - min(exact) < apart, values
    memory = {name: peak(call) for name, call in alone.items()}
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(given.rounds):
        for name, call in steps.items():
            began = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - began)
    base = "trl" if "trl" in times else "plain"
    rows = []
    for name, taken in times.items():
        ratios = np.array(times[base]) / np.array(taken)
        speed = given.rows * given.tokens / float(np.median(taken))
        row: dict[str, Any] = {"system": name, "tokens/s": round(speed, 1)}
        if name not in BOUNDS:
            row |= {"loss MiB": round(memory[name] or 0), "loss": values[name]}
        rows.append(row | {f"x {base}": [round(float(x), 3) for x in (np.median(ratios), ratios.min(), ratios.max())]})
        print(rows[-1], flush=True)
    if given.json:
        given.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
