"""A model's suggestion beside each part: shown as such, kept with the judgement, and none that was not ours."""

from __future__ import annotations

import re
import uuid

import pytest
from postgres import postgres  # noqa: F401
from test_web import enter, hidden, judge, next_of, store  # noqa: F401

from tutelage.answers import outcomes
from tutelage.answers.judging import Rules
from tutelage.answers.suggest import Suggester
from tutelage.answers.web.app import create
from tutelage.cited import hagrid
from tutelage.errors import ConfigError


@pytest.mark.parametrize("store", ["sqlite", "postgresql"], indirect=True)
def test_what_a_model_suggested_is_shown_and_kept_with_the_judgement(store):  # noqa: F811
    """Quotes hold "There."; the first part says so and the second does not: shares of words 1 and 0 by hand."""
    parts = ["There [1].", "Elsewhere, far away [1]."]
    answer = {"answer": " ".join(parts), "sentences": [{"text": p, "index": i} for i, p in enumerate(parts)]}
    tree = {"query_id": "s", "query": "Where?", "quotes": [{"idx": 1, "docid": "a", "text": "There."}], "answers": [answer]}
    store.take([hagrid.Question.model_validate(tree)])
    serve = lambda **more: create(store, Rules(overlap=3), secret=b"s" * 32, hosts=["localhost"], secure=False, **more)
    plain, app = serve(), serve(suggester=Suggester("lexical"))
    ann, bob, where = enter(app, "ann"), enter(plain, "bob"), "/answers/3"
    for made in (ann, bob):
        while next_of(made) != where:
            judge(made, next_of(made))
    page = ann.get(where).text
    assert re.findall(r"A model suggests: (yes|no)\.", page) == ["yes", "no"] and "overlap of content words above 0.65" in page
    assert "suggests" not in bob.get(where).text
    _, names, data = judge(ann, where)
    judge(bob, where)
    told = [e for e in outcomes.events(store) if e["query_id"] == "s"]
    by = "lexical overlap of content words above 0.65"
    kept = [(e["criterion"], e["segment"], e["suggested"], e["suggestion"], e["suggester"]) for e in told]
    assert kept[:3] == [("informative", None, False, None, None), ("attributable", 0, True, 1, by), ("attributable", 1, True, 0, by)]
    assert kept[3:] == [(c, s, False, None, None) for c, s, *_ in kept[:3]]
    fresh = {"csrf": data["csrf"], "informative": "no"}
    for shown in ({}, {"shown": "x"}, {"shown": data["shown"] + "0"}, {"shown": data["shown"].replace("[3,", "[2,")}):
        assert ann.post(where, data={**fresh, **shown, "sent": uuid.uuid4().hex}).status_code == 422, "none that was not ours"
    stolen = hidden(ann.get("/answers/1"), "shown")
    assert ann.post(where, data={**fresh, "shown": stolen, "sent": uuid.uuid4().hex}).status_code == 422, "nor another answer's"
    chief = enter(app, "cy")
    judge(bob, where, {names[2]: "no"})
    assert "ann</bdi></b>: yes (a model had suggested no)" in chief.get("/disputes/3").text


def test_a_judge_without_a_name_here_is_refused():
    with pytest.raises(ConfigError, match="--suggest: no judge 'nli'; lexical is the only one"):
        Suggester("nli")
