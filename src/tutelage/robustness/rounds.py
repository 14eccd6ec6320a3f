"""Many searches at once: what all of them ask in a round is answered together, and nothing in a search depends on the others."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from .attacks import Found, Search

K = TypeVar("K")
Answer = Callable[[list[Any]], Sequence[Any]]


def carry(
    searches: Iterable[tuple[K, Search]], answers: Mapping[str, Answer], *, width: int, seconds: float | None = None
) -> Iterator[tuple[K, Found]]:
    """Carry searches to their end, `width` of them at a time, and yield each as it ends.

    In a round, everything asked of one kind is answered by one call; `answers` has a function of each kind, from all items to an
    answer each. After so many seconds no further round is begun, and what is under way is left.
    """
    waiting, began = iter(searches), time.monotonic()
    active: dict[int, tuple[K, Search, str, list[Any]]] = {}
    number = 0
    while seconds is None or time.monotonic() - began < seconds:
        while len(active) < width and (new := next(waiting, None)) is not None:
            key, search = new
            number += 1
            kind, items = next(search)
            active[number] = (key, search, kind, items)
        if not active:
            return
        for kind in dict.fromkeys(kind for _, _, kind, _ in active.values()):
            mine = {n: one for n, one in active.items() if one[2] == kind}
            asked = [item for _, _, _, items in mine.values() for item in items]
            heard, at = answers[kind](asked) if asked else [], 0
            for n, (key, search, _, items) in mine.items():
                try:
                    said = search.send(heard[at : at + len(items)])
                    active[n] = (key, search, *said)
                except StopIteration as end:
                    del active[n]
                    yield key, end.value
                at += len(items)
