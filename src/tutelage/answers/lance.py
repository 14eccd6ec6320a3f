"""LanceDB as Tutelage meets it: places opened, and its faults as sentences."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .. import records
from ..errors import ConfigError, MissingExtra, RunError, TutelageError


def connect(uri: str | Path, storage: dict[str, str] | None) -> Any:
    try:
        import lancedb
    except ModuleNotFoundError:
        raise MissingExtra("search over passages", "answers") from None
    with sentences(uri):
        return lancedb.connect(str(uri), storage_options=storage)


def table_of(base: Any, uri: str | Path, name: str, mark: bytes) -> Any:
    """The table of a name, None where there is none. Raises ConfigError for one whose metadata lack our mark."""
    with sentences(uri):
        try:
            table = base.open_table(name)
        except ValueError as fault:
            if "was not found" in str(fault):
                return None
            raise
    if mark not in (table.schema.metadata or {}):
        raise ConfigError(f"{uri}: its table '{name}' was not made by Tutelage; name another place")
    return table


@contextlib.contextmanager
def sentences(uri: str | Path) -> Iterator[None]:
    """Turn what LanceDB raises about a place into one sentence."""
    try:
        with records.saving(uri):
            yield
    except TutelageError:
        raise
    except (OSError, RuntimeError, ValueError) as fault:
        why = " ".join(str(fault).split())[:300]
        raise RunError(f"{uri}: LanceDB cannot read or write there: {why}") from fault
