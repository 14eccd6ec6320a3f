"""Finding parts: the folder is the registry, so `methods/kd.py` is the method `kd`. Imports no torch."""

from __future__ import annotations

import ast
import difflib
import importlib
import inspect
from pathlib import Path
from typing import Any

from .errors import ConfigError

KINDS = ("methods", "tasks", "surgery")
_HERE = Path(__file__).parent


def names(kind: str) -> list[str]:
    """The parts of a kind, by file name, without importing any of them."""
    return sorted(p.stem for p in (_HERE / kind).glob("*.py") if not p.stem.startswith("_"))


def near(word: str, known: Any) -> str:
    """`; did you mean 'x'?` for the closest known word, else nothing."""
    close = difflib.get_close_matches(str(word), [str(k) for k in known], n=1, cutoff=0.55)
    return f"; did you mean '{close[0]}'?" if close else ""


def summary(kind: str, name: str) -> str:
    """First line of the part's module docstring, read without importing it."""
    tree = ast.parse((_HERE / kind / f"{name}.py").read_text(encoding="utf-8"))
    return (ast.get_docstring(tree) or "").split("\n")[0]


def find(kind: str, name: str) -> type:
    """The one public class of a part: a file of `kind`, or a user's own module by its dotted path.

    Raises ConfigError for an unknown name, and for a module with none or several public classes.
    """
    if "." not in name and name not in names(kind):
        raise ConfigError(f"no {_singular(kind)} '{name}'{near(name, names(kind))} ({', '.join(names(kind))})")
    try:
        module = importlib.import_module(name if "." in name else f"tutelage.{kind}.{name}")
    except ModuleNotFoundError as fault:
        if fault.name and name.startswith(fault.name):
            raise ConfigError(f"no module '{name}' to take a {_singular(kind)} from: {fault}") from None
        raise
    own = [c for c in vars(module).values() if inspect.isclass(c) and c.__module__ == module.__name__]
    parts = [c for c in own if not c.__name__.startswith("_") and getattr(c, "is_part", False)]
    if len(parts) != 1:
        raise ConfigError(f"module '{name}' has {len(parts)} public parts; a part's file holds exactly one")
    return parts[0]


def _singular(kind: str) -> str:
    return kind.removesuffix("s")
