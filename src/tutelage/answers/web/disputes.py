"""Adjudicators' pages: what is disputed, who said what on it, its history, and settling it."""

from __future__ import annotations

import uuid
from collections import Counter

import sqlalchemy as sa
from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response
from starlette.concurrency import run_in_threadpool

from .. import judging, outcomes
from ..tables import Answer, Person, Question
from .shared import Me, Number, Ours, Sender, allow, answer_of, parts, sent, words

MAY = ("adjudicator", "admin")
routes = APIRouter()


@routes.get("/disputes")
def disputes(request: Request, site: Ours, person: Me) -> Response:
    allow(person, *MAY)
    many = Counter(answer for answer, _, _ in outcomes.disagreements(site.store))
    with site.store.reading() as session:
        texts = dict(session.execute(sa.select(Answer.id, Question.text).join(Question).where(Answer.id.in_(many))).all())  # type: ignore[arg-type]
    return site.page(request, "disputes", many=[(answer, texts[answer], number) for answer, number in many.items()])


@routes.get("/disputes/{number}")
def dispute(request: Request, number: Number, site: Ours, person: Me) -> Response:
    allow(person, *MAY)
    answer = answer_of(site.store, number)
    keys = {(segment, criterion) for _, segment, criterion in outcomes.disagreements(site.store, number)}
    with site.store.reading() as session:
        names = dict(session.execute(sa.select(Person.id, Person.name)).all())  # type: ignore[arg-type]
        said = {
            (segment, criterion): [(names[p], word) for p, word in each.items()]
            for (_, segment, criterion), each in judging.standing(session, number).items()
        }
        events = [(names[event.person_id], event) for event in judging.history(session, number)]
        return site.page(
            request, "dispute", answer=answer, parts=parts(answer), keys=keys, said=said, events=events, number=number,
            sent=uuid.uuid4().hex,
        )  # fmt: skip


@routes.post("/disputes/{number}")
async def settle(request: Request, number: Number, site: Ours, person: Sender) -> Response:
    allow(person, *MAY)
    given = await request.form()
    answer = await run_in_threadpool(answer_of, site.store, number)
    await run_in_threadpool(judging.settle, site.store, person.id, number, words(answer, given), sent(given))
    return RedirectResponse("/disputes", 303)
