"""What training on judged answers does to a small model's citations: SmolLM2-135M before and after, on HAGRID's questions.

    python benchmarks/cited_answers.py --data DATA --out RUNS [--threads 1]

Both models answer every question of dev, greedily, with both prompts. The training sees train's answers that people found informative
and attributable, once. Support is decided by word overlap and by a judge fitted on train's labels, each named. `always [1]` and `random`
are the trained model's own words with other citations. Differences are paired by answer; intervals draw questions. Every step is kept
in --out, and the same command goes on.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import fitted_judge
import numpy as np

import tutelage
from tutelage.answers import collect, export, lexical, scores, writers
from tutelage.answers.store import Store
from tutelage.cited import citations, hagrid

RECIPE = {
    "student": {"model": "smollm2"},
    "method": "finetune",
    "train": {"epochs": 1, "batch_size": 4, "learning_rate": 1e-4, "decay": "cosine"},
    "seed": 1,
}
DRAWS = 2000
COLUMNS = ("cites", "dangles", "words", "rouge_l", "f1 by overlap", "f1 by fitted")


def answered(data: Path, out: Path, name: str, model: str, tokens: int, threads: int | None) -> list[hagrid.Question]:
    """Dev's questions with a model's answers."""
    store = Store(str(out / f"{name}.db"))
    collect.add(store, [q.model_copy(update={"answers": []}) for q in hagrid.read(data / "dev.jsonl")[0]])
    plan = collect.Plan(tokens=tokens)
    if collect.jobs(store, plan, model):
        facts = collect.collect(store, writers.Local(model, threads=threads), plan)
        print(json.dumps({name: facts}))
    export.write(store, out / name)
    return hagrid.read(out / name / "answers.jsonl")[0]


def cited_otherwise(questions: list[hagrid.Question], how: str) -> list[hagrid.Question]:
    """The same words with other citations: [1] behind every segment, or a quote drawn for each."""
    draw, out = np.random.default_rng(0), []
    for question in questions:
        answers = []
        for answer in question.answers:
            parts = [s.text for s in answer.sentences] or citations.segments(answer.answer)
            said = []
            for part in parts:
                number = 1 if how == "always [1]" else int(draw.integers(len(question.quotes))) + 1
                words = citations.without(part).rstrip(" .")
                said.append(f"{words} [{number}].")
            segments = [hagrid.Segment(text=text, index=i) for i, text in enumerate(said)]
            answers.append(answer.model_copy(update={"answer": " ".join(said), "sentences": segments}))
        out.append(question.model_copy(update={"answers": answers}))
    return out


def table_of(questions: list[hagrid.Question], references: dict[str, list[str]], judges: dict[str, scores.Judge]) -> dict[str, np.ndarray]:
    """(answers,) of each figure, in the order of the questions and their answers."""
    flat = [(q, a) for q in questions for a in q.answers]
    many = [scores.statements(q, a) for q, a in flat]
    found = {
        "cites": [any(s.sources for s in one) for one in many],
        "dangles": [any(s.dangling for s in one) for one in many],
        "words": [len(citations.without(a.answer).split()) for _, a in flat],
        "rouge_l": scores.near(flat, references)["rouge_l"],
        **{f"f1 by {name}": [row["f1"] for row in scores.support(many, judge)] for name, judge in judges.items()},
    }
    return {name: np.asarray(values, dtype=np.float64) for name, values in found.items()}


def interval(values: np.ndarray, groups: np.ndarray) -> tuple[float, float, float]:
    found = scores.mean(values, np.unique(groups, return_inverse=True)[1], DRAWS)
    return found["value"], found["low"], found["high"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with HAGRID's train.jsonl and dev.jsonl")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--tokens", type=int, default=200)
    parser.add_argument("--threads", type=int)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    task = {"kind": "cited_answers", "train": str(given.data / "train.jsonl"), "test": str(given.data / "dev.jsonl")}
    student = tutelage.distill({**RECIPE, "task": task, "threads": given.threads}, out=given.out / "run").student
    answers = {
        "untrained": answered(given.data, given.out, "untrained", "smollm2", given.tokens, given.threads),
        "trained": answered(given.data, given.out, "trained", str(student), given.tokens, given.threads),
    }
    answers |= {how: cited_otherwise(answers["trained"], how) for how in ("always [1]", "random")}
    fitted = fitted_judge.Fitted.fit(*fitted_judge.labelled(hagrid.read(given.data / "train.jsonl")[0]))
    judges: dict[str, scores.Judge] = {"overlap": lexical.Lexical(), "fitted": fitted}
    references = scores.references_of(hagrid.read(given.data / "dev.jsonl")[0])
    tables = {name: table_of(questions, references, judges) for name, questions in answers.items()}
    owners = {name: [q for q in questions for _ in q.answers] for name, questions in answers.items()}
    ids = np.array([q.query_id for q in owners["trained"]])
    several = np.array([len(q.quotes) > 1 for q in owners["trained"]])
    for title, keep in (("all questions", np.ones_like(several)), ("several quotes", several), ("one quote", ~several)):
        print(f"\n{title}: {len(set(ids[keep]))} questions, {keep.sum()} answers\n| | " + " | ".join(COLUMNS) + " |")
        for name, table in tables.items():
            if len(table["cites"]) != len(keep):
                print(f"| {name} | {len(table['cites'])} answers of {len(keep)}: some requests failed; run again |")
                continue
            cells = ["{:.3f} ({:.3f} to {:.3f})".format(*interval(table[c][keep], ids[keep])) for c in COLUMNS]
            print(f"| {name} | " + " | ".join(cells) + " |")
        for other in ("untrained", "always [1]", "random"):
            if len(tables[other]["cites"]) == len(keep):
                gaps = {c: interval((tables["trained"][c] - tables[other][c])[keep], ids[keep]) for c in COLUMNS[3:]}
                print(f"trained less {other}: " + "; ".join("{} {:+.3f} ({:+.3f} to {:+.3f})".format(c, *gap) for c, gap in gaps.items()))


if __name__ == "__main__":
    main()
