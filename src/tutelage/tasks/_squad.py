"""Questions on texts in SQuAD's form: a JSON file of articles, paragraphs and questions, or the same as a hub data set.

Source: Rajpurkar et al. 2016, arXiv:1606.05250 (1.1); Rajpurkar, Jia, Liang 2018, arXiv:1806.03822 (2.0, where the text
of some questions holds no answer).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .. import textfiles
from ..errors import DataError
from . import _tables
from ._parts import key
from ._task import Split

FORM = '{"data": [{"title": ..., "paragraphs": [{"context": ..., "qas": [{"id", "question", "answers"}]}]}]}'
COLUMNS = ("id", "title", "question", "context", "answers")
KINDS = {list: "list", str: "text", int: "number"}


@dataclasses.dataclass(frozen=True)
class Question:
    """A question, the text that may hold its answer, and the answers that are right."""

    id: str
    title: str
    """The article's, by which parts are cut."""
    text: str
    context: str
    answers: tuple[tuple[str, int], ...]
    """Each with the character of the context that it starts at; none where the context holds no answer."""


@dataclasses.dataclass(frozen=True)
class Part:
    """Questions of one file or data set, and their places in it."""

    questions: list[Question]
    ids: list[int]
    """Places in the source, from 0."""
    source: str
    total: int
    """Questions of the source."""

    def __len__(self) -> int:
        return len(self.questions)

    @property
    def titles(self) -> list[str]:
        """Each question's article."""
        return [q.title for q in self.questions]

    def take(self, index: Sequence[int] | np.ndarray) -> Part:
        """The questions numbered `index`, from 0."""
        pick = [int(i) for i in index]
        return dataclasses.replace(self, questions=[self.questions[i] for i in pick], ids=[self.ids[i] for i in pick])

    def first(self, limit: int) -> Part:
        """At most `limit` questions, drawn by the hash of question and context: the same whatever the order of the file."""
        keys = np.array([key((q.text, q.context)) for q in self.questions], dtype=np.uint64)
        return self.take(np.sort(np.argsort(keys, kind="stable")[:limit]))

    def split(self, nullable: bool) -> Split:
        """The part in columns. `gold` is (questions, 2): where the first answer begins and ends in characters, (0, 0) for none.

        `about` says whether some question of the data has no answer.
        """
        spans = [(q.answers[0][1], q.answers[0][1] + len(q.answers[0][0])) if q.answers else (0, 0) for q in self.questions]
        columns: dict[str, list[Any]] = {
            "id": [q.id for q in self.questions],
            "title": self.titles,
            "question": [q.text for q in self.questions],
            "context": [q.context for q in self.questions],
            "answers": [[list(answer) for answer in q.answers] for q in self.questions],
        }
        return Split(columns, np.array(spans, dtype=np.int64), self.ids, self.source, total=self.total, about=nullable)


def of_split(split: Split) -> list[Question]:
    """The questions that `Part.split` put into columns."""
    made = []
    for name, title, text, context, answers in zip(*(split.columns[column] for column in COLUMNS), strict=True):
        made.append(Question(name, title, text, context, tuple((answer, start) for answer, start in answers)))
    return made


def read(path: Path) -> Part:
    """A SQuAD file of version 1.1 or 2.0.

    Raises DataError for a file that is missing, cut short or of another form, and for questions that cannot be used, by
    their ids: answers that do not stand where they are said to, no answer though one is promised, an id met twice.
    """
    return _part(list(_questions(textfiles.whole_value(path), str(path))), str(path))


def from_hub(rows: Any, source: str) -> Part:
    """One part of a hub data set with SQuAD's columns: id, title, context, question, answers."""
    _tables.check(source, {name: name for name in ("id", "title", "context", "question", "answers")}, rows.column_names)
    made = []
    for row in rows:
        answers = [{"text": t, "answer_start": s} for t, s in zip(row["answers"]["text"], row["answers"]["answer_start"], strict=True)]
        made.append(_question({**row, "answers": answers, "is_impossible": not answers}, row["title"], row["context"], source))
    return _part(made, source)


def _part(questions: list[Question], source: str) -> Part:
    if not questions:
        raise DataError(f"{source}: holds no question")
    seen: set[str] = set()
    for question in questions:
        if question.id in seen:
            raise DataError(f"{source}: the id '{question.id}' stands at more than one question; give each its own")
        seen.add(question.id)
    return Part(questions, list(range(len(questions))), source, len(questions))


def _questions(tree: Any, source: str) -> Iterator[Question]:
    for number, article in enumerate(_field(tree, "data", list, source), 1):
        where = f"{source}, article {number}"
        paragraphs = _field(article, "paragraphs", list, where)
        contexts = [_field(paragraph, "context", str, where) for paragraph in paragraphs]
        title = article.get("title") or contexts[0] if contexts else ""
        for context, paragraph in zip(contexts, paragraphs, strict=True):
            for asked in _field(paragraph, "qas", list, where):
                yield _question(asked, str(title), context, where)


def _question(asked: Any, title: str, context: str, where: str) -> Question:
    """One question, its answers held against its context."""
    name = _field(asked, "id", str, where)
    where = f"{where.split(', article')[0]}, question '{name}'"
    answers = tuple(_answer(answer, context, where) for answer in _field(asked, "answers", list, where))
    impossible = bool(asked.get("is_impossible"))
    if impossible and answers:
        raise DataError(f"{where}: is marked is_impossible and has an answer; take one of them away")
    if not impossible and not answers:
        raise DataError(f"{where}: has no answer; mark it is_impossible or take it out")
    return Question(name, title, _field(asked, "question", str, where), context, answers)


def _answer(answer: Any, context: str, where: str) -> tuple[str, int]:
    text, start = _field(answer, "text", str, where), _field(answer, "answer_start", int, where)
    if not text.strip():
        raise DataError(f"{where}: has an answer without text; questions without an answer have an empty list and is_impossible")
    found = context[start : start + len(text)] if start >= 0 else ""
    if found != text:
        there = f"'{found}' stands there" if found else f"the context has {len(context)} characters"
        raise DataError(f"{where}: its answer '{text}' is not at character {start} of its context ({there}); mend answer_start")
    return text, start


def _field(tree: Any, name: str, kind: type, where: str) -> Any:
    value = tree.get(name) if isinstance(tree, dict) else None
    if not isinstance(value, kind):
        raise DataError(f"{where}: has no {KINDS[kind]} '{name}'; a SQuAD file is {FORM}")
    return value
