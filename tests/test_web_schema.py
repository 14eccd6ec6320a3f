"""The pages against their OpenAPI schema, logged in as each role: no request makes the server fail, each page answers whom it is for."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator

import httpx2
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from postgres import postgres  # noqa: F401
from schemathesis import GenerationMode
from serving import serving
from test_answers_store import questions
from test_web import PASSWORD, hidden, judge, log_in, next_of

from tutelage.answers import people
from tutelage.answers.judging import Rules
from tutelage.answers.store import Store
from tutelage.answers.web.app import create

ROLES = ("annotator", "adjudicator", "admin")
ALLOWED = {
    ("GET", "/login"): ROLES, ("POST", "/login"): ROLES, ("POST", "/logout"): ROLES, ("GET", "/"): ROLES, ("POST", "/undo"): ROLES,
    ("GET", "/answers/{number}"): ROLES, ("POST", "/answers/{number}"): ROLES, ("GET", "/guidelines"): ROLES,
    ("GET", "/disputes"): ROLES[1:], ("GET", "/disputes/{number}"): ROLES[1:], ("POST", "/disputes/{number}"): ROLES[1:],
    ("GET", "/progress"): ROLES[2:],
}  # fmt: skip


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def site(request, tmp_path_factory):
    """A served application in which answers 1 and 2 are disputed, and its schema with the fields of a judged answer besides."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(people, "COST", (2**4, 8, 1))
        patch.setattr(people, "FAILURES", 10**9)
        there = request.param == "postgresql"
        store = Store(request.getfixturevalue("postgres").fresh() if there else tmp_path_factory.mktemp("schema") / "answers.db")
        store.take(questions(40))
        for role in (*ROLES, "rival"):
            people.add(store, role, "annotator" if role == "rival" else role, PASSWORD)
        app = create(store, Rules(overlap=2), secret=b"s" * 32, hosts=["127.0.0.1"], secure=False)
        raw = app.openapi()
        for name, body in raw["components"]["schemas"].items():
            if not name.startswith(("Body_say", "Body_settle")):
                continue
            said = {"anyOf": [{"enum": ["yes", "no", "cannot"]}, {"type": "string"}]}
            body["properties"] |= {
                "sent": {"type": "string", "format": "uuid"},
                "informative": said,
                "note-informative": {"type": "string"},
            }
            body["properties"] |= {f"attributable-{segment}": said for segment in (1, 2, 3)}
        for path in raw["paths"].values():
            for operation in path.values():
                for one in operation.get("parameters", ()):
                    one["schema"] = {"anyOf": [{"enum": [1, 2, 3]}, one["schema"]]}
        with serving(app) as url:
            for name, value in (("annotator", "yes"), ("rival", "no")):
                with visit(url, name) as client:
                    for _ in range(2):
                        judge(client, next_of(client), {"informative": value})
            yield url, raw
        store.close()


@contextlib.contextmanager
def visit(url: str, name: str) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=url, timeout=60) as client:
        log_in(client, name)
        yield client


def token(client: httpx2.Client) -> str:
    return hidden(client.get("/guidelines"), "csrf")


def operations(raw: dict) -> dict[tuple[str, str], schemathesis.schemas.APIOperation]:
    found = [result.ok() for result in schemathesis.openapi.from_dict(raw).get_all_operations()]
    return {(one.method.upper(), one.path): one for one in found}


@pytest.mark.parametrize("role", ROLES)
def test_every_page_answers_whom_it_is_for_and_refuses_others(site, role):
    url, raw = site
    assert set(operations(raw)) == set(ALLOWED)
    for (method, path), roles in ALLOWED.items():
        with visit(url, role) as client:
            own = {"adjudicator": "1"}.get(role, "2")
            where = next_of(client) if path.startswith("/answers") else path.replace("{number}", own)
            if path == "/login":
                form = {"name": role, "password": PASSWORD, "door": hidden(client.get("/login"), "door")}
            else:
                form = {"csrf": token(client), "sent": uuid.uuid4().hex, "informative": "yes"}
            reply = client.request(method, where, data=form if method == "POST" else None, follow_redirects=True)
            assert reply.status_code == (200 if role in roles else 403), (role, method, path, reply.text)


def codes(url: str, role: str, operation: schemathesis.schemas.APIOperation, examples: int) -> set[int]:
    """Send generated requests with the session and the form's token of a role; the statuses, none of them a fault of the server."""
    seen, cases = set(), operation.as_strategy(generation_mode=GenerationMode.POSITIVE)
    if operation.body or operation.path_parameters:
        cases |= operation.as_strategy(generation_mode=GenerationMode.NEGATIVE)
    with visit(url, role) as client:

        @settings(max_examples=examples, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
        @given(case=cases)
        def send(case):
            if operation.path in ("/login", "/logout"):
                log_in(client, role)
            if isinstance(case.body, dict) and "csrf" in case.body:
                case.body["csrf"] = token(client)
            reply = case.call(base_url=url, cookies=dict(client.cookies), allow_redirects=False)
            case.validate_response(reply, checks=[schemathesis.checks.not_a_server_error])
            seen.add(reply.status_code)

        send()
    return seen


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("examples", [20, pytest.param(200, marks=pytest.mark.slow)])
def test_no_request_makes_the_server_fail(site, role, examples):
    url, raw = site
    for (method, path), operation in operations(raw).items():
        seen = codes(url, role, operation, examples)
        if role not in ALLOWED[method, path]:
            assert seen <= {403, 404, 405, 422}, (method, path, seen)
