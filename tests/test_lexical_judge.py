"""Overlap of words by hand."""

from __future__ import annotations

import pytest

from tutelage.answers import lexical


def test_words_are_distinct_caseless_and_without_citations():
    assert lexical.words("The River, the ÉTÉ [12] of 1999.") == {"river", "été", "1999"}
    assert lexical.words("The River", content=False) == {"the", "river"}
    assert lexical.words("It is the") == {"it", "is", "the"}, "stop words alone count as words"
    assert lexical.words(" [1] ") == frozenset()


@pytest.mark.parametrize(
    ("join", "value"),
    [("min", 1 / 3), ("max", 2 / 3), ("mean", 0.5), ("all", 1.0)],
)
def test_joins_by_hand(join, value):
    sources = ["A red boat.", "The lake."]
    assert lexical.attribution("The red boat, the lake [1][2]", sources, join=join) == pytest.approx(value)


def test_what_cites_nothing_or_says_nothing_has_no_support():
    assert lexical.attribution("A red boat", []) == 0.0 and lexical.attribution("", ["A red boat"]) == 0.0


def test_the_judge_looks_at_each_pair():
    judge = lexical.Lexical()
    assert judge.support([("A red boat", "red boat"), ("A lake", "red boat")]).tolist() == [1.0, 0.0]
    assert judge.support([]).shape == (0,)
