"""How much faster many examples are attacked at once than one by one, with equal results.

    python benchmarks/robustness.py runs/quickstart/student --suite words --examples 40 --json robustness.json

`one by one` takes an example to its end before the next and gives every model one text at a time, as attack toolkits do;
`by example` takes one example at a time and answers what it asks in a round together; `together` is what `tutelage robustness` does.
All carry out the same searches with the same models in float32, and what they find is compared example by example, in full. The head of
the masked language model is trained before the clock starts. Ways take turns, `--rounds` times; the ratio is of medians.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tutelage import records
from tutelage.engine.machine import Machine
from tutelage.engine.talk import Console, Talk
from tutelage.robustness import rounds, suites
from tutelage.robustness.attacking import WIDTH, Attacker
from tutelage.robustness.students import Student


class OneByOne(Attacker):
    """Answers every question by itself."""

    def answers(self, student: Student, filler: Any) -> Mapping[str, rounds.Answer]:
        def singly(answer: rounds.Answer) -> rounds.Answer:
            return lambda items: [answer([item])[0] for item in items]

        return {kind: singly(answer) for kind, answer in super().answers(student, filler).items()}


WAYS = {"one by one": (OneByOne, 1), "by example": (Attacker, 1), "together": (Attacker, WIDTH)}


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("student")
    parser.add_argument("--suite", default="words")
    parser.add_argument("--set", action="append", default=[], dest="changes")
    parser.add_argument("--examples", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--heads", type=Path, default=Path("runs/benchmark-robustness"), help="where a trained head is kept")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args(words)
    [suite] = suites.find([given.suite], [f"{given.suite}.attack.examples={given.examples}", *given.changes])
    student = Student.read("student", given.student, Machine(given.threads))
    ready = Attacker(suite, given.heads, Console())
    filler = ready.filler(student)
    seconds: dict[str, list[float]] = {way: [] for way in WAYS}
    found: dict[str, list[Any]] = {}
    for _ in range(given.rounds):
        for way, (kind, width) in WAYS.items():
            with tempfile.TemporaryDirectory() as place:
                attacker = kind(suite, Path(place), Talk(), width=width)
                attacker.fillers = ready.fillers
                began = time.perf_counter()
                attacker.tried(student, Path(place))
                seconds[way].append(time.perf_counter() - began)
                [file] = Path(place).glob("*.jsonl")
                found[way] = sorted(records.rows(file), key=lambda row: row["key"])
    rows = len(found["together"])
    rates = {way: rows / statistics.median(many) for way, many in seconds.items()}
    equal = {way: sum(a == b for a, b in zip(many, found["together"], strict=True)) for way, many in found.items()}
    facts = {
        "suite": given.suite, "examples": rows, "seconds": seconds, "examples_a_second": rates, "equal": equal,
        "ratio": {way: rates["together"] / rate for way, rate in rates.items()}, "perplexity": filler.perplexity if filler else None,
        "queries": sum(row["queries"] for row in found["together"]), "surroundings": records.surroundings(),
    }  # fmt: skip
    for way, rate in rates.items():
        print(f"{way:<12}{rate:8.3f} examples a second, together {facts['ratio'][way]:.2f}x, {equal[way]} of {rows} equal")
    if given.json:
        records.write_json(given.json, facts)
    else:
        print(json.dumps(facts))


if __name__ == "__main__":
    main()
