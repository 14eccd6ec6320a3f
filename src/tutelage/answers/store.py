"""The store of questions, answers and judgements (see `tutelage.database.store`)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from ..cited import hagrid
from ..errors import DataError, MissingExtra

try:
    import sqlalchemy as sa
    from sqlalchemy.orm import selectinload
except ModuleNotFoundError:
    raise MissingExtra("the store of answers", "answers") from None
from ..database.store import Database, Room, unfit
from .tables import Answer, Base, Question, Quote, Segment

ROOM = Room(
    what="answers", option="--store", maker="tutelage answers collect", metadata=Base.metadata,
    migrations=Path(__file__).parent / "migrations", lock=7351,
)  # fmt: skip


class Store(Database):
    """An open store of answers; refuses what `Database` refuses."""

    def __init__(self, url: str | Path, *, make: bool = True):
        super().__init__(url, ROOM, make=make)

    # ---- HAGRID's records

    def take(self, questions: Iterable[hagrid.Question]) -> int:
        """Put questions in, all or none; returns how many.

        Raises DataError for a question id that is there already, and for what a database does not hold.
        """
        count = 0
        with self.writing() as session:
            known = set(session.scalars(sa.select(Question.query_id)))
            for one in questions:
                if one.query_id in known:
                    raise DataError(f"question '{one.query_id}' is in {self.shown} already; nothing was imported")
                known.add(one.query_id)
                row = row_of(one)
                for kind, part in _parts(row):
                    if why := unfit(part):
                        shown = one.query_id if len(one.query_id) <= 60 else f"{one.query_id[:60]}..."
                        raise DataError(f"question {shown!r}, {kind}: {why}; nothing was imported")
                session.add(row)
                count += 1
        return count

    def give(self) -> Iterator[hagrid.Question]:
        """All questions as records with the labels they came with, in the order in which they came."""
        with self.reading() as session:
            wanted = sa.select(Question).order_by(Question.id).execution_options(yield_per=200)
            wanted = wanted.options(selectinload(Question.quotes), selectinload(Question.answers).selectinload(Answer.segments))
            for row in session.scalars(wanted):
                yield record_of(row)


LABELS = ("answer_type", "informative", "attributable")


def row_of(one: hagrid.Question) -> Question:
    """A record as rows."""
    quotes = [Quote(position=i, idx=q.idx, docid=q.docid, text=q.text) for i, q in enumerate(one.quotes)]
    answers = [
        Answer(
            text=a.answer, **_labels(a, "sentences"),
            segments=[Segment(position=i, idx=s.index, text=s.text, **_labels(s)) for i, s in enumerate(a.sentences)],
        )
        for a in one.answers
    ]  # fmt: skip
    return Question(query_id=one.query_id, text=one.query, quotes=quotes, answers=answers)


def _parts(row: Question) -> Iterator[tuple[str, Base]]:
    """All rows that a question is made of, and what each is called."""
    yield "itself", row
    for number, quote in enumerate(row.quotes, 1):
        yield f"quote {number}", quote
    for number, answer in enumerate(row.answers, 1):
        yield f"answer {number}", answer
        for place, segment in enumerate(answer.segments, 1):
            yield f"answer {number}, sentence {place}", segment


def _labels(one: hagrid.Answer | hagrid.Segment, *more: str) -> dict[str, Any]:
    absent = [name for name in (*LABELS, *more) if name not in one.model_fields_set]
    return {name: getattr(one, name) for name in LABELS} | {"absent": absent}


def record_of(row: Question) -> hagrid.Question:
    """Rows as a record."""
    answers = []
    for a in row.answers:
        segments = [{"text": s.text, "index": s.idx, **_given(s)} for s in a.segments]
        tree = {"answer": a.text, **_given(a), "sentences": segments}
        answers.append({k: v for k, v in tree.items() if k not in a.absent})
    quotes = [{"idx": q.idx, "docid": q.docid, "text": q.text} for q in row.quotes]
    return hagrid.Question.model_validate({"query_id": row.query_id, "query": row.text, "quotes": quotes, "answers": answers})


def _given(row: Answer | Segment) -> dict[str, Any]:
    return {name: getattr(row, name) for name in LABELS if name not in row.absent}
