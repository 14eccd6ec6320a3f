"""Exact match and F1 of SQuAD, worked by hand from the official script's rules."""

from __future__ import annotations

import numpy as np
import pytest

from tutelage import config
from tutelage.report import words
from tutelage.tasks import _metrics
from tutelage.tasks._squad_metrics import best, exact, f1, normal
from tutelage.tasks.span_qa import SpanQa


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The Eiffel Tower.", "eiffel tower"),
        ("  a  cat\tand an\nowl ", "cat and owl"),
        ("theatre anthem area", "theatre anthem area"),
        ("U.S.A.", "usa"),
        ("the-end", "theend"),  # punctuation goes first, so that no article is left
        (
            "A\u2019s \u201cquoted\u201d \u2013 dash",
            "\u2019s \u201cquoted\u201d \u2013 dash",
        ),  # only ASCII punctuation goes; 'a' stands alone
        ("\u00c9COLE", "\u00e9cole"),
        ("the", ""),
        ("?!", ""),
    ],
)
def test_normal_text_is_lower_case_without_ascii_punctuation_and_articles(text, expected):
    assert normal(text) == expected


@pytest.mark.parametrize(
    ("predicted", "right", "match", "overlap"),
    [
        ("the Eiffel tower", "Eiffel Tower!", 1, 1.0),
        ("Eiffel Tower in Paris", "Eiffel Tower", 0, 2 * (2 / 4) * 1 / (2 / 4 + 1)),  # precision 2/4, recall 1
        ("Paris Paris", "Paris", 0, 2 * 0.5 * 1 / 1.5),  # a word counts as often as it stands on both sides
        ("Paris Paris London", "Paris London London", 0, 2 / 3),  # 2 common words of 3 and 3
        ("London", "Paris", 0, 0.0),
        ("", "Paris", 0, 0.0),
        ("Paris", "", 0, 0.0),
        ("", "", 1, 1.0),
        ("the", "", 1, 1.0),
        ("1,000", "1000", 1, 1.0),
        ("\u201cParis\u201d", "Paris", 0, 0.0),
    ],
)
def test_exact_match_and_f1_by_hand(predicted, right, match, overlap):
    assert exact(predicted, right) == match
    assert f1(predicted, right) == pytest.approx(overlap)


def test_the_answer_that_fits_best_counts_for_each_measure():
    answers = ("in 1973", "October 1973", "1973")
    assert best(exact, "1973", answers) == 1 and best(f1, "1973", answers) == 1
    assert best(f1, "late October 1973", answers) == pytest.approx(2 * (2 / 3) * 1 / (2 / 3 + 1))
    assert best(exact, "late October 1973", answers) == 0


def test_without_a_right_answer_only_no_answer_is_right():
    assert best(exact, "", ()) == best(f1, "", ()) == 1
    assert best(exact, "Paris", ()) == best(f1, "Paris", ()) == 0
    assert best(exact, "", ("Paris",)) == best(f1, "", ("Paris",)) == 0
    assert best(exact, "", ("the", "!")) == 1, "answers without a word are left out, as in version 2.0's script"


def test_the_score_is_the_mean_over_questions_in_the_units_of_a_share():
    task = config.build(SpanQa, {"data": "d.json"})
    predicted, gold = np.array(["Paris", "big Paris", "", "x"], dtype=object), np.empty(4, dtype=object)
    gold[:] = [("Paris", "Lyon"), ("Paris",), (), ()]
    assert task.score(predicted, gold) == {"f1": pytest.approx((1 + 2 / 3 + 1 + 0) / 4), "exact_match": 0.5}
    assert next(iter(task.score(predicted, gold))) == task.primary
    assert words.is_share("f1") and words.is_share("exact_match") and words.metric_name("exact_match") == "exact match"


def test_the_interval_is_that_of_a_mean_over_questions():
    task, draw = config.build(SpanQa, {"data": "d.json"}), np.random.default_rng(0)
    gold = np.empty(400, dtype=object)
    gold[:] = [("yes",)] * 400
    right = draw.random(400) < 0.7
    predicted = np.where(right, "yes", "no").astype(object)
    found = _metrics.interval(task, predicted, gold)
    spread = 1.96 * (right.mean() * (1 - right.mean()) / 400) ** 0.5
    assert found["primary"] == pytest.approx(right.mean()) and found["rows"] == 400 and found["method"] == "bootstrap"
    assert found["low"] == pytest.approx(right.mean() - spread, abs=0.01) and found["high"] == pytest.approx(
        right.mean() + spread, abs=0.01
    )


def test_the_paired_difference_is_that_of_means_over_the_same_questions():
    task, draw = config.build(SpanQa, {"data": "d.json"}), np.random.default_rng(1)
    gold = np.empty(300, dtype=object)
    gold[:] = [("one two",)] * 300
    a = np.array(draw.choice(["one two", "one", "none"], 300), dtype=object)
    b = np.array(draw.choice(["one two", "one", "none"], 300, p=[0.2, 0.4, 0.4]), dtype=object)
    value = {"one two": 1.0, "one": 2 / 3, "none": 0.0}
    gap = np.array([value[x] - value[y] for x, y in zip(a, b, strict=True)])
    found = _metrics.paired_difference(task, a, b, gold)
    assert found["difference"] == pytest.approx(gap.mean()) and found["metric"] == "f1"
    assert found["high"] - found["low"] == pytest.approx(2 * 1.96 * gap.std() / 300**0.5, rel=0.1)
    same = _metrics.paired_difference(task, a, a, gold)
    assert same["difference"] == same["low"] == same["high"] == 0
