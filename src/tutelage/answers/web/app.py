"""The application: log-in, the queue, an answer to judge, disputes to settle, progress, guidelines.

Annotators see an answer that is theirs, with the quotes that each segment cites, and never another's judgement. Adjudicators see who
said what on disputed answers. Admins see progress too. Every change is a form with a token of the session; a submission carries a number
of its own, so that it counts once however often it is sent. Annotations are not postponed here: FastAPI reads those of inner functions.
"""

import secrets
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import jinja2
import sqlalchemy as sa
from fastapi import Depends, FastAPI, Form, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from fastapi.staticfiles import StaticFiles
from sqlalchemy.orm import selectinload
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException as Fault
from starlette.middleware.trustedhost import TrustedHostMiddleware

from ...cited import citations
from .. import agreement, judging, people
from ..judging import Refused, Rules, Word
from ..store import Store
from ..tables import Answer, Judgement, Lease, Person, Question
from .guard import Guard, Signer
from .marked import marked

HERE = Path(__file__).parent
COOKIE, DOOR = "tutelage_session", "tutelage_door"
SAID = {"yes": 1, "no": 0, "cannot": None}


class Pages:
    """What the routes share."""

    def __init__(self, store: Store, rules: Rules, secret: bytes, secure: bool):
        self.store, self.rules, self.signer, self.secure = store, rules, Signer(secret), secure
        loader = jinja2.FileSystemLoader(HERE / "pages")
        self.frame = jinja2.Environment(
            loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
        )
        self.frame.globals |= {"marked": marked}

    def page(self, name: str, *, status: int = 200, who: Person | None = None, token: str = "", **shown: Any) -> HTMLResponse:
        csrf = self.signer.mark("form", token)
        return HTMLResponse(self.frame.get_template(f"{name}.html.jinja").render(who=who, csrf=csrf, **shown), status_code=status)

    def token_of(self, request: Request) -> str | None:
        """The session's token out of its signed cookie."""
        return self.signer.opened("session", request.cookies.get(COOKIE, ""))

    def cookie(self, response: Response, name: str, value: str, seconds: int) -> None:
        response.set_cookie(name, value, max_age=seconds, httponly=True, samesite="strict", secure=self.secure, path="/")


def create(store: Store, rules: Rules, *, secret: bytes, hosts: Sequence[str], secure: bool) -> FastAPI:
    """The application over a store. `hosts` are the names it answers to; `secure` keeps cookies to encrypted connections."""
    app = FastAPI(title="Tutelage: judge answers", docs_url=None, redoc_url=None, openapi_url=None)
    pages = Pages(store, rules, secret, secure)
    app.state.pages = pages
    app.add_middleware(Guard)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(hosts))
    app.mount("/static", StaticFiles(directory=HERE / "static"), name="static")

    def me(request: Request) -> Person:
        token = pages.token_of(request)
        person = people.who(store, token) if token else None
        if person is None:
            raise HTTPException(303, headers={"location": "/login"})
        request.state.token, request.state.who = token, person
        return person

    def of(*roles: str) -> Any:
        def check(person: Annotated[Person, Depends(me)]) -> Person:
            if person.role not in roles:
                raise HTTPException(403, f"only {' and '.join(f'{r}s' for r in roles)} may see this page")
            return person

        return Depends(check)

    def form(request: Request, csrf: Annotated[str, Form(max_length=100)], person: Annotated[Person, Depends(me)]) -> Person:
        if not pages.signer.same(pages.signer.mark("form", request.state.token), csrf):
            raise HTTPException(403, "this form is not of your session; go back, load the page again, and send it once more")
        return person

    def show(request: Request, name: str, **shown: Any) -> HTMLResponse:
        return pages.page(name, who=request.state.who, token=request.state.token, **shown)

    @app.exception_handler(Fault)
    def fault(request: Request, error: Fault) -> Response:
        if error.status_code == 303 and error.headers:
            return RedirectResponse(error.headers["location"], 303)
        who = getattr(request.state, "who", None)
        token = getattr(request.state, "token", "") or ""
        return pages.page("fault", status=error.status_code, who=who, token=token, said=str(error.detail))

    @app.exception_handler(RequestValidationError)
    def unreadable(request: Request, error: RequestValidationError) -> Response:
        return pages.page("fault", status=422, said="the form is not complete; go back, load the page again, and send it once more")

    @app.exception_handler(Refused)
    def refused(request: Request, error: Refused) -> Response:
        who = getattr(request.state, "who", None)
        return pages.page("fault", status=409, who=who, token=getattr(request.state, "token", "") or "", said=str(error))

    # ---- in and out

    @app.get("/login")
    def door(request: Request) -> Response:
        nonce = secrets.token_urlsafe(16)
        response = pages.page("login", door=pages.signer.mark("door", nonce), said="")
        pages.cookie(response, DOOR, nonce, 3600)
        return response

    @app.post("/login")
    def enter(
        request: Request,
        name: Annotated[str, Form(max_length=100)],
        password: Annotated[str, Form(max_length=200)],
        door: Annotated[str, Form(max_length=100)],
    ) -> Response:
        nonce = request.cookies.get(DOOR, "")
        if not nonce or not pages.signer.same(pages.signer.mark("door", nonce), door):
            raise HTTPException(403, "this form is too old; load the page again")
        try:
            token = people.log_in(store, name, password)
        except Refused as why:
            return pages.page("login", status=429 if "too many" in str(why) else 401, door=door, said=str(why))
        if old := pages.token_of(request):
            people.log_out(store, old)
        response = RedirectResponse("/", 303)
        pages.cookie(response, COOKIE, pages.signer.sealed("session", token), int(3600 * people.HOURS))
        response.delete_cookie(DOOR, path="/")
        return response

    @app.post("/logout")
    def leave(request: Request, person: Annotated[Person, Depends(form)]) -> Response:
        people.log_out(store, request.state.token)
        response = RedirectResponse("/login", 303)
        response.delete_cookie(COOKIE, path="/")
        return response

    # ---- judging

    @app.get("/")
    def queue(request: Request, person: Annotated[Person, Depends(me)]) -> Response:
        answer = judging.take_next(store, person.id, rules)
        if answer is not None:
            return RedirectResponse(f"/answers/{answer}", 303)
        return show(request, "done", judged=_judged(store, person.id))

    @app.get("/answers/{number}")
    def look(request: Request, number: int, person: Annotated[Person, Depends(me)]) -> Response:
        with store.reading() as session:
            held = session.scalar(sa.select(Lease.id).where(Lease.answer_id == number, Lease.person_id == person.id))
            mine = {
                (segment, criterion): words[person.id]
                for (_, segment, criterion), words in judging.standing(session, number).items()
                if person.id in words
            }
            session.expunge_all()
        if held is None:
            raise HTTPException(404, "this answer was not given to you; take the next one")
        answer = _answer(store, number)
        return show(
            request, "judge", answer=answer, parts=_parts(answer), mine=mine, number=number, sent=uuid.uuid4().hex,
            judged=_judged(store, person.id), minutes=round(rules.lease / 60),
        )  # fmt: skip

    @app.post("/answers/{number}")
    async def say(request: Request, number: int, person: Annotated[Person, Depends(form)]) -> Response:
        given = await request.form()
        answer = await run_in_threadpool(_answer, store, number)
        words = _words(answer, {k: str(v) for k, v in given.items()})
        await run_in_threadpool(judging.judge, store, person.id, number, words, _sent(given.get("sent")), rules)
        return RedirectResponse("/", 303)

    @app.post("/undo")
    def undo(request: Request, person: Annotated[Person, Depends(form)]) -> Response:
        answer = judging.take_back(store, person.id, uuid.uuid4().hex, rules)
        return RedirectResponse(f"/answers/{answer}" if answer else "/", 303)

    # ---- adjudicators and admins

    @app.get("/disputes")
    def disputes(request: Request, person: Annotated[Person, of("adjudicator", "admin")]) -> Response:
        many: dict[int, int] = {}
        for answer, _, _ in judging.disagreements(store):
            many[answer] = many.get(answer, 0) + 1
        return show(request, "disputes", many=[(_answer(store, a), n) for a, n in many.items()])

    @app.get("/disputes/{number}")
    def dispute(request: Request, number: int, person: Annotated[Person, of("adjudicator", "admin")]) -> Response:
        answer = _answer(store, number)
        keys = {(segment, criterion) for a, segment, criterion in judging.disagreements(store) if a == number}
        with store.reading() as session:
            said = {
                (segment, criterion): [(_name(session, p), w) for p, w in words.items()]
                for (_, segment, criterion), words in judging.standing(session, number).items()
            }
            events = [(_name(session, e.person_id), e) for e in judging.history(session, number)]
            return show(
                request, "dispute", answer=answer, parts=_parts(answer), keys=keys, said=said, events=events, number=number,
                sent=uuid.uuid4().hex,
            )  # fmt: skip

    @app.post("/disputes/{number}")
    async def settle(request: Request, number: int, person: Annotated[Person, Depends(form)]) -> Response:
        if person.role == "annotator":
            raise HTTPException(403, "only adjudicators and admins may settle disputes")
        given = await request.form()
        answer = await run_in_threadpool(_answer, store, number)
        words = _words(answer, {k: str(v) for k, v in given.items()})
        await run_in_threadpool(judging.settle, store, person.id, number, words, _sent(given.get("sent")))
        return RedirectResponse("/disputes", 303)

    @app.get("/progress")
    def progress(request: Request, person: Annotated[Person, of("admin")]) -> Response:
        return show(request, "progress", **_progress(store, rules))

    @app.get("/guidelines")
    def guidelines(request: Request, person: Annotated[Person, Depends(me)]) -> Response:
        return show(request, "guidelines", minutes=round(rules.lease / 60))

    return app


def _answer(store: Store, number: int) -> Answer:
    """An answer with its question, quotes and segments; 404 where there is none."""
    with store.reading() as session:
        wanted = sa.select(Answer).where(Answer.id == number)
        wanted = wanted.options(selectinload(Answer.segments), selectinload(Answer.question).selectinload(Question.quotes))
        found = session.scalar(wanted) if 0 < number < 2**31 else None
        if found is None:
            raise HTTPException(404, "there is no such answer")
        session.expunge_all()
        return found


def _parts(answer: Answer) -> list[dict[str, Any]]:
    """Each segment with the quotes it cites, numbered as it cites them, and the numbers that point nowhere."""
    quotes = answer.question.quotes
    out = []
    for segment in answer.segments:
        places, dangling = citations.cited(segment.text, len(quotes))
        out.append({"segment": segment, "quotes": [(p + 1, quotes[p]) for p in places], "dangling": dangling})
    return out


def _words(answer: Answer, given: dict[str, str]) -> list[Word]:
    """The words of a form: fields `CRITERION` or `CRITERION-SEGMENT`, with a note beside each."""
    out = []
    fields: list[tuple[int | None, str]] = [(None, criterion) for criterion in judging.CRITERIA]
    fields += [(segment.id, criterion) for segment in answer.segments for criterion in judging.CRITERIA]
    for segment, criterion in fields:
        name = criterion if segment is None else f"{criterion}-{segment}"
        value = given.get(name)
        if value is None:
            continue
        if value not in SAID:
            raise Refused("a judgement is yes, no or cannot judge; load the page again")
        note = given.get(f"note-{name}", "").strip()[:2000]
        out.append(Word(segment, criterion, SAID[value], note or None))  # type: ignore[arg-type]
    return out


def _sent(value: Any) -> str:
    """The number that a form carries."""
    try:
        return uuid.UUID(str(value)).hex
    except ValueError:
        raise HTTPException(422, "the form is not complete; load the page again") from None


def _judged(store: Store, person: int) -> int:
    """How many answers a person has judged in full."""
    with store.reading() as session:
        return session.scalar(sa.select(sa.func.count()).select_from(Lease).where(Lease.person_id == person, Lease.done)) or 0


def _name(session: Any, person: int) -> str:
    found = session.get(Person, person)
    return found.name if found else "someone"


def _progress(store: Store, rules: Rules) -> dict[str, Any]:
    """Answers that are complete, begun and untouched; each person's count and pace; agreement."""
    with store.reading() as session:
        total = session.scalar(sa.select(sa.func.count()).select_from(Answer)) or 0
        done = dict(session.execute(sa.select(Lease.answer_id, sa.func.count()).where(Lease.done).group_by(Lease.answer_id)).all())  # type: ignore[arg-type]
        rows = []
        for person in session.scalars(sa.select(Person).order_by(Person.id)):
            times = list(session.scalars(sa.select(Judgement.at).where(Judgement.person_id == person.id).order_by(Judgement.id)))
            many = session.scalar(sa.select(sa.func.count()).where(Lease.person_id == person.id, Lease.done)) or 0
            hours = (times[-1] - times[0]).total_seconds() / 3600 if len(times) > 1 else 0
            rows.append({"name": person.name, "role": person.role, "answers": many, "pace": many / hours if hours > 0.05 else None})
    complete = sum(n >= rules.overlap for n in done.values())
    figures = agreement.by_criterion(judging.ratings(store), draws=200) if done else {}
    return {
        "total": total, "complete": complete, "begun": len(done) - complete, "rows": rows, "overlap": rules.overlap, "figures": figures,
        "disputes": len({k[0] for k in judging.disagreements(store)}),
    }  # fmt: skip
