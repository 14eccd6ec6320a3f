"""Finding parts and their code: the folder is the registry, so `methods/kd.py` is the method `kd`. Imports no torch."""

from __future__ import annotations

import ast
import difflib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .errors import ConfigError

KINDS = ("methods", "tasks", "surgery")
_HERE = Path(__file__).parent
_PLAIN = {f"tutelage{name}" for name in ("", ".errors", ".find", ".config", ".records")}
"""Modules that many parts import and that settle nothing of what a part computes."""


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
    if not all(step.isidentifier() for step in name.split(".")):
        raise ConfigError(f"'{name}' is no dotted path of a module, such as my_lab.my_method")
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


def code_files(module: str) -> list[Path]:
    """Files that decide what a part does, by its module's name: its own, and what it imports in turn.

    Installed packages are left out, except this one and the part's own.
    """
    found: dict[str, Path] = {}
    waiting, mine = [module], {"tutelage", module.partition(".")[0]}
    while waiting:
        name = waiting.pop()
        if name in found or name in _PLAIN or (path := _module_file(name, mine)) is None:
            continue
        found[name] = path
        waiting += _imported(name, path)
    return sorted(set(found.values()))


def _module_file(name: str, mine: set[str]) -> Path | None:
    """A module's file, found without importing it; None for an installed package's, and for what is no module."""
    top, *inside = name.split(".")
    if top in sys.stdlib_module_names or top == "__main__":
        return None
    try:
        spec = importlib.util.find_spec(top)
    except ValueError:
        return None
    if spec is None:
        return None
    places = [Path(place).joinpath(*inside) for place in spec.submodule_search_locations or ()]
    if not spec.submodule_search_locations and not inside and spec.origin:
        places = [Path(spec.origin).with_suffix("")]
    files = [file for place in places for file in (place.with_suffix(".py"), place / "__init__.py") if file.is_file()]
    if not files or (top not in mine and {"site-packages", "dist-packages"} & set(files[0].parts)):
        return None
    return files[0]


def _imported(name: str, path: Path) -> Iterator[str]:
    """Names of what a module's file imports, anywhere in it; some may be no modules but what stands in one."""
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (one.name for one in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = importlib.util.resolve_name("." * node.level + (node.module or ""), package) if node.level else node.module or ""
            yield base
            yield from (f"{base}.{one.name}" for one in node.names)
