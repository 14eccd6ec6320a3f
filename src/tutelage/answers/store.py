"""The store of questions, answers and judgements: SQLite in a file, or PostgreSQL by its URL; migrated when it is opened.

SQLite keeps a write-ahead log and runs with `synchronous=FULL`: what was acknowledged survives a power loss, so far as the disk
keeps its own promises. Every change is one transaction that holds the write lock from its beginning, so that two writers never meet.
"""

from __future__ import annotations

import contextlib
import datetime
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from ..cited import hagrid
from ..errors import ConfigError, DataError, MissingExtra

try:
    import sqlalchemy as sa
    from sqlalchemy import exc
    from sqlalchemy.orm import Session, selectinload
except ModuleNotFoundError:
    raise MissingExtra("the store of answers", "answers") from None
from .tables import Answer, Question, Quote, Segment

MIGRATIONS = Path(__file__).parent / "migrations"
SECONDS = 60.0
"""How long a writer waits for another one."""


def now() -> datetime.datetime:
    """The time in UTC."""
    return datetime.datetime.now(datetime.UTC)


class Store:
    """An open database. `url` is a file's path, or a URL such as postgresql+psycopg://user@host/name.

    Raises ConfigError for a database that is down, that this version does not know, or whose driver is missing; without `make` also
    for a file that is not there.
    """

    def __init__(self, url: str | Path, *, make: bool = True):
        self.url = str(url) if "://" in str(url) else f"sqlite:///{Path(url).expanduser().absolute()}"
        try:
            parsed = sa.make_url(self.url)
            self.shown = parsed.render_as_string(hide_password=True)
            if parsed.get_backend_name() not in ("sqlite", "postgresql"):
                raise ConfigError(f"--store: {self.shown} is neither SQLite nor PostgreSQL")
            if parsed.get_backend_name() == "sqlite" and parsed.database:
                if not make and not Path(parsed.database).exists():
                    raise ConfigError(f"--store: {parsed.database}: no such store; 'tutelage answers collect' makes one")
                Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
            self.engine = sa.create_engine(parsed, **self._pool(parsed))
        except exc.ArgumentError:
            raise ConfigError(f"--store: '{url}' is no path and no URL of a database") from None
        except ModuleNotFoundError as fault:
            raise ConfigError(f"--store: needs the package {fault.name}; pip install {fault.name}") from None
        self.lite = self.engine.dialect.name == "sqlite"
        self._turn = threading.Lock() if self.lite else contextlib.nullcontext()
        """Writers of a process take turns here: in SQLite's own queue they sleep between looks, and the unlucky sleep for seconds."""
        if self.lite:
            sa.event.listen(self.engine, "connect", _sqlite)
            sa.event.listen(self.engine, "begin", _begin)
        self._migrate()

    @staticmethod
    def _pool(url: sa.URL) -> dict[str, Any]:
        if url.get_backend_name() == "sqlite":
            return {"max_overflow": -1, "connect_args": {"timeout": SECONDS, "check_same_thread": False}}
        return {"pool_pre_ping": True, "pool_size": 10, "max_overflow": 20, "connect_args": {"connect_timeout": 10}}

    def _migrate(self) -> None:
        from alembic import command
        from alembic.config import Config
        from alembic.util.exc import CommandError

        made = Config()
        made.set_main_option("script_location", str(MIGRATIONS))
        try:
            with self.engine.execution_options(writes=True).begin() as connection:
                if not self.lite:
                    connection.execute(sa.text("SELECT pg_advisory_xact_lock(7351)"))
                made.attributes["connection"] = connection
                command.upgrade(made, "head")
        except CommandError as fault:
            raise ConfigError(f"--store: {self.shown} is of another version of Tutelage ({fault}); update Tutelage") from None
        except exc.OperationalError as fault:
            raise ConfigError(f"--store: {self.shown} does not answer: {str(fault.orig).strip().splitlines()[0]}") from None
        except exc.DBAPIError as fault:
            raise ConfigError(f"--store: {self.shown} is no store of answers: {str(fault.orig).strip().splitlines()[0]}") from None

    @contextlib.contextmanager
    def writing(self) -> Iterator[Session]:
        """A session whose changes are kept together when the block ends, or not at all."""
        with self._turn, Session(self.engine.execution_options(writes=True)) as session, session.begin():
            if not self.lite:
                session.execute(sa.text("SELECT pg_advisory_xact_lock(7352)"))
            yield session

    @contextlib.contextmanager
    def reading(self) -> Iterator[Session]:
        """A session that sees one state of the store."""
        with Session(self.engine) as session:
            yield session

    def close(self) -> None:
        """Let go of all connections."""
        self.engine.dispose()

    # ---- HAGRID's records

    def take(self, questions: Iterable[hagrid.Question]) -> int:
        """Put questions in, all or none; returns how many. Raises DataError for a question id that is there already."""
        count = 0
        with self.writing() as session:
            known = set(session.scalars(sa.select(Question.query_id)))
            for one in questions:
                if one.query_id in known:
                    raise DataError(f"question '{one.query_id}' is in {self.shown} already; nothing was imported")
                known.add(one.query_id)
                session.add(row_of(one))
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


def _sqlite(connection: Any, record: Any) -> None:
    """Each new connection: the driver begins no transactions by itself, and what is said is on the disk."""
    connection.isolation_level = None
    for line in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", f"busy_timeout={int(1000 * SECONDS)}"):
        connection.execute(f"PRAGMA {line}").close()


def _begin(connection: Any) -> None:
    """A writer takes the lock before it reads, so that what it decides on still holds when it writes."""
    connection.exec_driver_sql("BEGIN IMMEDIATE" if connection.get_execution_options().get("writes") else "BEGIN")
