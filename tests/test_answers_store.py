"""Questions, answers and judgements in SQLite and in PostgreSQL: the same promises in both."""

from __future__ import annotations

import dataclasses
import datetime
import itertools
import json
import random
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter

import pytest
import sqlalchemy as sa
from postgres import postgres  # noqa: F401
from test_citations import RECORD

from tutelage.answers import adjudicating, judging, outcomes
from tutelage.answers.judging import Refused, Rules, Word
from tutelage.answers.store import Store
from tutelage.answers.tables import Answer, Base, Judgement, Lease, Person
from tutelage.cited import hagrid
from tutelage.database.store import now
from tutelage.errors import ConfigError, DataError


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request, tmp_path):
    if request.param == "sqlite":
        return str(tmp_path / "answers.db")
    return request.getfixturevalue("postgres").fresh()


@pytest.fixture
def store(url):
    made = Store(url)
    yield made
    made.close()


def questions(number: int, segments: int = 2) -> list[hagrid.Question]:
    out = []
    for i in range(number):
        sentences = [{"text": f"Part {j} [1].", "index": j} for j in range(segments)]
        answer = {"answer": " ".join(s["text"] for s in sentences), "sentences": sentences}
        tree = {"query_id": str(i), "query": "Where?", "quotes": [{"idx": 1, "docid": "a#0", "text": "There."}], "answers": [answer]}
        out.append(hagrid.Question.model_validate(tree))
    return out


def people(store: Store, number: int, role: str = "annotator") -> list[int]:
    with store.writing() as session:
        made = [Person(name=f"{role} {i}", pseudonym=f"{role[:2]}{i}", role=role, at=now()) for i in range(number)]
        session.add_all(made)
        session.flush()
        return [p.id for p in made]


def whole(store: Store, answer: int, value: int = 1) -> list[Word]:
    """A word on all that is asked of an answer."""
    with store.reading() as session:
        return [Word(segment, criterion, value) for segment, criterion in judging.criteria_of(session.get(Answer, answer))]


def request() -> str:
    return uuid.uuid4().hex


# ---- the store


def test_records_come_out_as_they_went_in(store):
    bare = {"query_id": "8", "query": "Who \U0001f600?", "quotes": [], "answers": [{"answer": "x", "informative": 1}]}
    trees = [RECORD, bare]
    assert store.take(hagrid.Question.model_validate(t) for t in trees) == 2
    assert [hagrid.tree(q) for q in store.give()] == trees
    with pytest.raises(DataError, match=r"question '8' is in .* already; nothing was imported"):
        store.take([*questions(1), hagrid.Question.model_validate(bare)])
    assert len(list(store.give())) == 2, "nothing of the second import stayed"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda q: q.update(query_id="x" * 201), r"itself: query_id has 201 letters, and at most 200 are kept"),
        (lambda q: q.update(query="a\0b"), r"itself: text holds NUL, which is no text"),
        (lambda q: q["answers"][0].update(answer="\ud800"), r"answer 1: text holds half of a character"),
        (lambda q: q["quotes"][0].update(idx=2**31), r"quote 1: idx is 2147483648, and numbers of at most 32 bits are kept"),
        (lambda q: q["quotes"][0].update(idx=-(10**5000)), r"quote 1: idx is a number of 16610 bits"),
        (lambda q: q["quotes"][0].update(docid="d" * 501), r"quote 1: docid has 501 letters"),
        (lambda q: q["answers"][0].update(answer_type="t" * 51), r"answer 1: answer_type has 51 letters"),
        (lambda q: q["answers"][0]["sentences"][1].update(index=2**63), r"answer 1, sentence 2: idx is 9223372036854775808"),
    ],
)
def test_what_no_database_holds_is_refused_before_it_says_so(tmp_path, change, sentence):
    tree = hagrid.tree(questions(1)[0])
    change(tree)
    store = Store(tmp_path / "a.db")
    with pytest.raises(DataError, match=rf"^question '.*', {sentence}.*; nothing was imported$"):
        store.take([hagrid.Question.model_validate(tree)])
    assert list(store.give()) == []


def test_a_judgement_that_no_database_holds_is_refused(store):
    store.take(questions(1))
    [person] = people(store, 1)
    answer = judging.take_next(store, person)
    for more in ({"note": "a\0b"}, {"suggestion": judging.Suggestion(1, "m" * 201)}):
        with pytest.raises(Refused, match=r"a judgement cannot be kept: (note holds NUL|suggester has 201 letters)"):
            judging.judge(store, person, answer, [Word(None, "informative", 1, **more)], request())


def test_migrations_make_the_tables_that_the_code_knows(store):
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    with store.engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []
    Store(store.url).close()


def test_a_store_of_the_first_version_keeps_its_judgements(url):
    from alembic import command

    store = Store(url)
    with store.engine.execution_options(writes=True).begin() as connection:
        command.downgrade(store.alembic(connection), "0001")
    store.take(questions(1))
    people(store, 1)
    with store.writing() as session:
        session.execute(
            sa.text(
                "INSERT INTO judgement (answer_id, criterion, value, withdrawn, adjudicates, suggested, person_id, request, at) "
                "VALUES (1, 'informative', 1, false, false, false, 1, 'r', :at)"
            ),
            {"at": now()},
        )
    store.close()
    with Store(url).reading() as session:
        [one] = session.scalars(sa.select(Judgement))
        assert (one.value, one.suggestion, one.suggester) == (1, None, None)


@pytest.mark.parametrize(
    "line", ["UPDATE judgement SET value = 0", "DELETE FROM judgement", "UPDATE judgement SET note = 'x' WHERE id = 1"]
)
def test_the_database_itself_keeps_judgements_as_they_are(store, line):
    store.take(questions(1))
    [person] = people(store, 1)
    answer = judging.take_next(store, person)
    judging.judge(store, person, answer, whole(store, answer), request())
    with pytest.raises(sa.exc.DBAPIError, match="judgements are never"), store.writing() as session:
        session.execute(sa.text(line))
    with store.reading() as session:
        assert {j.value for j in session.scalars(sa.select(Judgement))} == {1}


def test_a_store_that_cannot_be_opened_is_refused_in_a_sentence(tmp_path, store):
    (tmp_path / "text.db").write_text("this is no database, however long it may be" * 50)
    for bad, sentence in (
        (str(tmp_path / "text.db"), "is no store of answers"),
        ("mysql://a@b/c", "is neither SQLite nor PostgreSQL"),
        ("postgresql+psycopg://nobody:secret@127.0.0.1:9/x", "does not answer"),
        ("not a url ://", "is no path and no URL"),
    ):
        with pytest.raises(ConfigError, match=sentence) as fault:
            Store(bad)
        assert "secret" not in str(fault.value) and "\n" not in str(fault.value)
    with store.writing() as session:
        session.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(ConfigError, match="is of another version of Tutelage"):
        Store(store.url)


# ---- leases and judgements


def test_an_answer_goes_to_as_many_people_as_asked_and_to_each_once(store):
    store.take(questions(2))
    rules, many = Rules(overlap=2), people(store, 4)
    first = [judging.take_next(store, p, rules) for p in many]
    assert first[0] == first[1] and first[2] == first[3] and first[0] != first[2], "an answer is filled before the next is begun"
    assert judging.take_next(store, many[0], rules) == first[0], "what one holds comes first"
    [late] = people(store, 1, "admin")
    assert judging.take_next(store, late, rules) is None
    for p, answer in zip(many, first, strict=True):
        assert judging.judge(store, p, answer, whole(store, answer), request(), rules)
    assert judging.take_next(store, many[0], rules) is None and judging.take_next(store, late, rules) is None


def test_a_lease_that_expired_gives_its_place_to_others(store, monkeypatch):
    store.take(questions(1))
    slow, quick, third = people(store, 3)
    rules = Rules(overlap=1, lease=60)
    answer = judging.take_next(store, slow, rules)
    assert judging.take_next(store, quick, rules) is None
    later = now() + datetime.timedelta(seconds=61)
    monkeypatch.setattr(judging, "now", lambda: later)
    assert judging.take_next(store, quick, rules) == answer
    with pytest.raises(Refused, match="your time for this answer is over and others have judged it since"):
        judging.judge(store, slow, answer, whole(store, answer), request(), rules)
    with pytest.raises(Refused, match="was not given to you"):
        judging.judge(store, third, answer, whole(store, answer), request(), rules)
    with store.reading() as session:
        assert session.scalar(sa.select(sa.func.count()).select_from(Judgement)) == 0
    later += datetime.timedelta(seconds=61)
    assert judging.judge(store, slow, answer, whole(store, answer), request(), rules), "late, but there is still a place"
    assert judging.take_next(store, quick, rules) is None


def test_a_lease_of_a_clock_that_ran_ahead_ends_as_one_made_now(store, monkeypatch):
    store.take(questions(1))
    fast, other = people(store, 2)
    rules = Rules(overlap=1, lease=60)
    with monkeypatch.context() as patch:
        patch.setattr(judging, "now", lambda: now() + datetime.timedelta(days=300))
        answer = judging.take_next(store, fast, rules)
    assert judging.take_next(store, other, rules) is None, "it holds for a lease's time from now"
    monkeypatch.setattr(judging, "now", lambda: now() + datetime.timedelta(seconds=61))
    assert judging.take_next(store, other, rules) == answer


def test_words_of_a_lease_whose_place_others_filled_are_withdrawn_and_can_be_taken_back(store, monkeypatch):
    store.take(questions(1))
    slow, quick, third = people(store, 3)
    rules, later = Rules(overlap=2, lease=60), now()
    monkeypatch.setattr(judging, "now", lambda: later)
    answer = judging.take_next(store, slow, rules)
    words = whole(store, answer, 0)
    judging.judge(store, slow, answer, words[:2], request(), rules)
    later += datetime.timedelta(seconds=61)
    for person in (quick, third):
        assert judging.take_next(store, person, rules) == answer
    with pytest.raises(judging.TooLate):
        judging.judge(store, slow, answer, words, request(), rules)
    stands = lambda: {person for said in judging.standing(session, answer).values() for person in said}
    with store.reading() as session:
        assert stands() == {slow}, "until others have judged it in full"
    undo = request()
    assert judging.take_back(store, slow, undo, rules) == answer == judging.take_back(store, slow, undo, rules)
    with store.reading() as session:
        assert stands() == set() and len(judging.history(session, answer)) == 4, "taken back though the place is gone, and once"
    later += datetime.timedelta(seconds=61)
    judging.judge(store, slow, answer, words[:2], request(), rules)
    later += datetime.timedelta(seconds=61)
    for person in (quick, third):
        judging.take_next(store, person, rules)
        judging.judge(store, person, answer, whole(store, answer), request(), rules)
    with store.reading() as session:
        assert stands() == {quick, third}
        assert {j.note for j in judging.history(session, answer)[-2:]} == {"others had judged it by then"}
    assert set(outcomes.settled(store).values()) == {1} and outcomes.disagreements(store) == []


def test_a_request_sent_again_with_other_words_or_for_another_answer_is_refused(store):
    store.take(questions(2))
    [person] = people(store, 1)
    first = judging.take_next(store, person)
    words = whole(store, first)
    judging.judge(store, person, first, words, "one")
    second = judging.take_next(store, person)
    noted = [dataclasses.replace(words[0], note="a thought"), *words[1:]]
    for answer, other in ((first, whole(store, first, 0)), (first, words[:1]), (first, noted), (second, whole(store, second)), (first, [])):
        with pytest.raises(Refused, match="was sent before with other words, and those stand"):
            judging.judge(store, person, answer, other, "one")
    assert judging.judge(store, person, first, words, "one") is False
    with store.reading() as session:
        assert len(judging.history(session, first)) == 3 and not judging.history(session, second)


def test_whoever_looked_at_a_dispute_does_not_judge_and_whoever_judged_does_not_look(store):
    store.take(questions(2))
    a, b = people(store, 2)
    chief, other = people(store, 2, "adjudicator")
    rules = Rules(overlap=3)
    answer = judging.take_next(store, a, rules)
    assert judging.take_next(store, b, rules) == judging.take_next(store, chief, rules) == judging.take_next(store, other, rules) - 1
    with pytest.raises(adjudicating.Undisputed):
        adjudicating.look(store, chief, answer)
    judging.judge(store, a, answer, whole(store, answer), request(), rules)
    judging.judge(store, b, answer, whole(store, answer, 0), request(), rules)
    words = whole(store, answer, 0)
    with pytest.raises(adjudicating.Undisputed):
        adjudicating.settle(store, chief, answer + 1, whole(store, answer + 1), request())
    assert len(adjudicating.look(store, chief, answer)) == len(adjudicating.look(store, chief, answer)) == 3
    with pytest.raises(Refused, match="you have seen what others said of this answer"):
        judging.judge(store, chief, answer, words, request(), rules)
    assert judging.take_next(store, chief, rules) == answer + 1, "the lease on it is gone, and it comes back no more"
    with store.writing() as session:
        session.add(Lease(answer_id=answer, person_id=other, until=now() + datetime.timedelta(minutes=5)))
    judging.judge(store, other, answer, words[:1], request(), rules)
    for work in (lambda: adjudicating.look(store, other, answer), lambda: adjudicating.settle(store, other, answer, words, request())):
        with pytest.raises(Refused, match="you judged this answer yourself"):
            work()
    assert adjudicating.settle(store, chief, answer, words[1:], "settled") is True
    assert adjudicating.settle(store, chief, answer, words[1:], "settled") is False, "sent twice"
    for again in (words[1:], [*words[:1], Word(None, "attributable", 1)]):
        with pytest.raises(Refused, match="is not disputed, or not any more"):
            adjudicating.settle(store, chief, answer, again, request())
    assert adjudicating.look(store, chief, answer) == [(answer, None, "informative")]


def test_a_word_is_the_last_one_and_undo_takes_it_back(store):
    store.take(questions(1))
    [person] = people(store, 1)
    answer = judging.take_next(store, person)
    words = whole(store, answer)
    judging.judge(store, person, answer, words, "one")
    assert judging.judge(store, person, answer, words, "one") is False, "sent twice, kept once"
    judging.judge(store, person, answer, [Word(words[1].segment, "attributable", 0, note="no such place")], "two")
    with store.reading() as session:
        stands = judging.standing(session, answer)
        assert stands[answer, words[1].segment, "attributable"][person].value == 0
        assert session.scalar(sa.select(Lease.done))
    judging.judge(store, person, answer, [Word(words[1].segment, "attributable", None, withdrawn=True)], "three")
    with store.reading() as session:
        assert person not in judging.standing(session, answer)[answer, words[1].segment, "attributable"]
        assert not session.scalar(sa.select(Lease.done)), "the answer is to be judged again"
        assert [j.value for j in judging.history(session, answer)] == [1, 1, 1, 0, None]
    assert judging.take_next(store, person) == answer


def test_what_an_answer_does_not_have_is_refused_as_a_whole(store):
    store.take(questions(2))
    [person] = people(store, 1)
    answer = judging.take_next(store, person)
    good = whole(store, answer)
    other = whole(store, answer + 1)[-1]
    for bad in ([*good, other], [*good, Word(None, "attributable", 1)], [*good, Word(None, "informative", 2)], []):
        with pytest.raises(Refused):
            judging.judge(store, person, answer, bad, request())
    with store.reading() as session:
        assert session.scalar(sa.select(sa.func.count()).select_from(Judgement)) == 0


def test_disagreements_are_settled_by_adjudicators_and_exported(store):
    store.take(questions(1))
    a, b = people(store, 2)
    [chief] = people(store, 1, "adjudicator")
    answer = judging.take_next(store, a)
    judging.take_next(store, b)
    words = whole(store, answer)
    judging.judge(store, a, answer, words, request())
    judging.judge(store, b, answer, [*words[:2], Word(words[2].segment, "attributable", 0)], request())
    assert outcomes.disagreements(store) == [(answer, words[2].segment, "attributable")]
    [record] = outcomes.export(store)
    [one] = record.answers
    assert (one.informative, one.attributable) == (1, None)
    assert [s.attributable for s in one.sentences] == [1, None]
    with pytest.raises(Refused, match="only adjudicators"):
        adjudicating.settle(store, a, answer, [Word(words[2].segment, "attributable", 0)], request())
    adjudicating.settle(store, chief, answer, [Word(words[2].segment, "attributable", 0, note="not said there")], request())
    assert outcomes.disagreements(store) == []
    [one] = next(iter(outcomes.export(store))).answers
    assert (one.informative, one.attributable) == (1, 0) and [s.attributable for s in one.sentences] == [1, 0]
    told = list(outcomes.events(store))
    assert len(told) == 7 and {e["annotator"] for e in told} == {"an0", "an1", "ad0"}
    assert [(e["query_id"], e["answer"], e["segment"]) for e in told[:3]] == [("0", 0, None), ("0", 0, 0), ("0", 0, 1)]
    json.dumps(told)


def test_cannot_judge_is_no_vote(store):
    store.take(questions(1, segments=1))
    a, b = people(store, 2)
    answer = judging.take_next(store, a)
    judging.take_next(store, b)
    words = whole(store, answer, 0)
    judging.judge(store, a, answer, words, request())
    judging.judge(store, b, answer, [Word(w.segment, w.criterion, None) for w in words], request())
    assert outcomes.disagreements(store) == []
    assert set(outcomes.settled(store).values()) == {0}


def test_disagreements_and_ratings_are_those_of_the_events_one_by_one(store):
    """Random words, corrections, withdrawals and settlements; the database's answer against a walk over the events."""
    draw = random.Random(0)
    store.take(questions(20))
    many, [chief] = people(store, 4), people(store, 1, "adjudicator")
    walked: dict[tuple, dict[int, object]] = {}
    with store.writing() as session:
        for number in range(600):
            answer = session.get(Answer, draw.randint(1, 20))
            segment, criterion = draw.choice(judging.criteria_of(answer))
            person, withdrawn = draw.choice([*many, *many, chief]), draw.random() < 0.2
            value = None if withdrawn else draw.choice([1, 1, 0, None])
            session.add(Judgement(
                answer_id=answer.id, segment_id=segment, criterion=criterion, person_id=person, value=value, withdrawn=withdrawn,
                adjudicates=person == chief, suggested=False, request=str(number), at=now(),
            ))  # fmt: skip
            session.flush()
            walked.setdefault((answer.id, segment, criterion), {})[person] = value if not withdrawn else "gone"
    stands = {key: {p: v for p, v in said.items() if v != "gone"} for key, said in walked.items()}
    split = {key for key, said in stands.items() if chief not in said and {0, 1} <= set(said.values())}
    assert set(outcomes.disagreements(store)) == split and len(split) > 5
    ordered = sorted(split, key=lambda k: (k[0], k[1] or 0, k[2]))
    assert outcomes.disagreements(store) == ordered
    assert outcomes.disagreements(store, ordered[0][0]) == [k for k in ordered if k[0] == ordered[0][0]]
    words = Counter((c, f"an{many.index(p)}", v) for (_, _, c), said in stands.items() for p, v in said.items() if p != chief)
    assert Counter((r.criterion, r.rater, r.value) for r in outcomes.ratings(store)) == words


# ---- many at once


def test_fifty_people_at_once_lose_nothing_and_double_nothing(store):
    number, overlap = 60, 3
    store.take(questions(number))
    rules = Rules(overlap=overlap)
    kept: list[tuple[int, int, str]] = []
    faults: list[BaseException] = []

    def work(person: int) -> None:
        try:
            while (answer := judging.take_next(store, person, rules)) is not None:
                name = request()
                judging.judge(store, person, answer, whole(store, answer), name, rules)
                judging.judge(store, person, answer, whole(store, answer), name, rules)
                kept.append((answer, person, name))
        except BaseException as fault:
            faults.append(fault)

    threads = [threading.Thread(target=work, args=(p,)) for p in people(store, 50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults, faults[:2]
    with store.reading() as session:
        rows = session.execute(sa.select(Judgement.answer_id, Judgement.person_id, Judgement.request)).all()
    assert len(rows) == 3 * len(kept), "three words a submission, none lost, none doubled"
    each = {(a, p) for a, p, _ in rows}
    assert len(each) == len(kept) == number * overlap
    for answer, group in itertools.groupby(sorted(each), key=lambda x: x[0]):
        assert len(list(group)) == overlap, answer


@pytest.mark.kill
def test_what_was_acknowledged_survives_a_kill(url):
    store = Store(url)
    store.take(questions(400, segments=1))
    [person] = people(store, 1)
    code = (
        "import sys, uuid\nfrom tutelage.answers import judging\nfrom tutelage.answers.store import Store\n"
        "from tutelage.answers.tables import Answer\nstore = Store(sys.argv[1])\n"
        "while (a := judging.take_next(store, int(sys.argv[2]))) is not None:\n"
        "    with store.reading() as s: asked = judging.criteria_of(s.get(Answer, a))\n"
        "    name = uuid.uuid4().hex\n"
        "    judging.judge(store, int(sys.argv[2]), a, [judging.Word(x, c, 1) for x, c in asked], name)\n"
        "    print(a, name, flush=True)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code, url, str(person)], stdout=subprocess.PIPE, text=True)
    told = []
    for line in process.stdout:
        told.append(line.split())
        if len(told) == 12:
            process.send_signal(signal.SIGKILL)
            break
    told += [line.split() for line in process.stdout if line.endswith("\n")]
    process.wait()
    time.sleep(0.2)
    again = Store(url)
    with again.reading() as session:
        kept = {(str(a), r.split(".")[0]) for a, r in session.execute(sa.select(Judgement.answer_id, Judgement.request))}
        counts = session.execute(sa.select(Judgement.answer_id, sa.func.count()).group_by(Judgement.answer_id)).all()
    assert {tuple(t) for t in told} <= kept and len(told) >= 12
    assert {n for _, n in counts} == {2}, "words of one submission stand together or not at all"
    again.close()
    store.close()
