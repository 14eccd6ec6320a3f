"""The pages of judges: from log-in to a settled dispute, and what they refuse."""

from __future__ import annotations

import html
import re
import uuid

import pytest
import sqlalchemy as sa
from fastapi.testclient import TestClient
from postgres import postgres  # noqa: F401
from serving import serving
from test_answers_store import questions

from tutelage.answers import outcomes, people
from tutelage.answers.judging import Rules
from tutelage.answers.store import Store
from tutelage.answers.tables import Judgement
from tutelage.answers.web.app import create
from tutelage.answers.web.guard import MOST_BYTES
from tutelage.answers.web.marked import marked
from tutelage.cited import hagrid

PASSWORD = "a long enough word"
NASTY = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>&amp;{{ 7000*7 }}{% raw %}"


@pytest.fixture
def store(request, tmp_path, monkeypatch):
    monkeypatch.setattr(people, "COST", (2**4, 8, 1))
    there = getattr(request, "param", "sqlite") == "postgresql"
    made = Store(request.getfixturevalue("postgres").fresh() if there else tmp_path / "answers.db")
    made.take(questions(2))
    for name, role in (("ann", "annotator"), ("bob", "annotator"), ("eve", "annotator"), ("cy", "adjudicator"), ("ada", "admin")):
        people.add(made, name, role, PASSWORD)
    yield made
    made.close()


@pytest.fixture
def app(store):
    return create(store, Rules(overlap=2), secret=b"s" * 32, hosts=["localhost"], secure=False)


def client(app):
    return TestClient(app, base_url="http://localhost", follow_redirects=False)


def hidden(page, name):
    return html.unescape(re.search(rf'name="{name}" value="([^"]+)"', page.text)[1])


def undo_of(page):
    """The fields of the form that takes words back."""
    form = page.text[page.text.index('action="/undo"') :]
    return {name: re.search(rf'name="{name}" value="([^"]+)"', form)[1] for name in ("csrf", "sent")}


def log_in(made, name):
    page = made.get("/login")
    done = made.post("/login", data={"name": name, "password": PASSWORD, "door": hidden(page, "door")})
    assert done.status_code == 303, done.text


def enter(app, name):
    made = client(app)
    log_in(made, name)
    return made


def next_of(made):
    where = made.get("/")
    return where.headers["location"] if where.status_code == 303 else None


def judge(made, where, values=None, before=lambda data: None, **more):
    """Say yes to all but `values`; the reply, the names of the choices, and the form, which `before` sees before it is sent."""
    page = made.get(where)
    names = re.findall(r'type="radio" name="([^"]+)" value="yes"', page.text)
    data = {"csrf": hidden(page, "csrf"), "sent": hidden(page, "sent"), **{n: "yes" for n in names}, **(values or {}), **more}
    if 'name="shown"' in page.text:
        data["shown"] = hidden(page, "shown")
    before(data)
    return made.post(where, data=data), names, data


@pytest.mark.parametrize("store", ["sqlite", "postgresql"], indirect=True)
def test_two_judge_disagree_and_a_third_settles(app, store):
    ann, bob, cy = enter(app, "ann"), enter(app, "bob"), enter(app, "cy")
    where = next_of(ann)
    assert where == next_of(bob)
    done, names, _ = judge(ann, where)
    assert done.status_code == 303 and len(names) == 3
    done, *_ = judge(bob, where, {names[2]: "no"}, **{f"note-{names[2]}": "not said there"})
    assert done.status_code == 303
    assert "Part" in cy.get("/disputes").text or where.split("/")[-1] in cy.get("/disputes").text
    number = where.split("/")[-1]
    page = cy.get(f"/disputes/{number}")
    assert "not said there" in page.text and "bob" in page.text and page.text.count('type="radio"') == 3
    done, *_ = judge(cy, f"/disputes/{number}", {names[2]: "no"})
    assert done.status_code == 303 and "Nobody disagrees" in cy.get("/disputes").text
    [first, _] = outcomes.export(store)
    assert [s.attributable for s in first.answers[0].sentences] == [1, 0]
    assert "settled" in cy.get(f"/disputes/{number}").text


def test_nobody_sees_anothers_judgement_or_an_answer_that_is_not_theirs(app):
    ann, bob, eve = enter(app, "ann"), enter(app, "bob"), enter(app, "eve")
    where = next_of(ann)
    judge(ann, where, **{"note-informative": "a secret note"})
    next_of(bob)
    assert "a secret note" not in bob.get(where).text and "checked" not in bob.get(where).text
    assert "a secret note" in ann.get(where).text and ann.get(where).text.count("checked") == 3
    assert eve.get(where).status_code == 404 and "not given to you" in eve.get(where).text
    for path in ("/disputes", where.replace("answers", "disputes"), "/progress"):
        assert ann.get(path).status_code == 403
    assert enter(app, "cy").get("/progress").status_code == 403 and enter(app, "ada").get("/progress").status_code == 200
    page = ann.get(where)
    done = ann.post(
        where.replace("answers", "disputes"), data={"csrf": hidden(page, "csrf"), "sent": uuid.uuid4().hex, "informative": "no"}
    )
    assert done.status_code == 403


def test_a_form_that_is_sent_twice_counts_once_and_undo_takes_it_back(app, store):
    ann = enter(app, "ann")
    where = next_of(ann)
    _, names, data = judge(ann, where)
    assert ann.post(where, data=data).status_code == 303
    with store.reading() as session:
        assert session.scalar(sa.select(sa.func.count()).select_from(Judgement)) == len(names)
    undo = undo_of(ann.get(next_of(ann)))
    assert ann.post("/undo", data=undo).headers["location"] == ann.post("/undo", data=undo).headers["location"] == where
    assert "checked" not in ann.get(where).text
    with store.reading() as session:
        assert session.scalar(sa.select(sa.func.count()).select_from(Judgement)) == 2 * len(names), "an event, not a removal"


def test_log_in_and_out(app):
    made = client(app)
    assert made.get("/").headers["location"] == "/login"
    page = made.get("/login")
    wrong = made.post("/login", data={"name": "ann", "password": "x" * 12, "door": hidden(page, "door")})
    assert wrong.status_code == 401 and "is wrong" in wrong.text
    ann = enter(app, "ann")
    cookie = ann.cookies["tutelage_session"]
    page = ann.get(next_of(ann))
    done = ann.post("/logout", data={"csrf": hidden(page, "csrf")})
    assert done.headers["location"] == "/login"
    thief = client(app)
    thief.cookies.set("tutelage_session", cookie)
    assert thief.get("/").headers["location"] == "/login", "a session that ended is no good any more"


@pytest.mark.parametrize(("name", "home"), [("ann", "/"), ("cy", "/disputes"), ("ada", "/progress")])
def test_a_log_in_leads_to_ones_own_page(app, name, home):
    made = client(app)
    page = made.get("/login")
    done = made.post("/login", data={"name": name, "password": PASSWORD, "door": hidden(page, "door")})
    assert done.headers["location"] == home


def test_scripts_are_told_of_the_log_in_and_get_parts_of_pages(app):
    asks = {"hx-request": "true"}
    reply = client(app).get("/progress", headers=asks)
    assert (reply.status_code, reply.headers["hx-redirect"]) == (200, "/login") and not reply.text
    part = enter(app, "ada").get("/progress", headers=asks).text
    assert part.startswith('<div id="counts"') and "<html" not in part and "of 2 answers" in part
    kept = client(app).get("/static/htmx-2.0.11.min.js")
    assert kept.headers["cache-control"] == "no-cache" and len(kept.content) < 60_000
    again = client(app).get("/static/htmx-2.0.11.min.js", headers={"if-none-match": kept.headers["etag"]})
    assert again.status_code == 304


def test_a_log_in_rotates_the_session_and_cookies_are_out_of_reach(app, store):
    ann = enter(app, "ann")
    old = ann.cookies["tutelage_session"]
    page = ann.get("/login")
    done = ann.post("/login", data={"name": "ann", "password": PASSWORD, "door": hidden(page, "door")})
    flags = done.headers["set-cookie"].lower()
    assert "httponly" in flags and "samesite=strict" in flags and "secure" not in flags
    assert ann.cookies["tutelage_session"] != old and people.who(store, old.rpartition(".")[0]) is None
    safe = TestClient(create(store, Rules(), secret=b"s" * 32, hosts=["localhost"], secure=True), base_url="https://localhost")
    assert "secure" in safe.get("/login").headers["set-cookie"].lower()


def test_a_cookie_that_is_not_signed_is_no_session(app, store):
    token = people.log_in(store, "ann", PASSWORD)
    for value in (token, f"{token}.", f"{token}.{'0' * 64}", "x", "." * 5000):
        made = client(app)
        made.cookies.set("tutelage_session", value)
        assert made.get("/").headers["location"] == "/login"


def test_forms_want_the_token_of_their_session(app):
    ann, bob = enter(app, "ann"), enter(app, "bob")
    where = next_of(ann)
    stolen = hidden(bob.get(next_of(bob)), "csrf")
    for csrf in ("", "x", stolen):
        for path, data in ((where, {"sent": uuid.uuid4().hex, "informative": "yes"}), ("/undo", {}), ("/logout", {})):
            assert ann.post(path, data={**data, "csrf": csrf}).status_code in (403, 422)
    assert ann.post(where, data={}).status_code == 422
    assert client(app).post("/login", data={"name": "ann", "password": PASSWORD, "door": "x"}).status_code == 403


def test_log_ins_are_throttled(app):
    made = client(app)
    page = made.get("/login")
    data = {"name": "ann", "password": "x" * 12, "door": hidden(page, "door")}
    assert [made.post("/login", data=data).status_code for _ in range(7)] == [401] * 5 + [429] * 2


def test_headers_hosts_and_limits(app):
    made = client(app)
    page = made.get("/login")
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy and "frame-ancestors 'none'" in policy
    assert page.headers["x-content-type-options"] == "nosniff" and "<script>" not in page.text and " style=" not in page.text
    assert made.get("/login", headers={"host": "evil.example"}).status_code == 400
    assert made.post("/login", content=b"x" * (MOST_BYTES + 1)).status_code == 413
    form = {"content-type": "application/x-www-form-urlencoded"}
    assert made.post("/login", content=(b"x" * 1024 for _ in range(1000)), headers=form).status_code == 413, "where no length is told too"
    ann = enter(app, "ann")
    for path in (
        "/static/../app.py",
        "/static/%2e%2e/app.py",
        "/answers/0",
        "/answers/99999999999999",
        "/answers/x",
        "/none",
        "/openapi.json",
    ):
        assert ann.get(path).status_code in (404, 422), path


def test_hostile_text_is_inert(tmp_path, monkeypatch):
    monkeypatch.setattr(people, "COST", (2**4, 8, 1))
    store = Store(tmp_path / "nasty.db")
    answer = {"answer": f"{NASTY} [1].", "sentences": [{"text": f"{NASTY} [1].", "index": 0}]}
    tree = {"query_id": "1", "query": NASTY, "quotes": [{"idx": 1, "docid": NASTY, "text": NASTY}], "answers": [answer]}
    store.take([hagrid.Question.model_validate(tree)])
    people.add(store, NASTY[:99].strip(), "annotator", PASSWORD)
    people.add(store, "bob", "admin", PASSWORD)
    people.add(store, "cy", "admin", PASSWORD)
    app = create(store, Rules(overlap=2), secret=b"s" * 32, hosts=["localhost"], secure=False)
    ann, bob, cy = enter(app, NASTY[:99].strip()), enter(app, "bob"), enter(app, "cy")
    where = next_of(ann)
    next_of(bob)
    judge(ann, where, **{"note-informative": NASTY})
    judge(bob, where, {"informative": "no"})
    for made, path in ((ann, where), (cy, "/disputes"), (cy, where.replace("answers", "disputes")), (cy, "/progress")):
        page = made.get(path)
        assert page.status_code == 200 and "<script>alert" not in page.text and "<img" not in page.text and "49000" not in page.text, path
    assert NASTY in next(iter(outcomes.export(store))).query and any(e["note"] == NASTY for e in outcomes.events(store))


def test_sql_in_forms_does_nothing(app, store):
    ann = enter(app, "ann")
    where = next_of(ann)
    page = ann.get(where)
    data = {"csrf": hidden(page, "csrf"), "sent": hidden(page, "sent"), "informative": "yes'; DROP TABLE judgement; --"}
    assert ann.post(where, data=data).status_code == 409
    data |= {"informative": "yes", "note-informative": "'); DELETE FROM judgement; --"}
    refused = ann.post(where, data={**data, "attributable-1 OR 1=1": "no"})
    assert refused.status_code == 409 and "has no field" in refused.text
    assert ann.post(where, data=data).status_code == 303
    assert {e["note"] for e in outcomes.events(store)} == {"'); DELETE FROM judgement; --"}


@pytest.mark.parametrize("store", ["sqlite", "postgresql"], indirect=True)
def test_letters_that_a_database_cannot_hold_are_no_fault_of_the_server(app, store):
    ann = enter(app, "ann")
    done, *_ = judge(ann, next_of(ann), **{"note-informative": "a\0b"})
    assert done.status_code == 303 and next(outcomes.events(store))["note"] == "ab"
    page = ann.get("/login")
    assert ann.post("/login", data={"name": "a\0", "password": "\0" * 12, "door": hidden(page, "door")}).status_code == 422
    assert ann.get(f"/answers/{2**70}").status_code == ann.get("/answers/-1").status_code == 404


def test_marks_join_to_the_quote_and_hold_its_content_words():
    quote = "The river Arno, the long RIVER <b>."
    pieces = list(marked(quote, "A river is long [1]"))
    assert "".join(p for p, _ in pieces) == quote
    assert [p for p, same in pieces if same] == ["river", "long", "RIVER"]
    assert list(marked("", "x")) == [] and "".join(p for p, _ in marked(quote, "")) == quote


def test_it_serves_beyond_loopback_only_with_a_secret_and_never_an_empty_store(store, tmp_path, monkeypatch):
    from click.testing import CliRunner

    from tutelage.answers.web import serve
    from tutelage.cli import main

    run = lambda *words: CliRunner().invoke(main, ["answers", "annotate", *map(str, words)])
    monkeypatch.delenv(serve.SECRET, raising=False)
    served = []
    monkeypatch.setattr("uvicorn.run", lambda app, **how: served.append((app, how)))
    here = ("--store", tmp_path / "answers.db")
    assert "set TUTELAGE_SECRET to 32 letters or more" in run(*here, "--host", "0.0.0.0").stderr
    monkeypatch.setenv(serve.SECRET, "s" * 32)
    assert "name the host that people call 0.0.0.0 by" in run(*here, "--host", "0.0.0.0").stderr
    assert "no such store" in run("--store", tmp_path / "none.db").stderr
    Store(tmp_path / "empty.db").close()
    assert "has no accounts; make one with 'tutelage answers person NAME --role admin'" in run("--store", tmp_path / "empty.db").stderr
    assert not served
    done = run(*here, "--host", "0.0.0.0", "--name", "judge.example.org", "--overlap", 3)
    assert done.exit_code == 0 and served[0][0].state.site.secure and served[0][0].state.site.rules.overlap == 3, done.output
    assert served[0][1]["http"].most >= 16 and served[0][1]["proxy_headers"] is False
    done = run(*here, "--host", "::1", "--name", "judge.example.org")
    assert "judge at http://[::1]:8000" in done.stdout and served.pop()[0].state.site.secure, "behind an encrypting proxy"
    done = run(*here)
    assert "judge at http://127.0.0.1:8000" in done.stdout and not served[1][0].state.site.secure and "s" * 32 not in done.output
    assert serve.is_loopback("::1") and serve.is_loopback("localhost") and not serve.is_loopback("10.0.0.1")


@pytest.mark.parametrize("store", ["sqlite", "postgresql"], indirect=True)
def test_fifty_at_once_over_http_lose_nothing(app, store):
    """Through the pages of a running server: every answer as many judges as asked, every word once."""
    import threading

    import httpx2

    more = [q.model_copy(update={"query_id": f"more {q.query_id}"}) for q in questions(18)]
    store.take(more)
    names = [f"judge {i}" for i in range(50)]
    for name in names:
        people.add(store, name, "annotator", PASSWORD)
    own = create(store, Rules(overlap=3), secret=b"s" * 32, hosts=["127.0.0.1"], secure=False)
    faults: list[object] = []

    def work(url, name):
        try:
            with httpx2.Client(base_url=url, timeout=60) as made:
                log_in(made, name)
                while where := next_of(made):
                    done, *_ = judge(made, where)
                    assert done.status_code == 303, done.text
        except BaseException as fault:
            faults.append(fault)

    with serving(own) as url:
        threads = [threading.Thread(target=work, args=(url, name)) for name in names]
        for one in threads:
            one.start()
        for one in threads:
            one.join()
    assert not faults, faults[:2]
    told = [(e["query_id"], e["segment"], e["criterion"], e["annotator"]) for e in outcomes.events(store)]
    assert len(told) == len(set(told)) == 20 * 3 * 3, "none lost, none doubled"
    assert {len({who for q, _, _, who in told if q == query}) for query in {q for q, *_ in told}} == {3}
