"""Adjudicators' pages: what is disputed, who said what on it, its history, and settling it."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Mapping

import sqlalchemy as sa
from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response
from starlette.concurrency import run_in_threadpool

from .. import adjudicating, judging, outcomes
from ..tables import Answer, Person, Question
from .shared import Choice, Me, Number, Ours, Sender, Site, allow, answer_of, note_room, parts, sent, words

MAY = ("adjudicator", "admin")
routes = APIRouter()


@routes.get("/disputes")
def disputes(request: Request, site: Ours, person: Me) -> Response:
    allow(person, *MAY)
    with site.store.reading() as session:
        many = Counter(answer for answer, _, _ in outcomes.disputed(session))
        texts = dict(session.execute(sa.select(Answer.id, Question.text).join(Question).where(Answer.id.in_(many))).all())  # type: ignore[arg-type]
        judged = outcomes.judged_by(session, person.id)
    shown = [(answer, texts[answer], number, answer in judged) for answer, number in many.items()]
    return site.page(request, "disputes", many=shown)


@routes.get("/disputes/{number}")
def dispute(request: Request, number: Number, site: Ours, person: Me) -> Response:
    return page(request, site, person, number)


def page(
    request: Request, site: Site, person: Person, number: int, typed: Mapping[str, Choice] | None = None, said: str = "", status: int = 200
) -> Response:
    """A disputed answer with who said what; 404 where nothing on it is or was disputed, 403 for whoever judged it."""
    allow(person, *MAY)
    answer = answer_of(site.store, number)
    keys = {key[1:] for key in adjudicating.look(site.store, person.id, number)}
    with site.store.reading() as session:
        names = dict(session.execute(sa.select(Person.id, Person.name)).all())  # type: ignore[arg-type]
        voices = {
            (segment, criterion): [(names[p], word) for p, word in each.items()]
            for (_, segment, criterion), each in judging.standing(session, number).items()
        }
        events = [(names[event.person_id], event) for event in judging.history(session, number)]
        return site.page(
            request, "dispute", status=status, answer=answer, parts=parts(answer), keys=keys, voices=voices, events=events, number=number,
            sent=uuid.uuid4().hex, filled=typed or {}, room=note_room(answer), said=said,
        )  # fmt: skip


@routes.post("/disputes/{number}")
async def settle(request: Request, number: Number, site: Ours, person: Sender) -> Response:
    allow(person, *MAY)
    given = await request.form()
    answer = await run_in_threadpool(answer_of, site.store, number)
    await run_in_threadpool(adjudicating.settle, site.store, person.id, number, words(answer, given), sent(given))
    return RedirectResponse("/disputes", 303)
