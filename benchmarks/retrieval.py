"""How well and how fast passages are found: by words, by vectors, by both; on HAGRID's questions with MIRACL's judgements.

    python benchmarks/retrieval.py --data ../data --out runs/retrieval --tune     # the fair choices, on train.jsonl's questions alone
    python benchmarks/retrieval.py --data ../data --out runs/retrieval            # the chosen settings, on all questions

`--data` holds `hagrid/passages.jsonl`, `hagrid/train.jsonl`, `hagrid/dev.jsonl` (query_id, query) and
`hagrid/miracl-en/qrels.miracl-v1.0-en-dev.tsv`. Every question is searched for among all passages, not only its own judged ones;
passages that nobody judged for it count as irrelevant. Metrics are ir_measures', each with a 95 % bootstrap interval over
questions; differences are of the same questions. Both searches and builds are timed on one thread; indexes stay in `--out` and are
used again.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import ir_measures
import numpy as np
import torch
from ir_measures import RR, R, nDCG

from tutelage import records
from tutelage.answers.passages import Passages
from tutelage.answers.ranking import Fusion, Hit, fused
from tutelage.answers.retrieve import Index, Making
from tutelage.engine.talk import Console

METRICS = {"nDCG@10": nDCG @ 10, "recall@10": R @ 10, "MRR@10": RR @ 10}
WAYS = ("text", "vector", "hybrid")
DRAWS = 10_000
KS, WEIGHTS, DEPTHS = (1, 3, 5, 10, 20, 60), (0.5, 0.6, 0.65, 0.7, 0.75, 0.8), (20, 100)
WORDS: list[dict[str, Any]] = [{"stem": a, "stop_words": b} for a in (True, False) for b in (True, False)]


def questions(data: Path, split: str) -> dict[str, str]:
    """The questions of a part, by id."""
    return {row["query_id"]: row["query"] for row in records.rows(data / "hagrid" / f"{split}.jsonl")}


def judgements(data: Path, wanted: Sequence[str]) -> dict[str, dict[str, int]]:
    """Relevance by question and docid."""
    out: dict[str, dict[str, int]] = {one: {} for one in wanted}
    for line in (data / "hagrid/miracl-en/qrels.miracl-v1.0-en-dev.tsv").read_text(encoding="utf-8").splitlines():
        question, _, docid, relevance = line.split("\t")
        if question in out:
            out[question][docid] = int(relevance)
    return out


def index(given: argparse.Namespace, making: Making) -> tuple[Index, float]:
    """An index of all passages, found again in the folder or built; and the seconds of an undisturbed build, else NaN."""
    place = given.out / records.digest(dataclasses.asdict(making))[:12]
    new, start = not place.exists(), time.perf_counter()
    made = Index.build(place, Passages(given.data / "hagrid/passages.jsonl"), making, talk=Console())
    seconds = time.perf_counter() - start
    if new:
        records.write_json(place / "built.json", seconds)
    return made, records.read_json(place / "built.json") if (place / "built.json").exists() else float("nan")


def values(found: dict[str, list[Hit]], truth: dict[str, dict[str, int]]) -> dict[str, np.ndarray]:
    """Each metric by question, in the order of `truth`."""
    run = {question: {hit.docid: float(len(hits) - i) for i, hit in enumerate(hits)} for question, hits in found.items()}
    by = {(one.query_id, str(one.measure)): one.value for one in ir_measures.iter_calc(list(METRICS.values()), truth, run)}
    return {name: np.array([by.get((question, str(measure)), 0.0) for question in truth]) for name, measure in METRICS.items()}


def interval(each: np.ndarray) -> str:
    """The mean over questions and its percentile bootstrap interval."""
    rng = np.random.default_rng(0)
    means = [each[rng.integers(0, len(each), len(each))].mean() for _ in range(DRAWS)]
    low, high = np.percentile(means, [2.5, 97.5])
    return f"{each.mean():.4f} ({low:.4f} to {high:.4f})"


def tune(given: argparse.Namespace) -> Iterator[str]:
    """The choices on train's questions: those of the full text, those of the vectors, and all fusions of their lists."""
    asked = questions(given.data, "train")
    truth = judgements(given.data, list(asked))

    def lists(making: Making, by: Any) -> dict[str, list[Hit]]:
        return dict(zip(asked, index(given, making)[0].search(list(asked.values()), 100, by), strict=True))

    def line(what: str, found: dict[str, list[Hit]]) -> tuple[float, str]:
        got = {name: each.mean() for name, each in values(found, truth).items()}
        return got["nDCG@10"], f"| {what} | " + " | ".join(f"{value:.4f}" for value in got.values()) + " |"

    texts, vectors = {}, {}
    for settings in [*WORDS, *({"title_times": times} for times in (0, 1, 2, 3))]:
        name = ", ".join(f"{k}={v}" for k, v in settings.items())
        texts[name] = lists(Making(tokens=4, **settings), "text")  # four tokens: vectors are not looked at
        yield line(f"text: {name}", texts[name])[1]
    for titled in (True, False):
        vectors[f"titled={titled}"] = lists(Making(titled=titled), "vector")
        yield line(f"vector: titled={titled}", vectors[f"titled={titled}"])[1]
    both = []
    for text, vector, k, weight, depth in itertools.product([x for x in texts if "title" in x], vectors, KS, WEIGHTS, DEPTHS):
        fusion = Fusion(k=k, vector=weight, depth=depth)
        found = {q: fused(texts[text][q], vectors[vector][q], fusion)[:100] for q in asked}
        both.append(line(f"hybrid: {text}, {vector}, k={k}, vector={weight}, depth={depth}", found))
    yield from (row for _, row in sorted(both, reverse=True)[: given.best])
    yield from (row for _, row in sorted(both, reverse=True) if ", k=60, vector=0.5, depth=100" in row)


def report(given: argparse.Namespace) -> Iterator[str]:
    """The chosen settings on dev's, train's and all questions."""
    made, seconds = index(given, Making())
    made.search(["warm up"])
    yield f"{len(made)} passages, built in {seconds:.0f} s ({Fusion()})"
    by_split, truths = {}, {}
    for split in ("train", "dev"):
        asked = questions(given.data, split)
        truths[split] = judgements(given.data, list(asked))
        for way in WAYS:
            start = time.perf_counter()
            hits = made.search(list(asked.values()), 10, way)  # type: ignore[arg-type]
            yield f"{split}, {way}: {len(asked) / (time.perf_counter() - start):.0f} questions a second, asked together"
            by_split[split, way] = values(dict(zip(asked, hits, strict=True)), truths[split])
    start = time.perf_counter()
    for question in asked.values():
        made.search([question])
    yield f"hybrid, one by one: {len(asked) / (time.perf_counter() - start):.0f} questions a second"
    for parts in (("dev",), ("train",), ("train", "dev")):
        each = {way: {name: np.concatenate([by_split[part, way][name] for part in parts]) for name in METRICS} for way in WAYS}
        yield f"\n{' and '.join(parts)}: {sum(len(truths[part]) for part in parts)} questions\n\n| | {' | '.join(METRICS)} |"
        yield "|---|" + "---|" * len(METRICS)
        for way in WAYS:
            yield f"| {way} | " + " | ".join(interval(each[way][name]) for name in METRICS) + " |"
        for way in WAYS[:2]:
            yield f"| hybrid less {way} | " + " | ".join(interval(each["hybrid"][name] - each[way][name]) for name in METRICS) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of public data")
    parser.add_argument("--out", type=Path, default=Path("runs/retrieval"), help="where indexes are kept")
    parser.add_argument("--tune", action="store_true", help="try the choices, on train's questions")
    parser.add_argument("--best", type=int, default=20, help="how many fusions are shown")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    for row in tune(given) if given.tune else report(given):
        print(row, flush=True)


if __name__ == "__main__":
    main()
