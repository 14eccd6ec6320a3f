"""What there is to choose from: parts with one line each, their settings, and the recipes that come along. No torch."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from . import config, find
from . import recipe as recipes
from .errors import ConfigError
from .recipe import Recipe

_RECIPES = (Path(__file__).parent / "recipes", Path(__file__).parents[2] / "recipes")
"""In an installed package, and in a checkout."""
_SUITES = Path(__file__).parent / "robustness/suites"


def _recipes(inside: str = "") -> dict[str, Path]:
    return {p.stem: p for folder in reversed(_RECIPES) for p in sorted((folder / inside).glob("*.yaml"))}


def load(recipe: str | Path | dict[str, Any] | Recipe, changes: Iterable[str] = ()) -> Recipe:
    """A recipe with `key=value` changes, by its file, by the name of one that comes along, or from a tree or settings.

    Raises ConfigError with every fault at once.
    """
    return recipes.load(recipe_file(recipe) if isinstance(recipe, str) else recipe, changes)


def recipe_file(name: str) -> str:
    """The path of a recipe: a file as it is, else the packaged recipe of that name."""
    return _file(name, "recipe", "recipes", _recipes())


def study_file(name: str) -> str:
    """The path of a study: a file as it is, else the packaged study of that name."""
    return _file(name, "study", "studies", _recipes("studies"))


def _file(name: str, what: str, folder: str, known: dict[str, Path]) -> str:
    if Path(name).suffix in (".yaml", ".yml") or os.path.exists(name):
        if not os.path.exists(name) and Path(name).parent.name == folder and Path(name).stem in known:
            return str(known[Path(name).stem])
        return name
    if name not in known:
        raise ConfigError(
            f"no {what} '{name}', neither a file nor one that comes along{find.near(name, known)} ({', '.join(sorted(known))})"
        )
    return str(known[name])


def parts(kind: str | None = None) -> dict[str, dict[str, str]]:
    """Every part's one line by kind; ConfigError for an unknown kind."""
    out = {k: {n: find.summary(k, n) for n in find.names(k)} for k in find.KINDS}
    for title, inside in (("recipes", ""), ("studies", "studies")):
        out[title] = {name: _first_comment(path) for name, path in sorted(_recipes(inside).items())}
    out["suites"] = {path.stem: str(config.read(path)["summary"]) for path in sorted(_SUITES.glob("*.yaml"))}
    if kind is None:
        return out
    if kind not in out:
        raise ConfigError(f"no kind of part '{kind}'{find.near(kind, out)} ({', '.join(out)})")
    return {kind: out[kind]}


def _first_comment(path: Path) -> str:
    first = path.read_text(encoding="utf-8").split("\n")[0]
    return first.removeprefix("#").strip() if first.startswith("#") else ""


def settings_of(name: str) -> dict[str, Any] | None:
    """A part's settings by its name: default and help of each; None where no part has the name."""
    for kind in find.KINDS:
        if name in find.names(kind):
            cls = find.find(kind, name)
            help_texts = config.field_help(cls)
            rows = []
            for field in dataclasses.fields(cls):  # type: ignore[arg-type]
                default, make = field.default, field.default_factory
                required = default is dataclasses.MISSING and make is dataclasses.MISSING
                if default is dataclasses.MISSING:
                    default = None if make is dataclasses.MISSING else make()
                rows.append(
                    {"name": field.name, "default": config.dump(default), "required": required, "help": help_texts.get(field.name, "")}
                )
            return {"part": name, "of": kind, "line": find.summary(kind, name), "settings": rows}
    return None


def settings_text(part: dict[str, Any]) -> str:
    """A part's settings as text."""
    lines = [f"{part['part']} ({part['of']}): {part['line']}"]
    for row in part["settings"]:
        lines.append(f"  {row['name']}: {'required' if row['required'] else row['default']}")
        lines += [f"      {line}" for line in row["help"].split("\n") if line]
    return "\n".join(lines)
