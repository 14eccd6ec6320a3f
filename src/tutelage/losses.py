"""Pure maths: distances between a student's and a teacher's rows, one number a row. No model, no settings.

Rows are logits of shape (rows, classes). `kind` says what they mean: "choice" is one of the classes (softmax),
"binary" several labels at once (a sigmoid each), "value" real numbers. `allowed` (rows, classes) marks the cells
that exist; the others take no part. Functions use tensor methods alone, so this file imports no torch.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from .slopes import Known


def log_probabilities(logits: Tensor, allowed: Tensor | None = None, temperature: float = 1.0) -> Tensor:
    """Log-softmax of logits / temperature over the allowed classes, all in float32; -inf elsewhere."""
    logits = logits.float() if temperature == 1 else logits.float() / temperature
    return (logits if allowed is None else logits.masked_fill(~allowed, -math.inf)).log_softmax(-1)


def divergence(student: Tensor, teacher: Tensor, *, temperature: float = 1.0, allowed: Tensor | None = None) -> Tensor:
    """KL(teacher || student) of tempered softmax distributions, times temperature squared; shape (rows,).

    Zero exactly when the two agree up to a constant; never negative. The square keeps the gradient's size free of the
    temperature. In nats; differentiable once in both. Source: Hinton, Vinyals, Dean 2015, arXiv:1503.02531, section 2.
    """
    from .slopes import by_rows

    def known(s: Tensor, t: Tensor, allowed: Tensor | None) -> Known:
        log_s, log_t = (log_probabilities(x, allowed, temperature) for x in (s, t))
        gap, p = log_t - log_s, log_t.exp()
        if allowed is not None:
            gap.masked_fill_(~allowed, 0.0)
        value = (p * gap).sum(-1)
        slopes = lambda: log_s.exp_().sub_(p).mul_(temperature), lambda: gap.sub_(value[..., None]).mul_(p).mul_(temperature)
        return value * temperature**2, slopes

    return by_rows(known, (student, teacher), (allowed,))


def divergence_to_mixture(
    student: Tensor, teacher: Tensor, *, of: str, mix: float, temperature: float = 1.0, allowed: Tensor | None = None
) -> Tensor:
    """T^2 times a divergence from a mixture of both tempered distributions; shape (rows,), in nats, zero where they agree.

    With p the teacher, q the student: of "teacher" KL(p || mix p + (1 - mix) q), of "student" KL(q || (1 - mix) p + mix q),
    of "both" mix KL(p || m) + (1 - mix) KL(q || m) with m = mix p + (1 - mix) q. Source: Ko et al. 2024 (DistiLLM),
    arXiv:2402.03898, skewed KL and skewed reverse KL; Agarwal et al. 2024 (GKD), arXiv:2306.13649, generalised JSD.
    """
    log_q, log_p = (log_probabilities(x, allowed, temperature) for x in (student, teacher))
    if allowed is not None:  # two infinities have no slope
        log_q, log_p = (x.masked_fill(~allowed, 0.0) for x in (log_q, log_p))
    share = 1 - mix if of == "student" else mix
    log_m = (log_p + math.log(share)).logaddexp(log_q + math.log(1 - share))

    def to(log: Tensor) -> Tensor:
        gap = log - log_m
        return (log.exp() * (gap if allowed is None else gap.masked_fill(~allowed, 0.0))).sum(-1)

    found = mix * to(log_p) + (1 - mix) * to(log_q) if of == "both" else to(log_p if of == "teacher" else log_q)
    return found * temperature**2


def few_classes(logits: Tensor, ids: Tensor, temperature: float = 1.0) -> Tensor:
    """Tempered log-probabilities of the classes `ids` (rows, kept), and last of all others together; (rows, kept + 1).

    Merging classes never raises a divergence, and leaves it zero exactly where two sides agree on what is kept.
    """
    import torch

    log = log_probabilities(logits, temperature=temperature)
    others = log.scatter(-1, ids, -math.inf).logsumexp(-1, keepdim=True)
    return torch.cat([log.gather(-1, ids), others], -1)


def drawn_divergence(student: Tensor, ids: Tensor, log: Tensor, temperature: float = 1.0) -> Tensor:
    """T^2 times the mean of log p - log q over classes `ids` (rows, draws) drawn from p, the teacher; (rows,).

    An unbiased estimate of T^2 KL(p || q) with an unbiased gradient; a single row may be negative. `log` (rows, draws) are
    the teacher's tempered log-probabilities. Source: Anshumann et al. 2025, arXiv:2503.16870, its proposal being p itself.
    """
    return (log - log_probabilities(student, temperature=temperature).gather(-1, ids)).mean(-1) * temperature**2


def binary_divergence(student: Tensor, teacher: Tensor, *, temperature: float = 1.0, allowed: Tensor | None = None) -> Tensor:
    """Sum over labels of KL between Bernoulli distributions of tempered sigmoids, times temperature squared; (rows,).

    The form of `divergence` for several labels at once. In nats.
    """
    s, t = student.float() / temperature, teacher.float() / temperature
    yes = t.sigmoid()
    total = yes * (_log_sigmoid(t) - _log_sigmoid(s)) + (1 - yes) * (_log_sigmoid(-t) - _log_sigmoid(-s))
    if allowed is not None:
        total = total.masked_fill(~allowed, 0.0)
    return total.sum(-1) * temperature**2


def squared_distance(student: Tensor, teacher: Tensor, *, allowed: Tensor | None = None, reduction: str = "sum") -> Tensor:
    """Sum or mean over the allowed classes of (student - teacher)^2; shape (rows,). Not shift-invariant: it needs raw logits."""
    gap = (student.float() - teacher.float()) ** 2
    total = (gap if allowed is None else gap.masked_fill(~allowed, 0.0)).sum(-1)
    if reduction == "sum":
        return total
    return total / (gap.shape[-1] if allowed is None else allowed.sum(-1).clamp(min=1))


def soft_targets(student: Tensor, teacher: Tensor, *, kind: str, temperature: float = 1.0, allowed: Tensor | None = None) -> Tensor:
    """The distillation distance that fits the rows' kind: `divergence`, `binary_divergence`, or squared error of values."""
    if kind == "value":
        return squared_distance(student, teacher, allowed=allowed)
    f = divergence if kind == "choice" else binary_divergence
    return f(student, teacher, temperature=temperature, allowed=allowed)


def label_loss(logits: Tensor, gold: Tensor, *, kind: str, allowed: Tensor | None = None) -> Tensor:
    """Loss against the labels; shape (rows,).

    "choice": cross-entropy, `gold` (rows,) of class numbers. "binary": sum over labels of binary cross-entropy, `gold`
    (rows, classes) of 0 and 1. "value": squared error, `gold` (rows,); the logits' single column is squeezed, never broadcast.
    """
    if kind == "choice":
        return -log_probabilities(logits, allowed).gather(-1, gold.long()[:, None])[:, 0]
    if kind == "binary":
        z, y = logits.float(), gold.float()
        return -(y * _log_sigmoid(z) + (1 - y) * _log_sigmoid(-z)).sum(-1)
    if kind == "value":
        return (logits.float()[:, 0] - gold.float()) ** 2
    raise ValueError(f"rows of kind '{kind}'")


def _log_sigmoid(x: Tensor) -> Tensor:
    """log(sigmoid(x)), exact for large |x|."""
    return x.clamp(max=0) - (1 + (-x.abs()).exp()).log()


def cross_entropy(student: Tensor, teacher: Tensor, *, kind: str, allowed: Tensor | None = None) -> Tensor:
    """Cross-entropy of the student against the teacher's probabilities; (rows,). Squared error for values.

    The KL divergence plus the teacher's own entropy: the same gradient for the student, another one for whoever moves
    the teacher's input (a generator). Source: Rashid et al. 2021 (MATE-KD), arXiv:2105.05912.
    """
    if kind == "value":
        return squared_distance(student, teacher, allowed=allowed)
    if kind == "binary":
        s, t = student.float(), teacher.float().sigmoid()
        total = -(t * _log_sigmoid(s) + (1 - t) * _log_sigmoid(-s))
    else:
        log_s = log_probabilities(student, allowed)
        if allowed is not None:
            log_s = log_s.masked_fill(~allowed, 0.0)  # 0 * inf would reach the teacher's gradient
        total = -(log_probabilities(teacher, allowed).exp() * log_s)
    return (total if allowed is None else total.masked_fill(~allowed, 0.0)).sum(-1)


def uniform_cross_entropy(logits: Tensor, gold: Tensor, *, allowed: Tensor | None = None) -> Tensor:
    """Cross-entropy against the uniform distribution over the allowed classes; (rows,). `gold` takes no part."""
    each = log_probabilities(logits, allowed)
    if allowed is None:
        return -each.mean(-1)
    return -each.masked_fill(~allowed, 0.0).sum(-1) / allowed.sum(-1)


def virtual_teacher(
    logits: Tensor, gold: Tensor, *, allowed: Tensor | None = None, correct: float = 0.99, temperature: float = 1.0
) -> Tensor:
    """T^2 KL(p || student) to a virtual teacher p that gives the true class `correct` and the others the rest alike; (rows,).

    Both sides are tempered: p to the power 1/T, normalised. Source: Yuan et al. 2020 (TF-KD), section 4, whose published
    code tempers the student not at all and takes a softmax of probabilities; this is the clean form.
    """
    logits = logits.float()
    exist = logits.new_ones(logits.shape) if allowed is None else allowed.float()
    truth = logits.new_zeros(logits.shape).scatter_(-1, gold.long()[:, None], 1.0)
    wrong = (1 - correct) / (exist.sum(-1, keepdim=True) - 1).clamp(min=1)
    teacher = (truth * correct + (exist - truth).clamp(min=0) * wrong).clamp(min=1e-12).log()
    return divergence(logits, teacher, temperature=temperature, allowed=allowed)


def decoupled(
    student: Tensor, teacher: Tensor, gold: Tensor, *, target: float, others: float, temperature: float, allowed: Tensor | None = None
) -> Tensor:
    """T^2 (target * KL of true class against the rest + others * KL among the rest); (rows,).

    The second part is the KL of the distributions renormalised without the true class; KL itself weighs it by the
    teacher's doubt, here it is free of it. Zero for a single other class, as both parts are where the true class is the only
    one. Source: Zhao et al. 2022, arXiv:2203.08679, eq. 7.
    """
    truth = logits_mask(student, gold)
    rest = ~truth if allowed is None else allowed & ~truth
    alone = ~rest.any(-1, keepdim=True)
    log_s, log_t = (log_probabilities(x, allowed, temperature) for x in (student, teacher))
    yes_s, yes_t = (x.gather(-1, gold.long()[:, None])[:, 0] for x in (log_s, log_t))
    no_s, no_t = (x.masked_fill(truth & ~alone, -math.inf).logsumexp(-1) for x in (log_s, log_t))
    first = yes_t.exp() * (yes_t - yes_s) + no_t.exp() * (no_t - no_s)
    second = divergence(student, teacher, temperature=temperature, allowed=rest | (truth & alone))
    return target * first * temperature**2 + others * second


def logits_mask(logits: Tensor, gold: Tensor) -> Tensor:
    """(rows, classes) of bool: the true class."""
    return logits.new_zeros(logits.shape).bool().scatter_(-1, gold.long()[:, None], True)


def standardized(logits: Tensor, allowed: Tensor | None = None) -> Tensor:
    """Each row less its mean, over its standard deviation (population form); cells that do not exist are 0.

    Source: Sun et al. 2024, arXiv:2403.01427.
    """
    x = logits.float()
    exist = x.new_ones(x.shape) if allowed is None else allowed.float()
    number = exist.sum(-1, keepdim=True)
    x = x.masked_fill(exist == 0, 0.0)
    centred = (x - x.sum(-1, keepdim=True) / number) * exist
    return centred / ((centred**2).sum(-1, keepdim=True) / number).clamp(min=1e-14).sqrt()


def correlation_distance(student: Tensor, teacher: Tensor, allowed: Tensor | None = None) -> Tensor:
    """1 - Pearson's correlation of each row's allowed cells; (rows,), in [0, 2]; 1 where a side has no spread.

    Source: Huang et al. 2022 (DIST), arXiv:2205.10536, eq. 6.
    """
    exist = student.new_ones(student.shape).float() if allowed is None else allowed.float()
    number = exist.sum(-1, keepdim=True).clamp(min=1)
    s, t = ((x.float() - (x.float() * exist).sum(-1, keepdim=True) / number) * exist for x in (student, teacher))
    return 1 - (s * t).sum(-1) / ((s**2).sum(-1) * (t**2).sum(-1)).clamp(min=1e-24).sqrt()


def relation_divergence(student: tuple[Tensor, Tensor], teacher: tuple[Tensor, Tensor], mask: Tensor, heads: int) -> Tensor:
    """KL(teacher || student) between scaled dot-product relations, summed over heads and real tokens, by example; (rows,).

    Each side is a pair of states (rows, heads, tokens, size), such as queries and queries, joined over its own heads and
    cut anew into `heads` relation heads, so that widths may differ. `mask` (rows, tokens) marks real tokens. The sum is
    divided by `heads`. Source: Wang et al. 2021 (MiniLMv2), arXiv:2012.15828, section 3.1.
    """

    def relation(a: Tensor, b: Tensor) -> Tensor:
        a, b = (x.float().transpose(1, 2).flatten(2).unflatten(-1, (heads, -1)).transpose(1, 2) for x in (a, b))
        scores = a @ b.transpose(-1, -2) / math.sqrt(a.shape[-1])
        return scores.masked_fill(~real[:, None, None, :], -math.inf).log_softmax(-1)

    real = mask.bool()
    log_s, log_t = relation(*student), relation(*teacher)
    gap = (log_t - log_s).masked_fill(~real[:, None, None, :], 0.0)
    each = (log_t.exp() * gap).sum(-1)
    return (each * real[:, None, :]).sum((1, 2)) / heads


def score_distance(student: tuple[Tensor, Tensor], teacher: tuple[Tensor, Tensor], mask: Tensor) -> Tensor:
    """Squared difference of pre-softmax attention scores, a mean over heads and real pairs of tokens, by example; (rows,).

    Each side is queries and keys (rows, heads, tokens, size); `mask` (rows, tokens) marks real tokens. Source: Jiao et al.
    2020 (TinyBERT), arXiv:1909.10351, eq. 7, whose mean is over padded places too.
    """
    s, t = (q.float() @ k.float().transpose(-1, -2) / math.sqrt(q.shape[-1]) for q, k in (student, teacher))
    real = mask.float()
    pairs = real[:, :, None] * real[:, None, :]
    return (((s - t) ** 2).mean(1) * pairs).sum((1, 2)) / pairs.sum((1, 2)).clamp(min=1)
