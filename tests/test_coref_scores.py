"""Scores are the reference scorer's, whole corpora have the score of their union, and intervals cover what they should."""

from __future__ import annotations

import dataclasses
import json
import random

import numpy as np
import pytest
from coref_documents import DATA, documents, public, quietly, scorer
from hypothesis import given, settings
from scorch import scores as reference

from tutelage.coref import distances, formats, scores
from tutelage.coref.documents import Document, of_characters
from tutelage.errors import ConfigError, DataError

NAMES = {"muc": "muc", "b3": "bcub", "ceafm": "ceafm", "ceafe": "ceafe", "blanc": "blanc"}


def doc(*clusters, name="d", words=20):
    return Document(name, [["w"] * words], [[(m, m) if isinstance(m, int) else m for m in c] for c in clusters])


def triple(found):
    return [found["recall"], found["precision"], found["f1"]]


def cases():
    return json.loads((DATA / "coref-scorer" / "cases.json").read_text())["cases"]


def both(case, name="d"):
    words = [case["tokens"]]
    return [Document(name, words, [list(map(tuple, c)) for c in case[f"{side}_clusters"]]) for side in ("key", "response")]


@scorer
@pytest.mark.filterwarnings("ignore:document .* others in the response")
@pytest.mark.parametrize("raw", [False, True], ids=["clusters", "files"])
def test_all_cases_of_the_reference_scorer_have_its_figures(raw):
    for case in cases():
        sides = (
            [quietly(DATA / "coref-scorer" / case[f"{side}_file"]) for side in ("key", "response")] if raw else [[d] for d in both(case)]
        )
        found = scores.corpus(*sides)
        for mine, its in NAMES.items():
            assert triple(found[mine]) == pytest.approx(case["perl_v8_01"][its], abs=1e-6), (case["id"], mine)
        for metric in ("lea", "mentions"):
            assert triple(found[metric]) == pytest.approx(case[metric], abs=1e-6), (case["id"], metric)
        assert found["conll_f1"] == pytest.approx(case["conll_avg_f1"], abs=1e-6)


def union(many):
    """The clusters of all documents, each mention with its document's name before it."""
    return [{(one.name, *span) for span in cluster} for one in many for cluster in one.clusters]


def holds_for_the_union(key, response):
    found = scores.corpus(key, response)
    for metric, function in (("muc", "muc"), ("b3", "b_cubed"), ("ceafe", "ceaf_e"), ("ceafm", "ceaf_m")):
        shared = set().union(*union(key)) & set().union(*union(response))
        expected = getattr(reference, function)(union(key), union(response)) if shared else [0, 0, 0]
        assert triple(found[metric]) == pytest.approx(expected, abs=1e-9), metric


@scorer
@pytest.mark.filterwarnings("ignore:document .* others in the response")
def test_a_corpus_of_all_cases_has_the_score_of_their_union():
    sides = [both(case, case["id"]) for case in cases()]
    holds_for_the_union([key for key, _ in sides], [response for _, response in sides])


@settings(max_examples=50)
@given(documents(name="a"), documents(name="b"), documents(name="a"), documents(name="b"))
def test_random_corpora_have_the_score_of_their_union_and_themselves_the_best(a, b, c, d):
    def stretched(one):
        return Document(one.name, [["w"] * 40], one.clusters)

    key, response = [stretched(a), stretched(b)], [stretched(c), stretched(d)]
    holds_for_the_union(key, response)
    turned, found = scores.corpus(response, key), scores.corpus(key, response)
    for metric in scores.METRICS:
        assert triple(turned[metric]) == pytest.approx([found[metric][k] for k in ("precision", "recall", "f1")])
    same = scores.corpus(key, key)
    assert all(same[m]["f1"] == pytest.approx(1) for m in scores.METRICS if key[0].mentions and m != "muc")


def disturbed(many, seed=0):
    """The same documents with a tenth of their mentions left out and a tenth put into other clusters."""
    rng, out = random.Random(seed), []
    for one in many:
        clusters = [[] for _ in one.clusters]
        for i, cluster in enumerate(one.clusters):
            for span in cluster:
                if rng.random() > 0.1:
                    clusters[i if rng.random() > 0.1 else rng.randrange(len(clusters))].append(span)
        out.append(dataclasses.replace(one, clusters=[c for c in clusters if c]))
    return out


@public
def test_a_public_corpus_has_the_score_of_its_union():
    key = formats.read(DATA / "coref" / "litbank" / "dev.jsonl")
    holds_for_the_union(key, disturbed(key))


def test_lea_by_hand_with_links_of_singletons_to_themselves():
    # Moosavi and Strube 2016, section 3, their example without singletons: K = {a,b,c} {d,e,f,g}; R = {a,b} {c,d} {f,g,h,i}.
    found = scores.corpus([doc([0, 1, 2], [3, 4, 5, 6])], [doc([0, 1], [2, 3], [5, 6, 7, 8])])
    assert found["lea"]["recall"] == pytest.approx((3 * 1 / 3 + 4 * 1 / 6) / 7)
    assert found["lea"]["precision"] == pytest.approx((2 * 1 + 2 * 0 + 4 * 1 / 6) / 8)
    alone = scores.corpus([doc([0], [1], [2, 3])], [doc([0], [1, 4], [2, 3])])
    assert alone["lea"]["recall"] == pytest.approx((1 + 0 + 2) / 4) and alone["lea"]["precision"] == pytest.approx((1 + 0 + 2) / 5)


def test_singletons_are_kept_or_dropped_on_both_sides_and_every_result_says_which():
    key, response = [doc([0, 1], [2])], [doc([0, 1], [3])]
    kept, dropped = scores.corpus(key, response), scores.corpus(key, response, singletons="drop")
    assert kept["singletons"] == "keep" and dropped["singletons"] == "drop"
    assert kept["mentions"]["f1"] == pytest.approx(2 / 3) and dropped["mentions"]["f1"] == 1 and dropped["conll_f1"] == 1
    with pytest.raises(ConfigError, match="singletons: must be 'keep' or 'drop'; got 'none'"):
        scores.corpus(key, response, singletons="none")


def test_nothing_found_and_nothing_to_find_score_zero():
    assert scores.corpus([doc([0, 1])], [doc()])["conll_f1"] == 0
    assert scores.corpus([doc()], [doc([0, 1])])["lea"] == {"recall": 0, "precision": 0, "f1": 0}
    assert "blanc" not in scores.corpus([doc([0, 1]), doc(name="e")], [doc(), doc(name="e")])


def test_documents_that_cannot_be_compared_are_named():
    key = [doc([0, 1]), doc(name="e"), doc(name="f")]
    with pytest.raises(DataError, match="the response lacks documents of the key: e, f; documents are paired by their names"):
        scores.corpus(key, [doc()])
    with pytest.raises(DataError, match="the key lacks documents of the response: g"):
        scores.corpus([doc()], [doc(), doc(name="g")])
    with pytest.raises(DataError, match="document d: 20 words in the key and 3 in the response"):
        scores.corpus([doc()], [doc(words=3)])
    with pytest.raises(DataError, match="document d: the response says nothing of mentions"):
        scores.corpus([doc()], [Document("d", [["w"] * 20])])
    with pytest.raises(DataError, match="two documents of one name"):
        scores.corpus([doc(), doc()], [doc()])
    with pytest.raises(DataError, match="the key holds no document"):
        scores.corpus([], [])
    assert scores.corpus([doc([0, 1], name="bc/a")], [doc([0, 1], name="bc/a_0")])["conll_f1"] == 1
    both = [doc([0, 1], name="a"), doc([0, 1], name="a_0")]
    assert scores.corpus(both, both[::-1])["documents"] == 2


def test_one_text_with_other_words_on_either_side_is_compared_by_characters():
    text = "Johnson left. He ran."
    key = of_characters("d", text, [[(0, 7), (14, 16)]])
    response = of_characters("d", text, [[(0, 4), (14, 16)], [(4, 7)]])
    found = scores.corpus([key], [response])
    assert len(key.words) != len(response.words) and found["mentions"]["recall"] == 0.5
    assert scores.corpus([key], [key])["conll_f1"] == 1


@public
def test_intervals_hold_the_figure_and_a_paired_difference_is_narrower_than_two_alone():
    key = formats.read(DATA / "coref" / "litbank" / "dev.jsonl")
    one, two = (scores.by_document(key, disturbed(key, seed)) for seed in (1, 2))
    alone = scores.bootstrap(one)
    assert alone["low"] < alone["value"] < alone["high"] and alone["value"] == scores.figures(one)["conll_f1"] and alone["documents"] == 10
    apart = scores.bootstrap(one, two)
    assert apart["value"] == pytest.approx(scores.figures(one)["conll_f1"] - scores.figures(two)["conll_f1"])
    same = scores.bootstrap(one, one)
    assert same["low"] == same["value"] == same["high"] == 0
    with pytest.raises(DataError, match="two responses to one key"):
        scores.bootstrap(one, scores.by_document(key[:5], key[:5]))


def test_a_bootstrap_draw_is_the_corpus_of_the_drawn_documents():
    key = [doc([0, 1], [2, 3, 4]), doc([5, 6, 7], name="e"), doc([1, 9], name="f")]
    response = [doc([0, 1, 2], [3, 4]), doc([5, 6], name="e"), doc([1, 8], name="f")]
    drawn = [0, 0, 2]
    again = [[dataclasses.replace(side[i], name=f"{n}") for n, i in enumerate(drawn)] for side in (key, response)]
    weights = np.bincount(drawn, minlength=3)[None]
    counts = scores.by_document(key, response)
    for metric in scores.METRICS:
        assert scores.f1(counts, metric, weights)[0] == pytest.approx(scores.corpus(*again)[metric]["f1"])


def test_links_by_distance_by_hand():
    key = [doc([0, 10, 100], [5, 6], words=200), doc([0], name="e")]
    response = [doc([0, 10], [6, 100], words=200), doc([0, 1], name="e")]
    near, middle, far = distances.links(key, response, edges=(0, 32, 95))
    assert (near["key"], near["response"], near["both"]) == (2, 2, 1) and near["f1"] == 0.5 and (near["from"], near["to"]) == (0, 31)
    assert (middle["key"], middle["response"], middle["both"]) == (1, 1, 0)
    assert (far["key"], far["response"]) == (1, 0) and far["recall"] == 0 and far["precision"] is None and far["to"] is None


@public
def test_links_of_all_distances_are_the_pairs_of_every_cluster():
    key = formats.read(DATA / "coref" / "litbank" / "dev.jsonl")
    found = distances.links(key, key)
    assert sum(row["both"] for row in found) == sum(len(c) * (len(c) - 1) // 2 for one in key for c in one.clusters)
    assert all(row["f1"] == 1 for row in found if row["key"])
