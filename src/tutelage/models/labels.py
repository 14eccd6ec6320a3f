"""A head's labels and a task's: matched by name, and put into the task's order."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import torch

from . import anatomy


def label_order(config: Any, labels: tuple[str, ...], head: Mapping[str, Any], auto: str) -> list[int] | None:
    """Where each of the task's labels stands in a model's head, by name; None if it has other labels.

    Case is put aside only where names differ in more than case on both sides, so that no two labels share a row. Unnamed
    labels (`LABEL_0` ...) of the right number count as being in the task's order.
    """
    kind = auto.removeprefix("AutoModel")
    if not (getattr(config, "architectures", None) or [""])[0].endswith(kind) or config.num_labels != head["num_labels"]:
        return None
    own = [str(config.id2label[i]) for i in range(config.num_labels)]
    if not labels or unnamed(own):
        return list(range(len(own)))
    for mine, theirs in ((own, labels), ([x.casefold() for x in own], [x.casefold() for x in labels])):
        if len(set(mine)) == len(mine) and sorted(mine) == sorted(theirs):
            return [mine.index(x) for x in theirs]
    return None


def unnamed(names: Iterable[str]) -> bool:
    """Whether these are the names that transformers gives labels without one."""
    return all(re.fullmatch(r"label_\d+", x.lower()) for x in names)


def reorder(model: Any, order: list[int], head: Mapping[str, Any]) -> None:
    """Put the head's rows into the task's order and write the task's names into the configuration."""
    last = anatomy.head(model, len(order))
    with torch.no_grad():
        last.weight.copy_(last.weight[order].clone())
        if last.bias is not None:
            last.bias.copy_(last.bias[order].clone())
    for key in ("id2label", "label2id", "problem_type"):
        if head.get(key) is not None:
            setattr(model.config, key, head[key])
