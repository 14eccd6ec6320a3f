"""The report's page read by a parser, and its pictures measured."""

from __future__ import annotations

import base64
import copy
import html.parser
import io
import itertools
import re
import warnings
import xml.etree.ElementTree as xml

import pytest
import yaml
from matplotlib.text import Text
from record_example import RECORDS, example, hostile, staged, without

from tutelage.report import card, curves, page, plots, table, words


class Page(html.parser.HTMLParser):
    """Elements and text of a page."""

    def __init__(self, text: str):
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.style = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, {k: v or "" for k, v in attrs}))
        if tag not in ("meta", "img", "source", "br", "link"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-1:]}"
        self.open.pop()

    def handle_data(self, data):
        if self.open[-1:] == ["style"]:
            self.style += data
        else:
            self.words.append(data)

    def all(self, *tags):
        return [attrs for tag, attrs in self.elements if tag in tags]

    @property
    def text(self):
        return " ".join(" ".join(self.words).replace("\u00a0", " ").split())

    def pictures(self):
        uris = [a.get("src") or a["srcset"] for a in self.all("img", "source")]
        assert all(u.startswith("data:image/svg+xml;base64,") for u in uris)
        return [base64.b64decode(u.partition(",")[2]).decode() for u in uris]


def written(record, tmp_path):
    page.write(record, tmp_path / "report.html")
    return (tmp_path / "report.html").read_text(encoding="utf-8")


# ---- the page


@pytest.mark.parametrize("name", RECORDS)
def test_page_card_table_and_picture_cope_with_any_record(name, tmp_path):
    record = RECORDS[name]()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        text = written(record, tmp_path)
        for key in record["models"]:
            assert yaml.safe_load(card.text(record, key).split("---\n")[1])["library_name"] == "transformers"
        table.show(table.rows(record), io.StringIO())
        drawn = page.figure(record, tmp_path / "picture.png")
    assert drawn == (tmp_path / "picture.png").exists()
    assert not Page(text).open
    for picture in Page(text).pictures():
        xml.fromstring(picture)


@pytest.mark.parametrize("name", ["whole", "hostile"])
def test_the_page_loads_and_runs_nothing(name, tmp_path):
    seen = Page(written(RECORDS[name](), tmp_path))
    tags = {tag for tag, _ in seen.elements}
    assert not tags & {"script", "link", "iframe", "object", "embed", "form", "base", "svg", "a"}
    assert not [name for _, attrs in seen.elements for name in attrs if name.startswith("on")]
    assert seen.style and not re.search(r"@import|url\(", seen.style)
    addresses = [v for _, attrs in seen.elements for k, v in attrs.items() if k in ("src", "srcset", "href")]
    assert addresses and all(a.startswith("data:image/svg+xml;base64,") for a in addresses)
    [policy] = [a["content"] for a in seen.all("meta") if a.get("http-equiv") == "Content-Security-Policy"]
    assert policy.startswith("default-src 'none'")
    for picture in seen.pictures():
        root = xml.fromstring(picture)
        assert not [e for e in root.iter() if e.tag.rpartition("}")[2] in ("script", "foreignObject", "image")]


def test_hostile_text_is_shown_as_text(tmp_path):
    seen = Page(written(hostile(), tmp_path))
    assert seen.text.count("<script>alert(1)</script>") > 5 and "{{ 7 * 7 }}" in seen.text
    drawn = ["".join(xml.fromstring(p).itertext()) for p in seen.pictures()]
    assert any("<script>alert(1)</script>" in text.replace("\n", "") for text in drawn)


def test_dollar_signs_in_titles_are_not_mathematics():
    record = example()
    record["models"]["kd"]["title"] = "$x_1^{2$"
    assert "$x_1^{2$" in "".join(xml.fromstring(plots.svg(lambda: plots.tradeoff(record))).itertext())


def test_the_page_is_accessible(tmp_path):
    seen = Page(written(staged(example()), tmp_path))
    assert seen.all("html") == [{"lang": "en"}] and seen.all("title")
    assert all(len(a["alt"]) > 30 for a in seen.all("img")) and len(seen.all("img")) == 4
    assert all(a.get("scope") in ("col", "row") for a in seen.all("th"))
    levels = [int(tag[1]) for tag, _ in seen.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(b <= a + 1 for a, b in itertools.pairwise(levels))
    ids = [a["id"] for _, a in seen.elements if "id" in a]
    assert len(ids) == len(set(ids)) and {a["aria-labelledby"] for a in seen.all("section", "table")} <= set(ids)


def test_the_page_says_everything_a_reader_needs_to_judge_and_repeat(tmp_path):
    record = example()
    text = Page(written(record, tmp_path)).text
    assert words.verdict(record) in text
    for one in (
        "84.3 %", "79.6\u201384.2", "13.9\u201315.1", "+0.8 points", "\u22120.5 to +2.1", "paired bootstrap", "Wilson, 1,066 test rows",
        "temperature: 2.0", "tutelage distill recipe.yaml", "torch 2.13.0", "8,530 train", "negative, positive", record["data"]["digest"],
        record["models"]["kd"]["weights"], "4 rows of train stood in test", "learning rate 0.0002 is best", "seed 1", "Example CPU",
        "not for other training seeds",
    ):  # fmt: skip
        assert one in text, one


def test_settings_on_the_page_read_back_as_they_were(tmp_path):
    seen, record = written(example(), tmp_path), example()
    shown = re.search(r"Settings in full</h2></summary>\n<pre>(.*?)</pre>", seen, re.S)[1]
    assert yaml.safe_load(html.unescape(shown)) == record["recipe"]


def test_equal_records_give_equal_pages_and_pictures(tmp_path):
    assert written(example(), tmp_path) == written(example(), tmp_path)
    page.figure(example(), tmp_path / "a.svg")
    page.figure(example(), tmp_path / "b.svg")
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    assert page.figure(example(), tmp_path / "a.png") and (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


# ---- pictures


def crowd(count):
    record = example()
    for i in range(count - 3):
        model = copy.deepcopy(record["models"]["kd"])
        model |= {"title": f"student (method {i})", "role": "baseline"}
        model["test"]["primary"] += 0.001 * i
        record["models"][f"more-{i}"] = model
    return record


@pytest.mark.parametrize("width", [4.2, 7.0])
@pytest.mark.parametrize("count", [3, 4, 5, 9, 14])
def test_labels_and_points_of_the_trade_off_do_not_cover_each_other(count, width):
    with plots._style():
        figure = plots.tradeoff(crowd(count), width)
        figure.draw_without_rendering()
        [axes] = figure.axes
        renderer = figure.canvas.get_renderer()
        labels = [Text.get_window_extent(t, renderer) for t in axes.texts]
        marks = [line.get_window_extent(renderer) for line in axes.lines if line.get_marker() not in ("", "None", None)]
    marks = [m for m in marks if m.width or m.height or axes.bbox.contains(m.x0, m.y0)]
    assert len(labels) == count
    for a, b in itertools.combinations(labels, 2):
        assert not a.padded(-1).overlaps(b.padded(-1))
    for label in labels:
        assert figure.bbox.contains(label.x0, label.y0) and figure.bbox.contains(label.x1, label.y1)
    centres = [(m.x0 + m.x1) / 2 for m in marks][-count:]
    apart = 10 * figure.dpi / 72
    assert all(abs(a - b) > apart for a, b in itertools.combinations(centres, 2))


def test_the_trade_off_takes_the_cost_that_more_models_know():
    assert plots.cost(example()) == "latency"
    some = example()
    some["models"]["teacher"]["latency"] = None
    assert plots.cost(some) == "parameters" and next(p["x"] for p in plots.points(some)) == 22_713_986
    assert plots.cost(without("latency", "parameters")) == ""


def test_the_dark_picture_differs_in_colours_alone():
    light = plots.svg(lambda: plots.tradeoff(example()))
    dark = plots.darken(light)
    assert light != dark and re.sub("#[0-9a-f]{6}", "", light) == re.sub("#[0-9a-f]{6}", "", dark)
    assert not set(re.findall("(?<=: )#[0-9a-f]{6}", dark)) & {*plots.LIGHT.values(), *plots.SERIES}


def test_stages_are_cut_where_their_rows_end():
    training = staged(example())["models"]["kd"]["training"]
    last = max(r["step"] for r in training["history"] + training["losses"] if r["stage"] == "anneal")
    assert curves.stages(training) == [("anneal", 0, last), ("label", last, 1068)]


def test_the_learning_curve_shows_history_best_step_and_every_term():
    record = example()
    training = record["models"]["kd"]["training"]
    with plots._style():
        dev, losses = curves.learning(record, "kd").axes
    [curve] = [line for line in dev.lines if line.get_marker() == "."]
    assert list(curve.get_xdata()) == [r["step"] for r in training["history"]]
    [ring] = [line for line in dev.lines if line.get_marker() == "o"]
    assert list(ring.get_xdata()) == [training["best_step"]]
    assert [t.get_text() for t in losses.get_legend().get_texts()] == ["soft", "label"]
