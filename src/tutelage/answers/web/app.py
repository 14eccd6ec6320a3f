"""The application: log-in, the queue, an answer to judge, disputes to settle, progress, guidelines.

Annotators see an answer that is theirs, with the quotes that each segment cites, and never another's judgement. Adjudicators see who
said what on disputed answers. Admins see progress too. Every change is a form with a token of the session; a submission carries a number
of its own, so that it counts once however often it is sent.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import RedirectResponse, Response
from fastapi.staticfiles import StaticFiles
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException as Fault
from starlette.middleware.trustedhost import TrustedHostMiddleware

from ...errors import RunError
from ..adjudicating import Partial, Undisputed
from ..judging import Refused, Rules, TooLate
from ..store import Store
from ..suggest import Suggester
from . import again, disputes, door, progress, queue
from .guard import Guard
from .shared import HERE, HTMX, Site

WHOLE = {"hx-retarget": "body", "hx-reselect": "unset", "hx-reswap": "innerHTML", "hx-push-url": "false"}
"""Headers that have htmx put a page in the place of all that is shown."""


class Static(StaticFiles):
    """Files that browsers may keep, and ask after."""

    def file_response(self, *given: Any, **more: Any) -> Response:
        response = super().file_response(*given, **more)
        response.headers["cache-control"] = "no-cache"
        return response


def create(store: Store, rules: Rules, *, secret: bytes, hosts: Sequence[str], secure: bool, suggester: Suggester | None = None) -> FastAPI:
    """The application over a store. `hosts` are the names it answers to; `secure` keeps cookies to encrypted connections."""
    app = FastAPI(title="Tutelage: judge answers", docs_url=None, redoc_url=None, openapi_url=None)
    app.state.site = Site(store, rules, secret, secure, hosts, suggester)
    app.add_middleware(Guard)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(hosts))
    app.mount("/static", Static(directory=HERE / "static"), name="static")
    for part in (door, queue, disputes, progress):
        app.include_router(part.routes)
    _explain(app, app.state.site)
    return app


def _explain(app: FastAPI, site: Site) -> None:
    """Faults as pages with one sentence; where words were typed, the page that they were typed into, with them and the sentence."""

    async def explained(request: Request, status: int, said: str) -> Response:
        typed, person = await again.of_form(request, site), getattr(request.state, "who", None)
        if typed and person:
            with contextlib.suppress(Fault, Refused):
                return await run_in_threadpool(typed.page, request, site, person, said, status)
        return site.page(request, "fault", status=status, said=said)

    @app.exception_handler(Fault)
    async def fault(request: Request, error: Fault) -> Response:
        if error.status_code != 303 or not error.headers:
            return await explained(request, error.status_code, str(error.detail))
        if typed := await again.of_form(request, site):
            response = door.page(request, site, typed, 401)
            if HTMX in request.headers:
                response.headers.update(WHOLE)
            return response
        if HTMX in request.headers:  # which would put the log-in inside the page
            return Response(headers={"hx-redirect": error.headers["location"]})
        return RedirectResponse(error.headers["location"], 303)

    @app.exception_handler(RequestValidationError)
    async def unreadable(request: Request, error: RequestValidationError) -> Response:
        if any(one["loc"][0] == "path" for one in error.errors()):
            return site.page(request, "fault", status=404, said="there is no such page")
        return await explained(request, 422, "the form is not complete; go back, load the page again, and send it once more")

    @app.exception_handler(RunError)
    async def harmed(request: Request, error: RunError) -> Response:
        logging.getLogger("uvicorn.error").error("%s", error)
        return await explained(request, 503, "nothing can be kept at the moment; tell whoever runs these pages, and send it again later")

    @app.exception_handler(Refused)
    async def refused(request: Request, error: Refused) -> Response:
        if isinstance(error, TooLate | Undisputed | Partial):
            status = {TooLate: 409, Undisputed: 404, Partial: 403}[type(error)]
            return site.page(request, "fault", status=status, said=str(error))
        return await explained(request, 409, str(error))
