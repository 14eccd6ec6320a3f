"""The contract of a surgery."""

from __future__ import annotations

from typing import Any


class Surgery:
    """Called with a model, returns a new one; the original is untouched."""

    is_part = False

    def __call__(self, model: Any) -> Any:
        raise NotImplementedError(type(self).__name__)

    def kept(self, depth: int) -> tuple[int, ...] | None:
        """Which of `depth` layers the result keeps, or None where it keeps none as they were."""
        return None
