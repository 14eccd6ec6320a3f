"""The tables of the store of answers; `migrations/` makes them, and a test holds that both agree."""

from __future__ import annotations

import datetime
from typing import Any

from sqlalchemy import JSON, CheckConstraint, ForeignKey, Index, String, Text, UniqueConstraint
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from ..database.store import Moment


class Base(DeclarativeBase):
    """All tables."""

    type_annotation_map = {datetime.datetime: Moment, dict[str, Any]: JSON, list[str]: JSON}  # noqa: RUF012


class Question(Base):
    """A question with its quotes and answers."""

    __tablename__ = "question"
    id: Mapped[int] = mapped_column(primary_key=True)
    query_id: Mapped[str] = mapped_column(String(200), unique=True)
    text: Mapped[str] = mapped_column(Text)
    quotes: Mapped[list[Quote]] = relationship(order_by="Quote.position", cascade="all, delete-orphan")
    answers: Mapped[list[Answer]] = relationship(order_by="Answer.id", back_populates="question", cascade="all, delete-orphan")


class Quote(Base):
    """A passage that an answer may cite, at its position from 0."""

    __tablename__ = "quote"
    __table_args__ = (UniqueConstraint("question_id", "position"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    question_id: Mapped[int] = mapped_column(ForeignKey("question.id"))
    position: Mapped[int]
    idx: Mapped[int]
    docid: Mapped[str] = mapped_column(String(500))
    title: Mapped[str | None] = mapped_column(Text)
    text: Mapped[str] = mapped_column(Text)


class Answer(Base):
    """An answer, imported or collected; labels are those that it was imported with."""

    __tablename__ = "answer"
    id: Mapped[int] = mapped_column(primary_key=True)
    question_id: Mapped[int] = mapped_column(ForeignKey("question.id"), index=True)
    attempt_id: Mapped[int | None] = mapped_column(ForeignKey("attempt.id"), unique=True)
    text: Mapped[str] = mapped_column(Text)
    answer_type: Mapped[str | None] = mapped_column(String(50))
    informative: Mapped[int | None]
    attributable: Mapped[int | None]
    absent: Mapped[list[str]] = mapped_column(default=list)
    """Fields that the imported record did not have at all."""
    question: Mapped[Question] = relationship(back_populates="answers")
    segments: Mapped[list[Segment]] = relationship(order_by="Segment.position", cascade="all, delete-orphan")


class Segment(Base):
    """A stretch of an answer that is judged by itself."""

    __tablename__ = "segment"
    __table_args__ = (UniqueConstraint("answer_id", "position"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    answer_id: Mapped[int] = mapped_column(ForeignKey("answer.id"))
    position: Mapped[int]
    idx: Mapped[int]
    text: Mapped[str] = mapped_column(Text)
    answer_type: Mapped[str | None] = mapped_column(String(50))
    informative: Mapped[int | None]
    attributable: Mapped[int | None]
    absent: Mapped[list[str]] = mapped_column(default=list)


class Attempt(Base):
    """A request to a model, finished or failed: the ledger of tokens and costs, and what makes collecting resumable."""

    __tablename__ = "attempt"
    __table_args__ = (UniqueConstraint("question_id", "key"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    question_id: Mapped[int] = mapped_column(ForeignKey("question.id"))
    key: Mapped[str] = mapped_column(String(64))
    """Digest of all that decides the answer: model, prompt, quotes, settings, number of the sample."""
    model: Mapped[str] = mapped_column(String(300))
    prompt: Mapped[str] = mapped_column(String(50))
    settings: Mapped[dict[str, Any]]
    status: Mapped[str] = mapped_column(String(20))
    text: Mapped[str | None] = mapped_column(Text)
    fault: Mapped[str | None] = mapped_column(Text)
    tries: Mapped[int]
    tokens_in: Mapped[int | None]
    tokens_out: Mapped[int | None]
    cost: Mapped[float | None]
    seconds: Mapped[float]
    at: Mapped[datetime.datetime]


class Person(Base):
    """Someone who may log in; exports name the pseudonym alone."""

    __tablename__ = "person"
    __table_args__ = (CheckConstraint("role in ('annotator', 'adjudicator', 'admin')", name="person_role"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(100), unique=True)
    pseudonym: Mapped[str] = mapped_column(String(40), unique=True)
    role: Mapped[str] = mapped_column(String(20))
    password: Mapped[str | None] = mapped_column(String(300))
    """Hash of the password; None cannot log in."""
    active: Mapped[bool] = mapped_column(default=True)
    at: Mapped[datetime.datetime]


class Visit(Base):
    """A session of someone who logged in."""

    __tablename__ = "visit"
    digest: Mapped[str] = mapped_column(String(64), primary_key=True)
    person_id: Mapped[int] = mapped_column(ForeignKey("person.id"), index=True)
    until: Mapped[datetime.datetime]


class LogIn(Base):
    """A log-in that failed, or has not succeeded yet."""

    __tablename__ = "log_in"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(100), index=True)
    at: Mapped[datetime.datetime]


class Lease(Base):
    """An answer that someone has before them until a time."""

    __tablename__ = "lease"
    __table_args__ = (UniqueConstraint("answer_id", "person_id"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    answer_id: Mapped[int] = mapped_column(ForeignKey("answer.id"), index=True)
    person_id: Mapped[int] = mapped_column(ForeignKey("person.id"))
    until: Mapped[datetime.datetime]
    done: Mapped[bool] = mapped_column(default=False)
    """True when the person has judged all of it."""


class Look(Base):
    """Someone saw what others said of an answer, and does not judge it any more."""

    __tablename__ = "look"
    person_id: Mapped[int] = mapped_column(ForeignKey("person.id"), primary_key=True)
    answer_id: Mapped[int] = mapped_column(ForeignKey("answer.id"), primary_key=True)
    at: Mapped[datetime.datetime]


class Judgement(Base):
    """One event, never changed and never removed: someone's word on a criterion of a segment or of an answer."""

    __tablename__ = "judgement"
    __table_args__ = (
        UniqueConstraint("person_id", "request"),
        CheckConstraint("criterion in ('informative', 'attributable')", name="judgement_criterion"),
        CheckConstraint("value in (0, 1)", name="judgement_value"),
        CheckConstraint("suggestion in (0, 1)", name="judgement_suggestion"),
        Index("judgement_unit", "answer_id", "segment_id", "criterion"),
    )
    id: Mapped[int] = mapped_column(primary_key=True)
    answer_id: Mapped[int] = mapped_column(ForeignKey("answer.id"))
    segment_id: Mapped[int | None] = mapped_column(ForeignKey("segment.id"))
    """None judges the answer as a whole."""
    criterion: Mapped[str] = mapped_column(String(20))
    value: Mapped[int | None]
    """1 yes, 0 no, None cannot judge."""
    withdrawn: Mapped[bool] = mapped_column(default=False)
    """True takes the person's earlier word back and says nothing instead."""
    adjudicates: Mapped[bool] = mapped_column(default=False)
    """True settles what others disagree on."""
    suggested: Mapped[bool] = mapped_column(default=False)
    """Whether a model's suggestion was seen first."""
    suggestion: Mapped[int | None]
    """What was suggested: 1 yes, 0 no."""
    suggester: Mapped[str | None] = mapped_column(String(200))
    """Which model suggested it."""
    note: Mapped[str | None] = mapped_column(Text)
    person_id: Mapped[int] = mapped_column(ForeignKey("person.id"))
    request: Mapped[str] = mapped_column(String(64))
    """Made by the asker, so that a request that is sent twice counts once."""
    at: Mapped[datetime.datetime]


APPEND_ONLY = {
    "sqlite": (
        "CREATE TRIGGER judgement_no_update BEFORE UPDATE ON judgement BEGIN SELECT RAISE(ABORT, 'judgements are never changed'); END",
        "CREATE TRIGGER judgement_no_delete BEFORE DELETE ON judgement BEGIN SELECT RAISE(ABORT, 'judgements are never removed'); END",
    ),
    "postgresql": (
        "CREATE FUNCTION judgement_stays() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION 'judgements are never changed or removed'; END $$",
        "CREATE TRIGGER judgement_stays BEFORE UPDATE OR DELETE ON judgement FOR EACH ROW EXECUTE FUNCTION judgement_stays()",
        "CREATE TRIGGER judgement_stays_whole BEFORE TRUNCATE ON judgement FOR EACH STATEMENT EXECUTE FUNCTION judgement_stays()",
    ),
}
"""What keeps judgements as they are, by database."""
