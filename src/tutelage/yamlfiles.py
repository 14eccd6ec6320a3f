"""YAML as settings are written in: plain values alone, in bounded time, and a sentence with the line for what is none.

Differences from YAML 1.1: `2e-5` is a number, a date is text, and a key that stands twice is refused.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

from .errors import ConfigError

DEPTH = 100
"""Values within values."""
VALUES = 100_000
"""Values that a file may hold, those of aliases counted wherever they stand."""
LONGEST = 1 << 19
"""Characters of a file."""
_DEEP = f"values stand more than {DEPTH} deep within each other; write settings flat"
_PLAIN = (str, int, float, bool, type(None), list, dict)
_EXPONENT = re.compile(r"^[-+]?(?:[0-9][0-9_]*)(?:\.[0-9_]*)?[eE][-+]?[0-9]+$")
_MERGE = "tag:yaml.org,2002:merge"
_DATE = "tag:yaml.org,2002:timestamp"


class _Fault(Exception):
    """What is wrong with a value, and its mark."""


class _Loader(yaml.SafeLoader):
    """Makes plain values, and says of others where they stand."""

    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        self.depth += 1
        if self.depth > DEPTH:
            raise _Fault(_DEEP, self.peek_event().start_mark)
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        try:
            made = super().construct_object(node, deep)
        except (ValueError, LookupError, AttributeError, TypeError, OverflowError):
            made = ...
        if not isinstance(made, _PLAIN):
            raise _Fault(f"{_shown(node)} is no value of the type {_type(node)}; write text in quotes", node.start_mark)
        if isinstance(made, int) and not -(1 << 63) <= made < 1 << 63:
            raise _Fault("holds a whole number beyond 64 bits; write it as text", node.start_mark)
        return made


class _Dumper(yaml.SafeDumper):
    """Writes what `_Loader` reads back to equal values."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in known if tag != _DATE] for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for _side in (_Loader, _Dumper):
    _side.add_implicit_resolver("tag:yaml.org,2002:float", _EXPONENT, list("-+0123456789"))
_Dumper.add_representer(float, lambda d, x: d.represent_scalar("tag:yaml.org,2002:float", re.sub(r"^(-?\d+)e", r"\1.0e", repr(x))))


def parse(text: str, source: str, *, comments: bool = True) -> Any:
    """The value of a YAML text. Raises ConfigError with source, line and column for what is none; without `comments`, for one too."""
    if len(text) > LONGEST:
        raise ConfigError(f"{source}: has {len(text):,} characters; settings have {LONGEST:,} at most")
    loader = None
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        rest = text[node.end_mark.index if node else 0 :].strip()
        if not comments and rest.startswith("#"):
            raise _Fault(f"YAML takes '{rest}' for a comment; put the value in quotes", None)
        if node is None:
            return None
        _check(node)
        return loader.construct_document(node)
    except yaml.YAMLError as fault:
        mark = getattr(fault, "problem_mark", None)
        what = str(getattr(fault, "problem", None) or fault).split("\n")[0]
        raise ConfigError(f"{_place(source, mark)}: not YAML: {what}") from None
    except _Fault as fault:
        what, mark = fault.args
        raise ConfigError(f"{_place(source, mark)}: {what}") from None
    finally:
        if loader is not None:
            loader.dispose()


def dumped(value: Any) -> str:
    """A plain value as YAML."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)


def _place(source: str, mark: Any) -> str:
    return f"{source}, line {mark.line + 1}, column {mark.column + 1}" if mark else source


def _shown(node: Any) -> str:
    return f"'{node.value[:40]}'" if isinstance(node, yaml.ScalarNode) else "what stands here"


def _type(node: Any) -> str:
    return node.tag.removeprefix("tag:yaml.org,2002:")


def _check(root: Any) -> None:
    """Raise _Fault for keys that stand twice in a mapping, and for what unfolds to more than DEPTH or VALUES.

    A node that aliases name is looked at once, so time is linear in the text.
    """
    sizes: dict[int, tuple[int, int]] = {}
    open_nodes: set[int] = set()
    ahead = [(root, False)]
    while ahead:
        node, done = ahead.pop()
        inner = _inner(node)
        if done:
            below = [sizes[id(one)] for one in inner]
            count, depth = 1 + sum(size for size, _ in below), 1 + max((deep for _, deep in below), default=0)
            if depth > DEPTH:
                raise _Fault(_DEEP, node.start_mark)
            if count > VALUES:
                raise _Fault(f"holds more than {VALUES:,} values, those of its aliases counted; write fewer", node.start_mark)
            sizes[id(node)] = (count, depth)
            open_nodes.discard(id(node))
        elif id(node) in open_nodes:
            raise _Fault("an alias stands within the value that it names; write the value out", node.start_mark)
        elif id(node) not in sizes:
            open_nodes.add(id(node))
            if isinstance(node, yaml.MappingNode):
                _once(node)
            ahead.append((node, True))
            ahead += ((one, False) for one in inner)


def _inner(node: Any) -> list[Any]:
    if isinstance(node, yaml.MappingNode):
        return [one for pair in node.value for one in pair]
    return node.value if isinstance(node, yaml.SequenceNode) else []


def _once(node: Any) -> None:
    """Raise _Fault for a key that stands twice; keys to merge may."""
    seen: dict[tuple[str, str], int] = {}
    for key, _ in node.value:
        if isinstance(key, yaml.ScalarNode) and key.tag != _MERGE:
            if (first := seen.get((key.tag, key.value))) is not None:
                raise _Fault(f"{_shown(key)} stands twice, first in line {first}; leave one out", key.start_mark)
            seen[key.tag, key.value] = key.start_mark.line + 1
