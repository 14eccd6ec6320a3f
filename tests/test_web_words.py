"""What someone typed is kept, or shown again with a sentence; and whom the pages let see what others said."""

# ruff: noqa: F811
from __future__ import annotations

import html
import re
import uuid

import pytest
import sqlalchemy as sa
from fastapi.testclient import TestClient
from postgres import postgres  # noqa: F401
from test_answers_store import questions
from test_web import PASSWORD, app, client, enter, hidden, judge, log_in, next_of, store  # noqa: F401

from tutelage.answers import outcomes, people
from tutelage.answers.judging import Rules
from tutelage.answers.store import Store
from tutelage.answers.suggest import Suggester
from tutelage.answers.tables import Judgement
from tutelage.answers.web.app import create
from tutelage.cited import hagrid
from tutelage.errors import RunError

ASKS = {"hx-request": "true"}


def many_of(store) -> int:
    with store.reading() as session:
        return session.scalar(sa.select(sa.func.count()).select_from(Judgement))


def typed_in(page) -> dict[str, str]:
    """What the fields of a page hold: the choices that are checked, and the notes."""
    checked = {name: value for name, value in re.findall(r'name="([^"]+)" value="(\w+)"[^>]* checked', page.text)}
    notes = {name: html.unescape(text) for name, text in re.findall(r'<textarea[^>]* name="([^"]+)"[^>]*>\n([^<]*)</textarea>', page.text)}
    return checked | {name: text for name, text in notes.items() if text}


def words_of(data: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in data.items() if name not in ("csrf", "sent", "shown")}


def test_a_form_sent_again_with_other_words_says_so_and_shows_them_to_be_sent(app, store):
    ann = enter(app, "ann")
    where = next_of(ann)
    _, names, data = judge(ann, where)
    changed = {**data, names[1]: "no", f"note-{names[1]}": "a\n<b>second</b> thought"}
    refused = ann.post(where, data=changed)
    assert refused.status_code == 409 and "sent before with other words, and those stand" in refused.text
    assert typed_in(refused) == words_of(changed) and "not kept yet" in refused.text and many_of(store) == 3
    assert ann.post(where, data={**changed, "sent": hidden(refused, "sent"), "csrf": hidden(refused, "csrf")}).status_code == 303
    assert typed_in(ann.get(where)) == words_of(changed) and many_of(store) == 6
    other = next_of(ann)
    page = ann.get(other)
    names = re.findall(r'type="radio" name="([^"]+)" value="yes"', page.text)
    stolen = {"csrf": hidden(page, "csrf"), "sent": data["sent"], **dict.fromkeys(names, "yes")}
    assert ann.post(other, data=stolen).status_code == 409 and many_of(store) == 6, "the number of a form of another answer"


def test_an_answer_without_sentences_is_judged_beside_a_suggester(tmp_path, monkeypatch):
    monkeypatch.setattr(people, "COST", (2**4, 8, 1))
    store = Store(tmp_path / "bare.db")
    bare = {"query_id": "b", "query": "Why?", "quotes": [{"idx": 1, "docid": "a", "text": "So."}], "answers": [{"answer": "So [1]."}]}
    store.take([hagrid.Question.model_validate(bare), *questions(1)])
    people.add(store, "ann", "annotator", PASSWORD)
    ann = enter(create(store, Rules(), secret=b"s" * 32, hosts=["localhost"], secure=False, suggester=Suggester("lexical")), "ann")
    for _ in range(2):
        done, *_ = judge(ann, next_of(ann))
        assert done.status_code == 303, done.text
    assert next_of(ann) is None
    assert [(e["criterion"], e["suggested"]) for e in outcomes.events(store)] == [("informative", False)] * 2 + [("attributable", True)] * 2


def test_notes_of_the_pages_own_limit_are_kept_whole(app, store):
    """Letters of three bytes, all notes full; a line's end is two letters on the way."""
    long = [{"text": f"Part {i} [1].", "index": i} for i in range(40)]
    tree = {
        "query_id": "long",
        "query": "Why?",
        "quotes": [{"idx": 1, "docid": "a", "text": "So."}],
        "answers": [{"answer": "x", "sentences": long}],
    }
    store.take([hagrid.Question.model_validate(tree)])
    ann = enter(app, "ann")
    for most in (2000, 2000, None):
        where = next_of(ann)
        room = int(re.search(r'maxlength="(\d+)">', ann.get(where).text)[1])
        assert room == most or (most is None and 1000 < room < 2000)
        note = "\r\n" * 9 + "字" * (room - 10) + "."
        fill = lambda data, note=note: data.update({f"note-{name}": note for name, value in data.items() if value == "yes"})
        done, names, _ = judge(ann, where, before=fill)
        assert done.status_code == 303, done.text
    kept = [e["note"] for e in outcomes.events(store)]
    assert len(names) == 41 and len(kept) == 47 and set(map(len, kept)) == {1991, room - 9} and set(kept[-1]) == {"字", "."}


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"note-informative": "x" * 2001}, "a note has at most 2000 letters; one here has 2001"),
        ({"informative": None, "note-informative": "but why"}, "a note stands beside no choice"),
        ({"informative": "perhaps"}, "a judgement is yes, no or cannot judge"),
        ({"attributable-99": "yes"}, "the answer has no field &#39;attributable-99&#39;"),
        ({"sent": "x"}, "the form is not complete"),
        ({"csrf": "0" * 64}, "this form is not of your session"),
    ],
)
def test_a_form_that_is_refused_comes_back_with_what_was_typed(app, store, changes, sentence):
    ann = enter(app, "ann")
    where = next_of(ann)

    def change(data):
        data.update({"note-attributable-2": "a thought"} | changes)
        data.pop("informative") if "informative" in changes and changes["informative"] is None else None

    done, _, data = judge(ann, where, before=change)
    assert done.status_code in (403, 409, 422) and sentence.lower() in done.text.lower() and many_of(store) == 0
    assert typed_in(done).items() >= {"note-attributable-2": "a thought", "attributable-1": "yes"}.items()
    assert hidden(done, "csrf") != "0" * 64 and hidden(done, "sent") != data["sent"]


def test_words_come_back_where_the_disk_is_full(app, store, monkeypatch):
    ann = enter(app, "ann")
    where = next_of(ann)

    def full(*words):
        raise RunError("--store: /secret/place: database or disk is full")

    monkeypatch.setattr("tutelage.answers.judging.judge", full)
    done, names, _ = judge(ann, where)
    assert done.status_code == 503 and "nothing can be kept at the moment" in done.text.lower() and "/secret" not in done.text
    assert typed_in(done) == dict.fromkeys(names, "yes")


def test_what_was_typed_is_carried_through_a_log_in(app, store):
    """The server was started anew without a secret: its cookies are no good, and the words go through the log-in."""
    ann = enter(app, "ann")
    where = next_of(ann)
    page = ann.get(where)
    data = {"csrf": hidden(page, "csrf"), "sent": hidden(page, "sent"), "informative": "no", "note-informative": 'two\nlines "<b>'}
    new = client(create(store, Rules(), secret=b"t" * 32, hosts=["localhost"], secure=False))
    new.cookies = ann.cookies
    door = new.post(where, data=data)
    assert door.status_code == 401 and "What you typed is not kept yet" in door.text and 'name="password"' in door.text
    carried = dict(re.findall(r'name="(to|door|typed-[^"]+)" value="([^"]+)"', door.text))
    form = {name: html.unescape(text) for name, text in carried.items()}
    wrong = new.post("/login", data={**form, "name": "ann", "password": "not this one"})
    assert wrong.status_code == 401 and all(f'name="{name}" value="{text}"' in wrong.text for name, text in carried.items())
    inside = new.post("/login", data={**form, "name": "ann", "password": PASSWORD})
    assert inside.status_code == 200 and "you are logged in again" in inside.text.lower()
    assert typed_in(inside) == {"informative": "no", "note-informative": 'two\nlines "<b>'} and many_of(store) == 0
    again = {**data, "csrf": hidden(inside, "csrf"), "sent": hidden(inside, "sent")}
    assert new.post(where, data=again).status_code == 303 and many_of(store) == 1
    bob = client(app)
    form["door"] = hidden(bob.get("/login"), "door")
    other = bob.post("/login", data={**form, "name": "bob", "password": PASSWORD})
    assert other.headers["location"] == "/", "an answer that is not theirs"
    asked = client(app).post(where, data=data, headers=ASKS)
    assert asked.headers["hx-retarget"] == "body" and "<nav" not in asked.text


def test_what_another_site_sends_is_not_put_into_a_form(app):
    ann = client(app)
    data = {"csrf": "x", "sent": uuid.uuid4().hex, "informative": "no"}
    here, away = ("http://localhost", "https://localhost"), ("https://evil.example", "null", "http://localhost:3000", "http://[x", "")
    for origin, status in (*((one, 401) for one in here), *((one, 303) for one in away)):
        assert ann.post("/answers/1", data=data, headers={"origin": origin}).status_code == status
    log_in(ann, "ann")
    where = next_of(ann)
    for origin, shown in (("https://evil.example", False), ("http://localhost", True)):
        done = ann.post(where, data=data, headers={"origin": origin})
        assert done.status_code == 403 and ("checked" in done.text) == shown


def test_adjudicators_see_disputes_alone_and_no_answer_that_they_judge(app, store):
    ann, bob, cy, ada = (enter(app, name) for name in ("ann", "bob", "cy", "ada"))
    where = next_of(ann)
    judge(ann, where)
    for path in ("/disputes/1", "/disputes/2", "/disputes/3"):
        assert cy.get(path).status_code == 404, "an answer that is not disputed"
    next_of(bob)
    judge(bob, where, {"informative": "no"})
    assert cy.get("/disputes/1").status_code == 200 and cy.get("/disputes/2").status_code == 404
    own = create(store, Rules(overlap=3), secret=b"s" * 32, hosts=["localhost"], secure=False)
    assert enter(own, "cy").get("/").headers["location"] == "/answers/2", "whoever looked is not given it"
    judge_of = enter(own, "ada")
    assert next_of(judge_of) == where
    judge(judge_of, where, {"informative": "no"})
    page = ada.get("/disputes")
    assert "another adjudicator settles it" in page.text and 'href="/disputes/1"' not in page.text
    assert ada.get("/disputes/1").status_code == 403 and "you judged this answer yourself" in ada.get("/disputes/1").text.lower()
    page = cy.get("/disputes/1")
    form = {"csrf": hidden(page, "csrf"), "sent": hidden(page, "sent")}
    segment = re.search(r"attributable-\d+", ann.get(where).text)[0]
    for more in ({segment: "no"}, {"informative": "yes", "attributable": "no"}, {"informative-99": "yes"}):
        refused = cy.post("/disputes/1", data={**form, **more})
        assert refused.status_code == 409, more
    assert cy.post("/disputes/1", data={**form, "informative": "yes"}).status_code == 303
    assert cy.get("/disputes/1").status_code == 200 and outcomes.disagreements(store) == []


def test_names_and_notes_cannot_turn_the_words_around_them(app, store):
    turned = "\u202eyes"
    for name, role in ((f"{turned} eve", "annotator"), (f"{turned} cy", "admin")):
        people.add(store, name, role, PASSWORD)
    ann, eve, cy = enter(app, "ann"), enter(app, f"{turned} eve"), enter(app, f"{turned} cy")
    where = next_of(ann)
    next_of(eve)
    judge(ann, where)
    judge(eve, where, {"informative": "no", "note-informative": turned})
    for path in ("/disputes/1", "/disputes", "/progress"):
        page = cy.get(path)
        loose = re.sub(r"<bdi>[^<]*</bdi>|<textarea.*?</textarea>", "", page.text, flags=re.S)
        assert turned in page.text and "\u202e" not in loose, path


def test_cookies_are_for_encrypted_connections_behind_a_proxy_on_the_same_machine(app, store):
    made = client(app)
    assert "secure" in made.get("/login", headers={"x-forwarded-proto": "https"}).headers["set-cookie"].lower()
    assert "secure" not in made.get("/login", headers={"x-forwarded-proto": "http"}).headers["set-cookie"].lower()


@pytest.mark.parametrize("charset", ["idna", "undefined", "punycode", "\0", "x" * 1000])
def test_forms_in_encodings_of_their_own_are_refused(app, charset):
    body = b'--B\r\nContent-Disposition: form-data; name="name"\r\n\r\n\xff\xfea..b\r\n--B--\r\n'
    made = TestClient(app, base_url="http://localhost", follow_redirects=False)
    head = {"content-type": f"multipart/form-data; boundary=B; charset={charset}".encode()}
    for where in ("/login", "/answers/1", "/undo", "/disputes/1"):
        assert made.post(where, content=body, headers=head).status_code == 415
