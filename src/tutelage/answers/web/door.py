"""In and out: log-in and log-out."""

from __future__ import annotations

import secrets
from typing import Annotated

from fastapi import APIRouter, Form, HTTPException, Request
from fastapi.responses import RedirectResponse, Response
from starlette.concurrency import run_in_threadpool

from .. import people
from ..judging import Refused
from .again import CARRIED, Typed, of_log_in
from .shared import COOKIE, Ours, Sender, Site

DOOR = "tutelage_door"
HOME = {"annotator": "/", "adjudicator": "/disputes", "admin": "/progress"}
"""Where a log-in leads: the queue gives an answer away, so only to those whom it is for."""
routes = APIRouter()


@routes.get("/login")
def door(request: Request, site: Ours) -> Response:
    return page(request, site, None)


def page(request: Request, site: Site, typed: Typed | None, status: int = 200) -> Response:
    """The log-in; it carries what someone typed after their session had ended."""
    nonce = secrets.token_urlsafe(16)
    response = _form(request, site, site.signer.mark("door", nonce), typed, "", status)
    site.cookie(request, response, DOOR, nonce, 3600)
    return response


def _form(request: Request, site: Site, door: str, typed: Typed | None, said: str, status: int) -> Response:
    return site.page(request, "login", status=status, door=door, said=said, typed=typed, carried=CARRIED)


@routes.post("/login")
async def enter(
    request: Request,
    site: Ours,
    name: Annotated[str, Form(max_length=100, pattern="^[^\\x00]*$")],  # which PostgreSQL cannot hold
    password: Annotated[str, Form(max_length=200)],
    door: Annotated[str, Form(max_length=100)],
) -> Response:
    nonce, typed = request.cookies.get(DOOR, ""), of_log_in(await request.form())
    if not nonce or not site.signer.same(site.signer.mark("door", nonce), door):
        raise HTTPException(403, "this form is too old; load the page again")
    try:
        async with site.checks:  # whoever waits holds no thread that others' pages want
            token = await run_in_threadpool(people.log_in, site.store, name, password)
    except Refused as why:
        return _form(request, site, door, typed, str(why), 429 if "too many" in str(why) else 401)
    response = await run_in_threadpool(_inside, request, site, token, typed)
    site.cookie(request, response, COOKIE, site.signer.sealed("session", token), int(3600 * people.HOURS))
    response.delete_cookie(DOOR, path="/")
    return response


def _inside(request: Request, site: Site, token: str, typed: Typed | None) -> Response:
    """Where a log-in leads: to what was typed before it, else to the home of whoever logged in."""
    if old := site.token_of(request):
        people.log_out(site.store, old)
    person = people.who(site.store, token)
    if person and typed:
        request.state.token, request.state.who = token, person
        try:
            return typed.page(request, site, person, "you are logged in again", 200)
        except (HTTPException, Refused):  # a page of somebody else
            pass
    return RedirectResponse(HOME[person.role] if person else "/", 303)


@routes.post("/logout")
def leave(request: Request, site: Ours, person: Sender) -> Response:
    people.log_out(site.store, request.state.token)
    response = RedirectResponse("/login", 303)
    response.delete_cookie(COOKIE, path="/")
    return response
