"""Named random streams: one recipe seed gives independent, repeatable draws by purpose, epoch or step."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable


def stream(seed: int, *name: object) -> int:
    """A 63-bit seed for the stream `name`, such as `stream(1, "order", epoch)`.

    Streams do not depend on each other or on how often they were asked, so a resumed run draws what an
    undisturbed one draws without any generator state being saved.
    """
    digest = hashlib.sha256(repr((seed, *name)).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def by_row(seed: int, rows: Iterable[int]) -> list[int]:
    """A 63-bit seed for each row number: a row's draw is the same in whatever batch, order or process it comes."""
    return [stream(seed, int(row)) for row in rows]
