"""An annotator's pages: the next answer, judging it, undo, the guidelines. Nobody sees another's judgement here."""

from __future__ import annotations

import dataclasses
import json
import uuid
from collections.abc import Mapping
from typing import Annotated, Any

import sqlalchemy as sa
from fastapi import APIRouter, Form, HTTPException, Request
from fastapi.responses import RedirectResponse, Response
from starlette.concurrency import run_in_threadpool

from .. import judging
from ..judging import Suggestion
from ..store import Store
from ..tables import Lease, Person
from .shared import Choice, Me, Number, Ours, Sender, Site, answer_of, note_room, parts, sent, stands, words

routes = APIRouter()


@routes.get("/")
def queue(request: Request, site: Ours, person: Me) -> Response:
    answer = judging.take_next(site.store, person.id, site.rules)
    if answer is not None:
        return RedirectResponse(f"/answers/{answer}", 303)
    return site.page(request, "done", judged=_judged(site.store, person.id), undo=uuid.uuid4().hex)


@routes.get("/answers/{number}")
def look(request: Request, number: Number, site: Ours, person: Me) -> Response:
    return page(request, site, person, number)


def page(
    request: Request, site: Site, person: Person, number: int, typed: Mapping[str, Choice] | None = None, said: str = "", status: int = 200
) -> Response:
    """An answer to judge, with the words of whoever asks, or with what they typed and why it was not kept; 404 where it is not theirs."""
    with site.store.reading() as session:
        held = session.scalar(sa.select(Lease.id).where(Lease.answer_id == number, Lease.person_id == person.id))
        mine = {
            (segment, criterion): words[person.id]
            for (_, segment, criterion), words in judging.standing(session, number).items()
            if person.id in words
        }
        session.expunge_all()
    if held is None:
        raise HTTPException(404, "this answer was not given to you; take the next one")
    answer = answer_of(site.store, number)
    suggested = site.suggester.of(answer) if site.suggester else {}
    return site.page(
        request, "judge", status=status, answer=answer, parts=parts(answer), filled=stands(answer, mine) if typed is None else typed,
        number=number, sent=uuid.uuid4().hex, undo=uuid.uuid4().hex, said=said, room=note_room(answer),
        suggested=suggested, shown=_sealed(site, number, suggested) if site.suggester else "",
        judged=_judged(site.store, person.id), minutes=round(site.rules.lease / 60),
    )  # fmt: skip


@routes.post("/answers/{number}")
async def say(request: Request, number: Number, site: Ours, person: Sender) -> Response:
    given = await request.form()
    answer = await run_in_threadpool(answer_of, site.store, number)
    await run_in_threadpool(
        judging.judge, site.store, person.id, number, words(answer, given, _opened(site, number, given)), sent(given), site.rules
    )
    return RedirectResponse("/", 303)


@routes.post("/undo")
def undo(site: Ours, person: Sender, sent: Annotated[str, Form(pattern="^[0-9a-f]{32}$")]) -> Response:
    answer = judging.take_back(site.store, person.id, sent, site.rules)
    return RedirectResponse(f"/answers/{answer}" if answer else "/", 303)


@routes.get("/guidelines")
def guidelines(request: Request, site: Ours, person: Me) -> Response:
    return site.page(request, "guidelines", minutes=round(site.rules.lease / 60))


def _sealed(site: Site, number: int, suggested: Mapping[int, Suggestion]) -> str:
    """What the page of an answer suggests, for its form to carry, so that the record says what was seen."""
    each = {segment: dataclasses.astuple(one) for segment, one in suggested.items()}
    return site.signer.sealed("shown", json.dumps([number, each]))


def _opened(site: Site, number: int, given: Mapping[str, Any]) -> dict[int, Suggestion]:
    """What a form of this answer says was suggested; 422 where it should say so and does not."""
    if "shown" not in given and site.suggester is None:
        return {}
    text = site.signer.opened("shown", str(given.get("shown", "")))
    answer, each = json.loads(text) if text else (None, {})
    if answer != number:
        raise HTTPException(422, "the form is not complete; load the page again")
    return {int(segment): Suggestion(*one) for segment, one in each.items()}


def _judged(store: Store, person: int) -> int:
    """How many answers a person has judged in full."""
    with store.reading() as session:
        return session.scalar(sa.select(sa.func.count()).select_from(Lease).where(Lease.person_id == person, Lease.done)) or 0
