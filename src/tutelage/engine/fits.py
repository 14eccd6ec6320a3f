"""Whether models take what a tokenizer makes of the data, found before anything is trained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from ..errors import ConfigError, ModelError, TutelageError
from ..models import anatomy
from ..rows import LAST_STATES
from ..tasks._task import Encoded, Task
from .forward import forward, move


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


@torch.no_grad()
def try_out(role: str, model: Any, encoded: Encoded, task: Task) -> None:
    """Raise ModelError for a model that does not run on the task's rows, or whose outputs of a row depend on how it is padded.

    Two short rows of different lengths are looked at, together and each alone.
    """
    if not len(encoded):
        return
    check(task, encoded, {role: model.config}, None)
    short = np.argsort(encoded.lengths, kind="stable")
    longer = short[encoded.lengths[short] > encoded.lengths[short[0]]]
    rows = np.array([short[0], *longer[:1]])
    was, device, family = model.training, next(model.parameters()).device, anatomy.body(model.config).model_type
    model.eval()

    def seen(some: np.ndarray) -> dict[str, Any]:
        return forward(model, task.view(move(encoded.batch(some), device)).inputs, task.outputs).outputs

    try:
        together, alone = seen(rows), seen(rows[:1])
        for name, kind in task.outputs.items():
            a, b = together[name][0].float(), alone[name][0].float()
            if kind == "token":
                a = a[: len(b)]
            if a.shape != b.shape or not bool((a - b).abs().max() <= 1e-3 * b.abs().max() + 1e-5):
                why = f"the output of models of type '{family}' for a row changes when the row is padded"
                raise ModelError(f"{role}: {why}; take another family")
    except TutelageError:
        raise
    except Exception as fault:
        why = " ".join(str(fault).split())[:200] or type(fault).__name__
        raise ModelError(f"{role}: models of type '{family}' do not run on the task's rows ({why}); name another family") from fault
    finally:
        model.train(was)
