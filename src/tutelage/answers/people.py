"""Who may judge: accounts with hashed passwords, log-ins that are throttled by account, sessions that end.

Passwords are hashed by scrypt (RFC 7914). A session's token is known to its holder alone; the store keeps its digest.
"""

from __future__ import annotations

import datetime
import hashlib
import hmac
import re
import secrets

import sqlalchemy as sa
from sqlalchemy.orm import Session

from ..database.store import now
from ..errors import ConfigError, DataError
from .judging import Refused
from .store import Store
from .tables import Lease, LogIn, Person, Visit

ROLES = ("annotator", "adjudicator", "admin")
COST = (2**15, 8, 1)
"""scrypt's n, r and p: 32 MiB and about a tenth of a second."""
SHORTEST = 10
FAILURES, WINDOW = 5, datetime.timedelta(minutes=15)
"""Failed log-ins of an account within so long before it has to wait."""
HOURS = 12.0
"""How long a session lasts."""
AHEAD = datetime.timedelta(minutes=1)
"""How far the clocks of several servers may differ. What lies further ahead was written while a clock ran wrong, and does not count."""


def hashed(password: str) -> str:
    """The password's hash with its salt and costs, as text."""
    salt = secrets.token_bytes(16)
    return "$".join(["scrypt", *map(str, COST), salt.hex(), _scrypt(password, salt, COST).hex()])


def matches(password: str, kept: str | None) -> bool:
    """Whether a password is the one that was hashed; takes as long where there is none."""
    _, n, r, p, salt, digest = (kept or _NONE).split("$")
    found = _scrypt(password, bytes.fromhex(salt), (int(n), int(r), int(p)))
    return hmac.compare_digest(found, bytes.fromhex(digest)) and kept is not None


def _scrypt(password: str, salt: bytes, cost: tuple[int, int, int]) -> bytes:
    n, r, p = cost
    return hashlib.scrypt(password.encode(), salt=salt, n=n, r=r, p=p, maxmem=256 * n * r, dklen=32)


_ODD = r"\x00-\x1f\x7f\ud800-\udfff"
"""What no name holds: control characters, and halves of characters."""
_NONE = "$".join(["scrypt", *map(str, COST), "00" * 16, "00" * 32])


def add(store: Store, name: str, role: str, password: str) -> str:
    """Make an account; its pseudonym. Raises ConfigError for a role or a password that will not do, DataError for a name that is taken."""
    _known(role)
    if not re.fullmatch(rf"[^\s{_ODD}](?:[^{_ODD}]{{0,98}}[^\s{_ODD}])?", name):
        raise ConfigError("name: needs 1 to 100 letters, without line breaks, and no blank at its ends")
    _fit(password)
    with store.writing() as session:
        if session.scalar(sa.select(Person.id).where(Person.name == name)):
            raise DataError(f"name: there is an account '{name}' already; take another name")
        number = (session.scalar(sa.select(sa.func.count()).select_from(Person)) or 0) + 1
        pseudonym = f"person-{number}"
        session.add(Person(name=name, pseudonym=pseudonym, role=role, password=hashed(password), active=True, at=now()))
    return pseudonym


def change_password(store: Store, name: str, password: str) -> None:
    """Set an account's password, end its sessions and forget its failed log-ins. Raises DataError for a name that nobody has."""
    _fit(password)
    with store.writing() as session:
        person = _named(session, name)
        person.password = hashed(password)
        session.execute(sa.delete(Visit).where(Visit.person_id == person.id))
        session.execute(sa.delete(LogIn).where(LogIn.name == name))


def change(store: Store, name: str, *, role: str | None = None, active: bool | None = None) -> None:
    """Give an account another role, or close or open it; what they judged stays. A closed account's sessions end, and so do its leases.

    Raises ConfigError for a role that there is not, DataError for a name that nobody has.
    """
    with store.writing() as session:
        person = _named(session, name)
        if role is not None:
            _known(role)
            person.role = role
        if active is not None:
            person.active = active
        if active is False:
            session.execute(sa.delete(Visit).where(Visit.person_id == person.id))
            session.execute(sa.update(Lease).where(Lease.person_id == person.id, ~Lease.done).values(until=now()))


def _named(session: Session, name: str) -> Person:
    person = session.scalar(sa.select(Person).where(Person.name == name))
    if person is None:
        raise DataError(f"name: there is no account '{name}'")
    return person


def _known(role: str) -> None:
    if role not in ROLES:
        raise ConfigError(f"--role: '{role}' is none of {', '.join(ROLES)}")


def _fit(password: str) -> None:
    if not SHORTEST <= len(password) <= 200:
        raise ConfigError(f"password: needs {SHORTEST} to 200 letters; got {len(password)}")
    if re.search("[\ud800-\udfff]", password):
        raise ConfigError("password: holds bytes that are no text in this terminal's encoding")


def log_in(store: Store, name: str, password: str) -> str:
    """Begin a session; its token. Raises Refused, in the same words for a wrong name and a wrong password, and after too many tries."""
    with store.writing() as session:
        moment = now()
        session.execute(sa.delete(LogIn).where(sa.or_(LogIn.at < moment - WINDOW, LogIn.at > moment + AHEAD)))
        tried = session.scalar(sa.select(sa.func.count()).where(LogIn.name == name[:100])) or 0
        if tried >= FAILURES:
            raise Refused(f"too many tries for this account; wait {int(WINDOW.total_seconds() // 60)} minutes")
        session.add(LogIn(name=name[:100], at=moment))  # counts until the password proves right, so that many at once count too
        person = session.scalar(sa.select(Person).where(Person.name == name))
        kept = person.password if person is not None and person.active else None
        number = person.id if person is not None else None
    if not matches(password, kept) or number is None:
        raise Refused("name or password is wrong")
    token = secrets.token_urlsafe(32)
    with store.writing() as session:
        session.execute(sa.delete(LogIn).where(LogIn.name == name[:100]))
        session.execute(sa.delete(Visit).where(Visit.until < now()))
        session.add(Visit(digest=_digest(token), person_id=number, until=now() + datetime.timedelta(hours=HOURS)))
    return token


def who(store: Store, token: str) -> Person | None:
    """Whose session a token is; None where it has ended."""
    with store.reading() as session:
        latest = now() + datetime.timedelta(hours=HOURS) + AHEAD
        found = (
            sa.select(Person).join(Visit).where(Visit.digest == _digest(token), Visit.until > now(), Visit.until < latest, Person.active)
        )
        person = session.scalar(found)
        if person is not None:
            session.expunge(person)
        return person


def log_out(store: Store, token: str) -> None:
    """End a session for good."""
    with store.writing() as session:
        session.execute(sa.delete(Visit).where(Visit.digest == _digest(token)))


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
