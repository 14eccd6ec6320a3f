"""Whether models take what a tokenizer makes of the data: positions, token numbers, and output layers of different widths."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..errors import ConfigError, ModelError
from ..models import anatomy
from ..rows import LAST_STATES
from ..tasks._task import Encoded, Task


def check(task: Task, rows: Encoded, shapes: Mapping[str, Any], tokenizer: Any) -> int | None:
    """Refuse rows that some role's model (by its configuration) has no position or no word for; the roles are fed the same rows.

    Where output layers over a vocabulary are of different widths, the number of classes that all share and the tokenizer knows;
    else None. Raises ConfigError and ModelError.
    """
    places = int(rows.ragged["position_ids"].max()) + 1 if "position_ids" in rows.ragged else 0
    for role, shape in shapes.items():
        if places > (most := anatomy.positions(shape) or places):
            why = f"the longest document fills {places} positions of a row and the {role} has {most}; take {most} or fewer"
            raise ConfigError([("task.tokens", why)])
    widths = {role: size for role, shape in shapes.items() if (size := getattr(shape, "vocab_size", None))}
    ids = rows.ragged.get("input_ids", np.zeros(0, dtype=np.int32))
    for role, size in widths.items():
        if len(ids) and ids.max() >= size:
            why = f"knows {size} tokens, and the tokenizer makes number {ids.max()} of the data"
            raise ModelError(f"{role}: {why}; take the tokenizer that the model was trained with, or widen its embeddings")
    if LAST_STATES not in task.outputs or len(set(widths.values())) < 2:
        return None
    return min(len(tokenizer), *widths.values())
