"""Tutelage: teach small models to do a big model's work, and prove how well they do it.

>>> import tutelage
>>> result = tutelage.distill("recipes/quickstart.yaml", ["seed=2"])  # doctest: +SKIP
>>> result.record["models"]["kd"]["test"]["primary"]  # doctest: +SKIP
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from .late import know_architectures

# OpenMP reads this when torch is loaded. Threads that spin while they wait for each other take the cores from whoever they wait for:
# beside one busy process on two cores a training step took over twenty times as long.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

__version__ = "0.1.0"

if TYPE_CHECKING:
    from .engine.distill import Result, distill
    from .engine.resolve import Coreference
    from .errors import TutelageError

__all__ = ["Coreference", "Result", "TutelageError", "__version__", "distill"]

_WHERE = {
    "Coreference": ".engine.resolve", "Result": ".engine.distill", "TutelageError": ".errors", "distill": ".engine.distill",
}  # fmt: skip


know_architectures()


def __getattr__(name: str) -> Any:
    """Import what is asked for when it is asked for; `import tutelage` loads no torch."""
    if name not in _WHERE:
        raise AttributeError(f"module 'tutelage' has no attribute '{name}'")
    from importlib import import_module

    return getattr(import_module(_WHERE[name], __name__), name)
