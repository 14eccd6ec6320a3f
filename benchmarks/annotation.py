"""The judges' pages under load: requests a second, median and 99th percentile by kind of request, on SQLite and PostgreSQL.

    python benchmarks/annotation.py                                  # SQLite, and PostgreSQL where its programs are installed
    python benchmarks/annotation.py --databases sqlite --judges 10 --seconds 10

Each round makes a store with answers to judge and `--filled` judgements that are there already, serves it by `tutelage answers
annotate` on loopback, and lets `--judges` people work at once without a pause: next answer (a redirect), its page, a judgement.
Then the admin's and the adjudicator's pages are asked for, one at a time. The judges are threads of this process on the same
machine, so that they take their share of its cores; log-ins are not measured.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
import uuid
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import sqlalchemy as sa

sys.path.append(str(Path(__file__).parents[1] / "tests"))
import postgres
from serving import free_port

from tutelage.answers import judging, people
from tutelage.answers.store import Store, now
from tutelage.answers.tables import Answer, Judgement, Lease, Person
from tutelage.cited import hagrid

PASSWORD, HEADERS = "a long enough word", {"content-type": "application/x-www-form-urlencoded"}
SEGMENTS, QUOTES, WORDS = 3, 3, 80
"""Of an answer, of a question, of a quote."""


class Visitor:
    """One browser: a connection that is kept, and cookies."""

    def __init__(self, port: int, name: str):
        self.wire, self.cookies, self.times = http.client.HTTPConnection("127.0.0.1", port, timeout=120), {}, defaultdict(list)
        door = re.search(r'name="door" value="([^"]+)"', self.ask("GET", "/login")[1])[1]  # type: ignore[index]
        status, *_ = self.ask("POST", "/login", {"name": name, "password": PASSWORD, "door": door})
        assert status == 303, status

    def ask(self, method: str, path: str, form: dict[str, str] | None = None, kind: str = "") -> tuple[int, str, str]:
        """Status, body and where it points; the time is kept under `kind`."""
        start = time.perf_counter()
        cookies = {"cookie": "; ".join(f"{k}={v}" for k, v in self.cookies.items())}
        self.wire.request(method, path, urllib.parse.urlencode(form) if form else None, cookies | (HEADERS if form else {}))
        reply = self.wire.getresponse()
        body = reply.read().decode()
        self.times[kind].append(time.perf_counter() - start)
        for name, value in reply.getheaders():
            if name == "set-cookie":
                key, _, rest = value.partition("=")
                self.cookies[key] = rest.partition(";")[0]
        return reply.status, body, reply.getheader("location", "")

    def judge(self, until: float) -> None:
        """Judge until then, or until nothing is left."""
        draw = random.Random(str(self.cookies))
        while time.perf_counter() < until:
            status, _, where = self.ask("GET", "/", kind="next answer")
            if status != 303:
                return
            status, page, _ = self.ask("GET", where, kind="page")
            assert status == 200, status
            form = dict(re.findall(r'name="(csrf|sent)" value="([^"]+)"', page))
            form |= {name: draw.choice(["yes", "yes", "no"]) for name in re.findall(r'type="radio" name="([^"]+)" value="yes"', page)}
            status, *_ = self.ask("POST", where, form, kind="judgement")
            assert status == 303, status


def questions(number: int) -> Iterator[hagrid.Question]:
    """Made-up questions, each with an answer of several cited parts."""
    draw = random.Random(0)
    words = lambda many: " ".join(f"word{draw.randint(0, 2000)}" for _ in range(many))  # noqa: E731
    for i in range(number):
        parts = [f"{words(15)} [{draw.randint(1, QUOTES)}][{draw.randint(1, QUOTES)}]." for _ in range(SEGMENTS)]
        quotes = [{"idx": q + 1, "docid": f"d{q}", "text": words(WORDS)} for q in range(QUOTES)]
        tree = {
            "query_id": str(i), "query": words(8), "quotes": quotes,
            "answers": [{"answer": " ".join(parts), "sentences": [{"text": p, "index": j} for j, p in enumerate(parts)]}],
        }  # fmt: skip
        yield hagrid.Question.model_validate(tree)


def fill(store: Store, given: argparse.Namespace) -> None:
    """Answers, accounts, and judgements of answers that two people have judged in full."""
    done = given.filled // (2 * (SEGMENTS + 1))
    store.take(questions(done + given.answers))
    people.COST = (2**4, 8, 1)
    for i in range(given.judges):
        people.add(store, f"judge {i}", "annotator", PASSWORD)
    people.add(store, "admin", "admin", PASSWORD)
    draw, said, leases = random.Random(1), [], []
    with store.writing() as session:
        judges = session.scalars(sa.select(Person.id).where(Person.role == "annotator")).all()
        for answer in session.scalars(sa.select(Answer).order_by(Answer.id).limit(done)):
            for person in draw.sample(judges, 2):
                leases.append({"answer_id": answer.id, "person_id": person, "until": now(), "done": True})
                for segment, criterion in judging.criteria_of(answer):
                    said.append({
                        "answer_id": answer.id, "segment_id": segment, "criterion": criterion, "value": int(draw.random() < 0.8),
                        "withdrawn": False, "adjudicates": False, "suggested": False, "person_id": person, "request": uuid.uuid4().hex,
                        "at": now(),
                    })  # fmt: skip
        for table, rows in ((Lease, leases), (Judgement, said)):
            if rows:
                session.execute(sa.insert(table), rows)


@contextlib.contextmanager
def served(url: str) -> Iterator[int]:
    """The port of the pages, served by a process of their own."""
    port = free_port()
    words = [sys.executable, "-m", "tutelage", "answers", "annotate", "--store", url, "--port", str(port)]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL)
    try:
        while process.poll() is None:
            with contextlib.suppress(ConnectionRefusedError):
                http.client.HTTPConnection("127.0.0.1", port).connect()
                break
            time.sleep(0.1)
        yield port
    finally:
        process.terminate()
        process.wait()


def load(url: str, given: argparse.Namespace) -> Iterator[str]:
    """Rows of a table: kind of request, how many, how many a second, median and 99th percentile in milliseconds."""
    store = Store(url)
    fill(store, given)
    with served(url) as port:
        many = [Visitor(port, f"judge {i}") for i in range(given.judges)]
        start = time.perf_counter()
        threads = [threading.Thread(target=one.judge, args=(start + given.seconds,)) for one in many]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        spent = time.perf_counter() - start
        kinds = {kind: np.array([t for one in many for t in one.times[kind]]) for kind in ("next answer", "page", "judgement")}
        kinds |= {"all": np.concatenate(list(kinds.values()))}
        admin = Visitor(port, "admin")
        for path in ("/progress", "/disputes", re.search(r'"(/disputes/\d+)"', admin.ask("GET", "/disputes")[1])[1]):  # type: ignore[index]
            for _ in range(given.repeats):
                assert admin.ask("GET", path, kind=path)[0] == 200
    for kind, each in kinds.items():
        yield f"| {kind} | {len(each)} | {len(each) / spent:.0f} | {milliseconds(each, 50)} | {milliseconds(each, 99)} |"
    for path in admin.times:
        if path:
            yield f"| {path} alone | {given.repeats} | | {milliseconds(np.array(admin.times[path]), 50)} | |"
    with store.reading() as session:
        number = session.scalar(sa.select(sa.func.count()).select_from(Judgement))
    store.close()
    yield f"{number} judgements at the end, of them {given.filled // (2 * SEGMENTS + 2) * (2 * SEGMENTS + 2)} at the beginning"


def milliseconds(each: np.ndarray, percent: float) -> str:
    return f"{1000 * np.percentile(each, percent):.0f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--databases", default="sqlite,postgresql", help="by commas")
    parser.add_argument("--judges", type=int, default=50, help="people at work at once")
    parser.add_argument("--seconds", type=float, default=20, help="how long they work")
    parser.add_argument("--answers", type=int, default=3000, help="answers to judge, each by two")
    parser.add_argument("--filled", type=int, default=20_000, help="judgements that are there at the beginning")
    parser.add_argument("--repeats", type=int, default=5, help="times that a page is asked for alone")
    given = parser.parse_args()
    print(json.dumps({**vars(given), "cores": os.cpu_count(), "load": os.getloadavg()[0]}))
    for name in given.databases.split(","):
        with tempfile.TemporaryDirectory(prefix="pg-") as folder:
            os.chmod(folder, 0o755)
            if name == "postgresql" and postgres.programs() is None:
                print("postgresql: its programs are not installed")
                continue
            server = postgres.Server(Path(folder)) if name == "postgresql" else None
            print(f"\n{name}\n\n| request | number | a second | median, ms | 99th percentile, ms |\n|---|---|---|---|---|")
            try:
                for row in load(server.fresh() if server else f"{folder}/answers.db", given):
                    print(row, flush=True)
            finally:
                if server:
                    server.stop("immediate")


if __name__ == "__main__":
    main()
