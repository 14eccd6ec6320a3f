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
from typing import Any

import torch
from torch import Tensor, nn

DISTANCES = 20
"""Buckets of the signed distance in words between a query's start and a cell's: ten by powers of two on either side."""
SPEAKERS = 3
"""Unknown, same, other."""
NEVER = -1e4
"""The score of a cell that reaches past the document's end."""
CELLS = 1 << 20
"""Cells of queries x words that stand at once."""
BLOCK = 32
"""Words of a block on the diagonal of words x words, at least."""


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
    parts = zip(sizes, token.split(list(sizes.values()), -1), strict=True)
    made = {name: part[last if name in ("end", "b", "e", "v", "gg", "hh") else first].float() for name, part in parts}
    made["start"], made["end"] = made["start"][:, 0], made["end"][:, 0]
    mentions = span_scores(made["start"], made["end"], made["a"], made["b"], made["width"])
    return Factors(**made, speakers=speakers, mentions=mentions)


def span_scores(start: Tensor, end: Tensor, a: Tensor, b: Tensor, width: Tensor) -> Tensor:
    """(words, widest): start_i + end_{i+w} + a_i . b_{i+w} / sqrt(size) + width_{i,w} of the span from word i over w more words; NEVER
    past the end."""
    n, widest = width.shape
    inner = _cells((_blocks(a, widest) @ _ahead(b, widest).transpose(1, 2)).float(), widest)[:n] / math.sqrt(a.shape[1])
    last = torch.arange(n, device=start.device)[:, None] + torch.arange(widest, device=start.device)
    found = start[:, None] + end[last.clamp(max=n - 1)] + inner + width
    return found.masked_fill(last >= n, NEVER)


def _blocks(rows: Tensor, widest: int, more: int = 0) -> Tensor:
    """(words, k) to (blocks, block, k), zeros behind the end; `more` blocks of zeros follow. A block has `widest` words at least."""
    block = max(BLOCK, widest)
    many = -(-len(rows) // block) + more
    return nn.functional.pad(rows, (0, 0, 0, many * block - len(rows))).view(many, block, rows.shape[1])


def _ahead(rows: Tensor, widest: int) -> Tensor:
    """(words, k) to (blocks, 2 block, k): all words at which the spans from a block's words may end."""
    blocks = _blocks(rows, widest, 1)
    return torch.cat([blocks[:-1], blocks[1:]], 1)


def _band(cells: Tensor) -> Tensor:
    """(words, widest) to (blocks, block, 2 block): the cell of words i to j of a block at (i, j), zeros where there is none."""
    blocks = _blocks(cells, cells.shape[1])
    many, block, widest = blocks.shape
    return nn.functional.pad(blocks, (0, 2 * block + 1 - widest)).flatten(1)[:, : 2 * block * block].view(many, block, 2 * block)


def _cells(band: Tensor, widest: int) -> Tensor:
    """(blocks, block, 2 block) to (words, widest), the reverse of `_band`; words behind the end are kept."""
    many, block, _ = band.shape
    return nn.functional.pad(band.flatten(1), (0, block)).view(many, block, 2 * block + 1)[:, :, :widest].flatten(0, 1)


def proposed(words: int, share: float) -> int:
    """How many spans of a document are proposed, where it has so many."""
    return max(1, round(share * words))


def proposals(mentions: Tensor, share: float) -> Tensor:
    """(proposed, 2) of (first word, last word): the `share` x words cells of the best mention score, in the order of the text."""
    n, widest = mentions.shape
    flat = mentions.detach().flatten()
    best = flat.topk(min(proposed(n, share), len(flat))).indices
    best = best[flat[best] > NEVER / 2].sort().values
    return torch.stack([best // widest, best // widest + best % widest], -1)


def asked(mentions: Tensor, share: float, gold: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Queries to learn from (queries, 2), the cluster of each, and the proposed cells (cells, 2): the mentions of `gold` (words,
    widest), and of the proposed spans that are none as many, the best, whose cluster is 0."""
    spans, numbers = mentions_of(gold)
    cells = proposals(mentions, share)
    wrong = cells[gold[at(cells)] == 0]
    best = mentions.detach()[at(wrong)].topk(min(len(wrong), max(1, len(spans)))).indices
    return torch.cat([spans, wrong[best]]), torch.cat([numbers, gold.new_zeros(len(best))]), cells


def shares(f: Factors, queries: Tensor, first: Tensor, last: Tensor) -> tuple[Tensor, Tensor]:
    """What a query (queries, 2) adds by a cell's first word and by its last, for words (cells,) each: (queries, cells) each."""
    size, own = f.s.shape[1], queries[:, 0]
    q = nn.functional.gelu(f.u[own] + f.v[queries[:, 1]])
    starts, ends = q[:, :size] @ f.s[first].T / math.sqrt(size), q[:, size:] @ f.e[last].T / math.sqrt(size)
    return starts.float() + around(f.near, f.who, f.speakers, own, first), ends.float()


def around(near: Tensor, who: Tensor, speakers: Tensor, own: Tensor, first: Tensor) -> Tensor:
    """(queries, cells): what distance and speakers add, by a query's first word (queries,) and a cell's (cells,)."""
    gap = first[None] - own[:, None]
    bucket = (gap.abs() + 1).float().log2().long().clamp(max=DISTANCES // 2 - 1) + DISTANCES // 2 * (gap > 0)
    mine, others = speakers[own][:, None], speakers[first][None]
    same = torch.where((mine == 0) | (others == 0), 0, torch.where(mine == others, 1, 2))
    return near[own].gather(1, bucket) + who[own].gather(1, same)


def _pairs(f: Factors, queries: Tensor, cells: Tensor) -> Tensor:
    """(queries, cells)."""
    asked = nn.functional.gelu(f.g[queries[:, 0]] + f.gg[queries[:, 1]])
    found = nn.functional.gelu(f.h[cells[:, 0]] + f.hh[cells[:, 1]])
    return (asked @ found.T).float() / math.sqrt(asked.shape[1])


def scores(f: Factors, queries: Tensor, cells: Tensor) -> Tensor:
    """(queries, cells): the grid of each query (queries, 2) at the cells (cells, 2), with the pair term."""
    starts, ends = shares(f, queries, cells[:, 0], cells[:, 1])
    return known(f, cells) + starts + ends + _pairs(f, queries, cells)


def at(spans: Tensor) -> tuple[Tensor, Tensor]:
    """The cells of spans (spans, 2) in what is (words, widest): (spans,) of words, and of widths."""
    return spans[:, 0], spans[:, 1] - spans[:, 0]


def mentions_of(cluster: Tensor) -> tuple[Tensor, Tensor]:
    """The spans (spans, 2) in clusters of `cluster` (words, widest), 0 for none, and the number of each one's cluster."""
    places = (cluster > 0).nonzero()
    return torch.stack([places[:, 0], places.sum(1)], -1), cluster[places[:, 0], places[:, 1]]


def known(f: Factors, spans: Tensor) -> Tensor:
    """(spans,): the null query's score of spans (spans, 2); 0 for one that is wider than it looks."""
    width, widest = spans[:, 1] - spans[:, 0], f.mentions.shape[1]
    return torch.where(width < widest, f.mentions[spans[:, 0], width.clamp(max=widest - 1)], 0.0)


def clusters_loss(f: Factors, queries: Tensor, wanted: Tensor, cells: Tensor, gold: Tensor) -> Tensor:
    """Sum over queries of log(1 + sum over wrong cells of e^score) + log(1 + sum over right cells of e^-score).

    `wanted` (queries,) is each query's cluster, 0 for a span in none; `gold` (words, widest) each cell's. A query's own cell counts
    neither way. Source: Su et al. 2022 (ZLPR), arXiv:2208.02955.

    Cells that are in `cells`, in a cluster or a query are looked at one by one. All others are wrong for every query and have no
    pair term, so that e^score is a product of numbers of its span, its first and its last word, and their sum one of matrices near the
    diagonal: (queries, words, widest) never stands. Products are in double precision, which is exact while the largest numbers of
    a query's spans, first and last words add up to less than 600. Gradients are made tile by tile with the loss.
    """
    alone = gold > 0
    alone[at(cells)] = True
    alone[at(queries)] = True
    return _Tiles.apply(f, (queries, wanted, cells, gold, alone), *(getattr(f, name) for name in LEARNED))


LEARNED = ("mentions", "s", "e", "u", "v", "g", "gg", "h", "hh", "near", "who")
"""The factors that the clusters' loss has gradients to."""


class _Tiles(torch.autograd.Function):
    """The sum of `_tile` over tiles of queries; its gradient to the factors `LEARNED` is made on the way."""

    @staticmethod
    def forward(ctx: Any, f: Factors, asked: tuple[Tensor, ...], *given: Tensor) -> Tensor:
        queries, wanted, *same = asked
        moved = any(ctx.needs_input_grad)
        leaves = [x.detach().requires_grad_(moved) for x in given]
        own = dataclasses.replace(f, **dict(zip(LEARNED, leaves, strict=True)))
        total, slopes = torch.zeros((), device=queries.device), [torch.zeros_like(x) for x in leaves if moved]
        size = max(1, CELLS // len(f.start))
        for some in (slice(i, i + size) for i in range(0, len(queries), size)):
            with torch.set_grad_enabled(moved):
                loss = _tile(own, queries[some], wanted[some], *same)
            total += loss.detach()
            if moved:
                for slope, more in zip(slopes, torch.autograd.grad(loss, leaves), strict=True):
                    slope += more
        ctx.save_for_backward(*slopes)
        return total

    @staticmethod
    def backward(ctx: Any, *given: Tensor) -> Any:
        return None, None, *(given[0] * slope for slope in ctx.saved_tensors)


def _tile(f: Factors, queries: Tensor, wanted: Tensor, cells: Tensor, gold: Tensor, alone: Tensor) -> Tensor:
    """The loss of some queries; `alone` (words, widest) are the cells to be looked at one by one."""
    words = torch.arange(len(f.start), device=gold.device)
    starts, ends = shares(f, queries, words, words)
    number = alone.flatten().cumsum(0).view_as(gold) - 1
    first, width = alone.nonzero().T
    found = f.mentions[first, width] + starts[:, first] + ends[:, first + width]
    found = found.index_add(1, number[at(cells)], _pairs(f, queries, cells))
    right = (gold[first, width][None] == wanted[:, None]) & (wanted[:, None] > 0)
    own = number[at(queries)][:, None]
    wrong = (~right).scatter(1, own, False)
    low, high = zlpr(found, right.scatter(1, own, False), wrong)
    others = _elsewhere(f.mentions.masked_fill(alone, NEVER), starts, ends)
    return (torch.logaddexp(low, others) + high).sum().float()


def _elsewhere(mentions: Tensor, starts: Tensor, ends: Tensor) -> Tensor:
    """(queries,): log of the sum over all spans of e^(mention + start + end), in double precision."""
    widest = mentions.shape[1]
    tops = [x.detach().amax(-1, keepdim=True).double() for x in (mentions.flatten(), starts, ends)]
    spans, heads, tails = ((x - top).exp() for x, top in zip((mentions, starts, ends), tops, strict=True))
    sums = _band(spans) @ _ahead(tails.T, widest)
    total = (_blocks(heads.T, widest) * sums).sum((0, 1))
    return total.clamp(min=1e-300).log() + tops[0] + (tops[1] + tops[2])[:, 0]


def zlpr(found: Tensor, right: Tensor, wrong: Tensor) -> tuple[Tensor, Tensor]:
    """(rows,) of log(1 + sum e^wrong), and of log(1 + sum e^-right)."""
    low, high = found.masked_fill(~wrong, -math.inf), (-found).masked_fill(~right, -math.inf)
    zero = found.new_zeros(len(found))
    return torch.logaddexp(_lse(low), zero), torch.logaddexp(_lse(high), zero)


def _lse(x: Tensor) -> Tensor:
    """log-sum-exp of rows, a large negative number for rows without a finite entry, whose gradient is then 0."""
    some = torch.isfinite(x).any(-1)
    return torch.where(some, torch.where(some[:, None], x, 0.0).logsumexp(-1), NEVER)


def mentions_loss(f: Factors, gold: Tensor) -> Tensor:
    """The same loss for the null query, a row a first word: sum over words; `gold` (words, widest) is above 0 on mentions."""
    low, high = zlpr(f.mentions, gold > 0, (gold <= 0) & (f.mentions > NEVER / 2))
    return (low + high).sum()
