"""A training step beside busy processes, by how its threads wait for each other.

    python benchmarks/threads.py --busy 0,1,2,4 --rounds 3

The step is the quickstart's: two layers of MiniLM's shape (random weights), 32 rows of 30 tokens, bfloat16 where the processor has
it. `torch's own` leaves OpenMP's wait policy alone, `passive` is what `import tutelage` sets, `one thread` computes on one. Each
measurement is a process of its own, and the ways alternate within a round. Beside N processes that do nothing but count, C cores
give this one a fair share of C / (C + N) of the machine; the last column is the speed over the speed alone, divided by that share.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from statistics import median

CORES = len(os.sched_getaffinity(0))
WAYS = {"torch's own": ({}, CORES), "passive": ({"OMP_WAIT_POLICY": "PASSIVE"}, CORES), "one thread": ({}, 1)}
SECONDS = 8.0


def step(threads: int) -> None:
    """Print the steps a second of this process."""
    import time

    import torch
    from transformers import BertConfig, BertForSequenceClassification

    from tutelage.engine.machine import computes_in_bfloat16

    torch.manual_seed(0)
    torch.set_num_threads(threads)
    shape = {"hidden_size": 384, "num_hidden_layers": 2, "num_attention_heads": 12, "intermediate_size": 1536}
    model = BertForSequenceClassification(BertConfig(num_labels=2, **shape))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    ids, labels = torch.randint(1000, 30000, (32, 30)), torch.randint(0, 2, (32,))
    autocast = computes_in_bfloat16(torch.device("cpu"))

    def one() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            loss = model(input_ids=ids, labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    for _ in range(3):
        one()
    done, began = 0, time.monotonic()
    while time.monotonic() - began < SECONDS:
        one()
        done += 1
    print(done / (time.monotonic() - began))


@contextlib.contextmanager
def busy(number: int) -> Iterator[None]:
    """Keep so many processes counting."""
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(number)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def measure(way: str) -> float:
    environment, threads = WAYS[way]
    plain = {k: v for k, v in os.environ.items() if k not in ("OMP_WAIT_POLICY", "OMP_NUM_THREADS")}
    # torch is loaded before tutelage, whose import would set the policy
    code = f"import sys, torch; sys.path.insert(0, {os.path.dirname(__file__)!r}); import threads; threads.step({threads})"
    found = subprocess.run([sys.executable, "-c", code], env=plain | environment, capture_output=True, text=True, check=True)
    return float(found.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--busy", default="0,1,2,4", help="numbers of busy processes; 0 is needed for the last column")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    numbers = [int(number) for number in given.busy.split(",")]
    speeds: dict[tuple[int, str], list[float]] = {}
    for _ in range(given.rounds):
        for number in numbers:
            with busy(number):
                for way in WAYS:
                    speeds.setdefault((number, way), []).append(measure(way))
    print("| busy processes | way | steps a second | over torch's own | over the fair share |", "|" + "---|" * 5, sep="\n")
    for (number, way), values in speeds.items():
        ratios = sorted(a / b for a, b in zip(values, speeds[number, "torch's own"], strict=True))
        share = CORES / (CORES + number)
        fair = f"{median(values) / median(speeds[0, way]) / share:.2f}" if (0, way) in speeds else ""
        ratio = f"{median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
        print(f"| {number} | {way} | {median(values):.2f} ({min(values):.2f} to {max(values):.2f}) | {ratio} | {fair} |")


if __name__ == "__main__":
    main()
