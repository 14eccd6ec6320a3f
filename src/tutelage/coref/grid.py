"""Coreference in one pass: for a mention as query, a score for every span of the document at once, from factors of its words.

The paper asks for all mentions of a query's cluster in one pass over the document, as a matrix of span positions (Jafari and Ghodsi
2020, arXiv:2007.00301; its abstract is all that could be read). Target, head, loss and decoding here are our own reading: the
matrix is start x width, (words, widest), so memory is linear in the document's length; time is queries times words.

A model gives each word two rows of factors, of its first and of its last token. What follows from them has no weights of its own:

    mention(i, w)   = start_i + end_{i+w} + a_i . b_{i+w} + width_{i,w}                      the null query: is it a mention
    grid_q(i, w)    = mention(i, w) + q_start . s_i + q_end . e_{i+w} + near_q(i) + who_q(i)   with q = gelu(u_first + v_last)
    pair_q(c)       = gelu(g_first + g'_last) . gelu(h_first + h'_last)                         added on proposed cells only

so teacher and student are compared, and a teacher's factors cached, whatever their encoders are.
"""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

DISTANCES = 20
"""Buckets of the signed distance in words between a query's start and a cell's: ten by powers of two on either side."""
SPEAKERS = 3
"""Unknown, same, other."""
NEVER = -1e4
"""The score of a cell that reaches past the document's end."""
CELLS = 1 << 20
"""Cells of queries x words x widths that stand at once."""


def count(size: int, widest: int) -> int:
    """Factors a token."""
    return 16 * size + widest + 2 + DISTANCES + SPEAKERS


@dataclasses.dataclass
class Factors:
    """A document's words as factors; names as in the module's formulas. (words, size) unless said."""

    start: Tensor
    """(words,)."""
    end: Tensor
    """(words,)."""
    a: Tensor
    b: Tensor
    width: Tensor
    """(words, widest)."""
    s: Tensor
    e: Tensor
    u: Tensor
    """This and the next five are (words, 2 size)."""
    v: Tensor
    g: Tensor
    gg: Tensor
    h: Tensor
    hh: Tensor
    near: Tensor
    """(words, DISTANCES)."""
    who: Tensor
    """(words, SPEAKERS)."""
    speakers: Tensor
    """(words,) of whole numbers, 0 for unknown."""
    mentions: Tensor
    """(words, widest): the null query's score of the span from word i over w more words; NEVER past the end."""


def factors(token: Tensor, first: Tensor, last: Tensor, speakers: Tensor, *, size: int, widest: int) -> Factors:
    """The words' factors from the tokens' (tokens, count) and each word's first and last token (words,)."""
    sizes = {
        "start": 1, "end": 1, "a": size, "b": size, "width": widest, "s": size, "e": size, "u": 2 * size, "v": 2 * size, "g": 2 * size,
        "gg": 2 * size, "h": 2 * size, "hh": 2 * size, "near": DISTANCES, "who": SPEAKERS,
    }  # fmt: skip
    heads = dict(zip(sizes, token[first].float().split(list(sizes.values()), -1), strict=True))
    tails = dict(zip(sizes, token[last].float().split(list(sizes.values()), -1), strict=True))
    made = {name: (tails if name in ("end", "b", "e", "v", "gg", "hh") else heads)[name] for name in sizes}
    made["start"], made["end"] = made["start"][:, 0], made["end"][:, 0]
    inner = torch.einsum("nd,ndw->nw", made["a"], _ahead(made["b"].T, widest).transpose(0, 1)) / math.sqrt(size)
    found = made["start"][:, None] + _ahead(made["end"][None], widest)[0] + inner.float() + made["width"]
    place = torch.arange(len(first), device=first.device)[:, None] + torch.arange(widest, device=first.device)
    return Factors(**made, speakers=speakers, mentions=found.masked_fill(place >= len(first), NEVER))


def _ahead(rows: Tensor, widest: int) -> Tensor:
    """(rows, words) to (rows, words, widest): at (i, w) what stands at i + w, 0 past the end; a view of one padded copy."""
    return nn.functional.pad(rows, (0, widest - 1)).unfold(-1, widest, 1)


def proposals(mentions: Tensor, share: float) -> Tensor:
    """(proposed, 2) of (first word, last word): the `share` x words cells of the best mention score, in the order of the text."""
    n, widest = mentions.shape
    flat = mentions.detach().flatten()
    best = flat.topk(min(max(1, round(share * n)), len(flat))).indices
    best = best[flat[best] > NEVER / 2].sort().values
    return torch.stack([best // widest, best // widest + best % widest], -1)


def _shares(f: Factors, queries: Tensor) -> tuple[Tensor, Tensor]:
    """What a query (queries, 2) adds by a cell's first and by its last word: (queries, words) each."""
    size, first = f.s.shape[1], queries[:, 0]
    q = nn.functional.gelu(f.u[first] + f.v[queries[:, 1]])
    starts, ends = (q[:, part] @ side.T / math.sqrt(size) for part, side in ((slice(size), f.s), (slice(size, None), f.e)))
    gap = torch.arange(len(f.start), device=first.device)[None] - first[:, None]
    bucket = (gap.abs() + 1).float().log2().long().clamp(max=DISTANCES // 2 - 1) + DISTANCES // 2 * (gap > 0)
    mine, others = f.speakers[first][:, None], f.speakers[None]
    who = torch.where((mine == 0) | (others == 0), 0, torch.where(mine == others, 1, 2))
    return starts.float() + f.near[first].gather(1, bucket) + f.who[first].gather(1, who), ends.float()


def _pairs(f: Factors, queries: Tensor, cells: Tensor) -> Tensor:
    """(queries, cells)."""
    asked = nn.functional.gelu(f.g[queries[:, 0]] + f.gg[queries[:, 1]])
    found = nn.functional.gelu(f.h[cells[:, 0]] + f.hh[cells[:, 1]])
    return (asked @ found.T).float() / math.sqrt(asked.shape[1])


def scores(f: Factors, queries: Tensor, cells: Tensor) -> Tensor:
    """(queries, cells): the grid of each query (queries, 2) at the cells (cells, 2), with the pair term."""
    starts, ends = _shares(f, queries)
    known = f.mentions[cells[:, 0], cells[:, 1] - cells[:, 0]]
    return known + starts[:, cells[:, 0]] + ends[:, cells[:, 1]] + _pairs(f, queries, cells)


def grid(f: Factors, queries: Tensor, cells: Tensor) -> Tensor:
    """(queries, words, widest): the whole grid of each query, with the pair term at `cells`."""
    n, widest = f.width.shape
    starts, ends = _shares(f, queries)
    whole = f.mentions + starts[:, :, None] + _ahead(ends, widest)
    flat = cells[:, 0] * widest + cells[:, 1] - cells[:, 0]
    return whole.flatten(1).index_add(1, flat, _pairs(f, queries, cells)).view(len(queries), n, widest)


def clusters_loss(f: Factors, queries: Tensor, wanted: Tensor, cells: Tensor, gold: Tensor) -> Tensor:
    """Sum over queries of log(1 + sum over wrong cells of e^score) + log(1 + sum over right cells of e^-score).

    `wanted` (queries,) is each query's cluster, 0 for a span in none; `gold` (words, widest) each cell's. A query's own cell counts
    neither way. Made tile by tile and made again in the backward pass. Source: Su et al. 2022 (ZLPR), arXiv:2208.02955.
    """
    n, widest = f.width.shape
    own = queries[:, 0] * widest + queries[:, 1] - queries[:, 0]
    total = torch.zeros((), device=gold.device)
    size = max(1, CELLS // (n * widest))
    for at in (slice(i, i + size) for i in range(0, len(queries), size)):
        total = total + checkpoint(_tile, f, queries[at], wanted[at], own[at], cells, gold.flatten(), use_reentrant=False)
    return total


def _tile(f: Factors, queries: Tensor, wanted: Tensor, own: Tensor, cells: Tensor, gold: Tensor) -> Tensor:
    found = grid(f, queries, cells).flatten(1)
    right = (gold[None] == wanted[:, None]) & (wanted[:, None] > 0)
    wrong = ~right
    wrong.scatter_(1, own[:, None], False)
    right.scatter_(1, own[:, None], False)
    return _zlpr(found, right, wrong).sum()


def _zlpr(found: Tensor, right: Tensor, wrong: Tensor) -> Tensor:
    """(rows,) of log(1 + sum e^wrong) + log(1 + sum e^-right)."""
    low, high = found.masked_fill(~wrong, -math.inf), (-found).masked_fill(~right, -math.inf)
    zero = found.new_zeros(len(found))
    return torch.logaddexp(_lse(low), zero) + torch.logaddexp(_lse(high), zero)


def _lse(x: Tensor) -> Tensor:
    """log-sum-exp of rows, a large negative number for rows without a finite entry, whose gradient is then 0."""
    some = torch.isfinite(x).any(-1)
    return torch.where(some, torch.where(some[:, None], x, 0.0).logsumexp(-1), NEVER)


def mentions_loss(f: Factors, gold: Tensor) -> Tensor:
    """The same loss for the null query, a row a first word: sum over words; `gold` (words, widest) is above 0 on mentions."""
    return _zlpr(f.mentions, gold > 0, (gold <= 0) & (f.mentions > NEVER / 2)).sum()
