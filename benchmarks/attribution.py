"""How well judges tell whether segments are supported by the quotes they cite, on HAGRID's human labels.

    python benchmarks/attribution.py --data ../data
    python benchmarks/attribution.py --data ../data --judge runs/nli/student     # an NLI model, on the same segments
    python benchmarks/attribution.py --data ../data --trained                    # a judge fitted on the labels, out of fold on train
    python benchmarks/attribution.py --data ../data --encoder runs/nli/student   # this model fine-tuned on the labels, beside the fitted
    ... --trained --final                                                        # fitted on train, on dev: once nothing is chosen any more
    python benchmarks/attribution.py --data ../data --sources                    # the fitted judge on a source that it has not seen

Segments of `hagrid/train.jsonl` and `hagrid/dev.jsonl` below `--data` that have an attributability label and cite a quote; both are
parts of the published development set. ROC-AUC with a 95 % interval that draws questions (2,000 draws), for all segments and for those
that cite one quote or several; and the threshold of the best balanced accuracy on train, with what it gives on both.

`--sources` leaves one source out at a time, of three: HAGRID's segments, both parts; BEGIN's answers in conversations, whose label people
gave; and QuoteSum's sentences, written by people with the passages they took each span from, of which those marked are the
supported case and one passage of the question that was not marked is the unsupported one. ExpertQA's part below `--data` has no labels.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import fitted_judge as features
import numpy as np
from scipy.stats import rankdata
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupKFold

import tutelage
from tutelage.answers import lexical, scores
from tutelage.cited import citations, hagrid

JOINS: tuple[lexical.Join, ...] = ("min", "mean", "max", "all")
Labelled = tuple[list[features.Cited], np.ndarray, np.ndarray]
"""Segments, their labels 0 or 1, and the question of each."""


def labelled(data: Path, *parts: str) -> Labelled:
    return features.labelled([q for part in parts for q in hagrid.read(data / "hagrid" / f"{part}.jsonl")[0]])


def overlaps(many: Sequence[features.Cited], join: lexical.Join, content: bool = True) -> np.ndarray:
    return np.array([lexical.attribution(one.text, one.sources, join=join, content=content) for one in many])


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
    parser.add_argument("--judge", help="an NLI model's name or folder instead of word overlap")
    parser.add_argument("--trained", action="store_true", help="a judge fitted on the labels, out of fold on train (minutes)")
    parser.add_argument("--final", action="store_true", help="with --trained: that judge, fitted on train, on dev")
    parser.add_argument("--sources", action="store_true", help="the fitted judge, on each of three sources after the other two (minutes)")
    parser.add_argument("--encoder", help="an NLI model's folder, fine-tuned on the labels out of fold on train (minutes)")
    parser.add_argument("--out", type=Path, default=Path("runs/attribution"), help="with --encoder: where its runs are")
    given = parser.parse_args()
    if given.sources:
        sources(given.data)
    elif given.trained:
        trained(given.data, given.final)
    elif given.encoder:
        encoder(given.data, given.encoder, given.out)
    elif given.judge:
        many, labels, groups = labelled(given.data, "train", "dev")
        judge = scores.Classifier(given.judge, threads=1)
        for name, found in judged(judge, many).items():
            print(f"{name}: balanced accuracy {balanced(found, labels, judge.threshold):.3f} above {judge.threshold}")
            for part, keep in sizes(many).items():
                print("  {}: ROC-AUC {:.3f} ({:.3f} to {:.3f})".format(part, *auc(labels[keep], found[keep], groups[keep])))
            compare(name, many, labels, groups, found[None], rivals(many))
    else:
        overlap(given.data)


def sizes(many: Sequence[features.Cited]) -> dict[str, np.ndarray]:
    """Which segments are meant: all, those that cite one quote, those that cite several."""
    one = np.array([len(c.sources) == 1 for c in many])
    return {"all": np.ones_like(one), "one quote": one, "several": ~one}


def overlap(data: Path) -> None:
    """The table of word overlap, and its thresholds."""
    many, labels, groups = labelled(data, "train", "dev")
    kept = sizes(many)
    print(f"{len(many)} segments of {len(set(groups))} questions, {labels.mean():.1%} supported; {kept['one quote'].sum()} cite one quote")
    print("| words | join | all segments | one quote | several |\n|---|---|---|---|---|")
    for content, join in itertools.product((False, True), JOINS):
        found = overlaps(many, join, content)
        cells = ["{:.3f} ({:.3f} to {:.3f})".format(*auc(labels[keep], found[keep], groups[keep])) for keep in kept.values()]
        print(f"| {'content' if content else 'all'} | {join} | {' | '.join(cells)} |")
    parts = [labelled(data, part) for part in ("train", "dev")]
    for join in ("min", "all"):
        (train, right), (dev, told) = ((overlaps(own, join), truth) for own, truth, _ in parts)  # type: ignore[arg-type]
        best = max(np.arange(0.3, 1.0, 0.05), key=lambda edge: balanced(train, right, edge))
        print(f"join {join}: threshold {best:.2f}, balanced accuracy {balanced(train, right, best):.3f} on train, "
              f"{balanced(dev, told, best):.3f} on dev")  # fmt: skip


def balanced(found: np.ndarray, labels: np.ndarray, edge: float) -> float:
    return float(((found[labels == 1] > edge).mean() + (found[labels == 0] <= edge).mean()) / 2)


def pair(one: features.Cited) -> tuple[str, str]:
    """What a judge is asked of a segment, as `scores` asks: all its cited quotes as one text, and the segment without citations."""
    return "\n".join(one.sources), citations.without(one.text).lstrip(" .,;:")


def judged(judge: scores.Judge, many: Sequence[features.Cited]) -> dict[str, np.ndarray]:
    """The support of each segment by its cited quotes as one text, and the least support by one of them."""
    alone = [[(source, pair(one)[1]) for source in one.sources] for one in many]
    asked = list(dict.fromkeys([pair(one) for one in many] + [ask for each in alone for ask in each]))
    said = dict(zip(asked, judge.support(asked).tolist(), strict=True))
    return {
        "as one text": np.array([said[pair(one)] for one in many]), "least": np.array([min(said[ask] for ask in each) for each in alone])
    }  # fmt: skip


DESIGNS = {"listed": ("listed",), "all sets": tuple(features.SETS)}
"""In the order in which they were tried."""
CUTS = (1, 2, 3, 4, 5)


def trained(data: Path, final: bool) -> None:
    many, labels, groups = labelled(data, "train")
    for name, sets in DESIGNS.items():
        columns = []
        for cut in CUTS:
            said = features.out_of_fold(many, labels, groups, sets=sets, seed=cut)
            columns.append(said)
            print(f"{name}, cut {cut}: ROC-AUC {roc_auc_score(labels, said):.4f}", flush=True)
        compare(f"{name}, out of fold on train", many, labels, groups, np.stack(columns), rivals(many))
    if final:
        judge = features.Fitted.fit(many, labels, groups)
        print(f"fitted on train: {len(judge.names)} features, strength {judge.strength}")
        many, labels, groups = labelled(data, "dev")
        compare("dev", many, labels, groups, judge.score(many)[None], rivals(many))


def begin(data: Path) -> Labelled:
    """BEGIN's answers with the text they were to rest on; a group is such a text."""
    rows = []
    for part in ("dev", "test"):
        with open(data / "hagrid" / "begin" / f"begin_{part}_wow.tsv", encoding="utf-8", newline="") as handle:
            rows += [r for r in csv.DictReader(handle, delimiter="\t", quoting=csv.QUOTE_NONE) if r["begin_label"].endswith("attributable")]
    many = [features.Cited(r["response"], (r["knowledge"],), query=r["message"]) for r in rows]
    return many, np.array([int(r["begin_label"].startswith("Fully")) for r in rows]), np.array([r["knowledge"] for r in rows])


def quotesum(data: Path) -> Labelled:
    """QuoteSum's sentences with the passages marked in them, and with one that is not marked; a group is a question."""
    many, labels, groups = [], [], []
    for line in filter(None, (data / "hagrid" / "quotesum" / "dev.jsonl").read_text(encoding="utf-8").split("\n")):
        row = json.loads(line)
        passages = [row[f"source{i}"] for i in range(1, 9) if row[f"source{i}"]]
        parts = re.split(r"(?<=[.!?])\s+(?=\[|[A-Z])", row["summary"])
        for place, part in enumerate(parts):
            marked = sorted({int(n) - 1 for n in re.findall(r"\[ (\d) ", part)})
            free = [i for i in range(len(passages)) if i not in marked]
            text = re.sub(r"\[ \d | \]", "", part)
            if not marked or not free:
                continue
            for label, named in ((1, marked), (0, [free[place % len(free)]])):
                others = tuple(p for i, p in enumerate(passages) if i not in named)
                cited = tuple(passages[i] for i in named)
                many.append(features.Cited(text, cited, others, row["question"], place, len(parts)))
                labels.append(label)
                groups.append(row["qid"])
    return many, np.array(labels), np.array(groups)


DRAWN = 1000
"""Segments of each source that a judge is fitted on, so that none outweighs the other."""


def sources(data: Path) -> None:
    """The fitted judge on each source after fits on the two others, one for each cut of them; less word overlap on the same segments."""
    parts = {"HAGRID": labelled(data, "train", "dev"), "BEGIN": begin(data), "QuoteSum": quotesum(data)}
    for held, (many, labels, groups) in parts.items():
        found = []
        for cut in CUTS:
            rng = np.random.default_rng(cut)
            drawn = {name: rng.permutation(len(part[1]))[:DRAWN] for name, part in parts.items() if name != held}
            rows = [parts[name][0][i] for name, at in drawn.items() for i in at]
            truth = np.concatenate([parts[name][1][at] for name, at in drawn.items()])
            owners = np.array([f"{name} {parts[name][2][i]}" for name, at in drawn.items() for i in at])
            judge = features.Fitted.fit(rows, truth, owners, seed=cut)
            found.append(judge.score(many))
            print(f"{held} left out, cut {cut}: {len(judge.names)} features, ROC-AUC {roc_auc_score(labels, found[-1]):.4f}", flush=True)
        print(f"{held}: {labels.mean():.1%} of {len(labels)} supported")
        compare(f"{held} left out", many, labels, groups, np.stack(found), rivals(many))


def encoder(data: Path, start: str, out: Path) -> None:
    """The NLI model `start` fine-tuned by the task `classify` on (cited quotes, segment), and the mean of its logit and the fitted
    judge's; out of fold."""
    many, labels, groups = labelled(data, "train")
    fitted, said = features.out_of_fold(many, labels, groups, seed=CUTS[0]), np.zeros(len(many))
    folds = GroupKFold(features.FOLDS, shuffle=True, random_state=CUTS[0]).split(labels, labels, groups)
    for number, (rows, held) in enumerate(folds, 1):
        for part, at in (("train", rows), ("test", held)):
            write([many[i] for i in at], labels[at], out / f"fold{number}" / f"{part}.jsonl")
        judge = tuned(start, out / f"fold{number}")
        said[held] = judge.support([pair(many[i]) for i in held])
        print(f"fold {number}: ROC-AUC {roc_auc_score(labels[held], said[held]):.4f}", flush=True)
    both = (logit(said) + logit(fitted)) / 2
    compare("encoder", many, labels, groups, said[None], rivals(many) | {"fitted": fitted})
    compare("encoder and fitted", many, labels, groups, both[None], rivals(many) | {"fitted": fitted})


def write(many: Sequence[features.Cited], labels: np.ndarray, file: Path) -> None:
    """Pairs with their label as JSON lines."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with open(file, "w", encoding="utf-8") as handle:
        for one, label in zip(many, labels, strict=True):
            quotes, segment = pair(one)
            handle.write(json.dumps({"quotes": quotes, "segment": segment, "label": ("neutral", "entailment")[label]}) + "\n")


def tuned(start: str, folder: Path) -> scores.Classifier:
    """A judge by `tutelage distill` on the pairs of a folder: the NLI model goes on with its own head, supported being entailment and
    unsupported neutral. Its dev rows are cut from train, and nothing is selected by them."""
    task = {"data": str(folder / "train.jsonl"), "test": str(folder / "test.jsonl"), "text": "quotes", "pair": "segment"}
    recipe = {
        "task": task | {"labels": ["contradiction", "entailment", "neutral"], "max_length": 192, "dev_share": 0.05}, "student": start,
        "method": "finetune", "threads": 1, "measure": False,
        "train": {"epochs": 1, "batch_size": 16, "learning_rate": 1e-4, "select": "last"},
    }  # fmt: skip
    return scores.Classifier(str(tutelage.distill(recipe, out=folder / "run", store=folder / "store").student), threads=1)


def logit(share: np.ndarray) -> np.ndarray:
    inside = np.clip(share, 1e-6, 1 - 1e-6)
    return np.log(inside / (1 - inside))


def rivals(many: Sequence[features.Cited]) -> dict[str, np.ndarray]:
    return {f"overlap ({join})": overlaps(many, join) for join in ("min", "mean", "all")}  # type: ignore[arg-type]


def compare(
    name: str, many: Sequence[features.Cited], labels: np.ndarray, groups: np.ndarray, found: np.ndarray, others: Mapping[str, np.ndarray]
) -> None:
    """Print the mean ROC-AUC of the rows of `found` (cuts, segments), and its difference to other scores of the same segments."""
    rows = np.stack([*found, *others.values()])

    def figures(at: np.ndarray) -> tuple[float, np.ndarray]:
        ranks, right = rankdata(rows[:, at], axis=1), labels[at] == 1
        many_right, many_wrong = right.sum(), (~right).sum()
        each = (ranks[:, right].sum(1) - many_right * (many_right + 1) / 2) / (many_right * many_wrong)
        mine = float(each[: len(found)].mean())
        return mine, mine - each[len(found) :]

    for part, keep in sizes(many).items():
        kept = np.flatnonzero(keep)
        if len(set(labels[kept].tolist())) < 2:
            continue
        members = [kept[groups[kept] == g] for g in np.unique(groups[kept])]
        mine, gaps = figures(kept)
        rng, drawn = np.random.default_rng(0), []
        for _ in range(2000):
            at = np.concatenate([members[i] for i in rng.integers(len(members), size=len(members))])
            if 0 < labels[at].sum() < len(at):
                drawn.append(figures(at)[1])
        print(f"{name}, {part}, {len(kept)} segments of {len(members)} questions: ROC-AUC {mine:.4f}")
        for other, gap, (low, high, lower, higher) in zip(
            others, gaps, np.percentile(drawn, (2.5, 97.5, 1.25, 98.75), axis=0).T, strict=True
        ):
            spans = f"95 %: {low:+.4f} to {high:+.4f}; 97.5 %: {lower:+.4f} to {higher:+.4f}"
            print(f"  less {other}: {gap:+.4f} ({spans})", flush=True)


if __name__ == "__main__":
    main()
