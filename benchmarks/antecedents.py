"""Coreference by antecedents, start to end: the common way, on the same encoder, windows, features and budget as `tasks/coreference.py`.

Spans are scored as mentions by their first and last word, the best of them become mentions, and each takes the antecedent it scores
highest, or none. Learned is the likelihood of all right antecedents together.

    mention(i, j)    = start_i + end_j + a_i . b_j
    link(q, c)       = mention(q) + mention(c) + sum over x, y of {first, last} of q_xy(x of q) . c_xy(y of c) + near_q(c) + who_q(c)
    loss             = - sum over q of log(sum over right c before q of e^link / (1 + sum over all c before q of e^link))

with "none" at score 0, which is right where no antecedent is; in use it scores `threshold`, which dev decides as it does for our task.
Singletons are neither learned nor given.

Source: Kirstain, Ram and Levy 2021, "Coreference Resolution without Span Representations", arXiv:2101.00434 (s2e), recalled, and
fastcoref's code of its head.
Departures: one hidden layer, the model's own, stands for the four of the source, and the bilinear forms are of rank `size`; the features of
distance and speaker are those of our task. The source has no loss of its own for mentions; `mention_weight` adds our task's.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from tutelage.config import NonNegative, settings
from tutelage.rows import Batch, Rows, Seen
from tutelage.tasks.coreference import Coreference

if TYPE_CHECKING:
    from torch import Tensor

    from tutelage.coref import linking

FORMS = ("ss", "se", "es", "ee")
"""The bilinear terms: the query's first or last word, then the antecedent's."""


@settings
class Antecedents(Coreference):
    """Clusters by the best antecedent of each mention."""

    size: Annotated[int, Field(ge=4, le=1024)] = 105
    """Rank of the bilinear forms; 105 gives as many numbers a token as the grid's head."""
    mention_weight: NonNegative = 0.0
    """Weight of a loss that teaches what a mention is, beside the antecedents; the source has none."""

    def faults(self) -> Iterator[tuple[str, str]]:
        yield from super().faults()
        if self.singletons:
            yield "singletons", "have no antecedent to be learned from; leave it out"
        if self.linking != "average":
            yield "linking", "has no effect on antecedents; leave it out"

    def width(self, data: Any) -> int:
        return sum(self._sizes().values())

    def _sizes(self) -> dict[str, int]:
        from tutelage.coref import grid

        forms = {f"{side}{form}": self.size for side in "qc" for form in FORMS}
        return {"start": 1, "end": 1, "a": self.size, "b": self.size, **forms, "near": grid.DISTANCES, "who": grid.SPEAKERS}

    def factors(self, token: Tensor, first: Tensor, last: Tensor, speakers: Tensor) -> _Words:
        from tutelage.coref import grid

        parts = dict(zip(self._sizes(), token.float().split(list(self._sizes().values()), -1), strict=True))
        at = {name: last if name in ("end", "b", "qes", "qee", "cse", "cee") else first for name in parts}
        words = {name: part[at[name]] for name, part in parts.items()}
        width = token.new_zeros(len(first), self.widest, dtype=words["a"].dtype)
        mentions = grid.span_scores(words["start"][:, 0], words["end"][:, 0], words["a"], words["b"], width)
        return _Words(words, speakers, mentions)

    def rows(self, seen: Seen, batch: Batch) -> list[Rows]:
        raise NotImplementedError("antecedents learn from labels alone")

    def loss(self, f: _Words, cluster: Tensor) -> Tensor:
        """The antecedents' loss, summed over a document's proposed spans."""
        import torch

        from tutelage.coref import grid

        spans = grid.proposals(f.mentions, self.proposals)
        own = cluster[grid.at(spans)]
        right = ((own[:, None] == own[None]) & (own[:, None] > 0)).tril(-1)
        right = torch.cat([right, ~right.any(1, keepdim=True)], 1)
        found = self.links(f, spans)
        total = (found.logsumexp(1) - found.masked_fill(~right, -math.inf).logsumexp(1)).sum()
        return total + self.mention_weight * grid.mentions_loss(f, cluster) if self.mention_weight else total

    def links(self, f: _Words, spans: Tensor) -> Tensor:
        """(spans, spans + 1): each span's score of every one before it, -inf for others, and of no antecedent at all in the last column."""
        import torch

        from tutelage.coref import grid

        asked, told = (
            torch.cat([f.words[side + form][spans[:, "se".index(form[place])]] for form in FORMS], 1) for place, side in enumerate("qc")
        )
        known = grid.known(f, spans)
        found = (asked @ told.T).float() / math.sqrt(self.size) + known[:, None] + known[None]
        found = found + grid.around(f.words["near"], f.words["who"], f.speakers, spans[:, 0], spans[:, 0])
        later = torch.ones_like(found, dtype=torch.bool).triu()
        return torch.cat([found.masked_fill(later, -math.inf), torch.zeros_like(known[:, None])], 1)

    def decode(self, f: _Words, thresholds: Sequence[float], given: Tensor | None = None) -> list[linking.Found]:
        """Each span with its best antecedent, if that scores above the threshold."""
        import torch

        from tutelage.coref import grid, linking

        with torch.no_grad():
            spans = grid.proposals(f.mentions, self.proposals) if given is None else given
            value = grid.known(f, spans).cpu().numpy()
            top, best = (x.cpu().numpy() for x in self.links(f, spans)[:, :-1].max(1))
        return [linking.grouped(value, spans, labels) for labels in linking.chained(top, best, thresholds)]


@dataclasses.dataclass
class _Words:
    """What follows from a document's tokens."""

    words: Mapping[str, Tensor]
    """(words, size of the part), by the names of the formulas."""
    speakers: Tensor
    mentions: Tensor
    """(words, widest), as in `coref/grid.py`."""
