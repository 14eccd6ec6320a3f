"""Answers from a server that works, limps, lies or is not there, and from a model in this process."""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from typing import Any

import decoders
import parts
import pytest
import sqlalchemy as sa
from test_answers_store import questions

from tutelage.answers import collect, writers
from tutelage.answers.collect import Plan
from tutelage.answers.store import Store
from tutelage.answers.tables import Answer, Attempt
from tutelage.cited import hagrid, prompts
from tutelage.errors import ConfigError, DataError

ANSWER = "It is there [1]. It was there [2, 9]."


class Fake(http.server.BaseHTTPRequestHandler):
    """A server in OpenAI's form whose behaviour is a script: a function of the number of the request."""

    def do_POST(self) -> None:
        server: Any = self.server
        with server.lock:
            server.count += 1
            number, server.now = server.count, server.now + 1
            server.most = max(server.most, server.now)
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        server.asked.append((asked, self.headers.get("authorization")))
        status, body, wait = server.script(number)
        time.sleep(wait)
        with server.lock:
            server.now -= 1
        raw = (body if isinstance(body, str) else json.dumps(body)).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(raw)))
        self.send_header("retry-after-ms", "5")
        self.end_headers()
        with contextlib.suppress(BrokenPipeError):
            self.wfile.write(raw)

    def log_message(self, *words: object) -> None:
        pass


def good(text: str = ANSWER) -> dict:
    message = {"role": "assistant", "content": text}
    usage = {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120}
    return {
        "id": "x", "object": "chat.completion", "created": 1, "model": "m", "usage": usage,
        "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
    }  # fmt: skip


@pytest.fixture
def server():
    made = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Fake)
    made.lock, made.count, made.now, made.most, made.asked = threading.Lock(), 0, 0, 0, []
    made.script = lambda number: (200, good(), 0.0)
    made.url = f"http://127.0.0.1:{made.server_port}/v1"
    thread = threading.Thread(target=made.serve_forever, daemon=True)
    thread.start()
    yield made
    made.shutdown()
    made.server_close()


@pytest.fixture
def store(tmp_path):
    made = Store(tmp_path / "answers.db")
    made.take(questions(6))
    yield made
    made.close()


def rows(store, table=Attempt):
    with store.reading() as session:
        return list(session.scalars(sa.select(table).order_by(table.id)))


def new(store):
    with store.reading() as session:
        return session.scalars(sa.select(Answer).where(Answer.attempt_id.is_not(None)).options(sa.orm.selectinload(Answer.segments))).all()


def test_every_question_is_asked_once_by_every_prompt_and_kept_with_its_segments(server, store, tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret-word")
    writer = writers.Server("m", server.url)
    plan = Plan(samples=2, temperature=0.7, price_in=1.0, price_out=2.0, concurrency=3)
    facts = collect.collect(store, writer, plan)
    assert facts["answers"] == 24 == server.count and facts["failed"] == facts["left"] == 0
    assert facts["dangling"] == 24 and facts["tokens_in"] == 2400 and facts["cost"] == pytest.approx(24 * 140 / 1e6)
    assert 1 < server.most <= 3, "as many at a time as asked"
    made = new(store)
    assert [s.text for s in made[0].segments] == ["It is there [1].", "It was there [2, 9]."]
    assert {a.answer_type for a in made} == {"short", "long"}
    asked, key = server.asked[0]
    assert "[1] There." in asked["messages"][0]["content"] and asked["messages"][0]["content"].endswith("Question: Where?\nAnswer:")
    assert key == "Bearer sk-secret-word"
    assert len({(a["messages"][0]["content"], a["seed"]) for a, _ in server.asked}) == 24, "a seed for every sample of every question"
    assert not any(b"sk-secret-word" in file.read_bytes() for file in tmp_path.iterdir())
    again = collect.collect(store, writer, plan)
    assert again["asked"] == 0 and server.count == 24, "nothing is asked twice"
    assert len(new(store)) == 24


def test_an_answer_that_no_database_holds_has_failed_and_counts_of_tokens_are_numbers(server, store):
    odd = {1: good("a\0b"), 2: good("\ud800"), 3: good()}
    odd[3]["usage"] = {"prompt_tokens": "many", "completion_tokens": 2**40, "total_tokens": -1}
    server.script = lambda n: (200, odd.get(n, good()), 0.0)
    facts = collect.collect(store, writers.Server("m", server.url), Plan(prompts=("short",), concurrency=1))
    assert (facts["answers"], facts["failed"], facts["tokens_in"]) == (4, 2, 300)
    faults = [a.fault for a in rows(store)]
    assert "cannot be kept: text holds NUL" in faults[0] and "half of a character" in faults[1] and faults[2] is None
    with pytest.raises(ConfigError, match="--model: model has 301 letters, and at most 300 are kept"):
        collect.collect(store, writers.Server("m" * 301, server.url), Plan())


def test_a_key_goes_to_this_machine_or_over_https_alone(monkeypatch):
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret-word")
    here = ("http://127.0.0.1:1/v1", "http://localhost:1/v1", "http://[::1]:1/v1", "https://models.example.org/v1", None)
    away = ("http://models.example.org/v1", "http://localhost.example.org/v1", "http://127.0.0.1@example.org/v1", "HTTP://10.0.0.1/v1")
    for url in here:
        writers.Server("m", url)
    for url in away:
        with pytest.raises(ConfigError, match="would go to it in the clear; take https, unset OPENAI_API_KEY") as fault:
            writers.Server("m", url)
        assert "sk-secret-word" not in str(fault.value)
        writers.Server("m", url, in_clear=True)
    for url in ("localhost:11434", "ftp://x/v1", "http://", "http://a:b:c", "no address"):
        with pytest.raises(ConfigError, match="is no address; write one such as"):
            writers.Server("m", url)
    monkeypatch.setenv("OPENAI_BASE_URL", away[0])
    with pytest.raises(ConfigError, match="in the clear"):
        writers.Server("m")
    monkeypatch.delenv("OPENAI_API_KEY")
    for url in away:
        writers.Server("m", url)


def test_a_limping_server_is_asked_again(server, store):
    server.script = lambda n: (429, {"error": {"message": "slow down"}}, 0.0) if n % 3 else (200, good(), 0.0)
    facts = collect.collect(store, writers.Server("m", server.url), Plan(prompts=("short",), concurrency=1))
    assert facts["answers"] == 6 and {a.tries for a in rows(store)} == {3}


def test_what_failed_is_told_and_asked_again_by_the_next_run(server, store):
    lies = {
        1: (200, "<html>no</html>", 0.0), 2: (200, {"choices": []}, 0.0), 3: (200, good("  "), 0.0),
        4: (400, {"error": {"message": "too\nlong\0"}}, 0.0), 5: (200, good(), 0.6),
    }  # fmt: skip
    server.script = lambda n: lies.get(n, (200, good(), 0.0))
    writer = writers.Server("m", server.url, retries=0, timeout=0.3)
    facts = collect.collect(store, writer, Plan(prompts=("short",), concurrency=1))
    assert (facts["answers"], facts["failed"], facts["stopped"]) == (1, 5, False)
    faults = [a.fault for a in rows(store)]
    assert "answered what is no completion" in faults[0] and "answered what is no completion" in faults[1]
    assert faults[2] == "the model answered nothing" and "said 400: " in faults[3] and "\n" not in faults[3]
    assert "does not answer" in faults[4] and faults[5] is None
    server.script = lambda n: (200, good(), 0.0)
    facts = collect.collect(store, writer, Plan(prompts=("short",)))
    assert facts["answers"] == 5 and len(rows(store)) == 6 and len(new(store)) == 6
    assert sorted(a.tries for a in rows(store)) == [1, 2, 2, 2, 2, 2]


def test_a_server_that_is_not_there_ends_the_run_early(store):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    facts = collect.collect(store, writers.Server("m", f"http://127.0.0.1:{port}/v1", retries=0), Plan(concurrency=1))
    assert facts["stopped"] and facts["failed"] == collect.GIVE_UP and facts["left"] == 12 - collect.GIVE_UP
    assert "does not answer" in facts["fault"]


def test_without_a_key_the_hosted_service_is_refused(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(ConfigError, match="the environment variable OPENAI_API_KEY holds no key"):
        writers.Server("m")


def test_questions_come_in_once_and_never_with_other_quotes(store):
    one = questions(1)[0]
    assert collect.add(store, [one, hagrid.Question.model_validate({"query_id": "new", "query": "Who?", "quotes": []})]) == 1
    changed = one.model_copy(update={"query": "Whither?"})
    with pytest.raises(DataError, match=r"question '0' is in .* with another text"):
        collect.add(store, [changed])


def test_prompts_have_versions():
    assert prompts.named("short") == "short-1" and prompts.kind("long") == "long"
    with pytest.raises(ConfigError, match="no prompt 'shrot'; did you mean 'short'"):
        prompts.named("shrot")
    chat = prompts.messages("short-1", "Why?", [("A title", "text"), (None, "more")])[0]["content"]
    assert "[1] A title: text\n\n[2] more\n\nQuestion: Why?" in chat


def test_a_model_in_this_process_writes_in_batches(tmp_path, store):
    words = parts.tokenizer()
    words.chat_template = "{% for m in messages %}good film {{ m.content | length }} {% endfor %}"
    words.save_pretrained(tmp_path / "m")
    decoders.model(vocab_size=len(parts.WORDS)).save_pretrained(tmp_path / "m")
    writer = writers.Local(str(tmp_path / "m"), at_once=4, threads=1)
    facts = collect.collect(store, writer, Plan(tokens=5, temperature=1.0))
    assert facts["answers"] + facts["failed"] == 12 and facts["answers"] > 0
    first = [a.text for a in rows(store)]
    other = Store(tmp_path / "again.db")
    other.take(questions(6))
    collect.collect(other, writers.Local(str(tmp_path / "m"), at_once=1, threads=1), Plan(tokens=5, temperature=1.0))
    assert [a.text for a in rows(other)] == first, "the same text however it is batched"
    long = writers.Request([{"role": "user", "content": "x"}], tokens=600)
    [failed] = writer._write([long])
    assert "the model takes 512 with the answer" in str(failed)
    writer._words.chat_template = "{{ raise_exception('no system\n role') if messages[0].role == 'system' else 'good' }}"
    turn, few = {"role": "user", "content": "x"}, {"tokens": 5}
    refused, answered = writer._write([writers.Request([{**turn, "role": "system"}, turn], **few), writers.Request([turn], **few)])
    assert str(refused) == "the model's chat template refuses the question: no system role" and "refuses" not in str(answered)
    parts.tokenizer().save_pretrained(tmp_path / "m")
    (tmp_path / "m" / "chat_template.jinja").unlink(missing_ok=True)
    with pytest.raises(ConfigError, match="has no chat template"):
        writers.Local(str(tmp_path / "m"), threads=1)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_transformers_serve_with_smollm2(tmp_path):
    """A real server on loopback."""
    from tutelage.models.load import open_model

    loaded = open_model("smollm2", {}, auto="AutoModelForCausalLM")
    loaded.save(tmp_path / "smollm2")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program = os.path.join(os.path.dirname(sys.executable), "transformers")
    log = (tmp_path / "log").open("w")
    process = subprocess.Popen([program, "serve", "--host", "127.0.0.1", "--port", str(port)], stdout=log, stderr=log)
    try:
        end = time.monotonic() + 180
        while True:
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2).read()
                break
            if process.poll() is not None or time.monotonic() > end:
                pytest.skip(f"transformers serve did not start: {(tmp_path / 'log').read_text()[-300:]}")
            time.sleep(1)
        store = Store(tmp_path / "answers.db")
        store.take(questions(2))
        writer = writers.Server(str(tmp_path / "smollm2"), f"http://127.0.0.1:{port}/v1", timeout=400)
        facts = collect.collect(store, writer, Plan(prompts=("short",), tokens=20, concurrency=1))
        assert facts["answers"] == 2 and facts["tokens_out"] > 0, facts
    finally:
        process.terminate()
        process.wait()
