"""The verbs of coreference, and the page of coloured mentions in a parser and in a real Chromium."""

from __future__ import annotations

import json
import shutil

import pytest
from click.testing import CliRunner
from coref_documents import documents
from hypothesis import given, settings
from test_report_page import Page

from tutelage.cli import main
from tutelage.coref import formats
from tutelage.coref.documents import Document, of_characters
from tutelage.report import coreference

CHROMIUM = next((p for name in ("chromium", "chromium-browser", "google-chrome") if (p := shutil.which(name))), None)
KEY = [
    Document("one", [["Ann", "saw", "Bo", "."], ["She", "waved", "to", "him", "."]], [[(0, 0), (4, 4)], [(2, 2), (7, 7)], [(5, 5)]]),
    Document("two", [["It", "rained", "."], ["It", "poured"]], [[(0, 0), (3, 3)]]),
]
RESPONSE = [
    Document("two", KEY[1].sentences, [[(0, 0), (3, 3)]]),
    Document("one", KEY[0].sentences, [[(0, 0), (4, 4), (7, 7)], [(2, 2)]]),
]


@pytest.fixture
def files(tmp_path):
    formats.write(tmp_path / "key.conll", KEY)
    formats.write(tmp_path / "said.jsonl", RESPONSE)
    return tmp_path


def run(*words, code=0):
    done = CliRunner().invoke(main, ["coref", *map(str, words)])
    assert done.exit_code == code, done.output
    return done


def test_score_pairs_documents_by_name_over_formats_and_names_the_policy(files):
    shown = run("score", files / "key.conll", files / "said.jsonl").output
    assert "singletons: keep; documents: 2" in shown and "95 % interval" in shown
    lines = {line.split()[0]: line.split()[1:] for line in shown.splitlines() if line.split()}
    # Muc by hand: the key has 1 + 1 + 1 links, of which {Ann, She} and {It, It} are found; the response has 2 + 1.
    assert lines["MUC"] == ["66.7", "66.7", "66.7"] and lines["Mentions"] == ["85.7", "100.0", "92.3"] and "BLANC" not in lines
    facts = json.loads(run("score", files / "key.conll", files / "said.jsonl", "--singletons", "drop", "--json").output)
    assert facts["scores"]["singletons"] == "drop" and facts["scores"]["mentions"]["recall"] == pytest.approx(5 / 6)
    assert facts["intervals"]["conll"]["documents"] == 2 and facts["links"][0]["key"] == 3


def test_score_tells_the_difference_to_another_response_with_a_paired_interval(files):
    shown = run("score", files / "key.conll", files / "key.conll", "--against", files / "said.jsonl").output
    assert "CoNLL F1 less the other response's: +" in shown
    facts = json.loads(run("score", files / "key.conll", files / "said.jsonl", "--against", files / "said.jsonl", "--json").output)
    assert facts["difference"]["value"] == facts["difference"]["low"] == facts["difference"]["high"] == 0


def test_faults_are_one_sentence_and_notes_go_to_standard_error(files):
    formats.write(files / "half.jsonl", RESPONSE[:1])
    done = run("score", files / "key.conll", files / "half.jsonl", code=2)
    place = f"{files / 'key.conll'} and {files / 'half.jsonl'}"
    assert done.stderr == f"tutelage: {place}: the response lacks documents of the key: one; documents are paired by their names\n"
    done = run("score", files / "key.conll", files / "key.conll", "--against", files / "half.jsonl", code=2)
    assert done.stderr.startswith(f"tutelage: {place}: the response lacks")
    (files / "broken.conll").write_text("#begin document (d)\nd\t(1\n#end document\n")
    assert (
        "broken.conll, document d, line 2: '(1' opens a mention that is not closed"
        in run("convert", files / "broken.conll", files / "x.jsonl", code=2).stderr
    )
    assert not (files / "x.jsonl").exists()
    formats.write(files / "crossing.jsonl", [Document("d", [list("abcd")], [[(0, 2), (1, 3)]])])
    done = run("convert", files / "crossing.jsonl", files / "x.conll", "--json")
    assert done.stderr.startswith("note: document d: mentions of one entity cross") and json.loads(done.stdout)["mentions"] == 2
    assert "x.pdf: its ending names no format" in run("convert", files / "key.conll", files / "x.pdf", code=2).stderr
    inside = files / "broken.conll" / "x.jsonl"
    assert f"{inside}: cannot be written, file exists" in run("convert", files / "key.conll", inside, code=2).stderr


def test_words_that_are_others_in_the_response_are_noted_once(tmp_path):
    for name, who in (("key", "She"), ("said", "He"), ("bare", "_")):
        formats.write(tmp_path / f"{name}.jsonl", [Document("d", [["Ann", "left"], [who, "ran"]], [[(0, 0), (2, 2)]])])
    done = run("score", tmp_path / "key.jsonl", tmp_path / "said.jsonl", "--json")
    wanted = "note: document d: 1 of 4 words are others in the response ('She' and 'He' first); mentions are compared by their places\n"
    assert done.stderr == wanted and json.loads(done.stdout)["scores"]["conll_f1"] == 1.0
    assert not run("score", tmp_path / "key.jsonl", tmp_path / "bare.jsonl").stderr, "_ stands for any word"


def test_convert_goes_round_through_every_format_and_takes_raw_text(files):
    run("convert", files / "key.conll", files / "a.jsonl")
    run("convert", files / "a.jsonl", files / "b.conllu")
    run("convert", files / "b.conllu", files / "c.conll")
    assert formats.read(files / "c.conll") == KEY == formats.read(files / "a.jsonl")
    (files / "story.txt").write_text("Ann left. She ran.")
    run("convert", files / "story.txt", files / "story.jsonl")
    [story] = formats.read(files / "story.jsonl")
    assert story.clusters is None and story.text == "Ann left. She ran." and len(story.sentences) == 2


TEXT = "<b>Ann Lee's brother</b> saw her & left.\n\nHe ran."
HOSTILE = of_characters(
    "<script>alert(1)</script>",
    TEXT,
    [[(3, 10), (29, 32)], [(3, 20), (42, 44)], [(8, 32)]],
    about={"genre": "<img src=x onerror=alert(1)>"},
)


def test_the_page_shows_every_text_as_it_is_whatever_it_holds(tmp_path):
    coreference.write([HOSTILE, *KEY], tmp_path / "x.html", title="<i>")
    raw = (tmp_path / "x.html").read_text()
    found = Page(raw)
    assert (
        len(found.all("script")) == 1
        and not found.all("b", "i", "img")
        and not [a for a in found.all("span", "a", "li") if any(k.startswith("on") for k in a)]
    )
    assert "default-src 'none'" in raw and "script-src 'sha256-" in raw
    assert {a["data-entity"] for a in found.all("span") if "id" in a and a["id"].startswith("d0m")} == {"1", "2", "3"}
    anchors = {a["id"] for a in found.all("span", "li", "section") if "id" in a}
    assert all(a["href"][1:] in anchors for a in found.all("a"))


@settings(max_examples=60)
@given(documents(text=True, crossing=True))
def test_pieces_are_nested_whatever_crosses_and_spell_the_text(document):
    mentions = [coreference.Mention(span, n, 0, False, "") for n, cluster in enumerate(document.clusters, 1) for span in cluster]
    stack, text, closed = [], "", []
    for kind, of in coreference.pieces(document, mentions):
        if kind in ("open", "again"):
            stack.append(of)
        elif kind in ("pause", "close"):
            assert stack.pop() is of
            closed += [of] if kind == "close" else []
        elif kind == "text":
            text += of
    assert not stack and sorted(m.span for m in closed) == sorted(m.span for m in mentions)
    assert document.speakers or text == document.text


@pytest.mark.skipif(CHROMIUM is None, reason="needs a Chromium (Debian: chromium)")
def test_pointing_and_stepping_light_a_cluster_and_axe_finds_nothing_serious(tmp_path):
    playwright, axe = pytest.importorskip("playwright.sync_api"), pytest.importorskip("axe_playwright_python.sync_playwright")
    coreference.write([HOSTILE, *KEY], tmp_path / "x.html", title="page")
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        for scheme, width in (("light", 1100), ("dark", 390)):
            page, said = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme), []
            page.on("console", lambda message, said=said: said.append(message.text))
            page.on("dialog", lambda dialog, said=said: (said.append(dialog.message), dialog.dismiss()))
            page.goto((tmp_path / "x.html").as_uri())
            page.locator("#d1m4-4").hover()
            assert sorted(page.locator("#d1 .m.on").evaluate_all("all => all.map(one => one.id)")) == ["d1m0-0", "d1m4-4"]
            page.locator("#d1m2-2 a").focus()
            assert sorted(page.locator(".m.on").evaluate_all("all => all.map(one => one.id)")) == ["d1m2-2", "d1m7-7"]
            serious = [v["id"] for v in axe.Axe().run(page).response["violations"] if v["impact"] in ("serious", "critical")]
            assert not serious and not said and page.evaluate("document.documentElement.scrollWidth") <= width
        browser.close()
