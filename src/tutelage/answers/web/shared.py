"""What the routes share: the site, who asks, whether the form is theirs, and an answer as the pages show it."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import uuid
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, cast

import jinja2
import sqlalchemy as sa
from fastapi import Depends, Form, HTTPException, Request
from fastapi import Path as Place
from fastapi.responses import HTMLResponse, Response
from sqlalchemy.orm import selectinload

from ...cited import citations
from .. import judging, people
from ..judging import Refused, Rules, Suggestion, Word
from ..store import Store
from ..suggest import Suggester
from ..tables import Answer, Judgement, Person, Question
from .guard import MOST_BYTES, Signer
from .marked import marked

HERE = Path(__file__).parent
COOKIE = "tutelage_session"
HTMX = "hx-request"
"""The header of requests that htmx makes."""
SAID = {"yes": 1, "no": 0, "cannot": None}
CHECKS = min(4, max(1, (os.cpu_count() or 2) // 2))
"""Passwords that are checked at a time: each takes 32 MiB and a core for a tenth of a second, and half the cores are left to the pages."""
NOTE = 2000
"""Most letters of a note."""


class Site:
    """The store, the rules, and pages out of templates.

    `secure` keeps cookies to encrypted connections; where it is off, they are kept so for whoever comes through an encrypting proxy that
    says so. `names` are the hosts that the pages answer to.
    """

    def __init__(
        self, store: Store, rules: Rules, secret: bytes, secure: bool, names: Collection[str] = (), suggester: Suggester | None = None
    ):
        self.store, self.rules, self.signer, self.secure, self.suggester = store, rules, Signer(secret), secure, suggester
        self.names = frozenset(names)
        self.checks = asyncio.Semaphore(CHECKS)
        loader = jinja2.FileSystemLoader(HERE / "pages")
        self.frame = jinja2.Environment(
            loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
        )
        self.frame.globals |= {"marked": marked}

    def page(self, request: Request, name: str, *, status: int = 200, **shown: Any) -> HTMLResponse:
        """A page for whoever asks, known or not."""
        who, token = getattr(request.state, "who", None), getattr(request.state, "token", "")
        csrf = self.signer.mark("form", token)
        return HTMLResponse(self.frame.get_template(f"{name}.html.jinja").render(who=who, csrf=csrf, **shown), status_code=status)

    def token_of(self, request: Request) -> str | None:
        """The session's token out of its signed cookie."""
        return self.signer.opened("session", request.cookies.get(COOKIE, ""))

    def cookie(self, request: Request, response: Response, name: str, value: str, seconds: int) -> None:
        """Set a cookie that no script sees and no other site sends."""
        encrypted = (
            request.headers.get("x-forwarded-proto", "").split(",")[0].strip().lower() == "https"
        )  # who lies here harms themselves alone
        response.set_cookie(name, value, max_age=seconds, httponly=True, samesite="strict", secure=self.secure or encrypted, path="/")


# ---- what a route asks for


Number = Annotated[int, Place(ge=1, lt=2**31)]
"""An answer's number in an address, such as the databases hold."""


def _site(request: Request) -> Site:
    return cast(Site, request.app.state.site)


Ours = Annotated[Site, Depends(_site)]
"""The site that the application is for."""


def _me(request: Request, site: Ours) -> Person:
    token = site.token_of(request)
    person = people.who(site.store, token) if token else None
    if person is None:
        raise HTTPException(303, headers={"location": "/login"})
    request.state.token, request.state.who = token, person
    return person


Me = Annotated[Person, Depends(_me)]
"""Who asks; others are sent to the log-in."""


def _sender(request: Request, csrf: Annotated[str, Form(max_length=100)], person: Me, site: Ours) -> Person:
    if not site.signer.same(site.signer.mark("form", request.state.token), csrf):
        raise HTTPException(403, "this form is not of your session; go back, load the page again, and send it once more")
    return person


Sender = Annotated[Person, Depends(_sender)]
"""Who sends a form of their own session; 403 for others."""


def allow(person: Person, *roles: str) -> None:
    """403 for whoever has another role."""
    if person.role not in roles:
        raise HTTPException(403, f"only {' and '.join(f'{role}s' for role in roles)} may do this")


# ---- answers and forms


def answer_of(store: Store, number: int) -> Answer:
    """An answer with its question, quotes and segments; 404 where there is none."""
    with store.reading() as session:
        wanted = sa.select(Answer).where(Answer.id == number)
        wanted = wanted.options(selectinload(Answer.segments), selectinload(Answer.question).selectinload(Question.quotes))
        found = session.scalar(wanted)
        if found is None:
            raise HTTPException(404, "there is no such answer")
        session.expunge_all()
        return found


def parts(answer: Answer) -> list[dict[str, Any]]:
    """Each segment with the quotes it cites, numbered as it cites them, and the numbers that point nowhere."""
    quotes = answer.question.quotes
    out = []
    for segment in answer.segments:
        places, dangling = citations.cited(segment.text, len(quotes))
        out.append({"segment": segment, "quotes": [(p + 1, quotes[p]) for p in places], "dangling": dangling})
    return out


@dataclasses.dataclass(frozen=True)
class Choice:
    """What stands in the fields of one choice: yes, no, cannot or nothing, and a note."""

    value: str = ""
    note: str = ""


def fields(answer: Answer) -> Iterator[tuple[str, int | None, str]]:
    """Each choice that a form on an answer may hold: the name of its field, the segment, the criterion."""
    for segment in (None, *(segment.id for segment in answer.segments)):
        for criterion in judging.CRITERIA:
            yield criterion if segment is None else f"{criterion}-{segment}", segment, criterion


def stands(answer: Answer, mine: Mapping[tuple[int | None, str], Judgement]) -> dict[str, Choice]:
    """The fields of the words that stand."""
    said = {value: word for word, value in SAID.items()}
    found = [(name, mine.get((segment, criterion))) for name, segment, criterion in fields(answer)]
    return {name: Choice(said[one.value], one.note or "") for name, one in found if one is not None}


def note_room(answer: Answer) -> int:
    """Most letters of a note on an answer: so many that a form fits into a request with all notes full, each letter nine bytes."""
    each = (MOST_BYTES - 4096) // (1 + len(answer.segments)) - 1024  # beside each note stand the choice and what was suggested
    return max(0, min(NOTE, each // 9))


def words(answer: Answer, given: Mapping[str, Any], shown: Mapping[int, Suggestion] | None = None) -> list[Word]:
    """The words of a form: fields `CRITERION` or `CRITERION-SEGMENT`, with a note beside each; `shown` was suggested of segments.

    Raises Refused for fields that the answer does not have, for notes that are too long, and for notes without a word.
    """
    out, known = [], {"csrf", "sent", "shown"}
    for name, segment, criterion in fields(answer):
        known |= {name, f"note-{name}"}
        value = given.get(name)
        note = str(given.get(f"note-{name}", "")).replace("\0", "").replace("\r\n", "\n").strip()
        if len(note) > NOTE:
            raise Refused(f"a note has at most {NOTE} letters; one here has {len(note)}")
        if value is None and not note:
            continue
        if value is None:
            raise Refused("a note stands beside no choice; say yes, no or cannot judge there")
        if value not in SAID:
            raise Refused("a judgement is yes, no or cannot judge; load the page again")
        suggestion = shown.get(segment) if shown and segment is not None and criterion == "attributable" else None
        out.append(Word(segment, criterion, SAID[value], note or None, suggestion=suggestion))  # type: ignore[arg-type]
    if more := set(given) - known:
        raise Refused(f"the answer has no field '{min(more)[:60]}'; load the page again")
    return out


def sent(given: Mapping[str, Any]) -> str:
    """The number of its own that a form carries."""
    try:
        return uuid.UUID(str(given.get("sent"))).hex
    except ValueError:
        raise HTTPException(422, "the form is not complete; load the page again") from None
