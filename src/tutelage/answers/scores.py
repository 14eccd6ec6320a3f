"""Scores of answers that cite: what their citations support, and how near they are to answers that people judged.

Source: Gao et al. 2023 (ALCE), arXiv:2305.14627, section 4.3, for citation recall and precision; Rashkin et al. 2023 (AIS),
arXiv:2112.12870, for the question asked of each statement.
Departures from its published program: a statement is a segment closed by its citations (`citations.segments`) where the record has none,
else the record's own, not a sentence; citations behind a full stop count for the sentence before; ranges count whole; the first ten
quotes of a statement are looked at, each once, not the first three; numbers that point nowhere are left out, where it calls the sentence
unsupported; an answer without a statement counts 0, where it is left out. Support comes from a judge that every score names.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from ..cited import citations, hagrid
from ..errors import ConfigError, MissingExtra

MOST_CITATIONS = 10
"""Citations of a statement that are looked at, the first ones."""


class Judge(Protocol):
    """Whether texts support statements: above its threshold they do."""

    name: str
    threshold: float

    def support(self, pairs: Sequence[tuple[str, str]]) -> np.ndarray:
        """(pairs,) in [0, 1] for (supporting text, statement without its citations)."""
        ...


class Classifier:
    """A classifier of pairs by name or folder, one of natural-language inference or one that `classify` trained on people's labels:
    the probability of its label for entailment, or of `supported`.

    Raises ConfigError for a model without such a label.
    """

    threshold = 0.5

    def __init__(self, model: str, *, threads: int | None = None, batch_size: int = 16):
        from ..engine.machine import Machine
        from ..models.load import open_model

        self.machine = Machine(threads)
        loaded = open_model(model, {}, auto="AutoModelForSequenceClassification")
        names = {int(i): str(name).lower() for i, name in loaded.model.config.id2label.items()}
        found = [i for i, name in names.items() if name == "supported" or ("entail" in name and not name.startswith(("not", "non")))]
        if loaded.new_head or len(found) != 1:
            what = "no label for entailment and none named supported"
            raise ConfigError(f"--judge: {model} has {what} ({', '.join(names.values())}); name an NLI model")
        self.name, self._label, self._words, self._size = model, found[0], loaded.tokenizer, batch_size
        self._model = loaded.model.to(self.machine.device).eval()

    def support(self, pairs: Sequence[tuple[str, str]]) -> np.ndarray:
        import torch

        out = np.zeros(len(pairs))
        order = sorted(range(len(pairs)), key=lambda i: len(pairs[i][0]) + len(pairs[i][1]))
        dtype = self.machine.precision("auto")
        for start in range(0, len(order), self._size):
            part = order[start : start + self._size]
            premises, statements = zip(*(pairs[i] for i in part), strict=True)
            rows = self._words(list(premises), list(statements), truncation="only_first", padding=True, return_tensors="pt")
            with torch.no_grad(), self.machine.autocast(dtype):
                logits = self._model(**rows.to(self.machine.device)).logits.float()
            out[part] = logits.softmax(-1)[:, self._label].cpu().numpy()
        return out


@dataclasses.dataclass(frozen=True)
class Statement:
    """A segment with the texts it cites, each once, and the numbers that point nowhere."""

    text: str
    sources: tuple[str, ...]
    dangling: tuple[int, ...]


def statements(question: hagrid.Question, answer: hagrid.Answer) -> list[Statement]:
    """An answer's statements: the record's segments, or where it has none those of the text."""
    parts = [s.text for s in answer.sentences] or citations.segments(citations.normalise(answer.answer))
    out = []
    for part in parts:
        places, dangling = citations.cited(part, len(question.quotes))
        text = citations.without(part).lstrip(" .,;:")
        if text:
            out.append(Statement(text, tuple(question.quotes[p].text for p in places[:MOST_CITATIONS]), tuple(dangling)))
    return out


def support(many: Sequence[Sequence[Statement]], judge: Judge) -> list[dict[str, float]]:
    """Citation recall, precision and F1 of each answer, and how many of its segments cite, by ALCE's definitions.

    Recall: the share of statements that their cited texts, joined, support; one without a citation is not supported. Precision:
    the share of all citations that are of a supported statement and needed or sufficient alone; a citation is irrelevant where it does
    not support the statement by itself while the others do without it. An answer that cites nothing has a precision of 0, as in ALCE.
    """
    pairs: dict[tuple[str, str], float] = {}

    def ask(sources: Sequence[str], text: str) -> tuple[str, str]:
        pair = ("\n".join(sources), text)
        pairs.setdefault(pair, 0.0)
        return pair

    for one in many:
        for s in one:
            if s.sources:
                ask(s.sources, s.text)
                if len(s.sources) > 1:
                    for i, source in enumerate(s.sources):
                        ask([source], s.text)
                        ask([*s.sources[:i], *s.sources[i + 1 :]], s.text)
    asked = list(pairs)
    found = judge.support(asked) if asked else np.zeros(0)
    holds = {pair: bool(value > judge.threshold) for pair, value in zip(asked, found, strict=True)}
    out = []
    for one in many:
        supported, good, cited = 0, 0, 0
        for s in one:
            cited += len(s.sources)
            if not s.sources or not holds[ask(s.sources, s.text)]:
                continue
            supported += 1
            for i, source in enumerate(s.sources):
                alone = len(s.sources) == 1 or holds[ask([source], s.text)]
                rest = len(s.sources) > 1 and holds[ask([*s.sources[:i], *s.sources[i + 1 :]], s.text)]
                good += alone or not rest
        recall = supported / len(one) if one else 0.0
        precision = good / cited if cited else 0.0
        both = 2 * recall * precision / (recall + precision) if recall + precision else 0.0
        out.append(
            {"recall": recall, "precision": precision, "f1": both, "cites": float(np.mean([bool(s.sources) for s in one] or [False]))}
        )
    return out


def score(
    questions: Sequence[hagrid.Question],
    judge: Judge | None = None,
    *,
    references: Mapping[str, Sequence[str]] | None = None,
    draws: int = 2000,
) -> dict[str, Any]:
    """All scores over the answers of these questions, each with a 95 % interval by a bootstrap that draws questions.

    `references` are answers by question id, those that people found informative and attributable; ROUGE-L takes the nearest.
    `precision_where_cited` is the mean precision of the answers that cite.
    `other_brackets` counts the answers with brackets that hold a number and are no citations.
    Raises ConfigError where there is no answer to score, MissingExtra without rouge-score and sacrebleu where they are needed.
    """
    flat = [(q, a) for q in questions for a in q.answers]
    if not flat:
        raise ConfigError("there is no answer to score; collect some, or name another file")
    other = [found for _, a in flat if (found := citations.others(a.answer))]
    many = [statements(q, a) for q, a in flat]
    columns: dict[str, list[float]] = {
        "answers_that_cite": [float(any(s.sources for s in one)) for one in many],
        "answers_that_dangle": [float(any(s.dangling for s in one)) for one in many],
        "segments_that_cite": [float(np.mean([bool(s.sources) for s in one] or [False])) for one in many],
        "words": [float(len(citations.without(a.answer).split())) for _, a in flat],
    }
    if judge is not None:
        for key in ("recall", "precision", "f1"):
            columns[f"citation_{key}"] = []
        columns["precision_where_cited"] = []
        for one in support(many, judge):
            for key in ("recall", "precision", "f1"):
                columns[f"citation_{key}"].append(one[key])
            columns["precision_where_cited"].append(one["precision"] if one["cites"] else float("nan"))
    if references:
        columns |= near(flat, references)
    groups = np.unique([q.query_id for q, _ in flat], return_inverse=True)[1]
    return {
        "answers": len(flat), "questions": len(set(groups.tolist())), "judge": judge.name if judge else None,
        "threshold": judge.threshold if judge else None, "scores": {name: mean(values, groups, draws) for name, values in columns.items()},
        "other_brackets": {"answers": len(other), "first": other[0][0] if other else None},
    }  # fmt: skip


def near(flat: Sequence[tuple[hagrid.Question, hagrid.Answer]], references: Mapping[str, Sequence[str]]) -> dict[str, list[float]]:
    """`rouge_l` and `bleu` of each answer to the nearest of its question's references; NaN where it has none."""
    try:
        import sacrebleu
        from rouge_score.rouge_scorer import RougeScorer
    except ModuleNotFoundError:
        raise MissingExtra("comparing with references", "answers") from None
    rouge = RougeScorer(["rougeL"], use_stemmer=True)
    out: dict[str, list[float]] = {"rouge_l": [], "bleu": []}
    for question, answer in flat:
        texts = [citations.without(t) for t in references.get(question.query_id, ())]
        mine = citations.without(answer.answer)
        out["rouge_l"].append(max((rouge.score(t, mine)["rougeL"].fmeasure for t in texts), default=float("nan")))
        out["bleu"].append(sacrebleu.sentence_bleu(mine, texts).score / 100 if texts else float("nan"))
    return out


def mean(values: Sequence[float], groups: np.ndarray, draws: int) -> dict[str, float]:
    """Mean over what is known, and a 95 % interval that draws questions with all their answers."""
    table = np.asarray(values, dtype=np.float64)
    known = ~np.isnan(table)
    number = int(groups.max()) + 1
    sums = np.bincount(groups, np.where(known, table, 0.0), number)
    counts = np.bincount(groups, known, number)
    if not known.any():
        return {"value": float("nan"), "low": float("nan"), "high": float("nan"), "known": 0}
    drawn = np.random.default_rng(0).integers(number, size=(draws, number))
    means = sums[drawn].sum(1) / np.maximum(counts[drawn].sum(1), 1)
    low, high = np.percentile(means, (2.5, 97.5))
    return {"value": float(table[known].mean()), "low": float(low), "high": float(high), "known": int(known.sum())}


def references_of(questions: Sequence[hagrid.Question]) -> dict[str, list[str]]:
    """By question, the answers that people found informative and, where they judged it, attributable."""
    out = {q.query_id: [a.answer for a in q.answers if a.informative == 1 and a.attributable != 0] for q in questions}
    return {k: v for k, v in out.items() if v}
