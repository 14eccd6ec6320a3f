"""The unified attack: a masked language model learns to part each student from the teacher, and all face all texts so written.

In the line of Combined-KD (Li et al. 2021, arXiv:2109.05696), whose own protocol was not read; this one is ours: both models are
frozen, the generator is that of `combined` and maximises the squared distance of the logits, summed over classes, and writes every
row once against each student. The texts are pooled, those that the teacher still gets right count, and every student is asked
about the same ones.
"""

from __future__ import annotations

import copy
import difflib
import functools
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .. import config, records
from ..config import settings
from ..engine import batches
from ..engine.cast import NOBODY, Job
from ..engine.forward import move
from ..engine.loop import Loop
from ..engine.talk import Talk
from ..errors import ConfigError
from ..methods._generator import Adversary
from ..methods._method import Facts, Method, Progress, See, Stage, scaled_distance
from ..models.load import tokenizer_digest
from ..recipe import Training
from ..rows import Seen, Term
from ..seeds import stream
from ..tasks._task import Encoded
from . import attacking
from .filling import Filler, facts_of, fill_by
from .reading import Text
from .students import Student, accuracy
from .suites import Suite


@settings
class Parting(Adversary, Method):
    """The generator's turn of `combined` alone."""

    name = "parting"
    uses_teacher = False

    def stages(self, facts: Facts) -> list[Stage]:
        turn, _ = self.turns(facts, self._distance, lambda see, written: {})

        def closeness(see: See) -> tuple[Any, Any]:
            seen = self.written(see, facts, learn=False)
            total = self._distance(see, seen["student"], seen["teacher"], -1.0).sum
            assert isinstance(total, torch.Tensor)
            return -total, torch.tensor(float(len(see.batch.index)))

        return [Stage("apart", (turn,), facts.steps, teacher=None, judge=closeness)]

    def _distance(self, see: See, student: Seen, teacher: Seen, weight: float) -> Term:
        return scaled_distance(see, student, teacher, 1.0, weight=weight)


def tried(suite: Suite, students: Sequence[Student], teacher: Student, folder: Path, talk: Talk) -> dict[str, dict[str, Any]]:
    """Every student on the pooled texts: accuracy before and after, success rate, `right` (texts,) for comparisons, and texts with
    the change marked. Raises ConfigError for students of other data, labels or vocabulary than the teacher's."""
    assert suite.attack is not None
    attack, rows = suite.attack, list(attacking.rows_of(teacher, suite.attack.examples).values())
    for student in students:
        for what, own, theirs in (
            ("data", student.data.digest, teacher.data.digest),
            ("labels", student.labels, teacher.labels),
            ("vocabulary", tokenizer_digest(student.tokenizer), tokenizer_digest(teacher.tokenizer)),
        ):
            if own != theirs:
                raise ConfigError(f"suite {suite.name}: {student.name} has other {what} than the teacher {teacher.folder}; leave it out")
    filler = fill_by(attack.masked, teacher, steps=attack.prepare, store=folder, seed=attack.seed, talk=talk)
    if tokenizer_digest(filler.tokenizer) != tokenizer_digest(teacher.tokenizer):
        raise ConfigError(f"suite {suite.name}: attack.masked: {attack.masked} has another vocabulary than {teacher.folder}; name another")
    split = teacher.data.splits["test"]
    columns = [split.columns[name] for name in ("text", "pair") if name in split.columns]
    before: list[Text] = [tuple(c[i] for c in columns) if teacher.paired else columns[0][i] for i in rows]  # type: ignore[misc]
    gold = split.gold[rows]
    pool = [text for student in students for text in _against(student, teacher, filler, suite, rows, folder, talk)]
    owner = np.tile(np.arange(len(rows)), len(students))
    keep = np.flatnonzero(teacher.probabilities(pool, exact=True).argmax(-1) == gold[owner])
    talk.say(f"{suite.name}: {len(pool):,} texts written, {len(keep):,} of them the teacher still gets right")
    if not len(keep):
        raise ConfigError(f"suite {suite.name}: the teacher gets none of the {len(pool)} texts right; mask less with attack.mask")
    owner, kept = owner[keep], [pool[i] for i in keep]
    pieces = [_marked(_spelled(before[i], teacher.tokenizer), text) for i, text in zip(owner, kept, strict=True)]
    about = {"changed": float(np.mean([_changed(one) for one in pieces])), "perplexity": filler.perplexity, "masked": attack.masked}
    out = {student.name: {**_cell(student, before, kept, owner, gold), **about} for student in students}
    for cell in out.values():
        cell["examples"] = [pieces[i] for i in np.flatnonzero(cell.pop("broken"))[: attacking.SHOWN]]
    return out


def _cell(student: Student, before: list[Text], kept: list[Text], owner: np.ndarray, gold: np.ndarray) -> dict[str, Any]:
    """One student on the texts kept and on what they were written from; `broken` (texts,) of bool: right before, wrong now."""
    clean = (student.probabilities(before, exact=True).argmax(-1) == gold)[owner]
    right = student.probabilities(kept, exact=True).argmax(-1) == gold[owner]
    broken = clean & ~right
    share = float(clean.mean())
    return {
        **accuracy(int(right.sum()), len(right)), "wanted": len(right), "clean": share, "drop": share - float(right.mean()),
        "success": attacking.success(int(broken.sum()), int(clean.sum())),
        "queries": None, "similarity": None, "right": right, "broken": broken,
    }  # fmt: skip


def _changed(pieces: list[Any]) -> float:
    """The share of a text's words that were written anew."""
    all_of = sum(len((p if isinstance(p, str) else p[0]).split()) for p in pieces)
    return sum(len(p[0].split()) for p in pieces if not isinstance(p, str)) / max(1, all_of)


def _spelled(text: Text, tokenizer: Any) -> Text:
    """A text as the tokenizer spells it, so that its blanks and capitals count for no change."""
    parts = [text] if isinstance(text, str) else text
    first, *more = [tokenizer.decode(tokenizer(part, add_special_tokens=False, verbose=False)["input_ids"]) for part in parts]
    return (first, more[0]) if more else first


def _marked(before: Text, after: Text) -> list[Any]:
    """The text after as pieces that stayed and [old, new] for words that did not; case and blanks aside."""
    old, new = ((text if isinstance(text, str) else " | ".join(text)).split() for text in (before, after))
    same = difflib.SequenceMatcher(None, [w.lower() for w in old], [w.lower() for w in new], autojunk=False)
    out: list[Any] = []
    for kind, a, b, c, d in same.get_opcodes():
        out.append(" ".join(new[c:d]) + " " if kind == "equal" else [" ".join(old[a:b]), " ".join(new[c:d])])
        out += [] if kind == "equal" else [" "]
    return out


def _against(student: Student, teacher: Student, filler: Filler, suite: Suite, rows: list[int], folder: Path, talk: Talk) -> list[Text]:
    """The rows as the generator writes them once it has learned to part the student from the teacher; kept, and found again.

    The loop's own lines would call the measure of its looks a perplexity, so what it reached is said here.
    """
    attack = suite.attack
    assert attack is not None
    method = Parting(mask=attack.mask, generator_steps=1, generator_rate=attack.rate)
    training = Training(steps=attack.steps, learning_rate=attack.rate, precision="float32", evaluate_every=max(1, attack.steps // 4))
    named = (student.digest, teacher.digest, filler.digest, config.dump(method), config.dump(training), attack.seed, rows)
    place = folder / f"unified-{records.digest(*named)[:16]}"
    if records.sealed(place / "texts.json") is None:
        encode = functools.partial(teacher.task.encode, tokenizer=teacher.tokenizer)
        train, dev = (encode(teacher.data.splits[part]) for part in ("train", "dev"))
        models = {"generator": copy.deepcopy(filler.model), "student": student.model, "teacher": teacher.model}
        job = Job(f"generator against {student.name}", method, teacher.task, training, attack.seed,
                  facts_of(teacher, filler.tokenizer, train, training), models, lambda role, stage: None, train, dev, place,
                  teacher.machine, Talk())  # fmt: skip
        loop = Loop(job)
        with talk.task(job.title, 1) as advance:
            state = loop.run()
            advance(1)
        first, best = state.history[0]["dev"]["loss"], min(row["dev"]["loss"] for row in state.history)
        talk.say(f"{job.title}: squared distance on dev {-first:.3f} at its first look, {-best:.3f} at its best")
        records.seal(place / "texts.json", {"texts": _written(loop, teacher.tokenizer, encode(teacher.data.splits["test"]), rows)})
        loop.checkpoints.clear()
    return [(x[0], x[-1]) if teacher.paired else " ".join(x) for x in records.read_json(place / "texts.json")["texts"]]


def _written(loop: Loop, tokenizer: Any, encoded: Encoded, rows: list[int]) -> list[list[str]]:
    """The texts of the rows as the generator writes them, a text or two a row. A row's draws are those of its number."""
    job, [stage] = loop.job, loop.stages
    method, special, seed = job.method, set(job.facts.special_tokens), stream(job.seed, "written")
    assert isinstance(method, Parting)
    loop.cast.rest()
    out: dict[int, list[str]] = {}
    for part in batches.canonical(encoded.lengths[rows]):
        numbers = np.asarray(rows)[part]
        batch = move(encoded.batch(numbers), job.machine.device)
        with torch.no_grad():
            see = loop.cast.see(stage, NOBODY, batch, encoded, Progress(stage.name, 0, 1, 0, 1), seed)
            ids, hidden, best, _ = method.chosen(see, job.facts, learn=False)
        new = ids.masked_scatter(hidden, best).tolist()
        for number, old, now, size in zip(numbers.tolist(), ids.tolist(), new, encoded.lengths[numbers].tolist(), strict=True):
            places = itertools.groupby(range(size), key=lambda i: old[i] in special)
            texts = [tokenizer.decode([now[i] for i in many], skip_special_tokens=True) for out_of, many in places if not out_of]
            out[number] = [texts[0], " ".join(texts[1:])] if len(texts) > 1 else texts or [""]
    return [out[row] for row in rows]
