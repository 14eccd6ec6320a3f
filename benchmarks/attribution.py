"""How well judges tell whether segments are supported by the quotes they cite, on HAGRID's human labels.

    python benchmarks/attribution.py --data ../data

Segments of `hagrid/train.jsonl` and `hagrid/dev.jsonl` below `--data` that have an attributability label and cite a quote; both are
parts of the published development set. ROC-AUC with a 95 % interval that draws questions (2,000 draws), for all segments and for those
that cite one quote or several; and the threshold of the best balanced accuracy on train, with what it gives on both.
"""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path

import numpy as np
from sklearn.metrics import roc_auc_score

from tutelage.answers import lexical
from tutelage.cited import citations, hagrid

JOINS: tuple[lexical.Join, ...] = ("min", "mean", "max", "all")


def items(path: Path) -> list[tuple[str, str, list[str], int]]:
    """Question, segment, cited quotes and label."""
    out = []
    for question in hagrid.read(path)[0]:
        for segment in (s for a in question.answers for s in a.sentences if s.attributable is not None):
            places, _ = citations.cited(segment.text, len(question.quotes))
            if places:
                out.append((question.query_id, segment.text, [question.quotes[p].text for p in places], int(segment.attributable)))
    return out


def auc(labels: np.ndarray, scores: np.ndarray, groups: np.ndarray, draws: int = 2000) -> tuple[float, float, float]:
    """ROC-AUC and its interval; draws take whole questions."""
    rng, found = np.random.default_rng(0), []
    members = [np.flatnonzero(groups == g) for g in np.unique(groups)]
    for _ in range(draws):
        at = np.concatenate([members[i] for i in rng.integers(len(members), size=len(members))])
        if 0 < labels[at].sum() < len(at):
            found.append(roc_auc_score(labels[at], scores[at]))
    low, high = np.percentile(found, (2.5, 97.5))
    return float(roc_auc_score(labels, scores)), float(low), float(high)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of public data")
    given = parser.parse_args()
    parts = {name: items(given.data / "hagrid" / f"{name}.jsonl") for name in ("train", "dev")}
    parts["both"] = parts["train"] + parts["dev"]
    many = parts["both"]
    groups, labels = np.array([i[0] for i in many]), np.array([i[3] for i in many])
    single = np.array([len(i[2]) == 1 for i in many])
    print(f"{len(many)} segments of {len(set(groups))} questions, {labels.mean():.1%} supported; {single.sum()} cite one quote")
    print("| words | join | all segments | one quote | several |\n|---|---|---|---|---|")
    for content, join in itertools.product((False, True), JOINS):
        scores = np.array([lexical.attribution(text, sources, join=join, content=content) for _, text, sources, _ in many])
        cells = []
        for keep in (np.ones_like(single), single, ~single):
            middle, low, high = auc(labels[keep], scores[keep], groups[keep])
            cells.append(f"{middle:.3f} ({low:.3f} to {high:.3f})")
        print(f"| {'content' if content else 'all'} | {join} | {' | '.join(cells)} |")
    for join in ("min", "all"):
        train = [(lexical.attribution(t, s, join=join), y) for _, t, s, y in parts["train"]]
        best = max(np.arange(0.3, 1.0, 0.05), key=lambda edge: balanced(train, edge))
        dev = [(lexical.attribution(t, s, join=join), y) for _, t, s, y in parts["dev"]]
        print(
            f"join {join}: threshold {best:.2f}, balanced accuracy {balanced(train, best):.3f} on train, {balanced(dev, best):.3f} on dev"
        )


def balanced(many: list[tuple[float, int]], edge: float) -> float:
    scores, labels = np.array([m[0] for m in many]), np.array([m[1] for m in many])
    return float(((scores[labels == 1] > edge).mean() + (scores[labels == 0] <= edge).mean()) / 2)


if __name__ == "__main__":
    main()
