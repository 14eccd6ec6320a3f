"""The pages in a real Chromium: two judge by keys and by touch, one settles; nothing that axe finds serious, at both widths."""

from __future__ import annotations

import re
import shutil

import pytest
from serving import serving
from test_answers_store import questions

from tutelage.answers import outcomes, people
from tutelage.answers.judging import Rules
from tutelage.answers.store import Store
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
