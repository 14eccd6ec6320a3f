"""What can go wrong through a user's fault: one clear sentence, exit code 2, never a traceback."""

from __future__ import annotations

from collections.abc import Sequence


class TutelageError(Exception):
    """A fault that the user can mend. The message says where, what is wrong and what to do."""


class ConfigError(TutelageError):
    """One or more settings are at fault; every fault is named, each with its path."""

    def __init__(self, faults: str | Sequence[tuple[str, str]], source: str = ""):
        self.faults = [("", faults)] if isinstance(faults, str) else list(faults)
        lines = [f"{path}: {what}" if path else what for path, what in self.faults]
        head = f"{source}: " if source and len(lines) == 1 else ""
        if len(lines) > 1:
            head = f"{source + ': ' if source else ''}{len(lines)} faults in the settings\n  "
        super().__init__(head + "\n  ".join(lines))


class DataError(TutelageError):
    """A data file is missing, unreadable, or holds something that cannot be used."""


class ModelError(TutelageError):
    """A model cannot be found, read, or fitted to the task."""


class RunError(TutelageError):
    """A run cannot go on: its folder is in use, its disk is full, its loss is not a number."""


class MissingExtra(TutelageError):
    """A feature needs a package that is not installed."""

    def __init__(self, what: str, extra: str):
        super().__init__(f"{what} needs the extra '{extra}': pip install 'tutelage[{extra}]'")
