"""Scores of coreference: MUC, B3, CEAF, their CoNLL average, BLANC, LEA and mentions, for a corpus and by document.

Source: Pradhan et al. 2014, https://aclanthology.org/P14-2006, through the library scorch, which gives the reference scorer's figures;
Moosavi and Strube 2016 (LEA), https://aclanthology.org/P16-1060, with a link of a singleton to itself.
A corpus has one score: sums over documents of what recall and precision divide. Documents share no mention, so sums of MUC, B3, LEA and
mentions are the corpus's own, and CEAF's best alignment is that of each document. BLANC's links across documents would count, so it is
given for single documents only.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, get_args

import numpy as np

from ..errors import ConfigError, DataError, MissingExtra
from ..seeds import stream
from .conll import WORDLESS
from .documents import Document, Span, cut, some

Singletons = Literal["keep", "drop"]
"""What becomes of clusters of one mention, in key and response alike: 'drop' scores as OntoNotes is annotated."""
METRICS = ("muc", "b3", "ceafe", "ceafm", "lea", "mentions")
CONLL = ("muc", "b3", "ceafe")
"""Whose F1 the CoNLL score averages."""
Sets = list[set[Span]]


@dataclasses.dataclass(frozen=True)
class Counts:
    """What scores are made from, by document."""

    names: tuple[str, ...]
    singletons: Singletons
    parts: Mapping[str, np.ndarray]
    """By metric (documents, 4): what recall divides and by what, what precision divides and by what."""


def corpus(key: Sequence[Document], response: Sequence[Document], singletons: Singletons = "keep") -> dict[str, Any]:
    """Recall, precision and F1 of every metric, `conll_f1`, the number of documents and the policy; BLANC for a single document.

    Raises DataError as `pairs` does, MissingExtra without scorch.
    """
    found = figures(by_document(key, response, singletons))
    if len(key) == 1:
        [(mine, its)] = pairs(key, response)
        values = _scorch().blanc(_sets(mine, singletons), _sets(its, singletons))
        found["blanc"] = dict(zip(("recall", "precision", "f1"), map(float, values), strict=True))
    return found


def by_document(key: Sequence[Document], response: Sequence[Document], singletons: Singletons = "keep") -> Counts:
    """The counts of each document of the key, in its order. Raises DataError as `pairs` does, MissingExtra without scorch."""
    if singletons not in get_args(Singletons):
        raise ConfigError(f"singletons: must be 'keep' or 'drop'; got '{singletons}'")
    rows = [_counts(_sets(mine, singletons), _sets(its, singletons)) for mine, its in pairs(key, response)]
    return Counts(tuple(one.name for one in key), singletons, {m: np.array([row[m] for row in rows], dtype=np.float64) for m in METRICS})


def figures(counts: Counts) -> dict[str, Any]:
    """The corpus's figures from its documents' counts, without BLANC."""
    found: dict[str, Any] = {"singletons": counts.singletons, "documents": len(counts.names), "conll_f1": float(f1(counts, "conll"))}
    for metric in METRICS:
        recall, precision = (float(x) for x in _shares(counts.parts[metric].sum(0)))
        found[metric] = {"recall": recall, "precision": precision, "f1": float(f1(counts, metric))}
    return found


def f1(counts: Counts, metric: str, weights: np.ndarray | None = None) -> np.ndarray:
    """F1 of a metric or, for `conll`, the mean of three; of the corpus, or (draws,) with weights of documents (draws, documents)."""
    parts = conll_sums(counts) if metric == "conll" else counts.parts[metric]
    sums = parts.sum(0) if weights is None else weights @ parts
    return conll_of(sums) if metric == "conll" else _f1_of(sums)


def conll_sums(counts: Counts) -> np.ndarray:
    """(documents, 12): the parts of the three metrics, of whose sums `conll_of` makes the CoNLL F1."""
    return np.concatenate([counts.parts[metric] for metric in CONLL], axis=1)


def conll_of(sums: np.ndarray) -> np.ndarray:
    """(..., 12) to (...): the mean F1 of the three metrics."""
    return np.mean([_f1_of(part) for part in np.split(sums, len(CONLL), axis=-1)], axis=0)


def _f1_of(sums: np.ndarray) -> np.ndarray:
    recall, precision = _shares(sums)
    return _ratio(2 * recall * precision, recall + precision)


def bootstrap(
    counts: Counts, other: Counts | None = None, *, metric: str = "conll", draws: int = 2000, level: float = 0.95, seed: int = 0
) -> dict[str, Any]:
    """F1 with a percentile interval that draws documents; with `other`, F1 less that of `other` on the same draws.

    Source: Efron and Tibshirani 1993, section 13.3. Raises DataError where `other` has other documents or another policy.
    """
    if other and (other.names != counts.names or other.singletons != counts.singletons):
        raise DataError("a paired difference is between two responses to one key, scored with one policy for singletons")
    number = len(counts.names)
    weights = np.random.default_rng(stream(seed, "bootstrap")).multinomial(number, np.full(number, 1 / number), size=draws)
    values, value = f1(counts, metric, weights), f1(counts, metric)
    if other:
        values, value = values - f1(other, metric, weights), value - f1(other, metric)
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return {"value": float(value), "low": float(low), "high": float(high), "level": level, "documents": number}


def pairs(key: Sequence[Document], response: Sequence[Document]) -> Iterator[tuple[Document, Document]]:
    """Each document of the key with the response's of its name; part 0 of a document may be called NAME or NAME_0.

    Where both have one text and different words, words are cut until they are the same. Raises DataError, with names, for documents
    that only one side has, without clusters, or of another number of words; and where there is no document. Warns of other words.
    """
    if not key:
        raise DataError("the key holds no document; there is nothing to score")
    sides = [{one.name: one for one in side} for side in (key, response)]
    if [*map(len, sides)] != [len(key), len(response)]:
        raise DataError("the key or the response holds two documents of one name; documents are paired by their names")
    bare = [{name.removesuffix("_0"): one for name, one in side.items()} for side in sides]
    if [*map(len, bare)] == [*map(len, sides)]:
        sides = bare
    mine, its = sides
    for has, lacks, whose in (
        (mine, its, "the response lacks documents of the key"),
        (its, mine, "the key lacks documents of the response"),
    ):
        if missing := [one.name for name, one in has.items() if name not in lacks]:
            raise DataError(f"{whose}: {some(missing)}; documents are paired by their names")
    for name, one in mine.items():
        yield _comparable(one, its[name])


def _comparable(mine: Document, its: Document) -> tuple[Document, Document]:
    for one, whose in ((mine, "key"), (its, "response")):
        if one.clusters is None:
            raise DataError(f"document {one.name}: the {whose} says nothing of mentions, so there is nothing to score")
    if mine.text is not None and mine.text == its.text and mine.words != its.words:
        points = {int(point) for one in (mine, its) if one.offsets is not None for point in one.offsets.flat}
        mine, its = cut(mine, points), cut(its, points)
    if len(mine.words) != len(its.words):
        raise DataError(
            f"document {mine.name}: {len(mine.words)} words in the key and {len(its.words)} in the response; score the same words"
        )
    other = [(a, b) for a, b in zip(mine.words, its.words, strict=True) if a != b and WORDLESS not in (a, b)]
    if other:
        told = f"{len(other)} of {len(mine.words)} words are others in the response ('{other[0][0]}' and '{other[0][1]}' first)"
        warnings.warn(f"document {mine.name}: {told}; mentions are compared by their places", stacklevel=2)
    return mine, its


def _sets(document: Document, singletons: Singletons) -> Sets:
    return [set(cluster) for cluster in document.clusters or () if singletons == "keep" or len(cluster) > 1]


def _counts(key: Sets, response: Sets) -> dict[str, tuple[float, float, float, float]]:
    """By metric what recall divides and by what, what precision divides and by what."""
    scorch, both = _scorch(), len(set().union(*key) & set().union(*response))
    mentions = [sum(map(len, side)) for side in (key, response)]
    below = {
        "muc": [sum(map(len, side)) - len(side) for side in (key, response)],
        "b3": mentions,
        "ceafe": [len(key), len(response)],
        "ceafm": mentions,
    }
    out: dict[str, tuple[float, float, float, float]] = {}
    for metric, function in (("muc", scorch.muc), ("b3", scorch.b_cubed), ("ceafe", scorch.ceaf_e), ("ceafm", scorch.ceaf_m)):
        recall, precision, _ = function(key, response) if both else (0.0, 0.0, 0.0)  # scorch's CEAF fails where nothing is shared
        by = below[metric]
        out[metric] = (recall * by[0], by[0], precision * by[1], by[1])
    out["lea"] = (_resolved(key, response), mentions[0], _resolved(response, key), mentions[1])
    out["mentions"] = (both, mentions[0], both, mentions[1])
    return out


def _resolved(of: Sets, by: Sets) -> float:
    """Sum over entities of their size times the share of their links that `by` has; LEA's recall before it is divided."""
    place = {span: (number, len(entity)) for number, entity in enumerate(by) for span in entity}
    total = 0.0
    for entity in of:
        if len(entity) == 1:
            total += place.get(next(iter(entity)), (0, 0))[1] == 1
            continue
        shared = np.unique([place[span][0] for span in entity if span in place], return_counts=True)[1]
        total += float((shared * (shared - 1)).sum()) / (len(entity) - 1)
    return total


def _shares(sums: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Recall and precision of (..., 4) sums; 0 where there is nothing to divide by."""
    return _ratio(sums[..., 0], sums[..., 1]), _ratio(sums[..., 2], sums[..., 3])


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    return np.divide(above, below, out=np.zeros(np.shape(below)), where=np.asarray(below) > 0)


def needed() -> None:
    """Raise MissingExtra without scorch."""
    _scorch()


def _scorch() -> Any:
    try:
        import scorch.scores
    except ModuleNotFoundError:
        raise MissingExtra("scoring coreference", "coref") from None
    return scorch.scores
