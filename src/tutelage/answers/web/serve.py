"""Serving the pages: on loopback unless told otherwise, and elsewhere only with a secret of one's own."""

from __future__ import annotations

import os
import secrets
from collections.abc import Sequence

import click
import sqlalchemy as sa

from ...errors import ConfigError, MissingExtra
from ..judging import Rules
from ..network import is_loopback
from ..store import Store
from ..suggest import Suggester
from ..tables import Answer, Person

SECRET = "TUTELAGE_SECRET"
LOOPBACK = ("localhost", "127.0.0.1", "[::1]")


def run(url: str, *, host: str, port: int, names: Sequence[str], overlap: int, seconds: float, suggest: str | None = None) -> None:
    """Serve until interrupted. Raises ConfigError without accounts or answers, and for an address beyond loopback without a secret."""
    try:
        import uvicorn

        from . import limits
        from .app import create
    except ModuleNotFoundError:
        raise MissingExtra("the pages of judges", "answers") from None
    secret, near = os.environ.get(SECRET, ""), is_loopback(host)
    if not near and len(secret) < 32:
        raise ConfigError(f"--host: {host} can be reached from elsewhere; set {SECRET} to 32 letters or more that nobody can guess")
    if not near and not names:
        raise ConfigError(f"--name: name the host that people call {host} by, such as judge.example.org")
    store = Store(url, make=False)
    with store.reading() as session:
        if not session.scalar(sa.select(Person.id).limit(1)):
            raise ConfigError(f"--store: {store.shown} has no accounts; make one with 'tutelage answers person NAME --role admin'")
        if not session.scalar(sa.select(Answer.id).limit(1)):
            raise ConfigError(f"--store: {store.shown} has no answers to judge; collect some")
    suggester = Suggester(suggest) if suggest else None
    rules = Rules(overlap=overlap, lease=seconds)
    key = (secret or secrets.token_urlsafe(32)).encode()
    secure = not near or bool(names)  # whoever calls it by a name comes through an encrypting proxy
    app = create(store, rules, secret=key, hosts=[*LOOPBACK, *names], secure=secure, suggester=suggester)
    place = f"[{host}]" if ":" in host else host
    click.echo(f"judge at http://{place}:{port}, Ctrl+C ends it" + ("" if secret else "; sessions end with it"))
    uvicorn.run(app, host=host, port=port, **limits.settings())
