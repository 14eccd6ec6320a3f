"""The arms of benchmarks/coreference_quality.py beside our task: their losses and decoding by hand, and that they learn by our loop."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import parts
import pytest
import torch
from coref_documents import toys

import tutelage
from tutelage.config import build
from tutelage.coref import formats, grid
from tutelage.coref.documents import Document
from tutelage.find import find
from tutelage.rows import Seen

WORDS, SHAPE = 6, {"size": 4, "widest": 2, "proposals": 1.0}


@pytest.fixture(autouse=True)
def _importable(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1]))


def made(arm, **more):
    """A task, a document of one-token words with two clusters, and random numbers of its tokens."""
    task = build(find("tasks", f"benchmarks.{arm}"), {"data": "x.jsonl", **SHAPE, **more})
    one = Document("x", (tuple("abcdef"),), (((0, 0), (2, 3), (5, 5)), ((1, 1), (4, 4))))
    torch.manual_seed(0)
    token = torch.randn(1, WORDS, task.head(None)["factors"])
    clusters = {span: n for n, cluster in enumerate(one.clusters) for span in cluster}
    batch = task.rows_of([one], parts.tokenizer(), np.array([5])).batch([0])
    return task, token, batch, clusters


def by_hand(task, token, spans) -> list[list[float]]:
    """Each span's scores of the spans before it."""
    at, part = 0, {}
    for name, many in task._sizes().items():
        part[name] = token[0, :, at : at + many]
        at += many

    def mention(i, j):
        return part["start"][i, 0] + part["end"][j, 0] + part["a"][i] @ part["b"][j] / 2

    def link(q, c):
        found = mention(*q) + mention(*c)
        for x, y in ((x, y) for x in (0, 1) for y in (0, 1)):
            form = "se"[x] + "se"[y]
            found = found + part[f"q{form}"][q[x]] @ part[f"c{form}"][c[y]] / 2
        return found + part["near"][q[0], min(9, int(np.log2(abs(q[0] - c[0]) + 1)))] + part["who"][q[0], 0]

    return [[float(link(q, c)) for c in spans[:n]] for n, q in enumerate(spans)]


def test_the_loss_is_the_likelihood_of_all_right_antecedents():
    task, token, batch, clusters = made("antecedents")
    [(f, _)] = task.factored(Seen({"factors": token}), batch)
    spans = list(map(tuple, grid.proposals(f.mentions, 1.0).tolist()))
    total = 0.0
    for q, row in zip(spans, by_hand(task, token, spans), strict=True):
        right = [x for c, x in zip(spans, row, strict=False) if q in clusters and clusters.get(c) == clusters[q]] or [0.0]
        total += np.log(1 + np.exp(row).sum()) - np.log(np.exp(right).sum())
    assert float(task.label_term(Seen({"factors": token}), batch).sum) == pytest.approx(total, rel=1e-5)


def test_each_span_joins_its_best_antecedent_or_none():
    task, token, batch, _ = made("antecedents", threshold=1.5)
    [found] = task.resolve(Seen({"factors": token}), batch)
    clusters: list[set] = []
    for n, (q, row) in enumerate(zip(found.proposed, by_hand(task, token, found.proposed), strict=True)):
        mine = next((c for c in clusters if row and max(row) > 1.5 and found.proposed[int(np.argmax(row))] in c), None)
        if mine is None:
            clusters.append({q})
        else:
            mine.add(q)
        assert len(row) == n
    wanted = {frozenset(c) for c in clusters if len(c) > 1}
    assert wanted and {frozenset(c) for c in found.clusters} == wanted


def queries_of(f, clusters) -> list[tuple[tuple[int, int], int]]:
    """The gold mentions with their clusters' numbers, and as many of the best proposals that are none, with 0."""
    proposed = sorted(map(tuple, grid.proposals(f.mentions, 1.0).tolist()), key=lambda s: -float(f.mentions[s[0], s[1] - s[0]]))
    wrong = [span for span in proposed if span not in clusters][: len(clusters)]
    return [(span, n + 1) for span, n in clusters.items()] + [(span, 0) for span in wrong]


def test_cells_are_decided_one_by_one_and_right_ones_weigh_as_much_as_wrong_ones():
    task, token, batch, clusters = made("cells")
    [(f, cluster)] = task.factored(Seen({"factors": token}), batch)
    queries = queries_of(f, clusters)
    cells = {*map(tuple, grid.proposals(f.mentions, 1.0).tolist()), *(q for q, _ in queries)}
    total = float(grid.mentions_loss(f, cluster))
    for q, wanted in queries:
        right, wrong = [], []
        for c in cells - {q}:
            score = float(grid.scores(f, torch.tensor([q]), torch.tensor([c])))
            if wanted and clusters.get(c, -1) + 1 == wanted:
                right.append(np.log1p(np.exp(-score)))
            else:
                wrong.append(np.log1p(np.exp(score)))
        total += sum(float(np.mean(side)) for side in (right, wrong) if side)
    assert float(task.label_term(Seen({"factors": token}), batch).sum) == pytest.approx(total, rel=1e-5)


def ends_by_hand(f, q, k: int, side: int) -> float:
    """What query q says of word k as the first (side 0) or last (1) of a mention."""
    asked = torch.nn.functional.gelu(f.u[q[0]] + f.v[q[1]])
    if side:
        return float(f.end[k] + asked[4:] @ f.e[k] / 2)
    bucket = min(9, int(np.log2(abs(k - q[0]) + 1))) + 10 * (k > q[0])
    return float(f.start[k] + asked[:4] @ f.s[k] / 2 + f.near[q[0], bucket] + f.who[q[0], 0])


def test_endpoints_are_learned_as_first_words_and_as_last_words():
    task, token, batch, clusters = made("endpoints")
    [(f, cluster)] = task.factored(Seen({"factors": token}), batch)
    total = float(grid.mentions_loss(f, cluster))
    for (q, wanted), side in itertools.product(queries_of(f, clusters), (0, 1)):
        right = {span[side] for span, n in clusters.items() if n + 1 == wanted and span != q}
        wrong = set(range(WORDS)) - right - {q[side]}
        for words, sign in ((wrong, 1), (right, -1)):
            total += np.log1p(sum(np.exp(sign * ends_by_hand(f, q, k, side)) for k in words))
    assert float(task.label_term(Seen({"factors": token}), batch).sum) == pytest.approx(total, rel=1e-5)


def test_spans_are_joined_by_the_scores_of_their_first_and_last_words():
    task, token, batch, _ = made("endpoints")
    [(f, _)] = task.factored(Seen({"factors": token}), batch)
    for one, two in (((0, 0), (2, 3)), ((1, 2), (4, 4))):
        said = sum(ends_by_hand(f, q, c[side], side) for q, c in ((one, two), (two, one)) for side in (0, 1)) / 2
        below, above = task.decode(f, [said - 0.01, said + 0.01], torch.tensor([one, two]))
        assert below.clusters == ((one, two),) and above.clusters == ()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arm", "mention_weight", "epochs"), [("antecedents", 0.0, 30), ("antecedents", 1.0, 15), ("cells", 1.0, 10), ("endpoints", 1.0, 10)]
)
def test_they_learn_toy_documents_by_our_loop(tmp_path, arm, mention_weight, epochs):
    for seed, (name, many) in enumerate({"train": 60, "dev": 12, "test": 12}.items()):
        formats.write(tmp_path / f"{name}.jsonl", toys(many, seed))
    files = {name: str(tmp_path / f"{name}.jsonl") for name in ("train", "dev", "test")}
    recipe = {
        "task": {"kind": f"benchmarks.{arm}", **files, "size": 16, "widest": 5, "proposals": 1.0, "mention_weight": mention_weight},
        "student": {"model": str(parts.save_tiny(tmp_path / "tiny", depth=2))},
        "method": {"kind": "finetune"},
        "train": {"epochs": epochs, "batch_size": 2, "learning_rate": 3e-3},
        "threads": 1,
        "measure": False,
    }
    found = tutelage.distill(recipe, out=tmp_path / "run").record["models"]["finetune"]["test"]
    assert found["primary"] > 0.55
