"""What came of the judgements: labels, ratings, disagreements, and records to export."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session, selectinload

from ..cited import hagrid
from . import agreement
from .judging import CRITERIA, Key, standing
from .store import Store, record_of
from .tables import Answer, Judgement, Person, Question, Segment


def settled(store: Store) -> dict[Key, hagrid.Label]:
    """The label of each key: the last adjudicator's word, else what all agree on who could judge; None where they do not."""
    with store.reading() as session:
        out: dict[Key, hagrid.Label] = {}
        for key, words in standing(session).items():
            said = {one.value for one in words.values()} - {None}
            out[key] = said.pop() if len(said) == 1 else None  # type: ignore[assignment]
        for key, words in standing(session, adjudicates=True).items():
            if words:
                out[key] = list(words.values())[-1].value  # type: ignore[assignment]
        return out


def _last(answer: int | None = None) -> sa.Subquery:
    """Each person's last word on each key, withdrawals left out, of one answer or of all; adjudicators' apart from annotators'."""
    one = (Judgement.answer_id, Judgement.segment_id, Judgement.criterion, Judgement.person_id, Judgement.adjudicates)
    place = sa.func.row_number().over(partition_by=one, order_by=Judgement.id.desc()).label("place")
    each = sa.select(*one, Judgement.id, Judgement.value, Judgement.withdrawn, Judgement.at, Judgement.suggestion, place)
    found = (each if answer is None else each.where(Judgement.answer_id == answer)).subquery()
    return sa.select(found).where(found.c.place == 1, ~found.c.withdrawn).subquery()


def ratings(store: Store) -> list[agreement.Rating]:
    """The annotators' standing words, by pseudonym, on units that name question, answer and segment by their places in the record."""
    last = _last()
    wanted = sa.select(last.c.answer_id, last.c.segment_id, Person.pseudonym, last.c.criterion, last.c.value, last.c.at, last.c.suggestion)
    with store.reading() as session:
        named = _places(session)
        rows = session.execute(wanted.join(Person, Person.id == last.c.person_id).where(~last.c.adjudicates).order_by(last.c.id))
        return [agreement.Rating(named[answer, segment], *about) for answer, segment, *about in rows]


def _places(session: Session) -> dict[tuple[int, int | None], tuple[str, int, int | None]]:
    """Question id, number of the answer within the question and of the segment within the answer; by answer and segment."""
    rank = sa.func.dense_rank().over(partition_by=Question.id, order_by=Answer.id) - 1
    wanted = sa.select(Question.query_id, Answer.id, rank, Segment.id, Segment.position).select_from(Question).join(Answer)
    out: dict[tuple[int, int | None], tuple[str, int, int | None]] = {}
    for query, answer, position, segment, place in session.execute(wanted.outerjoin(Segment, Segment.answer_id == Answer.id)):
        out[answer, segment] = (query, position, place)
        out[answer, None] = (query, position, None)
    return out


def disagreements(store: Store, answer: int | None = None) -> list[Key]:
    """Keys on which annotators differ and no adjudicator has spoken, of one answer or of all, in order."""
    with store.reading() as session:
        return disputed(session, answer)


def disputed(session: Session, answer: int | None = None) -> list[Key]:
    """The same, in a session."""
    last = _last(answer)
    key = (last.c.answer_id, last.c.segment_id, last.c.criterion)
    said = sa.case((~last.c.adjudicates, last.c.value))
    settled = sa.func.sum(sa.case((last.c.adjudicates, 1), else_=0))
    wanted = sa.select(*key).group_by(*key).having(sa.func.min(said) < sa.func.max(said), settled == 0)
    found = session.execute(wanted.order_by(key[0], sa.func.coalesce(key[1], 0), key[2]))
    return [tuple(row) for row in found]  # type: ignore[misc]


def judged_by(session: Session, person: int, answer: int | None = None) -> set[int]:
    """The answers, of one or of all, on which a word of an annotator stands."""
    last = _last(answer)
    return set(session.scalars(sa.select(last.c.answer_id).where(last.c.person_id == person, ~last.c.adjudicates).distinct()))


# ---- out again


def export(store: Store) -> Iterable[hagrid.Question]:
    """All questions as records, labelled by people where they judged: segments by what is settled, answers as HAGRID derives them.

    An answer that nobody judged keeps the labels that it came with.
    """
    labels = settled(store)
    judged = {key[0] for key in labels}
    with store.reading() as session:
        wanted = sa.select(Question).order_by(Question.id).execution_options(yield_per=200)
        for row in session.scalars(
            wanted.options(selectinload(Question.quotes), selectinload(Question.answers).selectinload(Answer.segments))
        ):
            record = record_of(row)
            for answer, one in zip(row.answers, record.answers, strict=True):
                if answer.id in judged:
                    _label(answer, one, labels)
            yield record


def _label(answer: Answer, one: hagrid.Answer, labels: Mapping[Key, hagrid.Label]) -> None:
    for segment, mine in zip(answer.segments, one.sentences, strict=True):
        for criterion in CRITERIA:
            setattr(mine, criterion, labels.get((answer.id, segment.id, criterion)))
    one.informative = labels.get((answer.id, None, "informative"))
    if one.informative is None:
        one.informative = hagrid.label_of([s.informative for s in one.sentences], every=False)
    one.attributable = hagrid.label_of([s.attributable for s in one.sentences], every=True)


def events(store: Store) -> Iterable[dict[str, Any]]:
    """Every judgement for export, by pseudonym, with the question, the places in the record, and the time."""
    with store.reading() as session:
        people = {p.id: p.pseudonym for p in session.scalars(sa.select(Person))}
        places = _places(session)
        for one in session.scalars(sa.select(Judgement).order_by(Judgement.id)):
            query, position, place = places[one.answer_id, one.segment_id]
            yield {
                "query_id": query, "answer": position, "segment": place,
                "criterion": one.criterion, "value": one.value, "withdrawn": one.withdrawn, "adjudicates": one.adjudicates,
                "suggested": one.suggested, "suggestion": one.suggestion, "suggester": one.suggester, "note": one.note,
                "annotator": people[one.person_id], "at": one.at.isoformat(),
            }  # fmt: skip
