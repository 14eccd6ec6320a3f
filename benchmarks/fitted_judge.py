"""A judge of attribution that is fitted on people's labels: logistic regression over overlaps of a segment with what it cites.

Features count words and say where the segment stands. It is no part of the package: on sources that it was not fitted on it does not beat
counting words (`attribution.py --sources`; docs/results.md).
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupKFold

from tutelage.answers import lexical
from tutelage.cited import citations, hagrid
from tutelage.errors import DataError

LISTED = (
    "content_min", "content_mean", "content_max", "content_all", "words_min", "words_all", "bigrams_min", "bigrams_max", "bigrams_all",
    "numbers_min", "numbers_all", "names_min", "names_all", "subsequence_min", "subsequence_max", "cosine_min", "cosine_max",
    "missing", "length", "citations", "position", "segments", "quotes",
)  # fmt: skip
"""Shares of the segment's words (`all`: in all cited quotes as one text), TF-IDF cosines, and the segment's place; lengths are logs."""
MORE = (
    "rare_min", "rare_mean", "rare_all", "prefixes_min", "prefixes_mean", "prefixes_all",
    "new_all", "asked", "uncited", "uncited_less_cited",
)  # fmt: skip
"""Content words weighted by IDF; their first five letters; those that the question lacks; and the best quote that is not cited."""
NAMES = LISTED + MORE
SETS: dict[str, tuple[str, ...]] = {"listed": LISTED, "wide": NAMES, "overlaps": LISTED[:17] + MORE[:7]}
"""What `fit` chooses from."""
STRENGTHS = (0.001, 0.01, 0.1)
"""Values of scikit-learn's C that `fit` chooses from."""
FOLDS = 5


@dataclasses.dataclass(frozen=True)
class Cited:
    """A segment with the quotes that it cites, those that it does not, and its place in the answer, from 0."""

    text: str
    sources: tuple[str, ...]
    others: tuple[str, ...] = ()
    query: str = ""
    position: int = 0
    segments: int = 1

    @classmethod
    def of(cls, text: str, quotes: Sequence[str], query: str, position: int, segments: int) -> Cited:
        """A segment with the quotes of its question parted by whether it cites them; citations that dangle are left out."""
        places, _ = citations.cited(text, len(quotes))
        others = tuple(quote for i, quote in enumerate(quotes) if i not in places)
        return cls(text, tuple(quotes[p] for p in places), others, query, position, segments)


def cited(question: hagrid.Question, answer: hagrid.Answer, position: int) -> Cited:
    """A record's segment at this position of its answer."""
    quotes = [quote.text for quote in question.quotes]
    return Cited.of(answer.sentences[position].text, quotes, question.query, position, len(answer.sentences))


def idf(texts: Iterable[str]) -> dict[str, float]:
    """Smoothed inverse document frequency of each word over distinct texts, as scikit-learn's; "" is that of an unseen word."""
    many = list(dict.fromkeys(texts))
    counts = Counter(w for text in many for w in set(lexical.tokens(text)))
    return {w: float(np.log((1 + len(many)) / (1 + n)) + 1) for w, n in sorted(counts.items())} | {"": float(np.log(1 + len(many)) + 1)}


def features(one: Cited, weights: Mapping[str, float]) -> np.ndarray:
    """(NAMES,) of a segment that cites at least one quote; `weights` by `idf`. Shares of no numbers, names, pairs or new words
    are 1, of no words 0."""
    text = citations.without(one.text).lstrip(" .,;:")
    tokens, content = lexical.tokens(text), lexical.words(text)
    own, pairs = set(tokens), set(itertools.pairwise(tokens))
    numbers = {w for w in own if any(c.isdigit() for c in w)}
    capitals = {w.casefold() for w in lexical.WORD.findall(text) if w[0].isupper()} - lexical.ENGLISH_STOP_WORDS - numbers
    rows = [lexical.tokens(source) for source in one.sources]
    words, grams = [set(row) for row in rows], [set(itertools.pairwise(row)) for row in rows]
    union, union_grams = set[str]().union(*words), set[tuple[str, str]]().union(*grams)

    def weigh(many: Iterable[str]) -> float:
        return math.fsum(weights.get(w, weights[""]) for w in many)  # exact, so that the order of a set plays no part

    heavy, begins = weigh(content), _prefixes(content)

    overlap = [_share(content, has, 0.0) for has in words]
    plain = [_share(own, has, 0.0) for has in words]
    bigrams = [_share(pairs, has) for has in grams]
    follow = [_subsequence(tokens, row) / max(len(tokens), 1) for row in rows]
    cosines = [_cosine(tokens, row, weights) for row in rows]
    rare = [weigh(content & has) / heavy if content else 0.0 for has in words]
    prefix = [_share(begins, _prefixes(has), 0.0) for has in words]
    uncited = max((_share(content, set(lexical.tokens(other)), 0.0) for other in one.others), default=0.0)
    asked = set(lexical.tokens(one.query))
    return np.array([
        min(overlap), np.mean(overlap), max(overlap), _share(content, union, 0.0), min(plain), _share(own, union, 0.0),
        min(bigrams), max(bigrams), _share(pairs, union_grams), min(_share(numbers, has) for has in words), _share(numbers, union),
        min(_share(capitals, has) for has in words), _share(capitals, union), min(follow), max(follow), min(cosines), max(cosines),
        np.log1p(len(content - union)), np.log1p(len(tokens)), len(rows), one.position / max(one.segments - 1, 1), np.log(one.segments),
        np.log1p(len(rows) + len(one.others)),
        min(rare), np.mean(rare), weigh(content & union) / heavy if content else 0.0, min(prefix), np.mean(prefix),
        _share(begins, _prefixes(union), 0.0), _share(content - asked, union), _share(content, asked, 0.0), uncited, uncited - min(overlap),
    ])  # fmt: skip


def _prefixes(words: Iterable[str]) -> set[str]:
    return {w[:5] for w in words}


def _share(mine: set | frozenset, theirs: set | frozenset, empty: float = 1.0) -> float:
    return len(mine & theirs) / len(mine) if mine else empty


def _cosine(a: Sequence[str], b: Sequence[str], weights: Mapping[str, float]) -> float:
    one, two = ({w: n * weights.get(w, weights[""]) for w, n in Counter(tokens).items()} for tokens in (a, b))
    size = np.sqrt(sum(v * v for v in one.values()) * sum(v * v for v in two.values()))
    return float(sum(v * two.get(w, 0.0) for w, v in one.items()) / size) if size else 0.0


def _subsequence(a: Sequence[str], b: Sequence[str]) -> int:
    """Length of the longest common subsequence."""
    best, other = np.zeros(len(b) + 1, dtype=np.int64), np.array(b, dtype=object)
    for word in a:
        best[1:] = np.maximum.accumulate(np.where(other == word, best[:-1] + 1, best[1:]))
    return int(best[-1])


@dataclasses.dataclass(frozen=True)
class Fitted:
    """The judge: a weight for each feature that was chosen, and IDF of the cited quotes of its training segments."""

    names: tuple[str, ...]
    middle: tuple[float, ...]
    scale: tuple[float, ...]
    weights: tuple[float, ...]
    bias: float
    idf: dict[str, float]
    strength: float

    @classmethod
    def fit(
        cls,
        many: Sequence[Cited],
        labels: Sequence[int] | np.ndarray,
        groups: Sequence[str] | np.ndarray,
        *,
        sets: Sequence[str] = tuple(SETS),
        seed: int = 0,
    ) -> Fitted:
        """A judge from segments, labels 0 or 1, and the question that each comes from.

        Features and strength are those of the best ROC-AUC out of fold, folds being cut by question. Segments that cite nothing are
        left out. Raises DataError for fewer than 5 questions, or where a fold would leave one label alone.
        """
        keep = [i for i, one in enumerate(many) if one.sources]
        weights = idf(source for i in keep for source in many[i].sources)
        truth, owners = np.array([labels[i] for i in keep], dtype=np.int64), np.array([groups[i] for i in keep])
        if len(set(owners.tolist())) < FOLDS:
            raise DataError(f"a judge is fitted on segments of at least {FOLDS} questions; found {len(set(owners.tolist()))}, label more")
        table = np.stack([features(many[i], weights) for i in keep])
        folds = list(GroupKFold(FOLDS, shuffle=True, random_state=seed).split(table, truth, owners))
        if any(len(set(truth[train].tolist())) < 2 for train, _ in folds):
            raise DataError("a judge is fitted on supported and unsupported segments, of several questions each; label more")

        def train(columns: list[int], strength: float, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
            part = table[rows][:, columns]
            middle, scale = part.mean(0), part.std(0)
            scale = np.where(scale > 1e-9, scale, 1.0)
            model = LogisticRegression(C=strength, max_iter=2000).fit((part - middle) / scale, truth[rows])
            return middle, scale, model.coef_[0], float(model.intercept_[0])

        best: tuple[float, list[int], float] = (-1.0, [], 0.0)
        for columns in ([NAMES.index(name) for name in SETS[chosen]] for chosen in sets):
            for strength in STRENGTHS:
                out = np.zeros(len(truth))
                for rows, held in folds:
                    out[held] = _sigmoid(table[held][:, columns], *train(columns, strength, rows))
                if (found := float(roc_auc_score(truth, out))) > best[0]:
                    best = found, columns, strength
        _, columns, strength = best
        middle, scale, slopes, bias = train(columns, strength, np.arange(len(truth)))
        names = tuple(NAMES[c] for c in columns)
        return cls(names, tuple(middle.tolist()), tuple(scale.tolist()), tuple(slopes.tolist()), bias, weights, strength)

    def score(self, many: Sequence[Cited]) -> np.ndarray:
        """(segments,) in [0, 1]: the probability that people call a segment supported; 0 where it cites nothing."""
        out, keep = np.zeros(len(many)), [i for i, one in enumerate(many) if one.sources]
        if keep:
            columns = [NAMES.index(name) for name in self.names]
            table = np.stack([features(many[i], self.idf) for i in keep])[:, columns]
            out[keep] = _sigmoid(table, np.array(self.middle), np.array(self.scale), np.array(self.weights), self.bias)
        return out

    threshold: ClassVar[float] = 0.5

    name: ClassVar[str] = "judge fitted on labels"

    def support(self, pairs: Sequence[tuple[str, str]]) -> np.ndarray:
        """(pairs,) in [0, 1] for (supporting text, statement), as `scores` asks: each a segment by itself that cites one text."""
        return self.score([Cited(statement, (source,)) for source, statement in pairs])


def labelled(questions: Iterable[hagrid.Question]) -> tuple[list[Cited], np.ndarray, np.ndarray]:
    """The segments that have a label of attribution and cite, their labels 0 or 1, and the id of the question of each."""
    rows = [
        (made, int(segment.attributable), question.query_id)
        for question in questions
        for answer in question.answers
        for i, segment in enumerate(answer.sentences)
        if segment.attributable is not None and (made := cited(question, answer, i)).sources
    ]
    return [row[0] for row in rows], np.array([row[1] for row in rows], dtype=np.int64), np.array([row[2] for row in rows])


def out_of_fold(
    many: Sequence[Cited], labels: np.ndarray, groups: np.ndarray, *, sets: Sequence[str] = tuple(SETS), seed: int
) -> np.ndarray:
    """(segments,): the score of each by a judge that was fitted, its features chosen too, on other folds; `seed` cuts folds by question.

    Raises DataError as `Fitted.fit` does.
    """
    said = np.zeros(len(many))
    for rows, held in GroupKFold(FOLDS, shuffle=True, random_state=seed).split(labels, labels, groups):
        judge = Fitted.fit([many[i] for i in rows], labels[rows], groups[rows], sets=sets)
        said[held] = judge.score([many[i] for i in held])
    return said


def _sigmoid(table: np.ndarray, middle: np.ndarray, scale: np.ndarray, weights: np.ndarray, bias: float) -> np.ndarray:
    return 1 / (1 + np.exp(-((table - middle) / scale @ weights + bias)))
