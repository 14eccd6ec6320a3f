"""Overlap of words by hand; the fitted judge against scikit-learn and brute force."""

from __future__ import annotations

import itertools
import json
import math
import os
import subprocess
import sys

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from tutelage.answers import features, lexical
from tutelage.cited import citations, hagrid
from tutelage.cli import main
from tutelage.errors import DataError


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


# ---- the judge that is fitted


WORDS = [f"word{chr(97 + i)}{chr(97 + j)}" for i in range(12) for j in range(12)]


def made(questions=24, seed=0):
    """Segments whose words all stand in what they cite (1), or half of them (0); labels; questions."""
    rng = np.random.default_rng(seed)
    many, labels, groups = [], [], []
    for q in range(questions):
        for label in (0, 1):
            quote = rng.choice(WORDS, size=30, replace=False).tolist()
            away = [w for w in WORDS if w not in quote]
            said = quote[3:11] if label else quote[3:7] + away[:4]
            many.append(features.Cited(" ".join(said) + " [1].", (" ".join(quote),), query=quote[0]))
            labels.append(label)
            groups.append(str(q))
    return many, labels, groups


@given(st.lists(st.sampled_from("abc"), max_size=7), st.lists(st.sampled_from("abc"), max_size=7))
def test_the_longest_common_subsequence_is_the_longest_of_all_subsequences(a, b):
    def subsequences(many):
        return {tuple(itertools.compress(many, keep)) for keep in itertools.product((0, 1), repeat=len(many))}

    assert features._subsequence(a, b) == max(map(len, subsequences(a) & subsequences(b)))


def test_idf_and_cosine_are_scikit_learns():
    from sklearn.feature_extraction.text import TfidfVectorizer

    texts = ["a red boat on a lake", "the red lake", "boats boats"]
    vectors = TfidfVectorizer(token_pattern=r"\w+").fit(texts)
    weights = features.idf(texts + texts[:1])
    theirs = dict(zip(vectors.get_feature_names_out(), vectors.idf_, strict=True))
    assert {w: weights[w] for w in theirs} == pytest.approx(theirs)
    rows = vectors.transform(texts).toarray()
    assert features._cosine(texts[0].split(), texts[1].split(), weights) == pytest.approx(rows[0] @ rows[1])


def test_features_by_hand():
    one = features.Cited(
        "In 1999 Anna sold two boats [1][2].", ("Anna sold boats.", "In 1999, two."), ("Anna sold boats in 1999",), "Who sold boats?", 1, 3
    )
    found = dict(zip(features.NAMES, features.features(one, {"": 1.0}).tolist(), strict=True))
    # Content words: 1999, anna, sold, boats; scikit-learn has "two" and "in" among its stop words.
    wanted = {
        "content_min": 1 / 4, "content_mean": 1 / 2, "content_max": 3 / 4, "content_all": 1.0, "words_min": 1 / 2, "words_all": 1.0,
        "bigrams_min": 1 / 5, "bigrams_max": 1 / 5, "bigrams_all": 2 / 5, "numbers_min": 0.0, "numbers_all": 1.0, "names_min": 0.0,
        "names_all": 1.0, "subsequence_min": 1 / 2, "subsequence_max": 1 / 2, "missing": 0.0, "length": math.log(7), "citations": 2.0,
        "position": 1 / 2, "segments": math.log(3), "quotes": math.log(4), "rare_min": 1 / 4, "new_all": 1.0, "asked": 1 / 2,
        "uncited": 1.0, "uncited_less_cited": 3 / 4,
    }  # fmt: skip
    assert {name: found[name] for name in wanted} == pytest.approx(wanted)
    assert np.isfinite(features.features(features.Cited(" [1] ", ("", "?")), {"": 1.0})).all()


def test_a_judge_learns_and_scores_the_same_after_loading(tmp_path):
    many, labels, groups = made()
    judge = features.Fitted.fit(many, labels, groups)
    other, truth, _ = made(seed=1)
    scores = judge.score(other)
    assert ((scores > 0.5) == np.array(truth)).all() and scores.min() >= 0 and scores.max() <= 1
    assert judge.score([features.Cited("worda", ())]).tolist() == [0.0] and judge.score([]).shape == (0,)
    judge.save(tmp_path / "judge.json")
    again = features.Fitted.load(tmp_path / "judge.json")
    assert again == judge and (again.score(other) == scores).all()
    assert features.Fitted.fit([*many, features.Cited("worda", ())], [*labels, 1], [*groups, "x"]) == judge, (
        "what cites nothing is left out"
    )


def test_the_verb_fits_the_same_judge_in_every_process_and_scores_by_it(tmp_path):
    many, labels, groups = made()
    questions = []
    for number, (one, label, group) in enumerate(zip(many, labels, groups, strict=True)):
        quotes = [{"idx": i, "docid": str(i), "text": text} for i, text in enumerate((*one.sources, *one.others), 1)]
        cites = "".join(f"[{i + 1}]" for i in range(len(one.sources)))
        segment = {"text": f"{citations.without(one.text)} rain tree stone river {cites}", "index": 0, "attributable": int(label)}
        answer = {"answer": segment["text"], "sentences": [segment]}
        questions.append({"query_id": f"{group}-{number}", "query": "What?", "quotes": quotes, "answers": [answer]})
    file = tmp_path / "labels.jsonl"
    file.write_text("".join(json.dumps(q) + "\n" for q in questions))
    said = []
    for seed in "12":
        words = [sys.executable, "-m", "tutelage", "answers", "fit", str(file), "--out", str(tmp_path / f"{seed}.json"), "--json"]
        done = subprocess.run(words, env=os.environ | {"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True)
        said.append(json.loads(done.stdout))
    assert (tmp_path / "1.json").read_bytes() == (tmp_path / "2.json").read_bytes()
    assert said[0]["segments"] == len(many) and said[0]["fitted"] > 0.9
    found = CliRunner().invoke(main, ["answers", "score", str(file), "--judge", str(tmp_path / "1.json"), "--json"])
    assert json.loads(found.output)["judge"] == said[0]["judge"] == said[1]["judge"]


def test_a_judge_is_scikit_learns_regression_on_its_features():
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    many, labels, groups = made()
    judge = features.Fitted.fit(many, labels, groups, sets=["listed"])
    table = np.stack([features.features(one, judge.idf) for one in many])[:, : len(features.LISTED)]
    model = make_pipeline(StandardScaler(), LogisticRegression(C=judge.strength, max_iter=2000)).fit(table, labels)
    assert judge.names == features.LISTED and judge.score(many) == pytest.approx(model.predict_proba(table)[:, 1], abs=1e-6)


def test_too_little_to_fit_a_judge_on_is_said():
    many, labels, groups = made(questions=4)
    with pytest.raises(DataError, match="at least 5 questions; found 4, label more"):
        features.Fitted.fit(many, labels, groups)
    many, labels, groups = made(questions=6)
    with pytest.raises(DataError, match="supported and unsupported segments, of several questions each; label more"):
        features.Fitted.fit(many, [1] * len(labels), groups)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (None, "judge.json: no such file"),
        ("{", "judge.json: the JSON stops in the middle"),
        ("[]", "is no judge of this version"),
        ('{"form": 1}', "is no judge"),
    ],
)
def test_what_is_no_judge_is_refused(tmp_path, text, what):
    if text is not None:
        (tmp_path / "judge.json").write_text(text)
    with pytest.raises(DataError, match=what):
        features.Fitted.load(tmp_path / "judge.json")


def test_a_judge_whose_parts_do_not_fit_is_refused(tmp_path):
    many, labels, groups = made(questions=6)
    features.Fitted.fit(many, labels, groups).save(tmp_path / "judge.json")
    found = json.loads((tmp_path / "judge.json").read_text())
    (tmp_path / "judge.json").write_text(json.dumps(found | {"weights": found["weights"][1:]}))
    with pytest.raises(DataError, match="features do not fit together"):
        features.Fitted.load(tmp_path / "judge.json")
    for name, wrong in itertools.product(found.keys() - {"form"}, (None, True, 3, "x", [], [None], {"a": []}, math.nan)):
        if (name, wrong) in (("bias", 3), ("strength", 3)):
            continue
        (tmp_path / "judge.json").write_text(json.dumps(found | {name: wrong}))
        with pytest.raises(DataError, match=r"judge\.json: .*; fit and save it anew"):
            features.Fitted.load(tmp_path / "judge.json")


def test_a_segment_of_a_record_comes_with_what_it_cites_and_what_not():
    segments = [hagrid.Segment(text=text, index=i) for i, text in enumerate(("A [3][7].", "B."))]
    quotes = [hagrid.Quote(idx=9 - i, docid="x", text=text) for i, text in enumerate("abc")]
    answer = hagrid.Answer(answer="A [3][7]. B.", sentences=segments)
    question = hagrid.Question(query_id="1", query="Which?", quotes=quotes, answers=[answer])
    first, second = (features.cited(question, question.answers[0], i) for i in (0, 1))
    assert first == features.Cited("A [3][7].", ("c",), ("a", "b"), "Which?", 0, 2) and second.sources == () and second.position == 1
