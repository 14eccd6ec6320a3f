"""The baseline of benchmarks/antecedents.py: its loss and decoding by hand, and that it learns by our loop."""

from __future__ import annotations

import importlib
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
from tutelage.rows import Seen

KIND = "benchmarks.antecedents"
WORDS, SHAPE = 6, {"size": 4, "widest": 2, "proposals": 1.0}


@pytest.fixture
def module(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1]))
    return importlib.import_module(KIND)


def made(module, **more):
    """A task, a document of one-token words with two clusters, and random numbers of its tokens."""
    task = build(module.Antecedents, {"data": "x.jsonl", **SHAPE, **more})
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


def test_the_loss_is_the_likelihood_of_all_right_antecedents(module):
    task, token, batch, clusters = made(module)
    [(f, _)] = task._factors(Seen({"factors": token}), batch)
    spans = list(map(tuple, grid.proposals(f.mentions, 1.0).tolist()))
    total = 0.0
    for q, row in zip(spans, by_hand(task, token, spans), strict=True):
        right = [x for c, x in zip(spans, row, strict=False) if q in clusters and clusters.get(c) == clusters[q]] or [0.0]
        total += np.log(1 + np.exp(row).sum()) - np.log(np.exp(right).sum())
    assert float(task.label_term(Seen({"factors": token}), batch).sum) == pytest.approx(total, rel=1e-5)


def test_each_span_joins_its_best_antecedent_or_none(module):
    task, token, batch, _ = made(module, threshold=1.5)
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


@pytest.mark.slow
@pytest.mark.parametrize(("mention_weight", "epochs"), [(0.0, 30), (1.0, 15)])
def test_it_learns_toy_documents_by_our_loop(module, tmp_path, mention_weight, epochs):
    for seed, (name, many) in enumerate({"train": 60, "dev": 12, "test": 12}.items()):
        formats.write(tmp_path / f"{name}.jsonl", toys(many, seed))
    files = {name: str(tmp_path / f"{name}.jsonl") for name in ("train", "dev", "test")}
    recipe = {
        "task": {"kind": KIND, **files, "size": 16, "widest": 5, "proposals": 1.0, "mention_weight": mention_weight},
        "student": {"model": str(parts.save_tiny(tmp_path / "tiny", depth=2))},
        "method": {"kind": "finetune"},
        "train": {"epochs": epochs, "batch_size": 2, "learning_rate": 3e-3},
        "threads": 1,
        "measure": False,
    }
    found = tutelage.distill(recipe, out=tmp_path / "run").record["models"]["finetune"]["test"]
    assert found["primary"] > 0.55
