"""Fine-tuning on the labels alone: the baseline every method is held against.

Source: the ordinary supervised loss; no paper.
Departures: none.
"""

from __future__ import annotations

from ..config import settings
from ..rows import Term
from ._method import Method, See, on_labels


@settings
class Finetune(Method):
    """The task's label loss and nothing else."""

    name = "finetune"
    uses_teacher = False

    def terms(self, see: See) -> dict[str, Term]:
        return on_labels(see)
