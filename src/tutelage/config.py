"""Settings: frozen dataclasses checked by pydantic, read from YAML plus `key=value`. Imports no torch.

`build` checks a whole tree at once and reports every fault with its path. A field annotated `Part(kind)`
takes a mapping with the key `kind`; the part's own class checks the rest.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import inspect
import json
import os
import re
import textwrap
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar, dataclass_transform, get_args, get_type_hints

from pydantic import Field, TypeAdapter, ValidationError

from . import textfiles, yamlfiles
from .errors import ConfigError, DataError
from .find import KINDS, find, near

T = TypeVar("T")
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]
Threads = Annotated[int, Field(ge=1, le=1024)]
SELECTS_ROWS = "selects rows"
RowSetting = Annotated[T, SELECTS_ROWS]
"""A task's setting that says which rows are read and from where, and does nothing else: `limit: RowSetting[Count | None] = None`.
The rows themselves name a training in the store, so such a setting does not; every other setting does."""


@dataclasses.dataclass(frozen=True)
class PartOf:
    """Marks a field that holds one part of a kind (or, with `many`, a list of them)."""

    kind: str
    many: bool = False


@dataclass_transform(frozen_default=True, kw_only_default=True)
def settings(cls: type[T]) -> type[T]:
    """Make a frozen, keyword-only dataclass that refuses unknown keys and loose types.

    The text under a field is its help. A method `faults(self)` may yield `(field, sentence)` for what types
    cannot say: ranges across fields, a setting without effect.
    """
    made: Any = dataclasses.dataclass(frozen=True, kw_only=True)(cls)
    made.is_part = True
    return made


def read(path: str | Path, what: str = "recipe") -> dict[str, Any]:
    """Read a YAML file that holds one mapping, a recipe unless `what` says otherwise."""
    if not os.path.exists(path):
        raise ConfigError(f"no {what} file {path}; 'tutelage list recipes' shows the ones at hand")
    try:
        text = textfiles.content(Path(path))
    except DataError as fault:
        raise ConfigError(str(fault)) from None
    tree = yamlfiles.parse(text, str(path))
    if not isinstance(tree, dict):
        raise ConfigError(f"{path}: a {what} is a mapping of settings; found {type(tree).__name__}")
    return tree


def override(tree: Mapping[str, Any], changes: Iterable[str], shorthand: Mapping[str, str] | None = None) -> dict:
    """Apply `a.b=value` changes (values are YAML) to a copy of the tree, as `put` does."""
    try:
        out: dict[str, Any] = json.loads(json.dumps(tree))
    except (TypeError, ValueError, RecursionError) as fault:
        raise ConfigError(f"settings are texts, numbers, lists and mappings of these; {str(fault).lower()}") from None
    for change in changes:
        key, sign, text = change.partition("=")
        if not sign or not key:
            raise ConfigError(f"'{change}': a change is written key=value, for example train.epochs=2")
        put(out, key, yamlfiles.parse(text, change, comments=False), shorthand or {})
    return out


def put(tree: dict[str, Any], key: str, value: Any, shorthand: Mapping[str, str]) -> None:
    """Set `a.b` of a tree to a plain value.

    `shorthand` says what a bare value means where a mapping stands: `{'teacher': 'model'}` turns `teacher=x` into
    `teacher.model=x`. A '!' before the name drops the other settings there, as a new `kind` must.
    """
    *steps, last = key.split(".")
    here = tree
    for step in steps:
        if isinstance(here.get(step), str) and step in shorthand:
            here[step] = {shorthand[step].lstrip("!"): here[step]}
        if not isinstance(here.get(step), dict):
            here[step] = {}
        here = here[step]
    into = shorthand.get(key)
    if into and not isinstance(value, dict | list) and value is not None:
        old = here.get(last)
        value = {**old, into: value} if isinstance(old, dict) and into[0] != "!" else {into.lstrip("!"): value}
    here[last] = value


def build(cls: type[T], tree: Any, source: str = "") -> T:
    """Check a tree of plain values against a settings class and make it; raise ConfigError with every fault."""
    faults: list[tuple[str, str]] = []
    made = _build(cls, tree, (), faults)
    if faults:
        raise ConfigError(faults, source)
    return made


def _build(cls: Any, tree: Any, path: tuple[Any, ...], faults: list[tuple[str, str]]) -> Any:
    if not isinstance(tree, Mapping):
        faults.append((_dotted(path), f"settings are a mapping; got {tree!r}"))
        return None
    fields = {f.name: f for f in dataclasses.fields(cls)}
    if (kind := _name(cls)) and tree.get("kind") == kind:
        tree = {k: v for k, v in tree.items() if k != "kind"}
    hints, values, before = get_type_hints(cls, include_extras=True), {}, len(faults)
    of = f" of '{kind}'" if kind else ""
    faults.extend((_dotted((*path, key)), f"no such setting{of}{near(key, fields)}") for key in tree if key not in fields)
    for name, field in fields.items():
        if name in tree:
            values[name] = _value(hints[name], tree[name], (*path, name), faults)
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            faults.append((_dotted((*path, name)), "is required"))
    if len(faults) > before:
        return None
    made = cls(**values)
    if hasattr(made, "faults"):
        faults.extend((_dotted((*path, *filter(None, field.split(".")))), what) for field, what in made.faults())
    return made


def _value(hint: Any, value: Any, path: tuple[Any, ...], faults: list[tuple[str, str]]) -> Any:
    """Check one field's value: a part, parts, settings of their own, or plain data that pydantic checks."""
    mark, inner = _mark(hint), _settings_class(hint)
    if mark and mark.many and isinstance(value, list):
        return tuple(_part(mark.kind, one, (*path, i), faults) for i, one in enumerate(value))
    if mark and not mark.many:
        return _part(mark.kind, value, path, faults)
    if inner and isinstance(value, Mapping):
        return _build(inner, value, path, faults)
    try:
        return _adapter(hint).validate_json(json.dumps(value, default=str), strict=True)
    except ValidationError as error:
        for one in error.errors(include_url=False)[:1]:
            where = tuple(x for x in one["loc"] if isinstance(x, int))
            faults.append((_dotted((*path, *where)), _sentence(one)))
        return None


@functools.cache
def _adapter(hint: Any) -> TypeAdapter:
    return TypeAdapter(hint)


def _part(kind: str, tree: Any, path: tuple, faults: list[tuple[str, str]]) -> Any:
    if isinstance(tree, str):
        tree = {"kind": tree}
    if not isinstance(tree, Mapping) or not isinstance(tree.get("kind"), str):
        faults.append((_dotted(path), f"needs a 'kind', for example {{kind: ...}}; got {tree!r}"))
        return None
    try:
        cls = find(kind, tree["kind"])
    except ConfigError as fault:
        faults.append((_dotted((*path, "kind")), str(fault)))
        return None
    made = _build(cls, {k: v for k, v in tree.items() if k != "kind"}, path, faults)
    if made is not None:
        object.__setattr__(made, "_kind", tree["kind"])
    return made


def kind_of(made: Any) -> str | None:
    """What a part is called in a recipe: its file's name, or its module's dotted path; None for what is no part."""
    return getattr(made, "_kind", None) or _name(type(made))


def _name(cls: type) -> str | None:
    where = cls.__module__.split(".")
    return where[2] if len(where) == 3 and where[0] == "tutelage" and where[1] in KINDS else None


def dump(made: Any) -> Any:
    """The settings in full as plain values, `kind` first; `build` reads them back to an equal object."""
    if dataclasses.is_dataclass(made) and not isinstance(made, type):
        kind = kind_of(made)
        own = {f.name: dump(getattr(made, f.name)) for f in dataclasses.fields(made)}
        return ({"kind": kind} if kind else {}) | own
    if isinstance(made, Mapping):
        return {k: dump(v) for k, v in made.items()}
    if isinstance(made, tuple | list):
        return [dump(v) for v in made]
    return made


def text(made: Any) -> str:
    """The settings in full as YAML."""
    return yamlfiles.dumped(dump(made))


def difference(old: Any, new: Any, path: str = "") -> list[str]:
    """Lines `path: old -> new` for each leaf that differs between two plain trees."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        keys = [*old, *(k for k in new if k not in old)]
        return [x for k in keys for x in difference(old.get(k), new.get(k), f"{path}.{k}" if path else str(k))]
    return [] if old == new else [f"{path}: {old!r} -> {new!r}"]


def unfit_name(name: str) -> str:
    """Why a name cannot be that of a file or folder, as a fault says it; '' where it can."""
    if not name.strip() or name[0] == "." or re.search(r"[/\\\x00-\x1f\x7f]", name):
        return f"names files, so it begins with no dot and holds no slash and no control character; got {name[:60]!r}"
    return f"names files and has {len(name.encode())} bytes; 100 or fewer" if len(name.encode("utf-8", "replace")) > 100 else ""


def row_settings(cls: type) -> set[str]:
    """The fields of a settings class that are declared as `RowSetting`."""
    hints = get_type_hints(cls, include_extras=True)
    return {name for name, hint in hints.items() if SELECTS_ROWS in getattr(hint, "__metadata__", ())}


def field_help(cls: type) -> dict[str, str]:
    """The text under each field of a settings class (and of its parents)."""
    out: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        if not dataclasses.is_dataclass(base):
            continue
        [body] = [n for n in ast.parse(textwrap.dedent(inspect.getsource(base))).body if isinstance(n, ast.ClassDef)]
        for field, after in zip(body.body, body.body[1:], strict=False):
            if isinstance(field, ast.AnnAssign) and isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
                out[ast.unparse(field.target)] = inspect.cleandoc(str(after.value.value))
    return out


def _mark(hint: Any) -> PartOf | None:
    for one in (hint, *get_args(hint)):
        for extra in getattr(one, "__metadata__", ()):
            if isinstance(extra, PartOf):
                return extra
    return None


def _settings_class(hint: Any) -> type | None:
    return next((c for c in (hint, *get_args(hint)) if isinstance(c, type) and getattr(c, "is_part", False)), None)


def _dotted(path: Iterable[Any]) -> str:
    out = ""
    for step in path:
        out += f"[{step}]" if isinstance(step, int) else f".{step}" if out else str(step)
    return out


def _sentence(error: Any) -> str:
    """One pydantic error in our words: what is wrong, what was found, what to do."""
    kind, got = error["type"], error.get("input")
    limit = {k: f"{v:g}" if isinstance(v, float) else v for k, v in error.get("ctx", {}).items()}
    says = {
        "greater_than": "must be above {gt}",
        "greater_than_equal": "must be {ge} or more",
        "less_than": "must be below {lt}",
        "less_than_equal": "must be {le} or less",
        "finite_number": "must be a finite number",
        "literal_error": "must be {expected}",
        "bool_type": "must be true or false",
        "string_type": "must be text",
    }
    words = says.get(kind, "").format(**limit)
    if kind.startswith("int_"):
        words = "must be a whole number"
    elif kind.startswith("float_"):
        words = "must be a number"
    elif kind in ("tuple_type", "list_type"):
        words = "must be a list"
    elif not words:
        words = str(error["msg"])[:1].lower() + str(error["msg"])[1:]
    hint = near(str(got), re.findall(r"'([^']+)'", limit.get("expected", ""))) if kind == "literal_error" else ""
    return f"{words}; got {got!r}{hint}"
