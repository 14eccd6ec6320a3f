"""The pages in a real Chromium: two judge by keys and by touch, one settles; nothing that axe finds serious, at both widths."""

from __future__ import annotations

import re
import shutil

import pytest
import sqlalchemy as sa
from serving import serving
from test_answers_store import questions, whole

from tutelage.answers import judging, outcomes, people
from tutelage.answers.judging import Rules
from tutelage.answers.store import Store
from tutelage.answers.tables import Person
from tutelage.answers.web.app import create
from tutelage.cited import hagrid

CHROMIUM = next((p for name in ("chromium", "chromium-browser", "google-chrome") if (p := shutil.which(name))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs a Chromium (Debian: chromium)")
PASSWORD = "a long enough word"
WIDE, PHONE = {"width": 1200, "height": 900}, {"width": 390, "height": 800}


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as running:
        made = running.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield made
        made.close()


@pytest.fixture
def site(tmp_path, monkeypatch):
    monkeypatch.setattr(people, "COST", (2**4, 8, 1))
    store = Store(tmp_path / "answers.db")
    store.take(questions(1))
    for name, role in (("ann", "annotator"), ("bob", "annotator"), ("ada", "admin")):
        people.add(store, name, role, PASSWORD)
    app = create(store, Rules(overlap=2), secret=b"s" * 32, hosts=["127.0.0.1"], secure=False)
    with serving(app) as url:
        yield store, url
    store.close()


def enter(browser, url, name, size=WIDE, **more):
    page = browser.new_context(viewport=size, **more).new_page()
    told = []
    page.on("console", lambda message: told.append(message.text) if message.type == "error" else None)
    page.goto(f"{url}/login")
    page.fill("#name", name)
    page.fill("#password", PASSWORD)
    page.click("main button")
    page.wait_for_selector("nav")
    page.wait_for_load_state("networkidle")
    page.told = told
    return page


def test_two_judge_one_settles_and_the_export_holds_it(browser, site):
    store, url = site
    ann, bob = enter(browser, url, "ann"), enter(browser, url, "bob", PHONE, has_touch=True)
    for key in ("y", "y", "k", "n", "j"):  # the second is changed to no
        ann.keyboard.press(key)
    ann.keyboard.press("y")
    ann.keyboard.press("Control+Enter")
    ann.wait_for_selector("text=Nothing left to judge")
    for choice in bob.query_selector_all("fieldset"):
        choice.query_selector("label:has-text('Yes')").tap()
    assert bob.evaluate("document.documentElement.scrollWidth") <= 390, "nothing sticks out on a phone"
    bob.click("text=Keep and go on")
    bob.wait_for_selector("text=Nothing left to judge")
    [(_, _, criterion)] = outcomes.disagreements(store)
    assert criterion == "attributable"
    ada = enter(browser, url, "ada")
    ada.click("text=Disputes")
    ada.click("main a")
    ada.wait_for_selector("text=History")
    ada.wait_for_load_state()  # the keys work once the page's script has run
    assert "ann: no" in ada.inner_text("main") and "bob: yes" in ada.inner_text("main")
    ada.keyboard.press("n")
    ada.click("text=Settle")
    ada.wait_for_selector("text=Nobody disagrees")
    [one] = next(iter(outcomes.export(store))).answers
    assert [s.attributable for s in one.sentences] == [0, 1] and one.attributable == 0 and one.informative == 1
    ada.click("text=Progress")
    assert "1 of 1 answers were judged by 2 people" in ada.inner_text("main")
    bob.click("text=Undo my last answer")
    bob.wait_for_selector("text=Keep and go on")
    assert not bob.query_selector("input:checked")
    assert ann.told == bob.told == ada.told == [], "no fault on the console, nor anything that the policy blocks"


@pytest.mark.parametrize("size", [WIDE, PHONE], ids=["wide", "phone"])
def test_axe_finds_nothing_serious(browser, site, size):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    store, url = site
    seen = []

    def check(page):
        found = axe.run(page).response["violations"]
        seen.append(page.url)
        assert not [(v["id"], v["nodes"][0]["html"]) for v in found if v["impact"] in ("serious", "critical")], page.url

    door = browser.new_context(viewport=size, bypass_csp=True).new_page()
    door.goto(f"{url}/login")
    check(door)
    ann, bob = (enter(browser, url, name, size, bypass_csp=True) for name in ("ann", "bob"))
    check(ann)
    for page, key in ((ann, "y"), (bob, "n")):
        for _ in range(3):
            page.keyboard.press(key)
        page.keyboard.press("Control+Enter")
        page.wait_for_selector("text=Nothing left to judge")
    check(ann)
    ada = enter(browser, url, "ada", size, bypass_csp=True)
    [answer] = {key[0] for key in outcomes.disagreements(store)}
    for path in ("/disputes", f"/disputes/{answer}", "/progress", "/guidelines", "/nowhere"):
        ada.goto(url + path)
        check(ada)
    assert len(seen) == 8


def test_the_next_answer_takes_the_place_of_the_last_without_a_load(browser, site):
    store, url = site
    store.take([q.model_copy(update={"query_id": f"more {q.query_id}", "query": "When?"}) for q in questions(1)])
    ann = enter(browser, url, "ann")
    first = ann.url
    ann.evaluate("window.here = true")
    for key in ("y", "y", "n", "Control+Enter"):
        ann.keyboard.press(key)
    ann.wait_for_selector("h1:has-text('When?')")
    ann.wait_for_selector("h1:focus")
    assert ann.evaluate("window.here") and ann.url != first and ann.url.startswith(f"{url}/answers/")
    assert "1 judged by you" in ann.text_content("#told") and ann.get_attribute("#told", "role") == "status"
    assert ann.evaluate("scrollY") == 0 and not ann.query_selector("input:checked")
    for key in ("c", "y", "y"):
        ann.keyboard.press(key)
    assert [box.get_attribute("value") for box in ann.query_selector_all("input:checked")] == ["cannot", "yes", "yes"]
    ann.go_back()
    ann.wait_for_selector("h1:has-text('Where?')")
    assert ann.url == first and [b.get_attribute("value") for b in ann.query_selector_all("input:checked")] == ["yes", "yes", "no"]
    assert ann.evaluate("sessionStorage.getItem('htmx-history-cache')") is None, "no page is left in the browser's store"
    ann.go_forward()
    ann.wait_for_selector("h1:has-text('When?')")
    ann.keyboard.press("Control+Enter")
    ann.wait_for_selector("text=there is nothing to keep")
    assert ann.query_selector("[role=alert]") and not [text for text in ann.told if "409" not in text]
    ann.click("text=Undo my last answer")
    ann.wait_for_selector("h1:has-text('Where?')")
    with store.reading() as session:
        assert len(judging.history(session, 1)) == 6


def test_words_stay_when_the_server_cannot_be_reached_and_through_a_log_in(browser, site):
    store, url = site
    ann = enter(browser, url, "ann")
    for _ in range(2):
        ann.keyboard.press("y")
    ann.evaluate("scrollTo(0, 300)")
    ann.context.set_offline(True)
    ann.keyboard.press("Control+Enter")
    ann.wait_for_selector("text=The server cannot be reached")
    assert ann.query_selector("input:checked") and ann.locator("#told").bounding_box()["y"] == 0, "in sight, however far one has scrolled"
    ann.context.set_offline(False)
    people.change_password(store, "ann", PASSWORD + "!")
    ann.keyboard.press("Control+Enter")
    ann.wait_for_selector("text=What you typed is not kept yet")
    assert not ann.query_selector("nav") and ann.is_visible("#password")
    ann.fill("#name", "ann")
    ann.fill("#password", PASSWORD + "!")
    ann.click("main button")
    ann.wait_for_selector("text=You are logged in again")
    assert [box.get_attribute("value") for box in ann.query_selector_all("input:checked")] == ["yes", "yes"]
    ann.wait_for_load_state("networkidle")
    ann.keyboard.press("n")
    ann.keyboard.press("Control+Enter")
    ann.wait_for_selector("text=Nothing left to judge")
    assert [event["value"] for event in outcomes.events(store)] == [1, 1, 0]
    assert not [text for text in ann.told if "policy" in text.lower()]


def test_everything_works_without_scripts(browser, site):
    store, url = site
    for name, value in (("ann", "Yes"), ("bob", "No")):
        page = enter(browser, url, name, java_script_enabled=False)
        for choice in page.query_selector_all("fieldset"):
            choice.query_selector(f"label:has-text('{value}')").click()
        page.click("text=Keep and go on")
        page.wait_for_selector("text=Nothing left to judge")
    ada = enter(browser, url, "ada", java_script_enabled=False)
    ada.goto(f"{url}/disputes/1")
    for choice in ada.query_selector_all("fieldset"):
        choice.query_selector("label:has-text('Yes')").click()
    ada.click("text=Settle")
    ada.wait_for_selector("text=Nobody disagrees")
    [one] = next(iter(outcomes.export(store))).answers
    assert one.informative == one.attributable == 1


def test_progress_refreshes_itself(browser, site):
    store, url = site
    ada = enter(browser, url, "ada")
    ada.goto(f"{url}/progress")
    ada.focus("#people-table")
    assert "0 of 1 answers" in ada.inner_text("main")
    ada.evaluate("window.here = true")
    with store.reading() as session:
        names = {p.name: p.id for p in session.scalars(sa.select(Person))}
    for name in ("ann", "bob"):
        answer = judging.take_next(store, names[name])
        judging.judge(store, names[name], answer, whole(store, answer), name)
    ada.wait_for_selector("text=1 of 1 answers were judged by 2 people", timeout=8000)
    assert ada.evaluate("window.here") and ada.evaluate("document.activeElement.id") == "people-table" and ada.told == []


def test_hostile_text_runs_nothing(browser, tmp_path, site):
    store, url = site
    nasty = "<img src=x onerror=\"document.title='gone'\"><script>document.title='gone'</script> [1]"
    tree = {"query_id": "x", "query": nasty, "quotes": [{"idx": 1, "docid": "d", "text": nasty}],
            "answers": [{"answer": nasty, "sentences": [{"text": nasty, "index": 0}]}]}  # fmt: skip
    store.take([hagrid.Question.model_validate(tree)])
    ann = enter(browser, url, "ann")
    for _ in range(3):
        ann.keyboard.press("y")
    ann.keyboard.press("Control+Enter")
    ann.wait_for_selector("text=onerror")
    assert ann.title() == "Judge an answer" and not ann.query_selector("main img") and not re.search("<script", ann.inner_html("main"))
    assert ann.query_selector("mark") is not None and ann.told == []
