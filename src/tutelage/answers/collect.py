"""Collecting answers: every question by every prompt and sample, once; resumable, bounded, with a ledger.

An attempt's key is a digest of all that decides its answer. What succeeded is never asked again; what failed is asked again by the
next run. Each answer is kept the moment it is there, with its segments; citations that point nowhere stay in the text and are told
by `citations.cited`.
"""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import selectinload

from .. import records
from ..cited import citations, hagrid, prompts
from ..database.store import now, unfit
from ..engine.talk import Talk
from ..errors import ConfigError, DataError
from ..seeds import stream
from .store import Store, record_of
from .tables import Answer, Attempt, Question, Segment
from .writers import Failed, Reply, Request, Writer

DONE, FAILED = "done", "failed"
GIVE_UP = 3
"""Requests in a row that find the server down before the run ends."""


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is asked of each question."""

    prompts: tuple[str, ...] = ("short", "long")
    samples: int = 1
    """Answers for each prompt; more than one want a temperature."""
    temperature: float = 0.0
    tokens: int = 300
    """Most tokens of an answer."""
    concurrency: int = 8
    """Requests at a time."""
    price_in: float | None = None
    """Price of a million tokens read, for the ledger."""
    price_out: float | None = None
    """Price of a million tokens written."""
    seed: int = 1


@dataclasses.dataclass(frozen=True)
class Job:
    """One request that is still to be made."""

    question: int
    quotes: int
    key: str
    prompt: str
    request: Request
    settings: dict[str, Any]


def add(store: Store, questions: Sequence[hagrid.Question]) -> int:
    """Put in the questions that the store does not have; how many those were.

    Raises DataError for a question that is there with another text or other quotes; then nothing was put in.
    """
    with store.reading() as session:
        wanted = sa.select(Question).options(selectinload(Question.quotes), selectinload(Question.answers).selectinload(Answer.segments))
        known = {row.query_id: record_of(row) for row in session.scalars(wanted)}
    fresh = []
    for one in questions:
        mine = known.get(one.query_id)
        if mine is None:
            fresh.append(one)
        elif (mine.query, mine.quotes) != (one.query, one.quotes):
            what = "text" if mine.query != one.query else "quotes"
            raise DataError(f"question '{one.query_id}' is in {store.shown} with another {what}; nothing was added, take another store")
    return store.take(fresh) if fresh else 0


def jobs(store: Store, plan: Plan, model: str) -> list[Job]:
    """The requests that a plan asks of a store and that have not succeeded, question by question."""
    with store.reading() as session:
        done = {
            (question, key) for question, key in session.execute(sa.select(Attempt.question_id, Attempt.key).where(Attempt.status == DONE))
        }
        out = []
        for row in session.scalars(sa.select(Question).options(selectinload(Question.quotes)).order_by(Question.id)):
            quotes = [(q.title, q.text) for q in row.quotes]
            for name in map(prompts.named, plan.prompts):
                for sample in range(plan.samples):
                    chat = prompts.messages(name, row.text, quotes)
                    settings = {"temperature": plan.temperature, "tokens": plan.tokens, "sample": sample}
                    key = records.digest(model, name, chat, settings, plan.seed)
                    if (row.id, key) not in done:
                        seed = stream(plan.seed, row.query_id, name, sample) % 2**31
                        request = Request(chat, plan.temperature, plan.tokens, seed)
                        out.append(Job(row.id, len(quotes), key, name, request, settings))
        return out


def collect(store: Store, writer: Writer, plan: Plan = Plan(), talk: Talk | None = None) -> dict[str, Any]:
    """Ask what is still to be asked; counts of answers and failures, tokens, costs, and what the server's last fault was.

    Ends early, with what is there kept, where the server is down for GIVE_UP requests in a row. Raises ConfigError for a model's name
    that the store does not hold.
    """
    if why := unfit(Attempt(model=writer.model)):
        raise ConfigError(f"--model: {why}")
    return asyncio.run(_Run(store, writer, plan, talk or Talk()).go())


class _Run:
    def __init__(self, store: Store, writer: Writer, plan: Plan, talk: Talk):
        self.store, self.writer, self.plan, self.talk = store, writer, plan, talk
        self.left = jobs(store, plan, writer.model)
        self.facts: dict[str, Any] = {
            "asked": 0, "answers": 0, "failed": 0, "dangling": 0, "uncited": 0, "tokens_in": 0, "tokens_out": 0, "cost": 0.0, "fault": None,
            "stopped": False,
        }  # fmt: skip
        self.down = 0

    async def go(self) -> dict[str, Any]:
        size = self.writer.at_once
        parts = [self.left[i : i + size] for i in range(0, len(self.left), size)]
        waiting = iter(parts)
        with self.talk.task("answers", len(self.left)) as advance:

            async def work() -> None:
                for part in waiting:
                    if self.down >= GIVE_UP:
                        self.facts["stopped"] = True
                        return
                    started = time.monotonic()
                    replies = await self.writer.write([job.request for job in part])
                    took = (time.monotonic() - started) / len(part)
                    for job, reply in zip(part, replies, strict=True):
                        self._keep(job, reply, took)
                        advance(1)

            await asyncio.gather(*(work() for _ in range(max(1, self.plan.concurrency if self.writer.concurrent else 1))))
        self.facts["left"] = len(self.left) - self.facts["asked"]
        return self.facts

    def _keep(self, job: Job, reply: Reply | Failed, seconds: float) -> None:
        if isinstance(reply, Reply):
            said = Attempt(text=reply.text, tokens_in=reply.tokens_in, tokens_out=reply.tokens_out)
            if why := unfit(said):
                reply = Failed(f"the model's answer cannot be kept: {why}", reply.tries)
        facts, failed = self.facts, isinstance(reply, Failed)
        facts["asked"] += 1
        self.down = self.down + 1 if isinstance(reply, Failed) and reply.down else 0
        row: dict[str, Any] = {
            "question_id": job.question, "key": job.key, "model": self.writer.model, "prompt": job.prompt, "settings": job.settings,
            "status": FAILED if failed else DONE, "tries": reply.tries, "seconds": seconds, "at": now(),
            "text": None, "fault": None, "tokens_in": None, "tokens_out": None, "cost": None,
        }  # fmt: skip
        if isinstance(reply, Failed):
            facts["failed"] += 1
            facts["fault"] = row["fault"] = str(reply)
        else:
            row |= {"text": reply.text, "tokens_in": reply.tokens_in, "tokens_out": reply.tokens_out, "cost": self._cost(reply)}
            found, dangling = citations.cited(reply.text, job.quotes)
            facts["answers"] += 1
            facts["dangling"] += bool(dangling)
            facts["uncited"] += not found and not dangling
            for name in ("tokens_in", "tokens_out", "cost"):
                facts[name] += row[name] or 0
        with self.store.writing() as session:
            attempt = session.scalar(sa.select(Attempt).where(Attempt.question_id == job.question, Attempt.key == job.key))
            if attempt is not None and attempt.status == DONE:
                return
            if attempt is None:
                attempt = Attempt(**row)
                session.add(attempt)
            else:
                for name, value in (row | {"tries": attempt.tries + reply.tries}).items():
                    setattr(attempt, name, value)
            session.flush()
            if isinstance(reply, Reply):
                session.add(_answer(job, attempt.id, reply.text))

    def _cost(self, reply: Reply) -> float | None:
        prices = (self.plan.price_in, reply.tokens_in), (self.plan.price_out, reply.tokens_out)
        known = [price * many / 1e6 for price, many in prices if price is not None and many is not None]
        return sum(known) if known else None


def _answer(job: Job, attempt: int, text: str) -> Answer:
    kind = prompts.kind(job.prompt)
    segments = [
        Segment(position=i, idx=i, text=part, answer_type=kind, absent=[]) for i, part in enumerate(citations.segments(text))
    ]  # fmt: skip
    return Answer(question_id=job.question, attempt_id=attempt, text=text, answer_type=kind, absent=[], segments=segments)
