"""Label smoothing: some of each label's weight goes to all classes alike.

Source: Szegedy et al. 2016, arXiv:1512.00567, section 7; as compared in Jafari et al. 2023, arXiv:2205.12428.
Departures: none; the mass goes to every class, the true one included (u = 1 / classes).
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from .. import losses
from ..config import settings
from ..rows import Term
from ._method import Facts, Method, See, Stage, on_labels, one_of_several, over_labelled


@settings
class LabelSmoothing(Method):
    """(1 - alpha) * label loss + alpha * cross-entropy against the uniform distribution."""

    name = "label_smoothing"
    uses_teacher = False

    alpha: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Weight that is spread over all classes."""

    def stages(self, facts: Facts) -> list[Stage]:
        one_of_several(self, facts)
        return super().stages(facts)

    def terms(self, see: See) -> dict[str, Term]:
        uniform = over_labelled(losses.uniform_cross_entropy, see.student, see, weight=self.alpha)
        return on_labels(see, 1 - self.alpha) | {"uniform": uniform}
