"""Citations as they are written, where they point, and the segments that they close."""

from __future__ import annotations

import importlib
import json
import os
import re
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tutelage import splitting
from tutelage.answers import lexical
from tutelage.cited import citations, hagrid
from tutelage.errors import DataError


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("A river [1].", [(1,)]),
        ("A [1, 2] and [3,4] and [5 , 6].", [(1, 2), (3, 4), (5, 6)]),
        ("A [1-3], [2\u20134], [ 5 ].", [(1, 2, 3), (2, 3, 4), (5,)]),
        ("A [1][2] [3].", [(1,), (2,), (3,)]),
        ("A [1, 2, and 4], [1 and 2], [1; 3].", [(1, 2, 4), (1, 2), (1, 3)]),
        ("A [1, 3-5].", [(1, 3, 4, 5)]),
        ("A [1]-[3], [2, 4]\u2013[6], [3]-[1].", [(1, 2, 3), (2, 4, 5, 6), (3, 1)]),
        ("A [1 to 3], [2 through 4].", [(1, 2, 3), (2, 3, 4)]),
        ("A \u30101\u3011, \uff3b1, 2\uff3d, [\uff11].", [(1,), (1, 2), (1,)]),
        ("Falls [3-1], wide [1-999999].", [(3, 1), (1, 999999)]),
        ("No [Online], [n], [], [1.5], [Accessed: 3 May], (1), [1x], [-1].", []),
        ("", []),
    ],
)
def test_what_is_a_citation(text, numbers):
    found = citations.parse(text)
    assert [c.numbers for c in found] == numbers
    assert all(text[c.start] in "[\u3010\uff3b" and text[c.end - 1] in "]\u3011\uff3d" for c in found)


def test_brackets_with_numbers_that_are_no_citations_are_told_apart():
    assert citations.others("A [1], [^2], [Source 3], \u30104\u2020s\u3011, [n], [1-3], [Accessed: 3 May].") == [
        "[^2]", "[Source 3]", "\u30104\u2020s\u3011", "[Accessed: 3 May]"
    ]  # fmt: skip


def test_citations_are_positions_and_the_rest_dangles():
    assert citations.cited("A [2][1], b [2], c [4, 0].", 3) == ([1, 0], [4, 0])
    assert citations.cited("Nothing.", 3) == ([], [])


ABBREVIATED = [
    "Miller et al. [1] showed it.", "Acme Inc. [1] was sold.", "They met Dr. [1] Smith.", "It is No. [1] 5.", "As fig. [1] 3 says.",
    "In the U.S. [1] in 1990 it was.", "Miller et al. [1], who ran.", "J. [1] Smith ran.",
]  # fmt: skip
"""Full stops that end no sentence, before a citation."""


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("A river. [1] It flows.", "A river [1]. It flows."),
        ("A river.[1][2] It flows", "A river [1][2]. It flows"),
        ('He said "yes." [1]', 'He said "yes [1]."'),
        ("A river [1]. It flows [2].", "A river [1]. It flows [2]."),
        ("A river. [1], it flows.", "A river. [1], it flows."),
        ("See 3.5 [1] there.", "See 3.5 [1] there."),
        ("Wait... [1] It flows.", "Wait [1]... It flows."),
        ("One [1]. [2] Two.", "One [1] [2]. Two."),
        *[(text, text) for text in ABBREVIATED],
    ],
)
def test_citations_behind_a_full_stop_move_before_it(text, wanted):
    assert citations.normalise(text) == wanted and citations.normalise(wanted) == wanted


def test_text_without_its_citations():
    assert citations.without("A river [1] flows [2, 3]. It ends [4] .") == "A river flows. It ends."
    assert citations.without("It flows ([1], [2]), by [1], [2], and [3] (see [4]).") == "It flows, by (see)."


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("One [1]. Two [2][3].", ["One [1].", "Two [2][3]."]),
        ("One. [1] Two. [2]", ["One. [1]", "Two. [2]"]),
        ("One [1], and two [2].", ["One [1],", "and two [2]."]),
        ('One.[1] "Two" [2].', ["One.[1]", '"Two" [2].']),
        ("By [1], one is two. Nobody knows.", ["By [1], one is two. Nobody knows."]),
        ("One [1]. Nobody knows more.", ["One [1].", "Nobody knows more."]),
        ("Nothing cited. At all.", ["Nothing cited. At all."]),
        ("By [1], Paris is old. Nobody knows.", ["By [1], Paris is old. Nobody knows."]),
        ("- One [1]\n- two [2]\n- three", ["- One [1]", "- two [2]", "- three"]),
        ("One ([1], [2]). Nobody knows.", ["One ([1], [2]).", "Nobody knows."]),
        *[(f"{text} Nobody knows.", [f"{text} Nobody knows."]) for text in ABBREVIATED],
        ("", []),
    ],
)
def test_segments_by_hand(text, wanted):
    assert citations.segments(text) == wanted


@given(st.text(alphabet="ab. ,[]123-\n\"'()", max_size=60))
def test_segments_lose_nothing(text):
    assert re.sub(r"\s", "", "".join(citations.segments(text))) == re.sub(r"\s", "", text)
    assert sorted(re.sub(r"\s", "", citations.normalise(text))) == sorted(re.sub(r"\s", "", text))
    citations.without(text), citations.others(text)


# ---- HAGRID's record

RECORD = {
    "query_id": "7", "query": "Where?", "quotes": [{"idx": 0, "docid": "1#0", "text": "Here."}],
    "answers": [
        {
            "answer": "Here [1].", "answer_type": "short", "informative": 1, "attributable": None,
            "sentences": [{"text": "Here [1].", "index": 0, "answer_type": "short", "informative": 1, "attributable": None}],
        }
    ],
}  # fmt: skip


def test_records_are_read_and_written_as_they_were(tmp_path):
    bare = {"query_id": "8", "query": "Who?", "quotes": []}
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(r, ensure_ascii=False) + "\n\n" for r in (RECORD, bare)))
    questions, faults = hagrid.read(tmp_path / "in.jsonl")
    assert not faults and questions[0].answers[0].sentences[0].informative == 1
    hagrid.write(questions, tmp_path / "out.jsonl")
    assert [json.loads(x) for x in (tmp_path / "out.jsonl").read_text().splitlines()] == [RECORD, bare]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("{", "line 2: not JSON"),
        ({"query": ""}, "line 2: query: string should have at least 1 character"),
        ({"quotes": [{"idx": 1, "docid": "a", "text": ""}]}, "line 2: quotes.0.text: "),
        ({"answers": [{"answer": "x", "informative": 2}]}, "line 2: answers.0.informative: "),
        ({"more": 1}, "line 2: more: "),
        ({"query_id": "7"}, "line 2: query_id '7' came before"),
    ],
)
def test_broken_lines_are_refused_as_a_whole_or_left_out(tmp_path, change, sentence):
    bad = change if isinstance(change, str) else json.dumps({**RECORD, "query_id": "9", **change})
    path = tmp_path / "in.jsonl"
    path.write_text(json.dumps(RECORD) + "\n" + bad + "\n" + json.dumps({**RECORD, "query_id": "10"}) + "\n")
    with pytest.raises(DataError, match=re.escape(sentence)) as fault:
        hagrid.read(path)
    assert str(fault.value).endswith("nothing was read") and str(path) in str(fault.value)
    questions, faults = hagrid.read(path, skip=True)
    assert [q.query_id for q in questions] == ["7", "10"] and len(faults) == 1 and sentence in faults[0]


def test_files_without_questions_are_refused(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        hagrid.read(tmp_path / "none.jsonl")
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(DataError, match="holds no questions"):
        hagrid.read(tmp_path / "empty.jsonl")


def test_labels_of_answers_from_their_segments():
    assert hagrid.label_of([1, 1], every=True) == 1 and hagrid.label_of([1, 0], every=True) == 0
    assert hagrid.label_of([0, 1], every=False) == 1 and hagrid.label_of([0, 0], every=False) == 0
    assert hagrid.label_of([0, None], every=True) is None and hagrid.label_of([], every=False) is None


@pytest.mark.skipif(not os.environ.get("TUTELAGE_DATA"), reason="needs TUTELAGE_DATA, a folder of public data")
@pytest.mark.parametrize(("name", "answers", "alike"), [("train", 772, 702), ("dev", 177, 165)])
def test_published_records_and_segments(name, answers, alike, tmp_path):
    path = Path(os.environ["TUTELAGE_DATA"]) / "hagrid" / f"{name}.jsonl"
    questions, _ = hagrid.read(path)
    hagrid.write(questions, tmp_path / "out.jsonl")
    assert [json.loads(x) for x in (tmp_path / "out.jsonl").open()] == [json.loads(x) for x in path.open()]
    bare = lambda many: [" ".join(x.split()) for x in many]
    each = [(a, bare(citations.segments(a.answer)) == bare(s.text for s in a.sentences)) for q in questions for a in q.answers]
    assert (len(each), sum(same for _, same in each)) == (answers, alike)
    assert all(hagrid.label_of([s.informative for s in a.sentences], every=False) == a.informative for a, _ in each)
    assert all(hagrid.label_of([s.attributable for s in a.sentences], every=True) == a.attributable for a, _ in each)


# ---- time


READERS = [splitting.split, citations.parse, citations.others, citations.without, citations.normalise, citations.segments, lexical.words]
UNITS = [
    "a-b-", "[1] ", "[1]-", "[1, ", "[1 to ", "[", "(", "(aaa)", ". [1] it ", "\n", " ", "a.", "a'", "a@", "aa.bbb_.", "www.", "http://!",
    "co-", "1,", "no.  ", '" ', "\u2600\ufe0f", "ab", "_", "-", "'",
]  # fmt: skip
"""What a text may repeat; each has a pattern of its own that could look far ahead."""


def seconds(function, text: str) -> float:
    start = time.process_time()
    function(text)
    return time.process_time() - start


@pytest.mark.parametrize("unit", ["a-b-", "[1] ", "\n"])
def test_texts_of_one_thing_repeated_take_no_longer_than_others(unit):
    text = "[1]" + unit * (40_000 // len(unit)) + "x"
    assert max(seconds(function, text) for function in READERS) < 1.5, "80,000 characters of a-b- took 8 s where time grew with the square"


@pytest.mark.slow
@pytest.mark.parametrize("unit", UNITS)
def test_every_pattern_of_the_package_takes_time_in_proportion_to_the_text(unit):
    found = {}
    for path in Path(splitting.__file__).parent.rglob("*.py"):
        if "re.compile(" in path.read_text():
            name = ".".join(path.relative_to(Path(splitting.__file__).parents[1]).with_suffix("").parts)
            found |= {f"{name}.{key}": p.findall for key, p in vars(importlib.import_module(name)).items() if isinstance(p, re.Pattern)}
    assert len(found) > 15
    text = "[1]" + unit * (40_000 // len(unit)) + "x"
    late = {name: took for name, take in (found | {f.__name__: f for f in READERS}).items() if (took := seconds(take, text)) > 1.5}
    assert not late
