"""Load without a session: log-ins take few threads, unfinished requests make room, and the log stays small."""

# ruff: noqa: F811
from __future__ import annotations

import contextlib
import logging
import resource
import socket
import threading
import time
from urllib.parse import urlsplit

import httpx2
import pytest
from serving import serving
from test_web import PASSWORD, app, hidden, log_in, next_of, store  # noqa: F401

from tutelage.answers import people
from tutelage.answers.judging import Refused
from tutelage.answers.web import limits, shared


@pytest.fixture
def quick(monkeypatch):
    """Small limits, and uvicorn's settings."""
    for name, value in (("CONNECTIONS", 20), ("HEADERS", 0.5), ("REQUEST", 0.7)):
        monkeypatch.setattr(limits, name, value)
    yield limits.settings()
    for name in ("uvicorn.error", "asyncio"):
        logger = logging.getLogger(name)
        for one in [f for f in logger.filters if isinstance(f, limits.Sparing)]:
            logger.removeFilter(one)


def begin(url: str, words: bytes) -> socket.socket:
    made = socket.create_connection((urlsplit(url).hostname, urlsplit(url).port), timeout=10)
    made.sendall(words)
    return made


def ended(made: socket.socket) -> float:
    """Seconds until the server ends a connection."""
    start = time.monotonic()
    with contextlib.suppress(ConnectionError):
        while made.recv(4096):
            pass
    return time.monotonic() - start


HEAD = b"POST /login HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 900\r\n"


@pytest.mark.parametrize("words", [b"", b"GET /lo", HEAD, HEAD + b"\r\nname=a"], ids=["nothing", "a word", "headers", "a body"])
def test_requests_that_are_never_finished_end_and_keep_nobody_out(app, quick, words):
    with serving(local(app), **quick) as url:
        hung = [begin(url, words) for _ in range(60)]
        start = time.monotonic()
        assert httpx2.get(f"{url}/login").status_code == 200
        assert time.monotonic() - start < 3
        assert max(map(ended, hung)) < 3


def test_a_connection_that_is_kept_has_the_time_of_each_request_anew(app, quick):
    with serving(local(app), **quick) as url, httpx2.Client(base_url=url) as kept:
        for _ in range(3):
            assert kept.get("/login").status_code == 200
            time.sleep(0.4)


def local(app):
    """The same pages under the address of loopback."""
    from tutelage.answers.web.app import create

    site = app.state.site
    return create(site.store, site.rules, secret=b"s" * 32, hosts=["127.0.0.1"], secure=False)


def test_few_passwords_are_checked_at_a_time_and_pages_go_on(app, monkeypatch):
    """More log-ins than the pages have threads, none of which is let through before a page was answered."""
    checked, let = [], threading.Event()

    def refuse(store, name, password):
        checked.append(name)
        let.wait(20)
        raise Refused("name or password is wrong")

    monkeypatch.setattr(shared, "CHECKS", 3)
    with serving(local(app)) as url, httpx2.Client(base_url=url, timeout=20) as ann:
        log_in(ann, "ann")
        page = ann.get("/login")
        monkeypatch.setattr(people, "log_in", refuse)
        body = f"name=nobody&password=wrong&door={hidden(page, 'door')}".encode()
        head = HEAD.replace(b"900", str(len(body)).encode()) + f"Cookie: tutelage_door={ann.cookies['tutelage_door']}\r\n\r\n".encode()
        many = [begin(url, head + body) for _ in range(45)]
        while len(checked) < 3:
            time.sleep(0.01)
        assert next_of(ann) == "/answers/1" and ann.get("/guidelines").status_code == 200
        assert len(checked) == 3
        let.set()
        assert {one.recv(4096).split()[1] for one in many} == {b"401"} and len(checked) == 45


def test_the_log_stays_small(app, quick):
    lines, keeper = [], logging.Handler()
    keeper.emit = lambda record: lines.append(record.getMessage())
    logger = logging.getLogger("uvicorn.error")
    with serving(local(app), **quick) as url:
        logger.addHandler(keeper)
        for _ in range(100):
            assert b"400" in begin(url, b"no such thing\r\n\r\n").recv(99)
        assert not lines
        for _ in range(3 * limits.LINES):
            logger.error("fault")
        logger.removeHandler(keeper)
    assert len(lines) == limits.LINES and "the rest of it is left out" in lines[-1]


def test_connections_are_no_more_than_files(monkeypatch):
    told = []
    monkeypatch.setattr(resource, "setrlimit", lambda what, pair: told.append(pair))
    for limit, raised, most in (((64, 200), (200, 200), 66), ((1000, 1000), None, 256), ((resource.RLIM_INFINITY,) * 2, None, 256)):
        monkeypatch.setattr(resource, "getrlimit", lambda what, limit=limit: limit)
        monkeypatch.setattr(logging.Logger, "addFilter", lambda *words: None)
        assert limits.settings()["http"].most == most and (told.pop() if told else None) == raised
