"""What stands between the network and the pages: signed cookies, tokens of forms, headers, limits."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

MOST_BYTES = 512 * 1024
"""The largest body of a request; notes are as long as fits in."""
HEADERS = {
    b"content-security-policy": b"default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; form-action 'self'; "
    b"frame-ancestors 'none'; base-uri 'none'",
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"same-origin",
    b"cross-origin-opener-policy": b"same-origin",
    b"cache-control": b"no-store",
}
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class Signer:
    """Signs with the server's secret, for one purpose at a time."""

    def __init__(self, secret: bytes):
        self._secret = secret

    def mark(self, purpose: str, text: str) -> str:
        """The signature of a text."""
        return hmac.new(self._secret, f"{purpose}\0{text}".encode(), hashlib.sha256).hexdigest()

    def sealed(self, purpose: str, text: str) -> str:
        """The text with its signature."""
        return f"{text}.{self.mark(purpose, text)}"

    def opened(self, purpose: str, sealed: str) -> str | None:
        """The text of a sealed one, None where the signature is not ours."""
        text, _, mark = sealed.rpartition(".")
        return text if self.same(self.mark(purpose, text), mark) else None

    @staticmethod
    def same(a: str, b: str) -> bool:
        """Whether two texts are equal, in a time that does not tell where they differ."""
        return hmac.compare_digest(a.encode("utf-8", "replace"), b.encode("utf-8", "replace"))


class Guard:
    """Adds the headers to every response, and refuses what no form of ours sends: bodies that are too large, however they are sent, and
    multipart ones, whose parts name encodings of their own."""

    def __init__(self, app: Any):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        told = dict(scope["headers"])
        length = told.get(b"content-length", b"0")
        seen, begun, over = 0, False, False

        async def limited() -> MutableMapping[str, Any]:
            nonlocal seen, over
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > MOST_BYTES:
                over = True
                return {"type": "http.disconnect"}
            return message

        async def headed(message: MutableMapping[str, Any]) -> None:
            nonlocal begun
            if over and not begun:
                return
            if message["type"] == "http.response.start":
                begun = True
                own = {name for name, _ in message.get("headers", ())}
                message["headers"] = [*message.get("headers", ()), *((k, v) for k, v in HEADERS.items() if k not in own)]
            await send(message)

        if told.get(b"content-type", b"").lstrip().lower().startswith(b"multipart/"):
            await _refuse(send, 415, "forms are sent as application/x-www-form-urlencoded here")
            return
        if not length.isdigit() or len(length) > 12 or int(length) > MOST_BYTES:
            over = True
        else:
            try:
                await self.app(scope, limited, headed)
            except Exception:
                if not over:
                    raise
        if over and not begun:
            await _refuse(send, 413, f"too large: a request may hold {MOST_BYTES // 1024} KiB")


async def _refuse(send: Send, status: int, said: str) -> None:
    body = f"{said}\n".encode()
    start = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": status, "headers": [*start, *HEADERS.items()]})
    await send({"type": "http.response.body", "body": body})
