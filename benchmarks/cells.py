"""Coreference with another loss: each cell of a query's grid decided for itself, on the head and decoding of `tasks/coreference.py`.

    loss = sum over queries of mean over right cells of log(1 + e^-score) + mean over wrong cells of log(1 + e^score)

Cells are the proposed spans, the mentions and the queries, which are those of our task; a query's own cell counts neither way. Right and
wrong cells weigh the same whatever their numbers are, so that scores are high by the log of how many more the wrong ones are: thresholds
up to 10 are tried on dev.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tutelage.config import settings
from tutelage.rows import Batch, Rows, Seen
from tutelage.tasks.coreference import Coreference

if TYPE_CHECKING:
    from torch import Tensor


@settings
class Cells(Coreference):
    """Clusters from grids that were learned cell by cell."""

    thresholds = tuple(x / 2 for x in range(-4, 21))

    def rows(self, seen: Seen, batch: Batch) -> list[Rows]:
        raise NotImplementedError("this arm learns from labels alone")

    def loss(self, f: Any, cluster: Tensor) -> Tensor:
        """The balanced cross-entropy of cells, and our null query's loss."""
        import torch
        from torch.nn.functional import softplus

        from tutelage.coref import grid

        queries, wanted, cells = grid.asked(f.mentions, self.proposals, cluster)
        spans = torch.cat([cells, queries]).unique(dim=0)
        found = grid.scores(f, queries, spans)
        right = (cluster[grid.at(spans)][None] == wanted[:, None]) & (wanted[:, None] > 0)
        own = (queries[:, None] == spans[None]).all(-1)
        total = self.mention_weight * grid.mentions_loss(f, cluster)
        for some, cost in ((right & ~own, softplus(-found)), (~right & ~own, softplus(found))):
            total = total + ((cost * some).sum(1) / some.sum(1).clamp(min=1)).sum()
        return total
