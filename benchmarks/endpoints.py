"""Coreference with another target: each query scores first and last words, not spans, on the head of `tasks/coreference.py`.

    first_q(i) = start_i + q_start . s_i + near_q(i) + who_q(i)         is word i the first of a mention of the query's entity
    last_q(j)  = end_j + q_end . e_j                                    is word j the last of one
    loss       = sum over queries of log(1 + sum e^wrong) + log(1 + sum e^-right), over first words and over last words

Queries and the null query, which proposes spans, are those of our task. A span's score is that of its first and its last word, without the
terms of both; clusters come from the spans that were proposed, as in our task. The query's own words count neither way.
As two scores that are too low at few epochs add up, thresholds from -12 on are tried on dev.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tutelage.config import settings
from tutelage.rows import Batch, Rows, Seen
from tutelage.tasks.coreference import Coreference

if TYPE_CHECKING:
    from torch import Tensor

    from tutelage.coref import linking


@settings
class Endpoints(Coreference):
    """Clusters from the first and the last words of their mentions."""

    thresholds = tuple(x / 2 for x in range(-24, 9))

    def rows(self, seen: Seen, batch: Batch) -> list[Rows]:
        raise NotImplementedError("this arm learns from labels alone")

    def loss(self, f: Any, cluster: Tensor) -> Tensor:
        """The loss over first and over last words, and our null query's."""
        import torch

        from tutelage.coref import grid

        queries, wanted, _ = grid.asked(f.mentions, self.proposals, cluster)
        spans, numbers = grid.mentions_of(cluster)
        words = torch.arange(len(cluster), device=cluster.device)
        own = (queries[:, None] == spans[None]).all(-1)
        mates = (numbers[None] == wanted[:, None]) & ~own
        total = self.mention_weight * grid.mentions_loss(f, cluster)
        for side, found in enumerate(grid.shares(f, queries, words, words)):
            found = found + (f.start, f.end)[side]
            right = mates.float() @ (spans[:, side, None] == words).float() > 0
            wrong = ~right & (queries[:, side, None] != words)
            low, high = grid.zlpr(found, right, wrong)
            total = total + (low + high).sum()
        return total

    def decode(self, f: Any, thresholds: Sequence[float], given: Tensor | None = None) -> list[linking.Found]:
        """Our task's merging, on the scores of first and last words alone."""
        from tutelage.coref import grid, linking

        spans = grid.proposals(f.mentions, self.proposals) if given is None else given
        none = {name: getattr(f, name) * 0 for name in ("a", "b", "width", "g", "gg", "h", "hh")}
        mentions = grid.span_scores(f.start, f.end, none["a"], none["b"], none["width"])
        return linking.at_thresholds(dataclasses.replace(f, **none, mentions=mentions), thresholds, given=spans)
