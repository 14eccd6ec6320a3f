"""HAGRID's record: a question, the quotes it was answered from, and answers whose segments people judged.

Source: Kamalloo et al. 2023 (HAGRID), arXiv:2307.16883, and its published files. Labels are 1, 0 or None, where nobody judged.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic
from pydantic import BaseModel, ConfigDict, Field

from .. import records, textfiles
from ..errors import DataError

Label = Literal[0, 1] | None
"""1 yes, 0 no, None not judged."""
Text = Annotated[str, Field(min_length=1)]


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Quote(_Record):
    """A passage at hand for the answer. `idx` is kept as it came; citations mean positions, never it."""

    idx: int
    docid: str
    text: Text


class Segment(_Record):
    """A stretch of an answer with the citations that close it."""

    text: str
    index: int
    answer_type: str | None = None
    informative: Label = None
    attributable: Label = None


class Answer(_Record):
    """An answer; `answer_type` names the prompt it came from."""

    answer: str
    answer_type: str | None = None
    informative: Label = None
    attributable: Label = None
    sentences: list[Segment] = []


class Question(_Record):
    """A question with its quotes and answers."""

    query_id: str
    query: Text
    quotes: list[Quote] = []
    answers: list[Answer] = []


def read(path: str | Path, *, skip: bool = False) -> tuple[list[Question], list[str]]:
    """The questions of a file of JSON lines, and what was wrong with lines that were left out.

    Raises DataError for a file that is not there; for a broken line, a question id that comes twice, or a file without
    questions, with the line, unless `skip` leaves such lines out.
    """
    found: dict[str, Question] = {}
    faults: list[str] = []
    for number, line in textfiles.raw_lines(Path(path)):
        if not line.strip():
            continue
        try:
            one = _question(textfiles.object_of(line, path, number), f"{path}, line {number}")
            if one.query_id in found:
                raise DataError(f"{path}, line {number}: query_id '{one.query_id}' came before; give each question its own")
            found[one.query_id] = one
        except DataError as fault:
            faults.append(str(fault))
            if not skip:
                raise DataError(f"{fault}; nothing was read") from None
    if not found:
        raise DataError(f"{path}: holds no questions")
    return list(found.values()), faults


def _question(row: dict[str, Any], where: str) -> Question:
    try:
        return Question.model_validate(row)
    except pydantic.ValidationError as fault:
        first = fault.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "the line"
        raise DataError(f"{where}: {place}: {first['msg'].lower()}") from None


def tree(question: Question) -> dict[str, Any]:
    """The question as its file has it; what the record leaves out where it is unknown is left out."""
    return question.model_dump(exclude_unset=True)


def write(questions: Iterable[Question], path: Path) -> None:
    """JSON lines, atomically."""
    records.write(path, "".join(f"{line}\n" for line in _lines(questions)).encode())


def _lines(questions: Iterable[Question]) -> Iterator[str]:
    for question in questions:
        yield json.dumps(tree(question), ensure_ascii=False)


def label_of(labels: Iterable[Label], *, every: bool) -> Label:
    """An answer's label from its segments': attributable when every segment is (`every`), informative when any is.

    None where a segment has no label, or there is none.
    """
    known = list(labels)
    if not known or None in known:
        return None
    return int(all(known) if every else any(known))  # type: ignore[return-value]
