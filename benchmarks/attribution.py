"""How well judges tell whether segments are supported by the quotes they cite, on HAGRID's human labels.

    python benchmarks/attribution.py --data ../data
    python benchmarks/attribution.py --data ../data --trained            # and a judge fitted on the labels, out of fold on train
    python benchmarks/attribution.py --data ../data --trained --final    # and that judge on dev, once nothing is chosen any more

Segments of `hagrid/train.jsonl` and `hagrid/dev.jsonl` below `--data` that have an attributability label and cite a quote; both are
parts of the published development set. ROC-AUC with a 95 % interval that draws questions (2,000 draws), for all segments and for those
that cite one quote or several; and the threshold of the best balanced accuracy on train, with what it gives on both.
"""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path

import numpy as np
from scipy.stats import rankdata
from sklearn.metrics import roc_auc_score

from tutelage.answers import features, lexical
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
    parser.add_argument("--trained", action="store_true", help="also a judge fitted on the labels, out of fold on train (minutes)")
    parser.add_argument("--final", action="store_true", help="with --trained: that judge, fitted on train, on dev")
    given = parser.parse_args()
    if given.trained:
        trained(given.data / "hagrid", given.final)
        return
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


DESIGNS = {"listed": ("listed",), "all sets": tuple(features.SETS)}
"""In the order in which they were tried."""
CUTS = (1, 2, 3, 4, 5)


def trained(folder: Path, final: bool) -> None:
    many, labels, groups = features.labelled(hagrid.read(folder / "train.jsonl")[0])
    for name, sets in DESIGNS.items():
        columns = []
        for cut in CUTS:
            scores = features.out_of_fold(many, labels, groups, sets=sets, seed=cut)
            columns.append(scores)
            print(f"{name}, cut {cut}: ROC-AUC {roc_auc_score(labels, scores):.4f}", flush=True)
        compare(f"{name}, out of fold on train", many, labels, groups, np.stack(columns))
    if final:
        judge = features.Fitted.fit(many, labels, groups)
        print(f"fitted on train: {len(judge.names)} features, strength {judge.strength}")
        many, labels, groups = features.labelled(hagrid.read(folder / "dev.jsonl")[0])
        compare("dev", many, labels, groups, judge.score(many)[None])


def compare(name: str, many: list[features.Cited], labels: np.ndarray, groups: np.ndarray, scores: np.ndarray) -> None:
    """Print the mean ROC-AUC of the rows of `scores` (cuts, segments), and its difference to overlap on the same segments."""
    one = np.array([len(c.sources) == 1 for c in many])
    joins: tuple[lexical.Join, ...] = ("min", "mean")
    rows = np.stack([*scores, *([lexical.attribution(c.text, c.sources, join=join) for c in many] for join in joins)])

    def figures(at: np.ndarray) -> tuple[float, np.ndarray]:
        ranks, right = rankdata(rows[:, at], axis=1), labels[at] == 1
        many_right, many_wrong = right.sum(), (~right).sum()
        each = (ranks[:, right].sum(1) - many_right * (many_right + 1) / 2) / (many_right * many_wrong)
        mine = float(each[: len(scores)].mean())
        return mine, mine - each[len(scores) :]

    for part, keep in (("all", np.ones_like(one)), ("one quote", one), ("several", ~one)):
        kept = np.flatnonzero(keep)
        members = [kept[groups[kept] == g] for g in np.unique(groups[kept])]
        mine, gaps = figures(kept)
        rng, found = np.random.default_rng(0), []
        for _ in range(2000):
            at = np.concatenate([members[i] for i in rng.integers(len(members), size=len(members))])
            if 0 < labels[at].sum() < len(at):
                found.append(figures(at)[1])
        print(f"{name}, {part}, {len(kept)} segments of {len(members)} questions: ROC-AUC {mine:.4f}")
        for join, gap, (low, high, lower, higher) in zip(
            joins, gaps, np.percentile(found, (2.5, 97.5, 1.25, 98.75), axis=0).T, strict=True
        ):
            spans = f"95 %: {low:+.4f} to {high:+.4f}; 97.5 %: {lower:+.4f} to {higher:+.4f}"
            print(f"  less overlap ({join}): {gap:+.4f} ({spans})", flush=True)


if __name__ == "__main__":
    main()
