"""Accounts, log-ins and sessions."""

from __future__ import annotations

import datetime
import threading

import pytest
import sqlalchemy as sa

from tutelage.answers import people
from tutelage.answers.judging import Refused
from tutelage.answers.store import Store
from tutelage.answers.tables import Person, Visit
from tutelage.database.store import now
from tutelage.errors import ConfigError, DataError

PASSWORD = "a long enough word"


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.setattr(people, "COST", (2**4, 8, 1))
    made = Store(tmp_path / "answers.db")
    people.add(made, "Ada", "admin", PASSWORD)
    yield made
    made.close()


def test_passwords_are_kept_as_scrypt_hashes():
    first, second = people.hashed(PASSWORD), people.hashed(PASSWORD)
    assert first.startswith("scrypt$32768$8$1$") and first != second and PASSWORD not in first
    assert people.matches(PASSWORD, first) and people.matches(PASSWORD, second)
    assert not people.matches(PASSWORD + "x", first) and not people.matches(PASSWORD, None)


def test_scrypt_is_the_rfcs(monkeypatch):
    wanted = (
        "fdbabe1c9d3472007856e7190d01e9fe7c6ad7cbc8237830e77376634b3731622eaf30d92e22a3886ff109279d9830dac727afb94a83ee6d8360cbdfa2cc0640"
    )
    assert people._scrypt("password", b"NaCl", (1024, 8, 16)).hex() == wanted[:64], "RFC 7914, section 12, its first 32 bytes"


def test_a_session_begins_with_the_password_and_ends_with_log_out(store):
    token, other = people.log_in(store, "Ada", PASSWORD), people.log_in(store, "Ada", PASSWORD)
    assert token != other and people.who(store, token).role == "admin"
    with store.reading() as session:
        assert token not in {v.digest for v in session.scalars(sa.select(Visit))}
    people.log_out(store, token)
    assert people.who(store, token) is None and people.who(store, other).name == "Ada"
    assert people.who(store, "") is None and people.who(store, "x" * 10000) is None


def test_sessions_end_by_themselves_with_a_new_password_and_with_the_account(store, monkeypatch):
    token = people.log_in(store, "Ada", PASSWORD)
    later = now() + datetime.timedelta(hours=people.HOURS, seconds=1)
    with monkeypatch.context() as patch:
        patch.setattr(people, "now", lambda: later)
        assert people.who(store, token) is None
    people.change_password(store, "Ada", PASSWORD + "2")
    assert people.who(store, token) is None
    token = people.log_in(store, "Ada", PASSWORD + "2")
    with store.writing() as session:
        session.scalar(sa.select(Person)).active = False
    assert people.who(store, token) is None
    with pytest.raises(Refused, match="name or password is wrong"):
        people.log_in(store, "Ada", PASSWORD + "2")


def test_log_ins_are_throttled_by_account_known_or_not(store, monkeypatch):
    for name in ("Ada", "nobody"):
        for _ in range(people.FAILURES):
            with pytest.raises(Refused, match="name or password is wrong"):
                people.log_in(store, name, "a wrong password")
        with pytest.raises(Refused, match="too many tries for this account; wait 15 minutes"):
            people.log_in(store, name, PASSWORD)
    people.add(store, "Bob", "annotator", PASSWORD)
    people.log_in(store, "Bob", PASSWORD)
    later = now() + people.WINDOW + datetime.timedelta(seconds=1)
    monkeypatch.setattr(people, "now", lambda: later)
    assert people.log_in(store, "Ada", PASSWORD)


def test_many_tries_at_once_are_counted(store):
    said = []

    def attempt():
        try:
            people.log_in(store, "Ada", "a wrong password")
        except Refused as fault:
            said.append(str(fault))

    threads = [threading.Thread(target=attempt) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum("is wrong" in s for s in said) == people.FAILURES and len(said) == 20


@pytest.mark.parametrize(
    ("name", "role", "password", "fault", "sentence"),
    [
        ("Ada", "annotator", PASSWORD, DataError, "there is an account 'Ada' already"),
        ("Bob", "king", PASSWORD, ConfigError, "'king' is none of annotator, adjudicator, admin"),
        ("Bob", "admin", "short", ConfigError, "needs 10 to 200 letters; got 5"),
        (" Bob", "admin", PASSWORD, ConfigError, "needs 1 to 100 letters"),
        ("", "admin", PASSWORD, ConfigError, "needs 1 to 100 letters"),
        ("B\nob", "admin", PASSWORD, ConfigError, "without line breaks"),
        ("B\udcffob", "admin", PASSWORD, ConfigError, "needs 1 to 100 letters"),
        ("Bob", "admin", PASSWORD + "\udcff", ConfigError, "holds bytes that are no text"),
    ],
)
def test_accounts_that_cannot_be(store, name, role, password, fault, sentence):
    with pytest.raises(fault, match=sentence):
        people.add(store, name, role, password)


def test_names_may_be_of_any_script_and_pseudonyms_tell_nothing(store):
    assert people.add(store, "Žofie 李 O'Neil; DROP TABLE", "annotator", PASSWORD) == "person-2"
    assert people.who(store, people.log_in(store, "Žofie 李 O'Neil; DROP TABLE", PASSWORD)).pseudonym == "person-2"


def test_a_clock_that_ran_ahead_locks_nobody_out_and_keeps_nobody_in(store, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(people, "now", lambda: now() + datetime.timedelta(days=300))
        token = people.log_in(store, "Ada", PASSWORD)
        for _ in range(people.FAILURES):
            with pytest.raises(Refused):
                people.log_in(store, "Ada", "a wrong password")
    assert people.who(store, token) is None
    assert people.who(store, people.log_in(store, "Ada", PASSWORD)).name == "Ada"


def test_a_new_password_forgets_the_log_ins_that_failed(store):
    for _ in range(people.FAILURES):
        with pytest.raises(Refused):
            people.log_in(store, "Ada", "a wrong password")
    people.change_password(store, "Ada", PASSWORD + "2")
    assert people.log_in(store, "Ada", PASSWORD + "2")


def test_an_account_is_closed_opened_and_given_another_role(store):
    token = people.log_in(store, "Ada", PASSWORD)
    people.change(store, "Ada", role="annotator")
    assert people.who(store, token).role == "annotator"
    people.change(store, "Ada", active=False)
    assert people.who(store, token) is None
    with pytest.raises(Refused, match="name or password is wrong"):
        people.log_in(store, "Ada", PASSWORD)
    people.change(store, "Ada", active=True)
    assert people.who(store, token) is None and people.log_in(store, "Ada", PASSWORD)
    with pytest.raises(ConfigError, match="'king' is none of"):
        people.change(store, "Ada", role="king")
    with pytest.raises(DataError, match="there is no account 'Bob'"):
        people.change(store, "Bob", active=False)
