"""A database that a room of this package keeps its records in: opened, migrated, and written to one transaction at a time.

SQLite keeps a write-ahead log and runs with `synchronous=FULL`: what was acknowledged survives a power loss, so far as the disk
keeps its own promises. Every change is one transaction that holds the write lock from its beginning, so that two writers never meet.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import exc
from sqlalchemy.orm import Session
from sqlalchemy.types import TypeDecorator

from .. import records
from ..errors import ConfigError, RunError

SECONDS = 60.0
"""How long a writer waits for another one."""

FULL = re.compile("disk is full|No space left|readonly|read-only|disk I/O")
DISK = re.compile(f"{FULL.pattern}|unable to open|malformed|not a database")
"""What SQLite and PostgreSQL say of a disk or a file that is at fault."""


class Moment(TypeDecorator):
    """A time in UTC, aware in Python on every database."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime.datetime | None, dialect: Any) -> datetime.datetime | None:
        return None if value is None else value.astimezone(datetime.UTC)

    def process_result_value(self, value: datetime.datetime | None, dialect: Any) -> datetime.datetime | None:
        return None if value is None else value.replace(tzinfo=value.tzinfo or datetime.UTC)


def now() -> datetime.datetime:
    """The time in UTC."""
    return datetime.datetime.now(datetime.UTC)


_NO_TEXT = re.compile("[\x00\ud800-\udfff]")


def unfit(row: Any) -> str | None:
    """What of a row no database holds alike, such as 'query_id has 300 letters, and at most 200 are kept'; None where all fits.

    Numbers have 32 bits, texts no NUL and no half of a character, short texts as many letters as their column says.
    """
    for column in row.__table__.columns:
        value = getattr(row, column.key)
        if isinstance(value, int) and not -(2**31) <= value < 2**31:
            shown = value if value.bit_length() <= 64 else f"a number of {value.bit_length()} bits"
            return f"{column.key} is {shown}, and numbers of at most 32 bits are kept"
        if isinstance(value, str):
            if found := _NO_TEXT.search(value):
                return f"{column.key} holds {'NUL' if found[0] == chr(0) else 'half of a character (a lone surrogate)'}, which is no text"
            most = getattr(column.type, "length", None)
            if most is not None and len(value) > most:
                return f"{column.key} has {len(value)} letters, and at most {most} are kept"
    return None


@dataclasses.dataclass(frozen=True)
class Room:
    """What a room keeps in a database, and how its faults are told."""

    what: str
    """What the database is for: 'answers'."""
    option: str
    """The option that names it: '--store'."""
    maker: str
    """The command that makes one."""
    metadata: sa.MetaData
    migrations: Path
    lock: int
    """Number of the lock that holds off others while tables are made; writers take the next one."""
    version_table: str = "alembic_version"


class Database:
    """An open database of a room. `url` is a file's path, or a URL such as postgresql+psycopg://user@host/name.

    Raises ConfigError for a database that is down, that this version does not know, or whose driver is missing; without `make` also
    for a file that is not there.
    """

    def __init__(self, url: str | Path, room: Room, *, make: bool = True):
        self.url = str(url) if "://" in str(url) else f"sqlite:///{Path(url).expanduser().absolute()}"
        self.room, option = room, room.option
        try:
            parsed = sa.make_url(self.url)
            self.shown = parsed.render_as_string(hide_password=True)
            if parsed.get_backend_name() not in ("sqlite", "postgresql"):
                raise ConfigError(f"{option}: {self.shown} is neither SQLite nor PostgreSQL")
            if parsed.get_backend_name() == "sqlite" and parsed.database:
                if not make and not Path(parsed.database).exists():
                    raise ConfigError(f"{option}: {parsed.database}: no such store; '{room.maker}' makes one")
                with records.saving(Path(parsed.database).parent):
                    Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
            self.engine = sa.create_engine(parsed, **self._pool(parsed))
        except exc.ArgumentError:
            raise ConfigError(f"{option}: '{url}' is no path and no URL of a database") from None
        except ModuleNotFoundError as fault:
            raise ConfigError(f"{option}: needs the package {fault.name}; pip install {fault.name}") from None
        self.lite = self.engine.dialect.name == "sqlite"
        self._turn = threading.Lock() if self.lite else contextlib.nullcontext()
        """Writers of a process take turns here: in SQLite's own queue they sleep between looks, and the unlucky sleep for seconds."""
        if self.lite:
            sa.event.listen(self.engine, "connect", _sqlite)
            sa.event.listen(self.engine, "begin", _begin)
        with self.answering():
            self._migrate()

    @staticmethod
    def _pool(url: sa.URL) -> dict[str, Any]:
        if url.get_backend_name() == "sqlite":
            return {"max_overflow": -1, "connect_args": {"timeout": SECONDS, "check_same_thread": False}}
        return {"pool_pre_ping": True, "pool_size": 10, "max_overflow": 20, "connect_args": {"connect_timeout": 10}}

    @contextlib.contextmanager
    def answering(self) -> Iterator[None]:
        """Turn what the database itself refuses into one sentence."""
        try:
            yield
        except exc.DBAPIError as fault:
            said = str(fault.orig).strip().splitlines()[0]
            if isinstance(fault, exc.OperationalError) and FULL.search(said):
                raise self._harm(said) from None
            away = isinstance(fault, exc.OperationalError) and not re.search("already exists|no such|has no column", said)
            what = "does not answer" if away else f"is no store of {self.room.what}"
            raise ConfigError(f"{self.room.option}: {self.shown} {what}: {said}") from None

    @contextlib.contextmanager
    def on_disk(self) -> Iterator[None]:
        """Turn a full, read-only or damaged disk into one sentence."""
        try:
            yield
        except exc.DBAPIError as fault:
            said = str(fault.orig).strip().split("\n")[0]
            if not DISK.search(said):
                raise
            raise self._harm(said) from None

    def _harm(self, said: str) -> RunError:
        mend = "free some space, or mend or move the file, and start the same command again; what was kept stays"
        return RunError(f"{self.room.option}: {self.shown}: {said}; {mend}")

    def alembic(self, connection: sa.Connection) -> Any:
        """Alembic's configuration of the room's tables on a connection, for its commands."""
        from alembic.config import Config

        made, room = Config(), self.room
        made.set_main_option("script_location", str(Path(__file__).parent))
        made.set_main_option("version_locations", str(room.migrations))
        made.set_main_option("path_separator", "newline")
        made.attributes |= {"connection": connection, "target_metadata": room.metadata, "version_table": room.version_table}
        return made

    def _migrate(self) -> None:
        from alembic import command
        from alembic.util.exc import CommandError

        room = self.room
        try:
            with self.engine.execution_options(writes=True).begin() as connection:
                if not self.lite:
                    connection.execute(sa.text(f"SELECT pg_advisory_xact_lock({room.lock})"))
                command.upgrade(self.alembic(connection), "head")
        except CommandError as fault:
            raise ConfigError(f"{room.option}: {self.shown} is of another version of Tutelage ({fault}); update Tutelage") from None

    @contextlib.contextmanager
    def writing(self, *, alone: bool = True) -> Iterator[Session]:
        """A session whose changes are kept together when the block ends, or not at all; `alone` in the whole database."""
        with self.on_disk(), self._turn, Session(self.engine.execution_options(writes=True)) as session, session.begin():
            if alone and not self.lite:
                session.execute(sa.text(f"SELECT pg_advisory_xact_lock({self.room.lock + 1})"))
            yield session

    @contextlib.contextmanager
    def reading(self) -> Iterator[Session]:
        """A session that sees one state of the store."""
        with self.on_disk(), Session(self.engine) as session:
            yield session

    def close(self) -> None:
        """Let go of all connections."""
        self.engine.dispose()


def _sqlite(connection: Any, record: Any) -> None:
    """Each new connection: the driver begins no transactions by itself, and what is said is on the disk."""
    connection.isolation_level = None
    for line in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", f"busy_timeout={int(1000 * SECONDS)}"):
        connection.execute(f"PRAGMA {line}").close()


def _begin(connection: Any) -> None:
    """A writer takes the lock before it reads, so that what it decides on still holds when it writes."""
    connection.exec_driver_sql("BEGIN IMMEDIATE" if connection.get_execution_options().get("writes") else "BEGIN")
