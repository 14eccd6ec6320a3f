"""In and out: log-in and log-out."""

from __future__ import annotations

import secrets
from typing import Annotated

from fastapi import APIRouter, Form, HTTPException, Request
from fastapi.responses import RedirectResponse, Response

from .. import people
from ..judging import Refused
from .shared import COOKIE, Ours, Sender

DOOR = "tutelage_door"
HOME = {"annotator": "/", "adjudicator": "/disputes", "admin": "/progress"}
"""Where a log-in leads: the queue gives an answer away, so only to those whom it is for."""
routes = APIRouter()


@routes.get("/login")
def door(request: Request, site: Ours) -> Response:
    nonce = secrets.token_urlsafe(16)
    response = site.page(request, "login", door=site.signer.mark("door", nonce), said="")
    site.cookie(response, DOOR, nonce, 3600)
    return response


@routes.post("/login")
def enter(
    request: Request,
    site: Ours,
    name: Annotated[str, Form(max_length=100, pattern="^[^\\x00]*$")],  # which PostgreSQL cannot hold
    password: Annotated[str, Form(max_length=200)],
    door: Annotated[str, Form(max_length=100)],
) -> Response:
    nonce = request.cookies.get(DOOR, "")
    if not nonce or not site.signer.same(site.signer.mark("door", nonce), door):
        raise HTTPException(403, "this form is too old; load the page again")
    try:
        token = people.log_in(site.store, name, password)
    except Refused as why:
        return site.page(request, "login", status=429 if "too many" in str(why) else 401, door=door, said=str(why))
    if old := site.token_of(request):
        people.log_out(site.store, old)
    person = people.who(site.store, token)
    response = RedirectResponse(HOME[person.role] if person else "/", 303)
    site.cookie(response, COOKIE, site.signer.sealed("session", token), int(3600 * people.HOURS))
    response.delete_cookie(DOOR, path="/")
    return response


@routes.post("/logout")
def leave(request: Request, site: Ours, person: Sender) -> Response:
    people.log_out(site.store, request.state.token)
    response = RedirectResponse("/login", 303)
    response.delete_cookie(COOKIE, path="/")
    return response
