"""The application: log-in, the queue, an answer to judge, disputes to settle, progress, guidelines.

Annotators see an answer that is theirs, with the quotes that each segment cites, and never another's judgement. Adjudicators see who
said what on disputed answers. Admins see progress too. Every change is a form with a token of the session; a submission carries a number
of its own, so that it counts once however often it is sent.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import RedirectResponse, Response
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException as Fault
from starlette.middleware.trustedhost import TrustedHostMiddleware

from ..judging import Refused, Rules
from ..store import Store
from ..suggest import Suggester
from . import disputes, door, progress, queue
from .guard import Guard
from .shared import HERE, HTMX, Site


class Static(StaticFiles):
    """Files that browsers may keep, and ask after."""

    def file_response(self, *given: Any, **more: Any) -> Response:
        response = super().file_response(*given, **more)
        response.headers["cache-control"] = "no-cache"
        return response


def create(store: Store, rules: Rules, *, secret: bytes, hosts: Sequence[str], secure: bool, suggester: Suggester | None = None) -> FastAPI:
    """The application over a store. `hosts` are the names it answers to; `secure` keeps cookies to encrypted connections."""
    app = FastAPI(title="Tutelage: judge answers", docs_url=None, redoc_url=None, openapi_url=None)
    app.state.site = Site(store, rules, secret, secure, suggester)
    app.add_middleware(Guard)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(hosts))
    app.mount("/static", Static(directory=HERE / "static"), name="static")
    for part in (door, queue, disputes, progress):
        app.include_router(part.routes)
    _explain(app, app.state.site)
    return app


def _explain(app: FastAPI, site: Site) -> None:
    """Faults as pages with one sentence."""

    @app.exception_handler(Fault)
    def fault(request: Request, error: Fault) -> Response:
        if error.status_code == 303 and error.headers:
            if HTMX in request.headers:  # which would put the log-in inside the page
                return Response(headers={"hx-redirect": error.headers["location"]})
            return RedirectResponse(error.headers["location"], 303)
        return site.page(request, "fault", status=error.status_code, said=str(error.detail))

    @app.exception_handler(RequestValidationError)
    def unreadable(request: Request, error: RequestValidationError) -> Response:
        if any(one["loc"][0] == "path" for one in error.errors()):
            return site.page(request, "fault", status=404, said="there is no such page")
        return site.page(request, "fault", status=422, said="the form is not complete; go back, load the page again, and send it once more")

    @app.exception_handler(Refused)
    def refused(request: Request, error: Refused) -> Response:
        return site.page(request, "fault", status=409, said=str(error))
