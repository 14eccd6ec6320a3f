"""Makes transformers' Auto classes know Tutelage's architectures after `import tutelage`, without importing transformers for it."""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

WATCHED = "transformers.models.auto.modeling_auto"
"""The module whose import means that Auto classes are going to be used."""


def know_architectures() -> None:
    """Register now where transformers' Auto classes are loaded, else right after they are."""
    if WATCHED in sys.modules:
        _register()
    elif not any(isinstance(finder, _Watch) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Watch())


def _register() -> None:
    importlib.import_module("tutelage.models.register")


class _Watch(importlib.abc.MetaPathFinder):
    """Finds the watched module as the next finders do, and registers once it has run."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> Any:
        if name != WATCHED:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is not None and isinstance(spec.loader, importlib.machinery.SourceFileLoader):
            spec.loader = _Then(spec.loader.name, spec.loader.path)
        return spec


class _Then(importlib.machinery.SourceFileLoader):
    def exec_module(self, module: ModuleType) -> None:
        super().exec_module(module)
        _register()
