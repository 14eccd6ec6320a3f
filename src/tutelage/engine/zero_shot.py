"""Zero-shot accuracy of language models through lm-evaluation-harness: its own tasks by name, and JSON lines of one's own.

A line of one's own is a question with answers to choose from, `{"query": ..., "choices": [...], "gold": 0}`, or several beginnings
of one ending, `{"contexts": [...], "ending": ..., "gold": 0}`. The model's answer is the choice of the highest log-probability
(`accuracy`), or of the highest for each of its bytes (`accuracy_by_length`), as the harness computes them; no network is needed.
"""

from __future__ import annotations

import importlib.util
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import ConfigError, DataError, MissingExtra
from ..models.load import open_model
from ..tasks import _metrics, _tables
from .machine import Machine
from .talk import Talk

LEVEL = 0.95
FILES = (".yaml", ".yml")
METRICS = {"acc": "accuracy", "acc_norm": "accuracy_by_length"}
FORMS: dict[tuple[str, str], dict[str, str]] = {
    ("query", "choices"): {"doc_to_text": "query", "doc_to_choice": "choices", "doc_to_target": "gold"},
    ("ending", "contexts"): {"doc_to_text": "gold", "doc_to_choice": "contexts", "doc_to_target": "ending"},
}
"""What a line holds (a text, and a list of texts) -> the columns that the harness takes as they are; in a template it reads digits as an
index."""


def zero_shot(
    model: str, tasks: Sequence[str], *, limit: int | None = None, batch_size: int = 8, threads: int | None = None, talk: Talk | None = None
) -> dict[str, dict[str, Any]]:
    """Each task's accuracies with Wilson intervals of 95 %, and the number of questions.

    `tasks` are JSON-lines files of one's own, YAML task files of the harness, and names of tasks of the harness, whose data
    come from the hub. `limit` takes the first so many questions. Raises MissingExtra without lm-eval; ConfigError for names it
    does not know and for tasks that are no multiple choice; DataError, with the line, for what is no question.
    """
    if importlib.util.find_spec("lm_eval") is None:
        raise MissingExtra("--tasks", "harness")
    machine, talk = Machine(threads), talk or Talk()
    titles = [Path(name).stem if name.endswith((".jsonl", *FILES)) else name for name in tasks]
    if twice := next((t for t in titles if titles.count(t) > 1), None):
        raise ConfigError(f"--tasks: two are called '{twice}', and their results would be one; rename a file, or leave one out")
    own = {name: read(Path(name)) for name in tasks if name.endswith(".jsonl")}
    loaded = open_model(model, {}, auto="AutoModelForCausalLM")
    if loaded.new_head:
        raise ConfigError(f"{model}: is no causal language model; zero-shot tasks need one")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    import lm_eval
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    known = TaskManager(include_defaults=len(own) < len(tasks))
    for name in tasks:
        if name not in own and not name.endswith(FILES) and name not in known.all_tasks:
            raise ConfigError(
                f"--tasks: no task '{name}'; name a task of lm-evaluation-harness (lm-eval ls tasks), one of its YAML files, "
                'or a file of JSON lines {"query": ..., "choices": [...], "gold": 0}'
            )
    words = loaded.tokenizer
    prefix = next((t for t in (words.bos_token_id, words.eos_token_id, words.pad_token_id) if t is not None), 0)
    body = loaded.model.to(machine.device).eval()
    wrapped = HFLM(pretrained=body, tokenizer=words, batch_size=batch_size, prefix_token_id=prefix)
    found: dict[str, dict[str, Any]] = {}
    with talk.task("zero-shot tasks", len(tasks)) as advance:
        for name in tasks:
            given = _task(Path(name).stem, own[name]) if name in own else name
            try:
                done = lm_eval.simple_evaluate(wrapped, tasks=[given], limit=limit, bootstrap_iters=0, log_samples=True, task_manager=known)
            except (OSError, ValueError, KeyError) as fault:
                raise DataError(f"--tasks: '{name}' could not be judged: {type(fault).__name__}: {str(fault).splitlines()[0]}") from None
            found |= {title: _facts(title, samples) for title, samples in done["samples"].items()}
            advance(1, name)
    return found


def _facts(task: str, samples: list[dict[str, Any]]) -> dict[str, Any]:
    if not samples or "acc" not in samples[0]:
        raise ConfigError(f"--tasks: '{task}' is no multiple choice, the one kind of task judged here; take the harness itself")
    out: dict[str, Any] = {"questions": len(samples)}
    for theirs, ours in METRICS.items():
        if theirs in samples[0]:
            right = int(sum(float(s[theirs]) for s in samples))
            low, high = _metrics.wilson(right, len(samples), LEVEL)
            out[ours] = {"value": right / len(samples), "low": low, "high": high}
    return out


def read(path: Path) -> list[dict[str, Any]]:
    """The questions of a file of JSON lines; raises DataError with the line and what is wrong with it."""
    out: list[dict[str, Any]] = []
    table = _tables.read_table(path, None)
    for number, values in zip(table.rows, zip(*table.columns.values(), strict=True), strict=True):
        line = {k: v for k, v in zip(table.columns, values, strict=True) if v is not None}
        form = next((f for f in FORMS if all(key in line for key in f)), None)
        if form is None:
            raise DataError(f"{path}, line {number}: is no question; it needs query, choices and gold, or contexts, ending and gold")
        text, several = (line[key] for key in form)
        good = isinstance(text, str) and isinstance(several, list) and len(several) > 1 and all(isinstance(x, str) and x for x in several)
        if not good:
            raise DataError(f"{path}, line {number}: '{form[0]}' must be a text and '{form[1]}' a list of two texts or more, none empty")
        gold = line.get("gold")
        if not isinstance(gold, int) or isinstance(gold, bool) or not 0 <= gold < len(several):
            raise DataError(f"{path}, line {number}: 'gold' must be a number from 0 to {len(several) - 1}; got {gold!r}")
        if out and form[0] not in out[0]:
            raise DataError(f"{path}, line {number}: is of another form than the first line; split the file in two")
        out.append({form[0]: text, form[1]: several, "gold": gold})
    return out


def _task(name: str, lines: list[dict[str, Any]]) -> dict[str, Any]:
    """The harness's description of a task of one's own."""
    import datasets

    form = next(f for f in FORMS if f[0] in lines[0])
    rows = datasets.DatasetDict({"test": datasets.Dataset.from_list(lines)})
    measures = [{"metric": m, "aggregation": "mean", "higher_is_better": True} for m in METRICS]
    return {
        "task": name, "custom_dataset": lambda **given: rows, "test_split": "test", "output_type": "multiple_choice",
        "metric_list": measures if form[0] == "query" else measures[:1], **FORMS[form],
    }  # fmt: skip
