"""The verbs of cited answers from questions to an exported folder."""

from __future__ import annotations

import json

import datasets
import decoders
import parts
import pytest
from click.testing import CliRunner
from test_answers_store import people, questions, request, whole
from test_collect import server  # noqa: F401

from tutelage.answers import judging
from tutelage.answers import people as people_of
from tutelage.answers.judging import Suggestion, Word
from tutelage.answers.store import Store
from tutelage.cited import hagrid
from tutelage.cli import main


def run(*words):
    return CliRunner().invoke(main, ["answers", *map(str, words)])


@pytest.fixture
def asked(tmp_path):
    """Questions without answers, in a file."""
    hagrid.write((q.model_copy(update={"answers": []}) for q in questions(4)), tmp_path / "questions.jsonl")
    return tmp_path / "questions.jsonl"


def test_collect_judge_export_and_score(asked, server, tmp_path):  # noqa: F811
    store = ("--store", tmp_path / "answers.db")
    done = run("collect", asked, "--model", "m", "--server", server.url, *store, "--prompts", "short", "--price", 1, 2, "--concurrency", 1)
    assert done.exit_code == 0, done.output  # one at a time, so that answers are numbered as their questions
    assert "4 answers, 0 failed, 0 left; 0 cite nothing, 4 cite what is not there" in done.stdout and "0.0006 paid" in done.stdout
    again = run("collect", asked, "--model", "m", "--server", server.url, *store, "--prompts", "short", "--json")
    assert json.loads(again.stdout)["asked"] == 0
    kept = Store(tmp_path / "answers.db")
    a, b = people(kept, 2)
    for person in (a, b):
        while (answer := judging.take_next(kept, person)) is not None:
            judging.judge(kept, person, answer, whole(kept, answer), request())
    judging.judge(kept, a, 1, [Word(None, "informative", 0)], request())
    said = run("agree", *store, "--json").stdout
    facts = json.loads(said)
    assert "NaN" not in said and facts["criteria"]["attributable"]["alpha"]["value"] is None
    assert facts["criteria"]["informative"]["raw"]["value"] == 0.75 and facts["criteria"]["attributable"]["units"] == 8
    assert run("agree", *store, "--disagreements").stdout == "question 0, answer 1: informative: an0 no, an1 yes\n"
    shown = run("agree", *store)
    assert shown.exit_code == 0 and "Alpha" in shown.stdout and "an0 and an1, informative" in shown.stdout, shown.output
    assert "Followed" not in shown.stdout
    judging.judge(kept, a, 2, [Word(3, "attributable", 0, suggestion=Suggestion(0, "m"))], request())
    told = json.loads(run("agree", *store, "--json").stdout)["suggestions"]["attributable"]
    assert told["with"]["followed"] == 1.0 and told["with"]["units"] == 1 and told["without"]["units"] == 8
    assert "attributable, with it" in run("agree", *store).stdout
    judging.judge(kept, a, 2, [Word(3, "attributable", 1)], request())
    judging.judge(kept, a, 1, [Word(None, "informative", 1)], request())
    done = run("export", tmp_path / "out", *store)
    assert done.exit_code == 0 and "4 questions, 4 answers, 4 of them judged by people" in done.stdout, done.output
    told, _ = hagrid.read(tmp_path / "out" / "answers.jsonl")
    assert [(x.informative, x.attributable, x.answer_type) for q in told for x in q.answers] == [(1, 1, "short")] * 4
    loaded = datasets.load_dataset(str(tmp_path / "out"), cache_dir=str(tmp_path / "cache"))["train"]
    assert len(loaded) == 4 and loaded[0]["quotes"][0]["text"] == "There."
    done = run("score", tmp_path / "out" / "answers.jsonl", "--judge", "none", "--references", tmp_path / "out" / "answers.jsonl", "--json")
    facts = json.loads(done.stdout)
    assert facts["scores"]["answers_that_dangle"]["value"] == 1.0 and facts["scores"]["rouge_l"]["value"] == 1.0
    shown = run("score", tmp_path / "out" / "answers.jsonl")
    assert "citation_recall" in shown.stdout and "support by lexical" in shown.stdout, shown.output


def test_collect_with_a_model_in_this_process(asked, tmp_path):
    words = parts.tokenizer()
    words.chat_template = "{% for m in messages %}good film {{ m.content | length }} {% endfor %}"
    words.save_pretrained(tmp_path / "m")
    decoders.model(vocab_size=len(parts.WORDS)).save_pretrained(tmp_path / "m")
    done = run("collect", asked, "--model", tmp_path / "m", "--store", tmp_path / "a.db", "--tokens", 4, "--threads", 1, "--json")
    assert json.loads(done.stdout)["answers"] == 8, done.output


def test_faults_are_one_sentence(asked, server, tmp_path):  # noqa: F811
    (tmp_path / "broken.jsonl").write_text(asked.read_text() + "{\n")
    (tmp_path / "bare.jsonl").write_text('{"query_id": "1", "query": "Where?"}\n')
    there = ("--server", server.url, "--store", tmp_path / "a.db")
    for words, sentence in (
        (("collect", tmp_path / "none.jsonl", *there), "none.jsonl: no such file"),
        (("collect", tmp_path / "broken.jsonl", *there), "line 5: not JSON"),
        (("collect", tmp_path / "bare.jsonl", *there), "question '1' has no quotes"),
        (("collect", asked, *there, "--samples", 2), "give --temperature"),
        (("collect", asked, *there, "--prompts", "shrot"), "did you mean 'short'"),
        (("collect", asked, *there, "--threads", 1), "--threads: has no effect on a server"),
        (("export", tmp_path / "out", "--store", tmp_path / "none.db"), "no such store"),
        (("agree", "--store", tmp_path / "none.db"), "no such store"),
        (("score", asked), "there is no answer to score"),
        (("score", asked, "--judge", "none", "--threads", 1), "has no effect with --judge none"),
    ):
        done = run(*words)
        assert done.exit_code == 2 and sentence in done.stderr and "Traceback" not in done.output, (words, done.output)
        assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    done = run("collect", tmp_path / "broken.jsonl", *there, "--skip-broken", "--prompts", "short")
    assert done.exit_code == 0 and "left out:" in done.stderr and "4 answers" in done.stdout
    server.script = lambda n: (500, {"error": {"message": "no"}}, 0.0)
    done = run("collect", asked, "--server", server.url, "--store", tmp_path / "b.db", "--prompts", "short", "--concurrency", 8)
    assert done.exit_code == 2 and "4 requests failed, the last because" in done.stderr and "nothing is lost" in done.stderr


def test_the_first_admin_is_made_on_the_command_line(tmp_path):
    store = ("--store", str(tmp_path / "a.db"))
    call = lambda *words, say="a long enough word\n": CliRunner().invoke(main, ["answers", "person", *words, *store], input=say)
    done = call("Ada", "--role", "admin")
    assert done.exit_code == 0 and "Ada is admin, and person-1 in exports" in done.stdout and "long enough" not in done.output
    assert "there is an account 'Ada' already" in call("Ada").stderr
    assert "needs 10 to 200 letters" in call("Bob", say="short\n").stderr
    assert "Ada has a new password" in call("Ada", "--new-password", say="another long word\n").stdout
    assert "there is no account 'Bob'" in call("Bob", "--new-password").stderr
    kept = Store(tmp_path / "a.db")
    assert people_of.who(kept, people_of.log_in(kept, "Ada", "another long word")).role == "admin"
    assert call("Ada", "--change", "--role", "annotator").stdout == "Ada is annotator\n"
    assert people_of.who(kept, people_of.log_in(kept, "Ada", "another long word")).role == "annotator"
    assert call("Ada", "--close").stdout == "the account of Ada is closed\n"
    assert call("Ada", "--open").stdout == "the account of Ada is open\n"
    for words, sentence in (
        (["--change"], "--change: gives an account another role; name it with --role"),
        (["--close", "--role", "admin"], "--role: has no effect beside --close"),
        (["--close", "--new-password"], "--close: is another change than --new-password"),
    ):
        done = call("Ada", *words)
        assert done.exit_code == 2 and sentence in done.stderr


def test_from_passages_to_an_answer_with_its_quotes(server, tmp_path):  # noqa: F811
    passages = [
        ("a#0", "Arno", "The Arno is a river in Tuscany and rises on Monte Falterona."),
        ("b#0", "Po", "The Po is the longest river of Italy."),
    ]
    lines = [json.dumps({"docid": d, "title": t, "text": x}) for d, t, x in passages]
    (tmp_path / "passages.jsonl").write_text("\n".join([*lines, "{"]))
    index = ("--index", tmp_path / "index")
    done = run("index", tmp_path / "passages.jsonl", *index)
    assert done.exit_code == 2 and "line 3: not JSON" in done.stderr
    done = run("index", tmp_path / "passages.jsonl", *index, "--skip-broken")
    assert done.exit_code == 0 and "2 passages" in done.stdout and "left out:" in done.stderr, done.output
    (tmp_path / "other.jsonl").write_text(json.dumps({"docid": "c#0", "text": "Elsewhere."}))
    done = run("index", tmp_path / "other.jsonl", *index, "--prune")
    assert done.exit_code == 2 and "none of them is in the source" in done.stderr
    assert "3 passages" in run("index", tmp_path / "other.jsonl", *index).stdout
    done = run("index", tmp_path / "passages.jsonl", *index, "--skip-broken", "--prune")
    assert done.exit_code == 2 and "would take out the 1 passages of" in done.stderr
    (tmp_path / "passages.jsonl").write_text("\n".join(lines))
    done = run("index", tmp_path / "passages.jsonl", *index, "--prune")
    assert done.exit_code == 0 and "2 passages" in done.stdout and "1 passages taken out" in done.output, done.output
    done = run("ask", "Where does the Arno rise?", *index, "--server", server.url, "--model", "m")
    assert done.exit_code == 0, done.output
    assert "It is there [1]." in done.stdout and "[1] cited  Arno: The Arno is a river" in done.stdout and "not there: 9" in done.stdout
    asked = server.asked[0][0]["messages"][0]["content"]
    assert "[1] Arno: The Arno" in asked and "[2] Po: The Po" in asked
    (tmp_path / "bare.jsonl").write_text('{"query_id": "1", "query": "Where does the Po flow?"}\n')
    store = ("--store", tmp_path / "a.db", "--server", server.url, "--prompts", "short")
    done = run("collect", tmp_path / "bare.jsonl", *store, *index, "--quotes", 1, "--json")
    assert json.loads(done.stdout)["answers"] == 1, done.output
    [kept] = Store(tmp_path / "a.db").give()
    assert kept.quotes[0].docid == "b#0" and kept.quotes[0].text.startswith("Po: The Po")
    assert "no such folder" in run("ask", "Why?", "--index", tmp_path / "none", "--server", server.url).stderr
    assert "is not written KEY=VALUE" in run("ask", "Why?", *index, "--storage", "x", "--server", server.url).stderr
    assert "--quotes: has no effect without --index" in run("collect", tmp_path / "bare.jsonl", *store, "--quotes", 2).stderr
