"""The server of the judges' pages, killed by SIGKILL while they post: what it acknowledged is there once after a restart."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections import Counter

import httpx2
import pytest
import sqlalchemy as sa
from postgres import postgres  # noqa: F401
from serving import free_port
from test_answers_store import questions
from test_web import PASSWORD, judge, log_in, next_of

from tutelage.answers import people
from tutelage.answers.store import Store
from tutelage.answers.tables import Judgement, Lease, Person
from tutelage.answers.web.serve import SECRET

JUDGES, WORDS = 8, 3


@pytest.fixture
def start():
    """Starts the verb in a process of its own and waits until it listens. The secret stays, so that sessions outlive the process."""
    made: list[subprocess.Popen] = []
    yield lambda url, port: made.append(started(url, port)) or made[-1]
    for process in made:
        process.kill()
        process.wait()


def started(url: str, port: int) -> subprocess.Popen:
    words = ["answers", "annotate", "--store", url, "--port", str(port), "--overlap", str(JUDGES)]
    process = subprocess.Popen([sys.executable, "-m", "tutelage", *words], env=os.environ | {SECRET: "s" * 32}, stdout=subprocess.DEVNULL)
    until = time.monotonic() + 60
    while time.monotonic() < until and process.poll() is None:
        try:
            httpx2.get(f"http://127.0.0.1:{port}/login")
            return process
        except httpx2.TransportError:
            time.sleep(0.1)
    process.kill()
    raise AssertionError("the server did not start")


class Judge:
    """Someone who judges over HTTP until there is nothing left or the server is gone; keeps what was acknowledged and what was not."""

    def __init__(self, name: str, base: str):
        self.name, self.client = name, httpx2.Client(base_url=base, timeout=60)
        self.kept: list[tuple[str, int, str]] = []
        self.open: tuple[str, dict[str, str]] | None = None
        log_in(self.client, name)

    def work(self) -> None:
        """Judge on; a form that the server never answered is sent again first."""
        try:
            if self.open:
                self._acknowledged(self.client.post(self.open[0], data=self.open[1]))
            while where := next_of(self.client):
                self._acknowledged(judge(self.client, where, before=lambda data, where=where: setattr(self, "open", (where, data)))[0])
        except httpx2.TransportError:
            pass

    def _acknowledged(self, reply: httpx2.Response) -> None:
        assert self.open and reply.status_code == 303, reply.text
        self.kept.append((self.name, int(self.open[0].split("/")[-1]), self.open[1]["sent"]))
        self.open = None


@pytest.mark.kill
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_what_the_server_acknowledged_survives_its_kill_under_load(kind, request, tmp_path, monkeypatch, start):
    monkeypatch.setattr(people, "COST", (2**4, 8, 1))
    url = str(tmp_path / "answers.db") if kind == "sqlite" else request.getfixturevalue("postgres").fresh()
    store = Store(url)
    store.take(questions(16))
    for i in range(JUDGES):
        people.add(store, f"judge {i}", "annotator", PASSWORD)
    store.close()
    port = free_port()
    process = start(url, port)
    many = [Judge(f"judge {i}", f"http://127.0.0.1:{port}") for i in range(JUDGES)]
    cut: set[str] = set()
    for kill_after in (15, 45, None):
        threads = [threading.Thread(target=one.work) for one in many]
        for thread in threads:
            thread.start()
        if kill_after:
            while sum(len(one.kept) for one in many) < kill_after and any(thread.is_alive() for thread in threads):
                time.sleep(0.001)
            process.kill()
            process.wait()
        for thread in threads:
            thread.join()
        told = {row for one in many for row in one.kept}
        store = Store(url)
        with store.writing() as session:  # waits for what the database still does for the dead
            wanted = sa.select(Person.name, Judgement.answer_id, Judgement.request).join(Person, Person.id == Judgement.person_id)
            rows = Counter((name, answer, sent.split(".")[0]) for name, answer, sent in session.execute(wanted))
            done = {tuple(row) for row in session.execute(sa.select(Person.name, Lease.answer_id).join(Person).where(Lease.done))}
        store.close()
        assert told <= set(rows), "acknowledged and gone"
        assert set(rows.values()) == {WORDS}, "a form's words stand together or not at all, and never twice"
        assert max(Counter((name, answer) for name, answer, _ in rows).values()) == 1, "nobody judged an answer twice"
        assert done == {(name, answer) for name, answer, _ in rows}
        cut |= {one.open[1]["sent"] for one in many if one.open}
        if kill_after:
            assert len(told) < 16 * JUDGES, "the kill came when all was done"
            process = start(url, port)
    assert cut, "no form was under way when the server was killed"
    assert len(told) == 16 * JUDGES and told == set(rows), "sessions and forms went on after each restart, and all was judged"
