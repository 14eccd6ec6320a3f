"""Settling what annotators differ on: who may look at it, and the words that outweigh theirs."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.orm import Session

from ..database.store import now
from .judging import Key, Refused, Word, add_words, asked_for, kept_before
from .outcomes import disputed, judged_by
from .store import Store
from .tables import Judgement, Lease, Look, Person


class Undisputed(Refused):
    """An answer on which nothing is disputed, or was."""


class Partial(Refused):
    """An answer that whoever would look at it judged themselves."""


def look(store: Store, person: int, answer: int) -> list[Key]:
    """Note that a person sees who said what of an answer, which they then do not judge; what is disputed on it.

    Raises Undisputed where nothing is disputed or settled, and Partial for whoever judged it.
    """
    with store.writing() as session:
        found = _open(session, person, answer)
        if session.get(Look, (person, answer)) is None:
            session.add(Look(person_id=person, answer_id=answer, at=now()))
            session.execute(sa.delete(Lease).where(Lease.person_id == person, Lease.answer_id == answer))
        return found


def settle(store: Store, person: int, answer: int, words: Sequence[Word], request: str) -> bool:
    """An adjudicator's words on what is disputed; False where this very request was kept before.

    Raises Refused for annotators, for whoever judged the answer, for what is not disputed, and for a request kept with other words.
    """
    with store.writing() as session:
        found, judge = asked_for(session, answer), session.get(Person, person)
        if judge is None or judge.role == "annotator":
            raise Refused("only adjudicators settle disagreements")
        if kept_before(session, person, answer, words, request, adjudicates=True):
            return False
        split = {key[1:] for key in _open(session, person, answer)}
        if any((word.segment, word.criterion) not in split for word in words):
            raise Refused("what you settle is not disputed, or not any more; look at it again")
        add_words(session, found, person, words, request, adjudicates=True)
    return True


def _open(session: Session, person: int, answer: int) -> list[Key]:
    """What is disputed on an answer that a person may look at."""
    found = disputed(session, answer)
    settled = sa.select(Judgement.id).where(Judgement.answer_id == answer, Judgement.adjudicates).limit(1)
    if not found and session.scalar(settled) is None:
        raise Undisputed("nothing on this answer is disputed")
    if judged_by(session, person, answer):
        raise Partial("you judged this answer yourself; another adjudicator settles it")
    return found
