"""Forms of words that were not kept: shown again with what was typed and why, and carried through a log-in where the session has ended."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from fastapi import HTTPException, Request
from fastapi.responses import Response

from ..tables import Person
from . import disputes, queue
from .shared import Choice, Site

PAGES = {"answers": queue.page, "disputes": disputes.page}
_WHERE = re.compile(r"/(answers|disputes)/([1-9][0-9]{0,8})")
_FIELD = re.compile(r"(note-)?(informative|attributable)(-[0-9]{1,10})?")
CARRIED = "typed-"
"""What the names of such fields begin with in the form of the log-in."""


@dataclasses.dataclass(frozen=True)
class Typed:
    """What someone typed into the form of a page."""

    where: str
    """The page's path."""
    fields: dict[str, str]

    def page(self, request: Request, site: Site, person: Person, said: str, status: int) -> Response:
        """The page with these fields filled; raises HTTPException and Refused as the page does."""
        kind, number = _WHERE.fullmatch(self.where).groups()  # type: ignore[union-attr]
        names = {name.removeprefix("note-") for name in self.fields}
        filled = {name: Choice(self.fields.get(name, ""), self.fields.get(f"note-{name}", "")) for name in names}
        return PAGES[kind](request, site, person, int(number), filled, said, status)


async def of_form(request: Request, site: Site) -> Typed | None:
    """What a request typed into one of our pages; None for other requests, and for forms of other sites."""
    if request.method != "POST" or not _WHERE.fullmatch(request.url.path) or not _from_here(request, site):
        return None
    try:
        given = await request.form()
    except (HTTPException, RuntimeError):  # a form that cannot be read
        return None
    return Typed(request.url.path, _fields(given, ""))


def of_log_in(given: Mapping[str, Any]) -> Typed | None:
    """What the form of a log-in carries."""
    where = str(given.get("to", ""))
    return Typed(where, _fields(given, CARRIED)) if _WHERE.fullmatch(where) else None


def _fields(given: Mapping[str, Any], prefix: str) -> dict[str, str]:
    names = (name.removeprefix(prefix) for name in given if name.startswith(prefix))
    return {name: str(given[prefix + name]) for name in names if _FIELD.fullmatch(name)}


def _from_here(request: Request, site: Site) -> bool:
    """Whether a form is one of ours, so far as the browser says where it comes from."""
    origin = request.headers.get("origin")
    if origin is None:
        return True
    try:
        there = urlsplit(origin)
        named = there.scheme == "https" and there.hostname in site.names  # a proxy may have put another host's name before us
    except ValueError:
        return False
    return named or there.netloc == request.headers.get("host")
