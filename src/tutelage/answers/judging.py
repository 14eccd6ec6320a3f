"""Who judges what: leases on answers, and judgements as events.

An answer is given to at most so many people (`overlap`). A lease holds a place until it expires; whoever has judged all of an
answer keeps the place for good. Whoever submits after the lease expired is heard while there is still a place, and else refused.
A person's word on a criterion is the last event that names it; an event that withdraws takes it back.
"""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Sequence
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy.orm import Session

from ..cited import hagrid
from ..database.store import now
from ..errors import DataError
from .store import Store
from .tables import Answer, Judgement, Lease, Person

CRITERIA = ("informative", "attributable")
Key = tuple[int, int | None, str]
"""Answer, segment (None: the whole answer), criterion."""


class Refused(DataError):
    """A judgement that cannot be taken; says why."""


@dataclasses.dataclass(frozen=True)
class Rules:
    """How answers are shared out."""

    overlap: int = 2
    """People who judge each answer."""
    lease: float = 1800.0
    """Seconds that someone has for an answer."""


@dataclasses.dataclass(frozen=True)
class Suggestion:
    """What a model said to whoever judged, before they did."""

    value: Literal[0, 1]
    by: str
    """The model, so that it can be told from others; at most 200 letters."""


@dataclasses.dataclass(frozen=True)
class Word:
    """One judgement as it is given: 1 yes, 0 no, None cannot judge; `withdrawn` takes the earlier one back."""

    segment: int | None
    criterion: str
    value: hagrid.Label
    note: str | None = None
    withdrawn: bool = False
    suggestion: Suggestion | None = None
    """What was shown beside it; None: nothing."""


def criteria_of(answer: Answer) -> list[tuple[int | None, str]]:
    """What is asked of an answer: whether the whole is informative, and whether each segment is attributable."""
    return [(None, "informative"), *((segment.id, "attributable") for segment in answer.segments)]


# ---- leases


def take_next(store: Store, person: int, rules: Rules = Rules()) -> int | None:
    """The answer that a person shall judge now, on a fresh lease; None where none is left for them.

    First what they hold already, then what most people have judged of those that still have a place, so that overlaps are complete
    early.
    """
    with store.writing() as session:
        moment = now()
        held = session.scalar(
            sa.select(Lease).where(Lease.person_id == person, ~Lease.done, Lease.until > moment).order_by(Lease.id).limit(1)
        )
        if held is not None:
            held.until = moment + datetime.timedelta(seconds=rules.lease)
            return held.answer_id
        taken = (
            sa.select(Lease.answer_id, sa.func.count().label("many"))
            .where(sa.or_(Lease.done, Lease.until > moment))
            .group_by(Lease.answer_id)
            .subquery()
        )
        many = sa.func.coalesce(taken.c.many, 0)
        mine = sa.select(Lease.answer_id).where(Lease.person_id == person, Lease.done)
        found = session.scalar(
            sa.select(Answer.id)
            .outerjoin(taken, taken.c.answer_id == Answer.id)
            .where(many < rules.overlap, Answer.id.not_in(mine))
            .order_by(many.desc(), Answer.id)
            .limit(1)
        )
        if found is not None:
            _hold(session, found, person, moment + datetime.timedelta(seconds=rules.lease))
        return found


def _hold(session: Session, answer: int, person: int, until: datetime.datetime) -> Lease:
    """The person's lease on an answer, made or renewed."""
    lease = session.scalar(sa.select(Lease).where(Lease.answer_id == answer, Lease.person_id == person))
    if lease is None:
        lease = Lease(answer_id=answer, person_id=person, until=until, done=False)
        session.add(lease)
    lease.until = until
    return lease


def _place(session: Session, answer: int, person: int, rules: Rules) -> Lease:
    """The person's place at an answer; raises Refused where there is none."""
    moment = now()
    lease = session.scalar(sa.select(Lease).where(Lease.answer_id == answer, Lease.person_id == person))
    if lease is not None and (lease.done or lease.until > moment):
        return lease
    others = session.scalar(
        sa.select(sa.func.count()).where(Lease.answer_id == answer, Lease.person_id != person, sa.or_(Lease.done, Lease.until > moment))
    )
    if lease is None:
        raise Refused("this answer was not given to you; take the next one")
    if (others or 0) >= rules.overlap:
        raise Refused("your time for this answer is over and others have judged it since; nothing was kept, take the next one")
    return _hold(session, answer, person, moment + datetime.timedelta(seconds=rules.lease))


# ---- judgements


def judge(store: Store, person: int, answer: int, words: Sequence[Word], request: str, rules: Rules = Rules()) -> bool:
    """Keep a person's words on an answer, all or none; False where this request was kept before.

    Raises Refused for an answer that is not theirs, and for what it does not have.
    """
    with store.writing() as session:
        found = _fresh(session, person, answer, request)
        if found is None:
            return False
        lease = _place(session, answer, person, rules)
        lease.until = now() + datetime.timedelta(seconds=rules.lease)
        _add(session, found, person, words, request)
        session.flush()
        lease.done = criteria_complete(session, found, person)
    return True


def _fresh(session: Session, person: int, answer: int, request: str) -> Answer | None:
    """The answer that a request is about, None where the request was kept before. Raises Refused where there is no such answer."""
    if session.scalar(sa.select(Judgement.id).where(Judgement.person_id == person, Judgement.request == f"{request}.0")):
        return None
    found = session.get(Answer, answer)
    if found is None:
        raise Refused("there is no such answer")
    return found


def take_back(store: Store, person: int, request: str, rules: Rules = Rules()) -> int | None:
    """Withdraw a person's words on the answer that they spoke of last; that answer, None where no word of theirs stands.

    Raises Refused as `judge` does.
    """
    with store.reading() as session:
        mine = sa.select(Judgement.answer_id).where(Judgement.person_id == person, ~Judgement.adjudicates)
        for answer in session.scalars(mine.group_by(Judgement.answer_id).order_by(sa.func.max(Judgement.id).desc())):
            stands = [(segment, criterion) for (_, segment, criterion), words in standing(session, answer).items() if person in words]
            if stands:
                break
        else:
            return None
    judge(store, person, answer, [Word(segment, criterion, None, withdrawn=True) for segment, criterion in stands], request, rules)
    return answer


def _add(session: Session, answer: Answer, person: int, words: Sequence[Word], request: str, adjudicates: bool = False) -> None:
    if not words:
        raise Refused("there is nothing to keep; say yes, no or cannot judge")
    asked = set(criteria_of(answer)) | {(segment.id, "informative") for segment in answer.segments}
    for number, word in enumerate(words):
        if (word.segment, word.criterion) not in asked:
            raise Refused(f"the answer has no segment {word.segment} to call {word.criterion}")
        if word.value not in (0, 1, None):
            raise Refused(f"a judgement is 1, 0 or nothing; got {word.value!r}")
        session.add(
            Judgement(
                **_shown(word.suggestion),
                answer_id=answer.id, segment_id=word.segment, criterion=word.criterion, value=None if word.withdrawn else word.value,
                withdrawn=word.withdrawn, adjudicates=adjudicates, note=word.note or None,
                person_id=person, request=f"{request}.{number}", at=now(),
            )
        )  # fmt: skip


def _shown(one: Suggestion | None) -> dict[str, Any]:
    return {"suggested": one is not None, "suggestion": one and one.value, "suggester": one and one.by}


def settle(store: Store, person: int, answer: int, words: Sequence[Word], request: str) -> bool:
    """An adjudicator's words on an answer, which outweigh the annotators'; False where this request was kept before."""
    with store.writing() as session:
        found, judge = _fresh(session, person, answer, request), session.get(Person, person)
        if found is None:
            return False
        if judge is None or judge.role == "annotator":
            raise Refused("only adjudicators settle disagreements")
        _add(session, found, person, words, request, adjudicates=True)
    return True


def criteria_complete(session: Session, answer: Answer, person: int) -> bool:
    """Whether a person's word stands on all that is asked of an answer."""
    given = {(key[1], key[2]) for key, words in standing(session, answer.id).items() if person in words}
    return set(criteria_of(answer)) <= given


def standing(session: Session, answer: int | None = None, *, adjudicates: bool = False) -> dict[Key, dict[int, Judgement]]:
    """The words that stand, by key and person, of one answer or of all: annotators', or adjudicators'."""
    wanted = sa.select(Judgement).where(Judgement.adjudicates == adjudicates).order_by(Judgement.id)
    if answer is not None:
        wanted = wanted.where(Judgement.answer_id == answer)
    out: dict[Key, dict[int, Judgement]] = {}
    for one in session.scalars(wanted):
        words = out.setdefault((one.answer_id, one.segment_id, one.criterion), {})
        words.pop(one.person_id, None)
        if not one.withdrawn:
            words[one.person_id] = one
    return out


def history(session: Session, answer: int) -> list[Judgement]:
    """Every event on an answer, the first one first."""
    return list(session.scalars(sa.select(Judgement).where(Judgement.answer_id == answer).order_by(Judgement.id)))
