"""What one visitor may take from the others: connections, time, and lines of the log."""

from __future__ import annotations

import asyncio
import logging
import resource
import time
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

CONNECTIONS = 256
"""Most connections at a time."""
HEADERS, REQUEST = 10.0, 60.0
"""Seconds for the headers of a request to arrive, and from there to the end of its answer."""
FILES = 3
"""Open files that there must be room for, for each connection: some are accepted before others are closed, and the database has its own."""
LINES = 60
"""Most lines of the log in a minute, of each kind of logger."""


class Connection(H11Protocol):
    """A connection that ends without a word where a request takes too long.

    Where there are too many, the one whose request has been under way to us for longest makes room for a new one; so that visitors
    who never finish their requests do not keep others out.
    """

    most = CONNECTIONS
    _timer: asyncio.TimerHandle | None = None
    _since = 0.0

    @property
    def idle(self) -> bool:
        """Whether the headers of the next request have not all arrived."""
        return self.cycle is None or self.cycle.response_complete

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._limit(HEADERS)
        if len(self.connections) > self.most:
            unfinished = [one for one in self.connections if isinstance(one, Connection) and (one.idle or one.cycle.more_body)]
            min(unfinished, key=lambda one: one._since).end()  # this one, if all others wait for an answer

    def data_received(self, data: bytes) -> None:
        idle = self.idle
        super().data_received(data)
        if idle and not self.idle:
            self._limit(REQUEST)
        elif self.idle and self._timer is None:
            self._limit(HEADERS)

    def on_response_complete(self) -> None:
        self._limit(None)
        super().on_response_complete()
        if not self.idle:  # another request had come already
            self._limit(REQUEST)

    def connection_lost(self, exc: Exception | None) -> None:
        self._limit(None)
        super().connection_lost(exc)

    def end(self) -> None:
        """Cut the connection, and free its place at once."""
        self.connections.discard(self)
        self.transport.abort()

    def _limit(self, seconds: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if seconds is None else self.loop.call_later(seconds, self.end)
        self._since = time.monotonic()


class Sparing(logging.Filter):
    """Lets so many lines of the log through in a minute, then says once that it leaves others out."""

    def __init__(self) -> None:
        super().__init__()
        self._begun, self._seen = 0.0, 0

    def filter(self, record: logging.LogRecord) -> bool:
        if time.monotonic() - self._begun > 60:
            self._begun, self._seen = time.monotonic(), 0
        self._seen += 1
        if self._seen == LINES:
            record.msg, record.args, record.exc_info = "more than %d lines in a minute; the rest of it is left out", (LINES,), None
        return self._seen <= LINES


def settings() -> dict[str, Any]:
    """What uvicorn is run with; as many connections as this process may have open files, which it raises so far as it may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES * CONNECTIONS
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    most = CONNECTIONS if soft == resource.RLIM_INFINITY else max(16, min(CONNECTIONS, soft // FILES))
    for name in ("uvicorn.error", "asyncio"):
        logging.getLogger(name).addFilter(Sparing())
    kind = type("Connection", (Connection,), {"most": most})
    return {"http": kind, "ws": "none", "log_level": "error", "server_header": False, "proxy_headers": False, "backlog": 64}
