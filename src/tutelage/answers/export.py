"""Judged answers as a folder: HAGRID's JSON lines, every judgement, and a card that `datasets` reads."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from .. import records
from ..cited import hagrid
from . import judging, outcomes
from .store import Store

ANSWERS, EVENTS, CARD = "answers.jsonl", "judgements.jsonl", "README.md"


def write(store: Store, folder: Path) -> dict[str, Any]:
    """Write the folder, whole files at a time; counts of what it holds. `datasets.load_dataset(folder)` reads it."""
    questions = list(outcomes.export(store))
    events = list(outcomes.events(store))
    with records.saving(folder):
        folder.mkdir(parents=True, exist_ok=True)
    hagrid.write(questions, folder / ANSWERS)
    _lines(events, folder / EVENTS)
    answers = [a for q in questions for a in q.answers]
    facts = {
        "questions": len(questions), "answers": len(answers), "judgements": len(events),
        "judged": len({(e["query_id"], e["answer"]) for e in events}), "annotators": len({e["annotator"] for e in events}),
        "informative": _counted(a.informative for a in answers), "attributable": _counted(a.attributable for a in answers),
    }  # fmt: skip
    records.write(folder / CARD, _card(facts).encode())
    return facts


def _lines(rows: Iterable[dict[str, Any]], path: Path) -> None:
    records.write(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode())


def _counted(labels: Iterable[hagrid.Label]) -> dict[str, int]:
    known = list(labels)
    return {"yes": known.count(1), "no": known.count(0), "none": known.count(None)}


def _card(facts: dict[str, Any]) -> str:
    """A data-set card; its head tells `datasets` which file is which."""
    rows = "\n".join(f"| {name} | {facts[name]['yes']} | {facts[name]['no']} | {facts[name]['none']} |" for name in judging.CRITERIA)
    return f"""---
configs:
- config_name: answers
  data_files: {ANSWERS}
  default: true
- config_name: judgements
  data_files: {EVENTS}
---
# Judged answers

{facts["questions"]} questions with their quotes, {facts["answers"]} answers, {facts["judgements"]} judgements by {facts["annotators"]}
people under pseudonyms; written on {datetime.date.today().isoformat()}.

| answers | yes | no | not judged or not settled |
|---|---|---|---|
{rows}

- `{ANSWERS}`: a line a question in HAGRID's form. A citation [n] means the quote at position n, from 1. A segment's label is an
  adjudicator's word, else what all annotators agree on; null where they do not. An answer is attributable when all its segments are,
  informative by its own label, or where it has none when any segment is.
- `{EVENTS}`: every judgement, corrections and withdrawals included, in order; and what a model suggested to
  whoever judged, where one did.

The quotes keep the licence of the texts they come from.
"""
