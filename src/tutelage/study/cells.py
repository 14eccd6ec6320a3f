"""The cells of studies in a database: laid down once, claimed by one worker at a time, each with one accepted result.

A claim is a lease: it holds until a time by the database's clock, and heartbeats move that time. Every claim raises the cell's
fence, and a heartbeat or a result counts only while the cell runs under the fence that it names. So a worker that was killed,
paused or cut off loses its cell to another, and what it sends afterwards changes nothing.
"""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .. import config
from ..errors import ConfigError, MissingExtra
from .plan import Cell, Plan, Point, key_of

try:
    import sqlalchemy as sa
    from sqlalchemy.orm import Session
except ModuleNotFoundError:
    raise MissingExtra("a study's storage", "study") from None
from ..database.store import Database, Room
from .tables import STATES, Base, CellRow, StudyRow

ROOM = Room(
    what="studies", option="--storage", maker="tutelage study", metadata=Base.metadata,
    migrations=Path(__file__).parent / "migrations", lock=7361, version_table="study_version",
)  # fmt: skip
MOST_LOST = 4
"""Leases of a cell that may run out one after another before it counts as failed."""
CLOCKS = {"sqlite": "(julianday('now') - 2440587.5) * 86400.0", "postgresql": "extract(epoch from clock_timestamp())::float8"}
Ask = Callable[[Sequence[CellRow]], tuple[Point, Mapping[int, Mapping[str, Any]]]]
"""From all cells of a search to the next trial's point, and its recipe in full by seed."""


@dataclasses.dataclass(frozen=True)
class Claimed:
    """A cell that a worker holds under a fence."""

    id: int
    fence: int
    number: int
    seed: int
    point: Point


class Cells(Database):
    """The cells of one study. `clock` stands in for the database's own in tests.

    Raises ConfigError for a database that cannot be opened, and for a study that changed after it began, with the difference.
    """

    def __init__(self, url: str | Path, plan: Plan, *, make: bool = True, clock: Callable[[], float] | None = None):
        super().__init__(url, ROOM, make=make)
        self.plan, self.lease, self._clock = plan, plan.study.lease, clock
        with self.answering():
            self.study = self._begin(make)

    def now(self, session: Session) -> float:
        """The time, by the database's clock."""
        return self._clock() if self._clock else float(session.execute(sa.text(f"SELECT {CLOCKS[self.engine.dialect.name]}")).scalar_one())

    def _begin(self, make: bool) -> int:
        """Lay the study's cells down, all in one transaction, where its name is new; returns its number."""
        plan, name = self.plan, self.plan.study.name
        with self.writing() as session:
            known = session.scalar(sa.select(StudyRow).where(StudyRow.name == name))
            if known is None:
                if not make:
                    raise ConfigError(f"--storage: {self.shown} holds no study '{name}'; 'tutelage study' begins it")
                claims = config.dump(plan.claims)
                known = StudyRow(name=name, hash=plan.hash, definition=plan.definition, claims=claims, at=self.now(session))
                session.add(known)
                session.flush()
                session.add_all(_row(known.id, cell) for cell in plan.cells)
            elif known.hash != plan.hash:
                changed = self._difference(session, known)
                raise ConfigError(
                    f"{plan.source}: changed after the study '{name}' began: {'; '.join(changed[:4])}; undo it, or give another name"
                )
            return known.id

    def _difference(self, session: Session, known: StudyRow) -> list[str]:
        """What changed, by setting: in the study file, else in the recipes that it leads to, such as a default."""
        old, new = dict(known.definition), self.plan.definition
        if changed := config.difference({k: v for k, v in old.items() if k != "recipes"}, {k: v for k, v in new.items() if k != "recipes"}):
            return changed
        rows = session.scalars(sa.select(CellRow).where(CellRow.study_id == known.id).order_by(CellRow.number))
        for row, cell in zip(rows, self.plan.cells, strict=False):
            if changed := config.difference(row.recipe, config.dump(cell.recipe) if cell.recipe else None, f"cell {row.number}"):
                return changed
        return ["its cells"]

    # ---- claims

    def claim(self, worker: str, ask: Ask | None = None) -> Claimed | None:
        """Take the next cell that nobody holds; None where there is none now (see `left`).

        A cell whose leases ran out too often fails. `ask` chooses the point of a search's trial.
        """
        with self.writing(alone=False) as session:
            self._in_time(session)
            if ask:  # one at a time chooses
                session.execute(sa.select(StudyRow.id).where(StudyRow.id == self.study).with_for_update())
            now, mine = self.now(session), CellRow.study_id == self.study
            ran_out = sa.and_(CellRow.state == "running", CellRow.until < now)
            wanted = sa.select(CellRow).where(mine, sa.or_(CellRow.state == "open", ran_out)).order_by(CellRow.number)
            while (row := session.scalar(wanted.limit(1).with_for_update(skip_locked=True))) is not None:
                lost = row.lost + 1 if row.state == "running" else row.lost
                if lost < MOST_LOST:
                    break
                row.state, row.ended, row.lost = "failed", now, lost
                row.reason = f"{lost} workers were lost at it, the last {row.worker}: killed, perhaps for memory, or cut off"
                session.flush()
            if row is None:
                return None
            if row.point is None and ask:
                rows = session.scalars(sa.select(CellRow).where(mine).order_by(CellRow.number)).all()
                point, made = ask(rows)
                for own in (r for r in rows if r.trial == row.trial):
                    own.point, own.recipe = point, dict(made[own.seed])
            row.state, row.fence, row.lost, row.worker = "running", row.fence + 1, lost, worker
            row.began, row.until = now, now + self.lease
            assert row.point is not None
            return Claimed(row.id, row.fence, row.number, row.seed, row.point)

    def _in_time(self, session: Session) -> None:
        """Let PostgreSQL end a transaction whose worker stopped in it."""
        if not self.lite:
            session.execute(sa.text(f"SET LOCAL idle_in_transaction_session_timeout = {int(1000 * self.lease)}"))

    def beat(self, claimed: Claimed) -> bool:
        """Move the end of a lease; False where it was lost."""
        return self._change(claimed, lambda now: {"until": now + self.lease})

    def accept(self, claimed: Claimed, result: Mapping[str, Any], examples: Mapping[str, np.ndarray]) -> bool:
        """File a cell's result; False, and nothing is changed, where the lease was lost."""
        packed = io.BytesIO()
        np.savez_compressed(packed, **dict(examples))  # type: ignore[arg-type]
        done = {"state": "done", "result": dict(result), "examples": packed.getvalue(), "reason": None, "until": None}
        return self._change(claimed, lambda now: {**done, "ended": now})

    def fail(self, claimed: Claimed, reason: str) -> bool:
        """File why a cell failed; False where the lease was lost."""
        return self._change(claimed, lambda now: {"state": "failed", "reason": reason, "until": None, "ended": now})

    def release(self, worker: str) -> None:
        """Give back what a worker holds unfinished."""
        with self.writing(alone=False) as session:
            held = (CellRow.study_id == self.study, CellRow.worker == worker, CellRow.state == "running")
            session.execute(sa.update(CellRow).where(*held).values(state="open", until=None))

    def _change(self, claimed: Claimed, values: Callable[[float], dict[str, Any]]) -> bool:
        with self.writing(alone=False) as session:
            self._in_time(session)
            mine = (CellRow.id == claimed.id, CellRow.fence == claimed.fence, CellRow.state == "running")
            found: Any = session.execute(sa.update(CellRow).where(*mine).values(values(self.now(session))))
            return found.rowcount == 1

    def again(self) -> int:
        """Open failed cells again; returns how many."""
        failed = (CellRow.study_id == self.study, CellRow.state == "failed")
        with self.answering(), self.writing() as session:
            found: Any = session.execute(sa.update(CellRow).where(*failed).values(state="open", reason=None, lost=0, ended=None))
            return found.rowcount

    # ---- what there is

    def left(self) -> int:
        """Cells that are neither done nor failed."""
        with self.reading() as session:
            wanted = sa.select(sa.func.count()).where(CellRow.study_id == self.study, CellRow.state.in_(("open", "running")))
            return session.scalar(wanted) or 0

    def rows(self) -> list[CellRow]:
        """Every cell in order."""
        with self.answering(), self.reading() as session:
            return list(session.scalars(sa.select(CellRow).where(CellRow.study_id == self.study).order_by(CellRow.number)))

    def claims_at_start(self) -> list[Any]:
        """The claims that the study began with."""
        with self.reading() as session:
            return session.scalars(sa.select(StudyRow.claims).where(StudyRow.id == self.study)).one()

    def status(self) -> dict[str, Any]:
        """How many cells are in each state; who runs what, with seconds since it began and whether its lease ran out; what failed."""
        rows = self.rows()
        with self.reading() as session:
            now = self.now(session)
        out: dict[str, Any] = {"study": self.plan.study.name, "cells": len(rows)}
        out |= {state: sum(r.state == state for r in rows) for state in STATES}
        out["running_now"] = [
            _about(r) | {"worker": r.worker, "seconds": round(now - (r.began or now), 1), "lost": (r.until or now) < now}
            for r in rows if r.state == "running"
        ]  # fmt: skip
        out["failures"] = [_about(r) | {"reason": r.reason} for r in rows if r.state == "failed"]
        out["missing"] = [_about(r) for r in rows if r.state == "open"]
        return out


def _about(row: CellRow) -> dict[str, Any]:
    return {"cell": row.number, "point": row.point, "seed": row.seed}


def _row(study: int, cell: Cell) -> CellRow:
    recipe = config.dump(cell.recipe) if cell.recipe else None
    return CellRow(study_id=study, number=cell.number, trial=cell.trial, seed=cell.seed, key=key_of(cell), point=cell.point, recipe=recipe)


def examples_of(row: CellRow) -> dict[str, np.ndarray]:
    """The arrays of a finished cell: `each`, or `predicted` and `gold`."""
    with np.load(io.BytesIO(row.examples or b""), allow_pickle=False) as packed:
        return dict(packed)
