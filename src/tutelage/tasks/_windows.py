"""Windows of a question and part of its text: how they are encoded, and how answers are cut from what a model says of them.

Source: the scheme is that of Devlin et al. 2019, arXiv:1810.04805, section 4.2, as transformers' example `run_qa.py` has it.
Departures: the best starts and ends are sought among tokens of the text alone, so that the question takes none of their
places; the window's place around an answer plays no part.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import ConfigError, ModelError
from ..records import digest
from ._squad import Question
from ._task import Encoded

CHUNK = 1024
"""Questions given to the tokenizer at a time, which bounds the memory of what it says of them."""
MOST = 64
"""Most tokens of a question, as in BERT's own code; and no more than half of a window, so that some text has room."""


@dataclasses.dataclass(frozen=True)
class Windows:
    """What answers are cut from: questions, and for each window of them where its tokens stand in the text."""

    questions: list[Question]
    of: np.ndarray
    """(windows,) of the number of each window's question."""
    spans: np.ndarray
    """(tokens of all windows, 2) of int32: the characters of the text that a token covers; -1 for tokens that are not of it."""
    null: np.ndarray
    """(windows,) of the token that stands for no answer: [CLS], else the first."""
    nullable: bool
    """Whether some question of the data has no answer, so that none may be given."""

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256 over all of it."""
        texts = [dataclasses.astuple(question) for question in self.questions]
        return digest(texts, *(np.ascontiguousarray(x).tobytes() for x in (self.of, self.spans, self.null)), self.nullable)

    def join(self, other: Windows) -> Windows:
        """These, then the other's."""
        of = np.concatenate([self.of, other.of + len(self.questions)])
        spans, null = np.concatenate([self.spans, other.spans]), np.concatenate([self.null, other.null])
        return Windows([*self.questions, *other.questions], of, spans, null, self.nullable or other.nullable)


def encode(questions: Sequence[Question], tokenizer: Any, max_length: int, stride: int, nullable: bool) -> Encoded:
    """Questions with windows of their texts, every window at most `max_length` tokens, `stride` of them shared with the one before.

    `gold` is (windows, 2) of int64: the tokens at which the first answer starts and ends, or the null token twice where the
    window does not hold it whole. The extra column 'answerable' marks tokens of the text and the null token. `truncated`
    counts questions that were cut. Raises ConfigError where question and stride leave no room for text, ModelError for a
    tokenizer that does not say where its tokens stand.
    """
    if not getattr(tokenizer, "is_fast", False):
        raise ModelError("task span_qa: needs a tokenizer that says where its tokens stand (tokenizer.json); name a model that has one")
    longest = min(max_length, tokenizer.model_max_length)
    room = longest - tokenizer.num_special_tokens_to_add(pair=True)
    if stride >= room - room // 2:
        what = f"{stride} does not fit windows of {longest} tokens, of which a question may take {room // 2}"
        raise ConfigError([("task.stride", f"{what}; lower it{' or raise task.max_length' if longest == max_length else ''}")])
    texts, truncated = _cut([q.text.strip() for q in questions], tokenizer, min(MOST, room // 2))
    names = ["input_ids", *(n for n in ("token_type_ids",) if n in tokenizer.model_input_names)]
    columns: dict[str, list[Any]] = {name: [] for name in (*names, "spans")}
    of: list[int] = []
    for start in range(0, len(questions), CHUNK):
        made = tokenizer(
            texts[start : start + CHUNK],
            [q.context for q in questions[start : start + CHUNK]],
            truncation="only_second",
            max_length=longest,
            stride=stride,
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
            return_attention_mask=False,
            return_token_type_ids=len(names) == 2,
        )
        of += [start + number for number in made["overflow_to_sample_mapping"]]
        for name in names:
            columns[name] += [np.array(row, dtype=np.int32) for row in made[name]]
        columns["spans"] += [_spans(one) for one in made.encodings]
    lengths = np.array([len(row) for row in columns["input_ids"]], dtype=np.int64)
    null = np.array([_null(row, tokenizer) for row in columns["input_ids"]], dtype=np.int64)
    gold = [_target(spans, questions[number].answers, at) for spans, number, at in zip(columns["spans"], of, null, strict=True)]
    flat = {name: np.concatenate(rows) for name, rows in columns.items()}
    spans = flat.pop("spans")
    answerable = spans[:, 0] >= 0
    answerable[np.cumsum(lengths) - lengths + null] = True
    return Encoded(
        flat,
        lengths,
        np.array(gold, dtype=np.int64),
        pad={"input_ids": tokenizer.pad_token_id, "token_type_ids": tokenizer.pad_token_type_id},
        truncated=truncated,
        extra={"answerable": answerable},
        about=Windows(list(questions), np.array(of, dtype=np.int64), spans, null, nullable),
    )


def _cut(texts: list[str], tokenizer: Any, most: int) -> tuple[list[str], int]:
    """Questions of at most `most` tokens, and how many were cut."""
    found = tokenizer(texts, add_special_tokens=False, return_offsets_mapping=True, return_attention_mask=False, verbose=False)
    long = [len(spans) > most for spans in found["offset_mapping"]]
    kept = [text[: spans[most - 1][1]] if cut else text for text, spans, cut in zip(texts, found["offset_mapping"], long, strict=True)]
    return kept, sum(long)


def _spans(one: Any) -> np.ndarray:
    """(tokens, 2) of int32: the characters of the text that each token of a window covers; -1 for the others."""
    spans = np.array(one.offsets, dtype=np.int32).reshape(-1, 2)
    spans[[number != 1 for number in one.sequence_ids]] = -1
    return spans


def _null(ids: np.ndarray, tokenizer: Any) -> int:
    """Where the token that stands for no answer is: [CLS], else the text's first special token, else the first token."""
    for special in (tokenizer.cls_token_id, tokenizer.bos_token_id):
        if special is not None and (places := np.flatnonzero(ids == special)).size:
            return int(places[0])
    return 0


def _target(spans: np.ndarray, answers: Sequence[tuple[str, int]], null: int) -> tuple[int, int]:
    """The tokens at which the first answer starts and ends, or `null` twice where the window does not hold it whole."""
    inside = np.flatnonzero(spans[:, 0] >= 0)
    if not answers or not inside.size:
        return null, null
    text, start = answers[0]
    first, last = start + len(text) - len(text.lstrip()), start + len(text.rstrip())
    begins, ends = spans[inside].T
    if first < begins[0] or last > ends[-1]:
        return null, null
    one = int(np.searchsorted(begins, first, side="right")) - 1
    two = max(one, int(np.searchsorted(ends, last, side="left")))
    return int(inside[one]), int(inside[two])


def answers(start: np.ndarray, end: np.ndarray, encoded: Encoded, *, n_best: int, max_answer: int, null_threshold: float) -> np.ndarray:
    """The answer to each question, (questions,) of text, '' for none, from logits of a token each, end to end.

    An answer's score is the sum of its start's and its end's logit; the best over all windows is taken. None is given where
    the data allows it and the null token's score, its least over the windows, is more than `null_threshold` above.
    """
    about: Windows = encoded.about
    best = np.full(len(about.questions), -np.inf)
    null = np.full(len(about.questions), np.inf)
    said = np.full(len(about.questions), "", dtype=object)
    for window, number in enumerate(about.of):
        here = slice(encoded.starts[window], encoded.starts[window + 1])
        at = encoded.starts[window] + about.null[window]
        null[number] = min(null[number], float(start[at]) + float(end[at]))
        found = _best(start[here], end[here], about.spans[here], n_best, max_answer)
        if found and found[0] > best[number]:
            best[number], (first, last) = found
            said[number] = about.questions[number].context[first:last]
    if about.nullable:
        said[null - best > null_threshold] = ""
    return said


def _best(start: np.ndarray, end: np.ndarray, spans: np.ndarray, n_best: int, max_answer: int) -> tuple[float, tuple[int, int]] | None:
    """The best pair of the `n_best` starts and ends of a window: its score, and its first and behind its last character."""
    inside = np.flatnonzero(spans[:, 0] >= 0)
    starts = inside[np.argsort(-start[inside], kind="stable")[:n_best]]
    ends = inside[np.argsort(-end[inside], kind="stable")[:n_best]]
    tokens = ends[None, :] - starts[:, None] + 1
    scores = np.where((tokens >= 1) & (tokens <= max_answer), start[starts][:, None].astype(np.float64) + end[ends][None, :], -np.inf)
    if not scores.size or scores.max() == -np.inf:
        return None
    one, two = np.unravel_index(int(scores.argmax()), scores.shape)
    return float(scores[one, two]), (int(spans[starts[one], 0]), int(spans[ends[two], 1]))
