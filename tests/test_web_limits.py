"""Load without a session: log-ins take four threads, unfinished requests make room, and the log stays small."""

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
from tutelage.answers.web import limits
from tutelage.answers.web.shared import CHECKS


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
        with httpx2.Client(base_url=url) as kept:  # a connection that is kept has the time of a request anew
            for _ in range(2):
                assert kept.get("/login").status_code == 200
                time.sleep(0.8)


def local(app):
    """The same pages under the address of loopback."""
    from tutelage.answers.web.app import create

    site = app.state.site
    return create(site.store, site.rules, secret=b"s" * 32, hosts=["127.0.0.1"], secure=False)


def test_four_passwords_are_checked_at_a_time_and_pages_go_on(app, monkeypatch):
    now, most, lock = 0, 0, threading.Lock()

    def matches(password, kept):
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        time.sleep(0.05)
        with lock:
            now -= 1
        return password == PASSWORD

    monkeypatch.setattr(people, "matches", matches)
    with serving(local(app)) as url, httpx2.Client(base_url=url) as ann:
        log_in(ann, "ann")
        said = []

        def attempt(number):
            with httpx2.Client(base_url=url, timeout=60) as made:
                page = made.get("/login")
                data = {"name": f"nobody {number}", "password": "x" * 12, "door": hidden(page, "door")}
                said.append(made.post("/login", data=data).status_code)

        threads = [threading.Thread(target=attempt, args=(number,)) for number in range(16)]
        for one in threads:
            one.start()
        slowest = 0.0
        while any(one.is_alive() for one in threads):
            start = time.monotonic()
            assert next_of(ann) == "/answers/1"
            slowest = max(slowest, time.monotonic() - start)
        assert said == [401] * 16 and 1 < most <= CHECKS and slowest < 3


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
    for limit, raised, most in (((64, 200), (200, 200), 72), ((1000, 1000), None, 256), ((resource.RLIM_INFINITY,) * 2, None, 256)):
        monkeypatch.setattr(resource, "getrlimit", lambda what, limit=limit: limit)
        monkeypatch.setattr(logging.Logger, "addFilter", lambda *words: None)
        assert limits.settings()["http"].most == most and (told.pop() if told else None) == raised
