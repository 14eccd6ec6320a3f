"""A student under attack: its own test rows, searched many at once, kept as they end, and summed up."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .. import config, records
from ..answers.encoder import Encoder
from ..engine.talk import Talk
from ..tasks import _parts
from . import rounds
from .attacks import SEARCHES, Found, Search
from .filling import Filler, fill_by
from .students import Student, accuracy
from .suites import Suite

WIDTH = 64
"""Searches at a time."""
SHOWN = 10
"""Broken texts on the page."""


def rows_of(student: Student, examples: int) -> dict[str, int]:
    """The rows of the student's test part that are attacked, drawn by the hash of their text, by a digest of text and label."""
    split = student.data.splits["test"]
    columns = [split.columns[name] for name in ("text", "pair") if name in split.columns]
    hashes = np.array([_parts.key(row) for row in zip(*columns, strict=True)], dtype=np.uint64)
    first = np.argsort(hashes, kind="stable")[:examples]
    return {records.digest(*(c[i] for c in columns), int(split.gold[i]))[:24]: int(i) for i in first}


class Attacker:
    """One attack against student after student, with the same settings and the same models beside them.

    `heads` is the folder of heads that are trained for masked language models without one.
    """

    def __init__(self, suite: Suite, heads: Path, talk: Talk, *, width: int = WIDTH):
        assert suite.attack is not None
        self.suite, self.attack, self.heads, self.talk, self.width = suite, suite.attack, heads, talk, width
        self.encoder = Encoder(self.attack.encoder, precision="float32") if self.attack.by == "words" else None
        self.fillers: dict[str, Filler] = {}

    def tried(self, student: Student, folder: Path) -> dict[str, Any]:
        """Accuracy under attack with its interval, success rate, queries, words changed, and broken texts with the change marked.

        What has ended stands in a file of `folder`; the same call goes on behind it. Rows depend on nothing but their text; `right`
        (rows,) of bool tells which are right under attack, those that were searched.
        """
        rows, filler = rows_of(student, self.attack.examples), self.filler(student)
        beside = [self.encoder.digest if self.encoder else "", filler.digest if filler else ""]
        settings = {k: v for k, v in config.dump(self.attack).items() if k not in ("examples", "seconds")}
        path = folder / f"{self.suite.name}-{records.digest(student.digest, settings, beside)[:16]}.jsonl"
        done = {row["key"]: row for row in records.rows(path, self.talk.say) if isinstance(row, dict) and "key" in row}
        records.write_rows(path, done.values())
        log = records.Log(path, path.stat().st_size)
        try:
            with self.talk.task(f"{self.suite.name}, {student.name}", len(rows), sum(key in done for key in rows)) as advance:
                for key, found in rounds.carry(
                    ((key, self._search(student, row)) for key, row in rows.items() if key not in done),
                    self.answers(student, filler), width=self.width, seconds=self.attack.seconds,
                ):  # fmt: skip
                    done[key] = _row(key, rows[key], found)
                    log.add(done[key])
                    log.mark()
                    advance(1)
        finally:
            log.close()
        searched = [done[key] for key in rows if key in done]
        right = np.array([row["status"] == "held" for row in searched], dtype=bool)
        facts = summed(searched, len(rows))
        head = {"perplexity": filler.perplexity if filler else None, "masked": self.attack.masked if filler else None}
        return {**facts, **head, "right": right}

    def _search(self, student: Student, row: int) -> Search:
        split = student.data.splits["test"]
        text = split.columns["pair" if student.paired else "text"][row]
        search = SEARCHES[self.attack.by](text, int(split.gold[row]), self.attack)
        return _beside(split.columns["text"][row], search) if student.paired else search

    def answers(self, student: Student, filler: Filler | None) -> Mapping[str, rounds.Answer]:
        """What answers each kind of question."""
        known: dict[str, np.ndarray] = {}

        def alike(pairs: list[tuple[str, str]]) -> list[float]:
            new = list(dict.fromkeys(text for pair in pairs for text in pair if text not in known))
            assert self.encoder is not None, "nothing measures how alike texts are"
            vectors = known | dict(zip(new, self.encoder(new), strict=True))
            known.update({text: vectors[text] for text, _ in pairs})
            return [float(vectors[a] @ vectors[b]) for a, b in pairs]

        out: dict[str, Callable[[list[Any]], Any]] = {"ask": lambda texts: student.probabilities(texts, exact=True), "alike": alike}
        if filler is not None:
            out["fill"] = lambda places: filler(places, self.attack.candidates)
        return out

    def filler(self, student: Student) -> Filler | None:
        """The masked language model for a student: one for all students of the same data."""
        if self.attack.by != "words":
            return None
        data = student.data.digest
        if data not in self.fillers:
            steps, seed = self.attack.prepare, self.attack.seed
            self.fillers[data] = fill_by(self.attack.masked, student, steps=steps, store=self.heads, seed=seed, talk=self.talk)
        return self.fillers[data]


def _row(key: str, row: int, found: Found) -> dict[str, Any]:
    """What is kept of a search, in the form that it is read back in."""
    pieces = [piece if isinstance(piece, str) else list(piece) for piece in found.pieces]
    return {"key": key, "row": row, **dataclasses.asdict(found), "changed": found.changed, "pieces": pieces}


def _beside(first: str, search: Search) -> Search:
    """A search over the second text of a pair whose first stays."""
    heard: Any = None
    try:
        while True:
            kind, items = search.send(heard)
            heard = yield kind, [(first, item) for item in items] if kind == "ask" else items
    except StopIteration as end:
        found: Found = end.value
        return found


def summed(done: list[dict[str, Any]], of: int) -> dict[str, Any]:
    """Accuracy under attack and before it over the rows that were searched, and what the attack took."""
    broken = [row for row in done if row["status"] == "broken"]
    attacked = [row for row in done if row["status"] != "wrong"]
    held = len(attacked) - len(broken)
    return {
        **(accuracy(held, len(done)) if done else {"accuracy": None, "low": None, "high": None, "rows": 0}),
        "wanted": of,
        "clean": len(attacked) / len(done) if done else None,
        "drop": len(broken) / len(done) if done else None,
        "success": success(len(broken), len(attacked)),
        "queries": _mean([row["queries"] for row in attacked]),
        "changed": _mean([row["changed"] / max(1, row["words"]) for row in broken]),
        "similarity": _mean([row["similarity"] for row in broken if row["similarity"] is not None]),
        "examples": [row["pieces"] for row in broken[:SHOWN]],
    }


def success(broken: int, attacked: int) -> dict[str, float] | None:
    """The share of texts that were right and no longer are, with Wilson's interval; None where none was right."""
    if not attacked:
        return None
    found = accuracy(broken, attacked)
    return {"value": found["accuracy"], "low": found["low"], "high": found["high"], "rows": attacked}


def _mean(values: list[float]) -> float | None:
    return float(np.mean(values)) if values else None
