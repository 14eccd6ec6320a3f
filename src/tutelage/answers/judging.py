"""Who judges what: leases on answers, and judgements as events.

An answer is given to at most so many people (`overlap`). A lease holds a place until it expires; whoever has judged all of an
answer keeps the place for good. Whoever submits after the lease expired is heard while there is still a place, and else refused;
what they had said of a part of the answer is withdrawn once others have judged it in full. Whoever saw what others said of an answer
(`adjudicating.look`) does not judge it. A person's word on a criterion is the last event that names it; an event that withdraws takes
it back, and is always heard.
"""

from __future__ import annotations

import dataclasses
import datetime
import uuid
from collections.abc import Sequence
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy.orm import Session

from ..cited import hagrid
from ..database.store import now, unfit
from ..errors import DataError
from .store import Store
from .tables import Answer, Judgement, Lease, Look

CRITERIA = ("informative", "attributable")
Key = tuple[int, int | None, str]
"""Answer, segment (None: the whole answer), criterion."""


class Refused(DataError):
    """A judgement that cannot be taken; says why."""


class TooLate(Refused):
    """A judgement of an answer that others have judged since."""


@dataclasses.dataclass(frozen=True)
class Rules:
    """How answers are shared out."""

    overlap: int = 2
    """People who judge each answer."""
    lease: float = 1800.0
    """Seconds that someone has for an answer."""

    @property
    def time(self) -> datetime.timedelta:
        return datetime.timedelta(seconds=self.lease)


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
        moment = _moment(session, rules)
        held = session.scalar(
            sa.select(Lease).where(Lease.person_id == person, ~Lease.done, Lease.until > moment).order_by(Lease.id).limit(1)
        )
        if held is not None:
            held.until = moment + rules.time
            return held.answer_id
        taken = (
            sa.select(Lease.answer_id, sa.func.count().label("many"))
            .where(sa.or_(Lease.done, Lease.until > moment))
            .group_by(Lease.answer_id)
            .subquery()
        )
        many = sa.func.coalesce(taken.c.many, 0)
        mine = sa.select(Lease.answer_id).where(Lease.person_id == person, Lease.done)
        looked = sa.select(Look.answer_id).where(Look.person_id == person)
        found = session.scalar(
            sa.select(Answer.id)
            .outerjoin(taken, taken.c.answer_id == Answer.id)
            .where(many < rules.overlap, Answer.id.not_in(mine), Answer.id.not_in(looked))
            .order_by(many.desc(), Answer.id)
            .limit(1)
        )
        if found is not None:
            lease = _lease(session, found, person)
            if lease is None:
                session.add(Lease(answer_id=found, person_id=person, until=moment + rules.time, done=False))
            else:
                lease.until = moment + rules.time
        return found


def _moment(session: Session, rules: Rules) -> datetime.datetime:
    """The time. Leases that end later than one made now were made while the clock ran ahead; they are cut to that."""
    moment = now()
    late = sa.update(Lease).where(~Lease.done, Lease.until > moment + rules.time).values(until=moment + rules.time)
    session.execute(late.execution_options(synchronize_session=False))
    return moment


def _lease(session: Session, answer: int, person: int) -> Lease | None:
    return session.scalar(sa.select(Lease).where(Lease.answer_id == answer, Lease.person_id == person))


def _has_place(session: Session, lease: Lease, rules: Rules) -> bool:
    """Whether a lease holds a place, or can have one again."""
    moment = _moment(session, rules)
    if lease.done or lease.until > moment:
        return True
    taken = sa.or_(Lease.done, Lease.until > moment)
    others = sa.select(sa.func.count()).where(Lease.answer_id == lease.answer_id, Lease.person_id != lease.person_id, taken)
    return (session.scalar(others) or 0) < rules.overlap


# ---- judgements


def judge(store: Store, person: int, answer: int, words: Sequence[Word], request: str, rules: Rules = Rules()) -> bool:
    """Keep a person's words on an answer, all or none; False where this very request was kept before.

    Raises Refused for an answer that is not theirs, for what it does not have, and for a request that was kept with other words.
    """
    with store.writing() as session:
        found = asked_for(session, answer)
        if kept_before(session, person, answer, words, request):
            return False
        _keep(session, person, found, words, request, rules)
    return True


def _keep(session: Session, person: int, answer: Answer, words: Sequence[Word], request: str, rules: Rules) -> None:
    lease = _lease(session, answer.id, person)
    if session.get(Look, (person, answer.id)) is not None:
        raise Refused("you have seen what others said of this answer; take the next one")
    if lease is None:
        raise Refused("this answer was not given to you; take the next one")
    placed = _has_place(session, lease, rules)
    if not placed and not all(word.withdrawn for word in words):
        raise TooLate("your time for this answer is over and others have judged it since; nothing was kept, take the next one")
    add_words(session, answer, person, words, request)
    session.flush()
    lease.done = placed and criteria_complete(session, answer, person)
    if placed:
        lease.until = now() + rules.time
    if lease.done:
        _withdraw_late(session, answer, rules)


def _withdraw_late(session: Session, answer: Answer, rules: Rules) -> None:
    """Take back what people said of an answer whose place others have filled."""
    leases = list(session.scalars(sa.select(Lease).where(Lease.answer_id == answer.id)))
    if sum(lease.done for lease in leases) < rules.overlap:
        return
    placed = {lease.person_id for lease in leases if lease.done or lease.until > now()}
    late: dict[int, list[Word]] = {}
    for (_, segment, criterion), said in standing(session, answer.id).items():
        for person in said.keys() - placed:
            late.setdefault(person, []).append(Word(segment, criterion, None, "others had judged it by then", withdrawn=True))
    for person, words in late.items():
        add_words(session, answer, person, words, f"late-{uuid.uuid4().hex}")


def asked_for(session: Session, answer: int) -> Answer:
    """An answer; raises Refused where there is no such one."""
    found = session.get(Answer, answer)
    if found is None:
        raise Refused("there is no such answer")
    return found


def kept_before(session: Session, person: int, answer: int, words: Sequence[Word], request: str, adjudicates: bool = False) -> bool:
    """Whether a request was kept before; raises Refused where it was, with other words or of another answer."""
    events = _of_request(session, person, request, len(words) + 1)
    told = [{name: getattr(event, name) for name in _values(answer, Word(None, "", None))} for event in events]
    if told and told != [_values(answer, word, adjudicates) for word in words]:
        raise Refused("this form was sent before with other words, and those stand; what it says now is not kept")
    return bool(told)


def _of_request(session: Session, person: int, request: str, most: int) -> list[Judgement]:
    """The first events of a person's request."""
    names = [f"{request}.{number}" for number in range(most)]
    return list(session.scalars(
        sa.select(Judgement).where(Judgement.person_id == person, Judgement.request.in_(names)).order_by(Judgement.id)
    ))  # fmt: skip


def take_back(store: Store, person: int, request: str, rules: Rules = Rules()) -> int | None:
    """Withdraw a person's words on the answer that they spoke of last; that answer, None where no word of theirs stands.

    The same request again does nothing. Raises Refused as `judge` does.
    """
    with store.writing() as session:
        if before := _of_request(session, person, request, 1):
            return before[0].answer_id
        mine = sa.select(Judgement.answer_id).where(Judgement.person_id == person, ~Judgement.adjudicates)
        for answer in session.scalars(mine.group_by(Judgement.answer_id).order_by(sa.func.max(Judgement.id).desc())).all():
            stands = [(segment, criterion) for (_, segment, criterion), words in standing(session, answer).items() if person in words]
            if stands:
                words = [Word(segment, criterion, None, withdrawn=True) for segment, criterion in stands]
                _keep(session, person, asked_for(session, answer), words, request, rules)
                return answer
    return None


def add_words(session: Session, answer: Answer, person: int, words: Sequence[Word], request: str, adjudicates: bool = False) -> None:
    """Put words in as events. Raises Refused for none, and for what the answer does not have."""
    if not words:
        raise Refused("there is nothing to keep; say yes, no or cannot judge")
    asked = set(criteria_of(answer)) | {(segment.id, "informative") for segment in answer.segments}
    for number, word in enumerate(words):
        if (word.segment, word.criterion) not in asked:
            raise Refused(f"the answer has no segment {word.segment} to call {word.criterion}")
        if word.value not in (0, 1, None):
            raise Refused(f"a judgement is 1, 0 or nothing; got {word.value!r}")
        event = Judgement(**_values(answer.id, word, adjudicates), person_id=person, request=f"{request}.{number}", at=now())
        if why := unfit(event):
            raise Refused(f"a judgement cannot be kept: {why}")
        session.add(event)


def _values(answer: int, word: Word, adjudicates: bool = False) -> dict[str, Any]:
    """What an event says of a word."""
    shown = word.suggestion
    return {
        "answer_id": answer, "segment_id": word.segment, "criterion": word.criterion, "value": None if word.withdrawn else word.value,
        "withdrawn": word.withdrawn, "adjudicates": adjudicates, "note": word.note or None,
        "suggested": shown is not None, "suggestion": shown and shown.value, "suggester": shown and shown.by,
    }  # fmt: skip


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
