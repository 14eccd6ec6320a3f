"""The axes of a study: values by name, each with the settings that it stands for, or a range."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import ConfigError

RANGE = {"low", "high", "log", "whole"}


class Axis:
    """One axis: names of its values in order with the settings of each, or a range."""

    def __init__(self, name: str, given: Any, search: bool, source: str):
        self.name, where = name, f"{source}: axes.{name}"
        self.range: dict[str, Any] = {}
        self._settings: dict[str, dict[str, Any]] = {}
        if isinstance(given, Mapping) and {"low", "high"} <= set(given):
            self.range = dict(given)
            good = all(isinstance(given[k], int | float) and not isinstance(given[k], bool) for k in ("low", "high"))
            if not search or set(given) - RANGE or not good or given["low"] >= given["high"] or (given.get("log") and given["low"] <= 0):
                raise ConfigError(f"{where}: a range is {{low: 1e-5, high: 1e-3, log: true}}, or with whole: true, and of a search alone")
        elif isinstance(given, list):
            self._settings = {label(v): {name: v} for v in given}
            if len(self._settings) < len(given):
                raise ConfigError(f"{where}: holds a value twice; leave one out")
        elif isinstance(given, Mapping) and all(isinstance(v, Mapping) for v in given.values()):
            self._settings = {str(k): dict(v) for k, v in given.items()}
        else:
            raise ConfigError(f"{where}: is a list of values, or names with settings of their own; got {given!r}")
        if not self._settings and not self.range:
            raise ConfigError(f"{where}: has no values, so the grid is empty")

    @property
    def values(self) -> list[str]:
        """Names of the values; none for a range."""
        return list(self._settings)

    def settings(self, value: Any) -> dict[str, Any]:
        """What a value sets in the recipe, by key."""
        return {self.name: value} if self.range else self._settings[value]


def label(value: Any) -> str:
    """A value's name: itself, or a part's kind with its settings."""
    if isinstance(value, Mapping):
        rest = ", ".join(f"{k}={label(v)}" for k, v in value.items() if k != "kind")
        return f"{value.get('kind', '')}({rest})" if rest else str(value.get("kind", "{}"))
    if isinstance(value, list):
        return "+".join(map(label, value)) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value).lower() if isinstance(value, bool) else str(value)
