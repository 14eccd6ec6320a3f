"""CoNLL-U files with coreference, as CorefUD and GUM have them: `Entity=(e1-person-1-` ... `e1)` in the last column.

The first word of a mention carries its opening bracket with the entity's name and attributes in the order that `# global.Entity` says,
the last word the closing one; brackets of a word stand one behind the other. Of the attributes only the name is read, the one that the
head calls `eid` (`GRP` in GUM's own files); where it names none, a file's brackets are left out and warned of. The text is what
the words and `SpaceAfter=No` spell, with UDPipe's `SpacesAfter` and `SpacesBefore` where there are any; sentences stand a space apart,
paragraphs (`# newpar`) an empty line. A multiword token is spelled once: its words get their parts of it where they spell it, else all
of it. Empty nodes are left out; a mention that begins or ends with one begins with the next word or ends with the last. A mention in
several parts (`e1[1/2]`) is read as the whole stretch from its first word to its last, and warned of.
`# meta::KEY = VALUE` are facts of the document (`about`), `# speaker = NAME` says who says a sentence.

Source: the CorefUD 1.x documentation (https://ufal.mff.cuni.cz/corefud) and https://universaldependencies.org/format.html.
"""

from __future__ import annotations

import dataclasses
import re
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from ..errors import DataError
from .brackets import Brackets, Marks, marks
from .documents import NOBODY, Document

_BRACKET = re.compile(r"\((?P<opens>[^()]+)(?P<alone>\))?|(?<![^()])(?P<closes>[^()]+)\)")
_PART = re.compile(r"\[(\d+)/(\d+)\]$")
_ID = re.compile(r"([0-9]{1,9})(?:([-.])([0-9]{1,9}))?$")
_NAMES = ("eid", "GRP")
"""What a head calls the attribute that names the entity."""
_FIELDS = "eid-etype-head-other"
_SPACES = {" ": r"\s", "\n": r"\n", "\t": r"\t", "\r": r"\r"}
"""UDPipe's names of white space."""
_PARAGRAPH = "\n\n"


@dataclasses.dataclass
class _Sentence:
    """A sentence's comments, and its lines split into columns, each with its number."""

    comments: dict[str, str] = dataclasses.field(default_factory=dict)
    rows: list[tuple[int, list[str]]] = dataclasses.field(default_factory=list)

    def comment(self, word: str) -> str | None:
        """The value of the comment that is this word, alone or with another behind it (`newpar`, `newpar id`); None without one."""
        return next((value for key, value in self.comments.items() if key.split(" ")[0] == word), None)


class _Reading:
    """A document in the making."""

    def __init__(self, name: str, path: Path):
        self.name, self.where = name, f"{path}, document {name}"
        self.sentences: list[list[str]] = []
        self.offsets: list[tuple[int, int]] = []
        self.speakers: list[str] = []
        self.about: dict[str, str] = {}
        self.brackets = Brackets(self.where)
        self.text, self.gap, self.told = "", "", False
        """What the words spell; the white space behind it, and whether the file tells it."""
        self.misspelled: list[str] = []
        self.parted: list[str] = []
        self.labelled = False
        self.nameless = 0

    def add(self, sentence: _Sentence, place: int | None) -> None:
        """Read a sentence; `place` is the field of an opening bracket that names the entity, None where none does."""
        self.about |= {k.removeprefix("meta::"): v for k, v in sentence.comments.items() if k.startswith("meta::")}
        if sentence.comment("newpar") is not None and self.text and not self.told:
            self.gap = _PARAGRAPH
        begin = len(self.text) + len(self.gap)
        self.sentences.append([])
        tokens: dict[int, tuple[int, list[str]]] = {}
        for number, columns in sentence.rows:
            where, found = f"line {number}", _ID.match(columns[0])
            if len(columns) != 10 or not found:
                raise DataError(f"{self.where}, {where}: no line of CoNLL-U; it has ten columns parted by tabs, the first a number")
            if found[2] == "-":
                tokens[int(found[1])] = (int(found[3]), columns)
                continue
            if not found[2]:
                if int(found[1]) != len(self.sentences[-1]) + 1:
                    said = f"word {found[1]} follows word {len(self.sentences[-1])}"
                    raise DataError(f"{self.where}, {where}: {said}; the words of a sentence are counted from 1")
                self.sentences[-1].append(columns[1])
                self.speakers.append(sentence.comments.get("speaker", NOBODY))
                tokens.setdefault(int(found[1]), (int(found[1]), columns))
            self._entities(_notes(columns).get("Entity", ""), where, place, empty=bool(found[2]))
        self._spell(tokens, self.sentences[-1], where=f"{self.where}, line {sentence.rows[0][0]}")
        told = sentence.comments.get("text")
        if told is not None and told.split() != self.text[begin:].split():
            self.misspelled.append(f"line {sentence.rows[0][0]}")

    def _spell(self, tokens: dict[int, tuple[int, list[str]]], words: Sequence[str], where: str) -> None:
        first = 1
        while first <= len(words):
            last, columns = tokens[first]
            if not first <= last <= len(words):
                raise DataError(f"{where}: multiword token {columns[0]} ends outside of its sentence of {len(words)} words")
            surface, notes, own = columns[1], _notes(columns), words[first - 1 : last]
            self.text += self.gap + _spaces(notes.get("SpacesBefore", ""))
            start, end = len(self.text), len(self.text) + len(surface)
            self.text += surface
            for word in own:
                spelled = "".join(own) == surface
                self.offsets.append((start, start + len(word)) if spelled else (start, end))
                start += len(word) if spelled else 0
            self.told = "SpacesAfter" in notes
            self.gap = _spaces(notes["SpacesAfter"]) if self.told else "" if notes.get("SpaceAfter") == "No" else " "
            first = last + 1

    def _entities(self, cell: str, where: str, place: int | None, *, empty: bool) -> None:
        if _BRACKET.sub("", cell):
            raise DataError(f"{self.where}, {where}: 'Entity={cell}' is broken; brackets are (e1-person-1- to open and e1) to close")
        if place is None:
            self.nameless += bool(cell)
            return
        self.labelled |= bool(cell)
        word = len(self.speakers)
        for found in _BRACKET.finditer(cell):
            fields = (found["opens"] or found["closes"]).split("-")
            if found["opens"] and not (place < len(fields) and fields[place]):
                what = f"'({found['opens']}' has no name of an entity in field {place + 1}"
                raise DataError(f"{self.where}, {where}: {what}, where '# global.Entity' puts it")
            named = fields[place] if found["opens"] else fields[0]
            part = _PART.search(named)
            entity = named[: part.start()] if part else named
            if found["opens"] and (not part or part[1] == "1"):
                self.brackets.open(entity, word if empty else word - 1, where)
                self.parted += [where] if part else []
            if (found["closes"] or found["alone"]) and (not part or part[1] == part[2]):
                self.brackets.close(entity, word - 1, where)

    def document(self, labelled: bool) -> Document:
        if not self.speakers:
            raise DataError(f"{self.where}: holds no word")
        if self.parted:
            many = f"mentions in several parts: {len(self.parted)} (first {self.parted[0]})"
            warnings.warn(f"{self.where}: {many}; each is read as the whole stretch from first word to last", stacklevel=2)
        if self.misspelled:
            said = f"sentences whose words do not spell their '# text': {len(self.misspelled)} (first {self.misspelled[0]})"
            warnings.warn(f"{self.where}: {said}; the words count", stacklevel=2)
        if self.nameless:
            named = f"'# global.Entity' names no attribute {' or '.join(_NAMES)}, so brackets do not say which entity they mean"
            warnings.warn(f"{self.where}: {named}; those of {self.nameless} words are left out", stacklevel=2)
        clusters = self.brackets.clusters()
        return Document(
            self.name,
            tuple(map(tuple, self.sentences)),
            clusters if labelled or self.labelled else None,
            tuple(self.speakers),
            self.text + (self.gap if self.told else ""),
            np.array(self.offsets),
            self.about,
        )


def _notes(columns: Sequence[str]) -> dict[str, str]:
    return dict(part.partition("=")[::2] for part in columns[9].split("|"))


def _spaces(told: str) -> str:
    for space, name in _SPACES.items():
        told = told.replace(name, space)
    return told


def _sentences(content: str) -> Iterator[_Sentence]:
    now = _Sentence()
    for number, line in enumerate([*content.split("\n"), ""], 1):
        line = line.rstrip("\r")
        if line.startswith("#") and not now.rows:
            key, _, value = line[1:].partition("=")
            now.comments[key.strip()] = value.strip()
        elif line.strip(" \t"):
            now.rows.append((number, line.split("\t")))
        elif now.rows:
            yield now
            now = _Sentence()


def read(content: str, path: Path) -> Iterator[Document]:
    """The documents of a file's content; a file without `# newdoc` is one, called by its name.

    Where neither `# global.Entity` nor an entity was seen, nobody has looked for mentions. Raises DataError with file, document and line.
    """
    now: _Reading | None = None
    place: int | None = 0
    labelled, count = False, 0
    for sentence in _sentences(content):
        start = sentence.comment("newdoc")
        if now is None or start is not None:
            if now:
                yield now.document(labelled)
            count += 1
            now = _Reading(start or (f"{path.stem}-{count}" if start is not None else path.stem), path)
        if fields := sentence.comments.get("global.Entity"):
            names = fields.split("-")
            place = next((names.index(name) for name in _NAMES if name in names), None)
            labelled = place is not None
        now.add(sentence, place)
    if now:
        yield now.document(labelled)


def lines(documents: Sequence[Document]) -> Iterator[str]:
    """Documents with `# newdoc id`, `# text`, brackets, and notes of white space that spell the text exactly.

    Warns where the format cannot hold crossing mentions, several speakers in a sentence, or a text that the words do not spell.
    """
    labelled, before = any(one.clusters is not None for one in documents), 0
    for one in documents:
        where = f"document {one.name}"
        if labelled and one.clusters is None:
            warnings.warn(f"{where}: nobody has looked for mentions; the file will say that there are none", stacklevel=2)
        at, (tokens, gaps) = marks(one.clusters or (), len(one.words), where), _tokens(one)
        cells = [_entity(marked, before + 1) for marked in at]
        before += len(one.clusters or ())
        yield f"# newdoc id = {_line(one.name)}\n"
        if labelled:
            yield f"# global.Entity = {_FIELDS}\n"
        for key, value in one.about.items():
            yield f"# meta::{key} = {_line(value)}\n"
        mixed = 0
        for number, (start, words) in enumerate(zip(one.starts, one.sentences, strict=True)):
            said = set(one.speakers[start : start + len(words)]) if one.speakers else {NOBODY}
            mixed += len(said) > 1
            yield from _sentence(one, number, start, len(words), cells, tokens, gaps)
        if mixed:
            warnings.warn(f"{where}: sentences with several speakers: {mixed}; the file keeps the first of each", stacklevel=2)


def _tokens(one: Document) -> tuple[dict[int, int], list[str]]:
    """First and last word of each token, words at the same place of the text being one; and the white space before each word and at the
    end, as the text has it. Warns where words do not spell the text."""
    count = len(one.words)
    if one.offsets is None or one.text is None:
        return {i: i for i in range(count)}, ["", *[" "] * (count - 1), ""]
    places = one.offsets.tolist()
    tokens: dict[int, int] = {}
    gaps, end, first = [], 0, 0
    for i, (begin, after) in enumerate(places):
        shared = i and places[i] == places[i - 1] and i not in one.starts
        first = first if shared else i
        tokens[first] = i
        gaps.append("" if shared else one.text[end:begin])
        end = after
    gaps.append(one.text[end:])
    spelled = all(first < last or one.words[first] == one.phrase((first, last)) for first, last in tokens.items())
    if not spelled or any(gap.strip() for gap in gaps):
        warnings.warn(f"document {one.name}: its words do not spell its text; the file keeps the words", stacklevel=2)
        gaps = [" " if gap.strip() else gap for gap in gaps]
    return tokens, gaps


def _sentence(
    one: Document, number: int, start: int, count: int, entities: Sequence[str], tokens: dict[int, int], gaps: Sequence[str]
) -> Iterator[str]:
    stop = start + count
    if start and gaps[start] == _PARAGRAPH:
        yield "# newpar\n"
    yield f"# sent_id = {_line(one.name)}-{number + 1}\n"
    if one.speakers:
        yield f"# speaker = {_line(one.speakers[start])}\n"
    surface = {i: one.phrase((i, j)) if j > i else one.words[i] for i, j in tokens.items() if start <= i < stop}
    spelled = "".join(text + gaps[tokens[i] + 1] for i, text in surface.items())
    yield f"# text = {_line(spelled)}\n"
    for i in range(start, stop):
        last = tokens.get(i, i)
        if last > i:
            yield _row(f"{i - start + 1}-{last - start + 1}", surface[i], [_gap(gaps, i, last, stop)])
        alone = tokens.get(i) == i
        yield _row(str(i - start + 1), one.words[i], [entities[i], _gap(gaps, i, i, stop) if alone else ""])
    yield "\n"


def _line(text: str) -> str:
    return " ".join(text.split())


def _gap(gaps: Sequence[str], first: int, last: int, stop: int) -> str:
    """The notes of white space of the token from word `first` to `last`, the sentence's words ending before `stop`."""
    before = f"SpacesBefore={_told(gaps[0])}" if not first and gaps[0] else ""
    after, final = gaps[last + 1], last + 2 == len(gaps)
    usual = "" if final else " "
    if after == usual or (after == _PARAGRAPH and last + 1 == stop and not final):
        return before
    note = "SpaceAfter=No" if not after else f"SpacesAfter={_told(after)}"
    return f"{before}|{note}" if before else note


def _told(spaces: str) -> str:
    return "".join(_SPACES.get(space, space) for space in spaces)


def _entity(at: Marks, first: int) -> str:
    """The brackets at a word; entities are numbered through the whole file, the document's own from `first`."""
    closing, alone = [f"e{first + n})" for n in at.closing], [f"(e{first + n}--1-)" for n in at.alone]
    cell = "".join([*closing, *(f"(e{first + n}--1-" for n, _ in at.opening), *alone])
    return f"Entity={cell}" if cell else ""


def _row(name: str, form: str, notes: Sequence[str]) -> str:
    cells = (name, re.sub(r"[\t\n\r]", "_", form) or "_", *"_______", "|".join(filter(None, notes)) or "_")
    return "\t".join(cells) + "\n"
