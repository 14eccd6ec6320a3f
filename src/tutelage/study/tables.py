"""The tables of studies; `migrations/` makes them, and a test holds that both agree."""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, CheckConstraint, Double, ForeignKey, Index, LargeBinary, String, Text, UniqueConstraint
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

STATES = ("open", "running", "done", "failed")


class Base(DeclarativeBase):
    """All tables. Times are seconds since 1970 by the database's clock."""

    type_annotation_map = {dict[str, Any]: JSON, list[Any]: JSON, float: Double}  # noqa: RUF012


class StudyRow(Base):
    """A study, by its name, and what it was when it began."""

    __tablename__ = "study"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(200), unique=True)
    hash: Mapped[str] = mapped_column(String(64))
    definition: Mapped[dict[str, Any]]
    claims: Mapped[list[Any]]
    at: Mapped[float]


class CellRow(Base):
    """One run of a study. `fence` grows with every claim, so that a result can name the claim that it belongs to."""

    __tablename__ = "study_cell"
    __table_args__ = (
        UniqueConstraint("study_id", "number"),
        CheckConstraint(f"state in {STATES}", name="study_cell_state"),
        Index("study_cell_next", "study_id", "state", "number"),
    )
    id: Mapped[int] = mapped_column(primary_key=True)
    study_id: Mapped[int] = mapped_column(ForeignKey("study.id"))
    number: Mapped[int]
    trial: Mapped[int]
    seed: Mapped[int]
    key: Mapped[str] = mapped_column(String(64))
    point: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    recipe: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    state: Mapped[str] = mapped_column(String(10), default="open")
    fence: Mapped[int] = mapped_column(default=0)
    lost: Mapped[int] = mapped_column(default=0)
    """Leases that ran out in a row."""
    worker: Mapped[str | None] = mapped_column(String(200))
    until: Mapped[float | None]
    began: Mapped[float | None]
    ended: Mapped[float | None]
    result: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    examples: Mapped[bytes | None] = mapped_column(LargeBinary)
    """Arrays of what the student said of each test item, in numpy's npz."""
    reason: Mapped[str | None] = mapped_column(Text)
