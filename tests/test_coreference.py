"""Coreference in one pass: the model's windows, the grid, its losses, merging, and documents in and out of a trained student."""

from __future__ import annotations

import dataclasses
import itertools
import json
import re
from pathlib import Path

import numpy as np
import parts
import pytest
import torch
from click.testing import CliRunner
from coref_documents import DATA, public, toys
from torch.nn.functional import gelu
from transformers import AutoConfig, AutoModelForTokenClassification, BertConfig

import tutelage
from tutelage import errors
from tutelage.cli import main
from tutelage.config import build
from tutelage.coref import formats, grid, linking, scores
from tutelage.coref.documents import Document
from tutelage.models.load import open_model
from tutelage.models.one_pass import OnePassConfig, OnePassModel
from tutelage.rows import Seen
from tutelage.tasks.coreference import Coreference

SIZE, WIDEST = 4, 3
SHAPE = {"size": 16, "widest": 5, "proposals": 1.0}


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return parts.save_tiny(tmp_path_factory.mktemp("coref") / "tiny", depth=2)


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("documents")
    for seed, (name, many) in enumerate({"train": 60, "dev": 12, "test": 12}.items()):
        formats.write(folder / f"{name}.jsonl", toys(many, seed))
    return folder


def task_of(files: Path, **more) -> Coreference:
    return build(Coreference, {**{n: str(files / f"{n}.jsonl") for n in ("train", "dev", "test")}, **SHAPE, **more})


def random_factors(words: int, seed: int = 0, scale: float = 1.0) -> grid.Factors:
    torch.manual_seed(seed)
    token = scale * torch.randn(words, grid.count(SIZE, WIDEST))
    at = torch.arange(words)
    return grid.factors(token.requires_grad_(), at, at, torch.randint(0, 3, (words,)), size=SIZE, widest=WIDEST)


def by_hand(f: grid.Factors, query: tuple[int, int], cell: tuple[int, int], pair: bool) -> torch.Tensor:
    """A cell of a query's grid, from the formulas."""
    (i, j), (k, m) = query, cell
    found = f.start[k] + f.end[m] + f.a[k] @ f.b[m] / SIZE**0.5 + f.width[k, m - k]
    q = gelu(f.u[i] + f.v[j])
    found = found + q[:SIZE] @ f.s[k] / SIZE**0.5 + q[SIZE:] @ f.e[m] / SIZE**0.5
    near = min(9, int(np.log2(abs(k - i) + 1))) + (10 if k > i else 0)
    who = 0 if not f.speakers[i] or not f.speakers[k] else 1 if f.speakers[i] == f.speakers[k] else 2
    found = found + f.near[i, near] + f.who[i, who]
    return found + gelu(f.g[i] + f.gg[j]) @ gelu(f.h[k] + f.hh[m]) / (2 * SIZE) ** 0.5 if pair else found


def spans_of(words: int) -> list[tuple[int, int]]:
    return [(i, j) for i in range(words) for j in range(i, min(i + WIDEST, words))]


# ---- the grid


def test_scores_are_their_formula_at_every_cell():
    f, cells = random_factors(70), spans_of(70)
    queries = [(0, 1), (4, 4), (69, 69)]
    found = grid.scores(f, torch.tensor(queries), torch.tensor(cells))
    for n, query in enumerate(queries):
        for c, cell in enumerate(cells):
            torch.testing.assert_close(found[n, c], by_hand(f, query, cell, True))
    assert (f.mentions < grid.NEVER / 2).sum() == 70 * WIDEST - len(cells)


@pytest.mark.parametrize(("words", "cells_at_once", "scale"), [(7, 1, 1.0), (7, 1 << 20, 1.0), (70, 1 << 20, 1.0), (7, 1, 5.0)])
def test_the_clusters_loss_and_its_gradient_are_those_of_every_cell_one_by_one(words, cells_at_once, scale, monkeypatch):
    """Of blocks of words, and of numbers so large that single precision would lose their products."""
    monkeypatch.setattr(grid, "CELLS", cells_at_once)
    queries, wanted = torch.tensor([(0, 1), (4, 4), (2, 2)]), torch.tensor([1, 1, 0])
    gold = torch.zeros(words, WIDEST, dtype=torch.long)
    gold[0, 1] = gold[4, 0] = gold[5, 1] = 1
    gold[6, 0] = 2
    cells = torch.tensor([(0, 1), (4, 4), (5, 6), (3, 3)])

    def direct(f: grid.Factors) -> torch.Tensor:
        total = torch.zeros((), dtype=torch.float64)
        for query, cluster in zip(queries.tolist(), wanted.tolist(), strict=True):
            right, wrong = [], []
            for k, m in spans_of(words):
                if [k, m] != query:
                    value = by_hand(f, query, (k, m), [k, m] in cells.tolist()).double()
                    (right if cluster and gold[k, m - k] == cluster else wrong).append(value)
            total = total + (1 + torch.stack(wrong).exp().sum()).log()
            total = total + (1 + sum((-r).exp() for r in right)).log() if right else total
        return total

    slopes = []
    for loss in (lambda f: grid.clusters_loss(f, queries, wanted, cells, gold), direct):
        f = random_factors(words, scale=scale)
        value = loss(f)
        slopes.append((value.detach().float(), torch.autograd.grad(value, [f.u, f.s, f.h, f.near, f.who, f.start, f.end, f.b])))
    torch.testing.assert_close(slopes[0], slopes[1])


def test_mentions_are_taught_word_by_word():
    f, gold = random_factors(5), torch.zeros(5, WIDEST, dtype=torch.long)
    gold[1, 1] = 1
    total = 0.0
    for i in range(5):
        right = [float(f.mentions[i, w].detach()) for w in range(WIDEST) if gold[i, w]]
        wrong = [float(f.mentions[i, w].detach()) for w in range(WIDEST) if not gold[i, w] and i + w < 5]
        total += np.log1p(np.exp(wrong).sum()) + np.log1p(np.exp(-np.array(right)).sum())
    assert float(grid.mentions_loss(f, gold).detach()) == pytest.approx(total, rel=1e-5)


def naive(near: np.ndarray, threshold: float) -> set[frozenset[int]]:
    """Average-link merging, the best pair of clusters first."""
    clusters = [frozenset([i]) for i in range(len(near))]
    while len(clusters) > 1:
        best = max(itertools.combinations(clusters, 2), key=lambda p: near[np.ix_(list(p[0]), list(p[1]))].mean())
        if near[np.ix_(list(best[0]), list(best[1]))].mean() <= threshold:
            break
        clusters = [c for c in clusters if c not in best] + [best[0] | best[1]]
    return set(clusters)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("cells", [40, 10**6])
def test_merging_by_parts_is_average_link_merging_of_all(seed, cells, monkeypatch):
    monkeypatch.setattr(linking, "CELLS", cells)
    f = random_factors(12, seed, scale=1.5)
    spans = torch.tensor(spans_of(12)[::2])
    near = linking.symmetric(f, spans, spans).detach().numpy().astype(np.float64)
    threshold = float(np.quantile(near, 0.8))
    [found] = linking.at_thresholds(f, [threshold], singletons=True, given=spans)
    place = {tuple(span): i for i, span in enumerate(spans.tolist())}
    assert {frozenset(place[s] for s in c) for c in found.clusters} == naive(near, threshold)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("cells", [40, 10**6])
def test_best_antecedents_are_those_of_a_loop_over_mentions(seed, cells, monkeypatch):
    monkeypatch.setattr(linking, "CELLS", cells)
    f = random_factors(12, seed, scale=1.5)
    spans = torch.tensor(spans_of(12)[::2])
    near = linking.symmetric(f, spans, spans).detach().numpy()
    threshold = float(np.quantile(near, 0.8))
    [found] = linking.at_thresholds(f, [threshold], singletons=True, given=spans, best=True)
    wanted: list[set[int]] = []
    for i in range(len(spans)):
        best = int(near[i, :i].argmax()) if i else None
        mine = next((c for c in wanted if best in c and near[i, best] > threshold), None)
        wanted.append({i}) if mine is None else mine.add(i)
    place = {tuple(span): i for i, span in enumerate(spans.tolist())}
    assert {frozenset(place[s] for s in c) for c in found.clusters} == set(map(frozenset, wanted)) and 1 < len(wanted) < len(spans)


def test_thresholds_share_one_tree_and_the_best_on_dev_is_taken(files):
    f = random_factors(12, 3, scale=1.5)
    many = linking.at_thresholds(f, (-1.0, 0.0, 1.0), share=1.0, singletons=True)
    for threshold, found in zip((-1.0, 0.0, 1.0), many, strict=True):
        assert [found] == linking.at_thresholds(f, [threshold], share=1.0, singletons=True)
    task = task_of(files)
    one = toys(1, 5)
    encoded = task.rows_of(one, parts.tokenizer(), np.array([1]))
    torch.manual_seed(1)
    outputs = {"factors": torch.randn(int(encoded.lengths[0]), grid.count(16, 5)).numpy()}
    values = {}
    for threshold in Coreference.thresholds:
        fixed = dataclasses.replace(task, threshold=threshold)
        assert not fixed.calibrates
        values[threshold] = fixed.score(fixed.predict(outputs, encoded), fixed.truth(encoded))["conll_f1"]
    assert values[task.calibrated(outputs, encoded).threshold] == max(values.values())


# ---- the model


def test_maps_of_attention_are_not_dropped_out_and_hidden_states_are():
    made = OnePassConfig.around(BertConfig(attention_probs_dropout_prob=0.1, hidden_dropout_prob=0.1), first=1, last=2)
    assert made.encoder.attention_probs_dropout_prob == 0.0 and made.encoder.hidden_dropout_prob == 0.1
    assert OnePassConfig.from_dict(made.to_dict()).encoder.attention_probs_dropout_prob == 0.0


def test_each_token_has_the_state_of_its_most_central_window(model):
    loaded = open_model(str(model), {"factors": 3}, auto=Coreference.auto)
    net = loaded.model.eval()
    net.config.window, net.config.stride, net.config.first, net.config.last = 10, 5, 2, 3
    torch.manual_seed(0)
    ids = torch.randint(5, 20, (3, 21))
    mask = torch.ones_like(ids)
    mask[1, 14:] = 0
    mask[2, 6:] = 0
    windows = [[(0, 7), (4, 12), (9, 16), (13, 21)], [(0, 6), (3, 10), (7, 14)], [(0, 6)]]
    with torch.no_grad():
        out = net(input_ids=ids, attention_mask=mask).factors
        for row, mine in enumerate(windows):
            length = mine[-1][1]
            for t in range(length):
                edge = {(a, b): min(t - a if a else 99, b - 1 - t if b < length else 99) for a, b in mine if a <= t < b}
                options = []
                for a, b in (w for w in edge if edge[w] >= max(edge.values()) - 1):  # an even overlap has two middles
                    piece = torch.cat([torch.tensor([2]), ids[row, a:b], torch.tensor([3])])[None]
                    state = net.encoder(input_ids=piece).last_hidden_state[0, 1 + t - a]
                    options.append(net.head(net.norm(gelu(net.hidden(state)))))
                assert any(torch.allclose(out[row, t], o, atol=1e-5) for o in options), (row, t)
        torch.testing.assert_close(net(input_ids=ids[2:, :6]).factors[0], out[2, :6], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("window", "stride", "ends"), [(512, 384, 2), (10, 5, 2), (10, 1, 2), (9, 7, 1), (12, 12, 0)])
def test_windows_are_as_few_as_the_overlap_allows_and_of_one_width(window, stride, ends):
    config = AutoConfig.for_model("bert", hidden_size=4, num_hidden_layers=0, num_attention_heads=1, intermediate_size=4)
    first, last = [2, 3][:ends] + [None] * (2 - ends)
    net = OnePassModel(OnePassConfig(config, max(window, stride + 2), stride, first, last))
    room = net.config.window - ends
    for length in (1, room, room + 1, room + stride, room + stride + 1, 3 * room + 2):
        _, mask, place = net._windows(torch.arange(length)[None], [length])
        widths = (mask.sum(1) - ends).tolist()
        few = next(n for n in itertools.count(1) if n * room - (n - 1) * (room - stride) >= length)
        assert len(widths) == few and max(widths) <= room and max(widths) - min(widths) <= 1
        assert sum(widths) == length + (few - 1) * (room - stride), "what is seen twice is the overlap alone"
        assert place.unique().numel() == length


@pytest.fixture(scope="module")
def student(model, files, tmp_path_factory) -> Path:
    """A student that learned the toy documents from a teacher which was fine-tuned on them."""
    out = tmp_path_factory.mktemp("runs") / "run"
    recipe = {
        "task": {"kind": "coreference", **{n: str(files / f"{n}.jsonl") for n in ("train", "dev", "test")}, **SHAPE},
        "teacher": {"model": str(model), "train": {"epochs": 8, "batch_size": 2, "learning_rate": 6e-3}},
        "student": {"surgery": [{"kind": "keep_layers", "keep": "first", "count": 1}]},
        "method": {"kind": "kd", "hard_weight": 0.5},
        "train": {"epochs": 5, "batch_size": 2, "learning_rate": 6e-3},
        "threads": 1,
        "measure": False,
    }
    result = tutelage.distill(recipe, out=out)
    assert result.record["models"]["teacher"]["test"]["primary"] > 0.7
    assert result.record["models"]["kd"]["test"]["primary"] > 0.7
    assert result.record["signals"]["bytes"] > 4 * grid.count(16, 5) * 60 * 40
    assert result.record["models"]["kd"]["test"]["method"] == "bootstrap"
    chosen = result.record["models"]["kd"]["test"]["calibrated"]["threshold"]
    assert json.loads((out / "student/tutelage.json").read_text())["task"]["threshold"] == chosen
    return out / "student"


def test_a_student_resolves_a_batch_as_it_resolves_documents_alone_whatever_their_order(student):
    many = toys(6, 7, words=90)
    resolver = tutelage.Coreference.from_pretrained(student, threads=1)
    together, backwards = resolver.predict(many), resolver.predict(many[::-1])[::-1]
    alone = [resolver.predict([one])[0] for one in many]
    for one, two, three in zip(together, alone, backwards, strict=True):
        assert one.document.clusters == two.document.clusters == three.document.clusters
        assert one.document.clusters
        for span, value in one.mentions.items():
            assert value == pytest.approx(two.mentions[span], abs=1e-4)
    figures = scores.corpus(many, [one.document for one in together], "drop")
    assert figures["conll_f1"] > 0.6  # documents longer than the model's window


def test_characters_of_a_raw_text_are_exactly_the_mentions(student):
    text = "very good 😀 not the film. is the good, was film!\nand the good 😀 not plot very plot is the plot."
    [found] = tutelage.Coreference.from_pretrained(student, threads=1).predict(text)
    pairs = [
        (span, place)
        for cluster, places in zip(found.document.clusters, found.document.character_clusters, strict=True)
        for span, place in zip(cluster, places, strict=True)
    ]
    assert pairs
    for (first, last), (begin, end) in pairs:
        assert re.findall(r"\w+|[^\w\s]", text[begin:end]) == list(found.document.words[first : last + 1])


def test_given_mentions_alone_are_clustered(student):
    [one] = toys(1, 11)
    resolver = tutelage.Coreference.from_pretrained(student, threads=1, singletons=True)
    [found] = resolver.predict([one], given=True)
    assert found.document.mentions == one.mentions
    wide = dataclasses.replace(one, clusters=(((0, len(one.words) - 1),), *one.clusters))
    assert (0, len(one.words) - 1) in resolver.predict([wide], given=True)[0].document.mentions, "wider than what is found"
    with pytest.raises(errors.DataError, match="document d0: has no mentions to cluster"):
        resolver.predict([dataclasses.replace(one, clusters=None)], given=True)


def test_a_diagnosis_says_where_points_are_lost(student):
    many = toys(4, 13, words=60)
    resolver = tutelage.Coreference.from_pretrained(student, threads=1)
    facts = resolver.diagnose(many)
    own, *tried, found, asked = facts["rows"]
    said = [one.document for one in resolver.predict(many)]
    assert own["conll_f1"] == pytest.approx(scores.corpus(many, said, "drop")["conll_f1"])
    assert [(row["mentions"], row["linking"]) for row in tried] == [(had, how) for had in ("found", "gold") for how in ("average", "best")]
    for row in tried:
        other = tutelage.Coreference.from_pretrained(student, threads=1, linking=row["linking"], threshold=row["threshold"])
        again = [one.document for one in other.predict(many, given=row["mentions"] == "gold")]
        assert row["conll_f1"] == pytest.approx(scores.corpus(many, again, "drop")["conll_f1"])
        assert row["conll_f1"] >= own["conll_f1"] or row["linking"] == "best"
    held = [{*one.mentions} & {*its.proposed} for one, its in zip(many, resolver.predict(many), strict=True)]
    assert facts["recall"] == pytest.approx(sum(map(len, held)) / sum(len(one.mentions) for one in many)) and 0.5 < facts["recall"] <= 1
    assert own["conll_f1"] <= found["conll_f1"] <= asked["conll_f1"] <= 1
    everything = tutelage.Coreference.from_pretrained(student, threads=1, proposals=5.0).diagnose(many)
    assert everything["recall"] == everything["rows"][-1]["conll_f1"] == 1


def test_a_saved_student_is_read_by_transformers_alone_to_the_same_numbers(student):
    assert (student / "one_pass.py").is_file()
    net = AutoModelForTokenClassification.from_pretrained(student)
    mine = tutelage.Coreference.from_pretrained(student, threads=1)
    ids = torch.randint(5, 20, (1, 100))
    with torch.no_grad():
        torch.testing.assert_close(net.eval()(input_ids=ids).factors, mine.model(input_ids=ids).factors)


def test_the_models_card_says_what_it_is_and_its_lines_run(student, capsys):
    text = (student / "README.md").read_text()
    assert "A coreference model of" in text and "pipeline_tag: token-classification" in text
    exec(re.search(r"```python\n(.*?)```", text, re.S)[1].replace("path/to/this/folder", str(student)), {})
    assert capsys.readouterr().out.strip().startswith("[")


def test_the_teachers_rows_leave_no_gradient_where_student_and_teacher_agree(student, files):
    task = task_of(files)
    loaded = open_model(str(student), task.head(None), auto=task.auto)
    encoded = task.encode(task.load().splits["dev"], loaded.tokenizer)
    batch = encoded.batch([0, 1])
    with torch.no_grad():
        taught = Seen({"factors": loaded.model.eval()(**batch.inputs).factors})
    own = Seen({"factors": taught.outputs["factors"].clone().requires_grad_()})
    from tutelage import losses

    pairs = zip(task.rows(own, batch), task.rows(taught, batch), strict=True)
    total = sum(losses.soft_targets(s.logits, t.logits, kind=s.kind, allowed=s.allowed).sum() for s, t in pairs)
    [slope] = torch.autograd.grad(total, own.outputs["factors"])
    assert float(slope.abs().max()) < 1e-4


def test_all_models_are_asked_about_the_spans_that_the_first_one_proposed(files):
    task, [one, other] = task_of(files), toys(2, 5)
    rows = task.rows_of([one, dataclasses.replace(other, clusters=None)], parts.tokenizer(), np.array([len(one.mentions), -1]))
    batch = rows.batch([0, 1])
    torch.manual_seed(0)
    student, teacher = (Seen({"factors": torch.randn(2, int(rows.lengths.max()), grid.count(16, 5))}) for _ in range(2))
    (_, own), (_, theirs) = task.rows(student, batch), task.rows(teacher, batch)
    [(known, cluster), (bare, _)] = task.factored(student, batch)
    spans, numbers, _ = grid.asked(known.mentions, task.proposals, cluster)
    proposed = grid.proposals(bare.mentions, task.proposals)
    many, most = len(spans), own.logits.shape[1]
    assert len(spans) == 2 * len(one.mentions) and len(own.logits) == many + len(proposed) and (numbers == 0).any()
    assert torch.equal(own.allowed, theirs.allowed) and torch.equal(own.gold, theirs.gold)
    for one_of, seen in ((own, student), (theirs, teacher)):
        blocks = one_of.logits.split([many, len(proposed)])
        for (f, _), asked, block in zip(task.factored(seen, batch), (spans, proposed), blocks, strict=True):
            torch.testing.assert_close(block[:, : len(asked)], grid.scores(f, asked, asked))
    right = torch.tensor([[a == b and a > 0 for b in numbers] for a in numbers])
    assert torch.equal(own.gold[:many, :many].bool(), right) and not own.gold[many:].any()
    assert int(own.allowed[:many].sum()) == many * (many - 1) and not own.allowed[:many, many:most].any()


def test_documents_of_the_teacher_alone_count_by_what_they_are_asked_about(files, tmp_path):
    known = [dataclasses.replace(one, name=f"known {one.name}") for one in formats.read(files / "dev.jsonl")[:2]]
    formats.write(tmp_path / "more.jsonl", [*toys(4, 9), *known])
    data = (task := task_of(files, unlabelled=str(tmp_path / "more.jsonl"))).load()
    assert "unlabelled: 2 of 6 documents stand in dev or test too" in data.notes and (data.splits["transfer"].gold == -1).all()
    encoded = task.encode(data.splits["train"], parts.tokenizer()).join(task.encode(data.splits["transfer"], parts.tokenizer()))
    right, bare = np.array([0, 1]), np.array([60, 61])
    mentions = int(encoded.gold[right].sum())
    assert [task.counts(encoded, right)[unit] for unit in ("label", "asked")] == [mentions, mentions]
    own = [encoded.about.documents[i] for i in bare]
    assert task.counts(encoded, bare)["label"] == 0 and not any(one.mentions for one in own)
    assert task.counts(encoded, bare)["asked"] == sum(len(one.words) for one in own) / 2
    assert str(tmp_path / "more.jsonl") in map(str, task.files())


def test_hidden_states_of_documents_by_windows_are_matched_but_no_heads(student, files, tmp_path):
    recipe = {
        "task": {"kind": "coreference", **{n: str(files / f"{n}.jsonl") for n in ("train", "dev", "test")}, **SHAPE, "limit": 4},
        "teacher": {"model": str(student)},
        "student": {"model": str(student)},
        "method": {"kind": "hidden_states", "hard_weight": 1.0},
        "train": {"steps": 4, "batch_size": 1},
        "threads": 1,
        "measure": False,
    }
    with pytest.raises(errors.ConfigError, match=r"^method: compares attention heads, .* windows .*; set method\.attention to false$"):
        tutelage.distill(recipe, out=tmp_path / "run")
    result = tutelage.distill(recipe, ["method.attention=false"], out=tmp_path / "run")
    first, second = (row["losses"] for row in result.record["models"]["hidden_states"]["training"]["losses"][:2])
    assert set(first) == {"hidden"} and set(second) == {"soft", "label"}


def test_singletons_are_learned_and_scored_only_where_asked(files, model):
    keep, drop = task_of(files, singletons=True), task_of(files)
    one = Document("s", (("good", "is", "bad", "not", "bad"),), (((0, 0),), ((2, 2), (4, 4))))
    tokenizer = parts.tokenizer()
    for task, many in ((keep, 3), (drop, 2)):
        rows = task.rows_of([one], tokenizer, np.array([1]))
        assert int((rows.extra["cluster"] > 0).sum()) == many
    empty = dataclasses.replace(one, clusters=(((2, 2), (4, 4)),))
    said, true = np.empty(1, dtype=object), np.empty(1, dtype=object)
    said[0], true[0] = empty, one
    assert drop.score(said, true)["conll_f1"] == 1.0 > keep.score(said, true)["conll_f1"]


# ---- the verb, and bad input


def run(*words, code: int = 0, stdin: str | None = None):
    found = CliRunner().invoke(main, [str(word) for word in words], input=stdin)
    assert found.exit_code == code, found.output
    return found


def test_predict_writes_every_format_and_reads_standard_input(student, files, tmp_path):
    told = run("coref", "predict", files / "test.jsonl", "--model", student, "--out", tmp_path / "said.conll", "--threads", 1, "--json")
    facts = json.loads(told.stdout)
    assert facts["documents"] == 12 and facts["clusters"] > 12
    assert [d.name for d in formats.read(tmp_path / "said.conll")] == [d.name for d in formats.read(files / "test.jsonl")]
    run("coref", "predict", files / "test.jsonl", "--model", student, "--out", tmp_path / "said.html", "--threads", 1)
    assert "d3" in (tmp_path / "said.html").read_text()
    line = run("coref", "predict", "-", "--model", student, "--threads", 1, stdin="very good is the film. not good is film.").stdout
    [tree] = map(json.loads, line.splitlines())
    assert tree["text"].startswith("very good") and tree["clusters"]


def test_diagnose_shows_every_way_and_wants_clusters(student, files, tmp_path):
    shown = run("coref", "diagnose", files / "test.jsonl", "--model", student, "--threads", 1).stdout
    assert shown.count("found, as it is") == 1 and shown.count("best antecedents") == shown.count("without a fault") == 2
    assert "mentions that were asked about: " in shown and "singletons: drop; documents: 12" in shown
    formats.write(tmp_path / "bare.jsonl", [Document("d", [["Ann", "left"]], None)])
    said = run("coref", "diagnose", tmp_path / "bare.jsonl", "--model", student, code=2).stderr
    assert said == "tutelage: document d: has no clusters to be held against; name documents whose mentions are known\n"


def test_predict_refuses_what_it_cannot_do_in_one_sentence(student, files, model, tmp_path):
    (tmp_path / "empty.txt").write_text("  \n")
    (tmp_path / "broken.conll").write_text("#begin document (x); part 000\nx 0 0 good - - - - - * - (0\n\n#end document\n")
    for words, said in (
        ((files / "none.jsonl", "--model", student), "no such file"),
        ((tmp_path / "empty.txt", "--model", student), "is empty"),
        ((tmp_path / "broken.conll", "--model", student), "document x"),
        ((files / "test.jsonl", "--model", model), "is no student of the task coreference"),
        ((files / "test.jsonl", "--model", student, "--out", tmp_path / "x.pdf"), "names no format"),
        ((files / "test.jsonl", "--model", student, "--longest", 10), "words, more than 10"),
    ):
        assert said in run("coref", "predict", *words, code=2).stderr
    assert not (tmp_path / "x.pdf").exists()
    done = CliRunner().invoke(main, ["coref", "predict", "-", "--model", str(student)], input=b"Ann.\nZo\xeb left.")
    assert done.exit_code == 2 and "standard input, line 2: is not UTF-8 (byte 0xeb)" in done.stderr
    for content in ("{no", "[1]", '{"task": 3}'):
        (tmp_path / "tutelage.json").write_text(content)
        said = run("coref", "predict", files / "test.jsonl", "--model", tmp_path, code=2).stderr
        assert said.startswith(f"tutelage: {tmp_path / 'tutelage.json'}: does not say what the student was trained for")
    for wrong in ("0", "-3"):
        assert "not in the range" in run("coref", "predict", files / "test.jsonl", "--model", student, "--threads", wrong, code=2).stderr


def test_a_run_refused_for_its_data_leaves_its_folder_to_the_next(files, model, tmp_path):
    (tmp_path / "broken.jsonl").write_text('{"doc_key": "d", "sentences": [["Ann", "left"]], "clusters": [[[0, 0], [1, 2]]]}\n')
    (tmp_path / "raw.txt").write_text("Ann left.")
    for part, name, said in (
        ("train", "none.jsonl", "none.jsonl: no such file; did you mean 'broken.jsonl'?"),
        ("train", "broken.jsonl", "broken.jsonl, line 1: document d, cluster 0: span [1, 2] is out of range"),
        ("dev", "raw.txt", "raw.txt: documents without clusters cannot be scored: raw"),
        ("test", ".", "a folder where a file is needed"),
    ):
        given = {**{n: files / f"{n}.jsonl" for n in ("train", "dev", "test")}, part: tmp_path / name}
        words = [f"task.{n}={path}" for n, path in given.items()]
        words += ["teacher=null", "compare=[]", "method=finetune", f"student={model}"]
        done = run("distill", "coref-ontogum", "--out", tmp_path / "run", *words, code=2)
        assert said in done.stderr and "other settings" not in done.stderr


def test_the_task_refuses_documents_that_it_cannot_learn_or_score(files, tmp_path):
    bare = [dataclasses.replace(one, clusters=None) for one in toys(3, 1)]
    formats.write(tmp_path / "bare.jsonl", bare)
    with pytest.raises(errors.DataError, match=r"documents without clusters cannot be scored: d0, d1, d2"):
        task_of(files, dev=str(tmp_path / "bare.jsonl")).load()
    with pytest.raises(errors.DataError, match="holds no mention to learn from"):
        task_of(files, train=str(tmp_path / "bare.jsonl")).load()
    with pytest.raises(errors.DataError, match=r"more than task\.longest=20"):
        task_of(files, longest=20).load()
    notes = task_of(files, widest=1).load().notes
    assert any("cannot be found (task.widest)" in note for note in notes)


@public
def test_proposed_gold_cells_of_public_documents_come_back_as_their_clusters():
    """Every mention of OntoGUM dev that is not too wide stands once in the columns, at its own words."""
    task = build(Coreference, {"train": str(DATA / "coref/ontogum/dev.jsonl"), "dev_share": 0.2, "test_share": 0.2})
    loaded = formats.read(DATA / "coref/ontogum/dev.jsonl")[:5]
    tokenizer = open_model("minilm", {"factors": grid.count(64, 30)}, auto=task.auto).tokenizer
    encoded = task.rows_of(loaded, tokenizer, np.ones(5, dtype=np.int64))
    for row, one in enumerate(loaded):
        batch = encoded.batch([row])
        seen = Seen({"factors": torch.zeros(1, int(encoded.lengths[row]), grid.count(64, 30))})
        [(_, cluster)] = task.factored(seen, batch)
        found: dict[int, set] = {}
        for i, w in (cluster > 0).nonzero().tolist():
            found.setdefault(int(cluster[i, w]), set()).add((i, i + w))
        wanted = {frozenset(s for s in c if s[1] - s[0] < 30) for c in one.clusters if len(c) > 1}
        assert {frozenset(c) for c in found.values()} == wanted - {frozenset()}


def test_a_study_draws_documents_as_the_scorer_does(files):
    from tutelage.study import statistics

    task = task_of(files)
    gold, said = toys(12, 1), [dataclasses.replace(d, clusters=d.clusters[: 1 + i % 3]) for i, d in enumerate(toys(12, 1))]
    truth, told = (np.array([*side, None], dtype=object)[:-1] for side in (gold, said))
    drawn = statistics.metric_draws("conll_f1", [{"each": task.sums(told, truth)}, {"each": task.sums(truth, truth)}])
    assert drawn.shape[1] == 2 and np.allclose(drawn[:, 1], 1.0)
    wanted = scores.bootstrap(scores.by_document(gold, said, "drop"))
    assert float(drawn[:, 0].mean()) == pytest.approx(wanted["value"], abs=0.02)
    assert np.quantile(drawn[:, 0], 0.025) == pytest.approx(wanted["low"], abs=0.02)
