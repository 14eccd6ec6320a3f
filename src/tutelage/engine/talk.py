"""What a run says while it works: lines and progress bars on standard error, or nothing."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

Advance = Callable[..., None]


class Talk:
    """Says nothing; the library's default. `notes` keeps what was said."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def say(self, text: str) -> None:
        """One line for the user, also kept for the record."""
        self.notes.append(text)

    @contextlib.contextmanager
    def task(self, title: str, total: int, done: int = 0) -> Iterator[Advance]:
        """A piece of work of `total` items; the block calls `advance(n, note)`."""
        yield lambda n=1, note="": None


class Console(Talk):
    """Lines and progress bars by rich."""

    def __init__(self) -> None:
        from rich.console import Console as Rich

        super().__init__()
        self.console: Any = Rich(stderr=True)

    def say(self, text: str) -> None:
        super().say(text)
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    @contextlib.contextmanager
    def task(self, title: str, total: int, done: int = 0) -> Iterator[Advance]:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, TextColumn("{task.fields[note]}", markup=False), console=self.console) as bars:
            bar = bars.add_task(title, total=total, completed=done, note="")

            def advance(n: int = 1, note: str | None = None) -> None:
                bars.update(bar, advance=n)
                if note is not None:
                    bars.update(bar, note=note)

            yield advance
