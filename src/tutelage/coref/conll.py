"""CoNLL-2012 files: a word a line, columns, and brackets in the last one.

Twelve columns and more are document, part, number, word, part of speech, parse, lemma, frame, sense, speaker, name, ..., coreference;
of fewer, five and more have the word in the fourth, three and four just before the last, and two have no words, as in the reference
scorer's cases. Columns are parted by tabs where a line has one, else by white space. The document of `#begin document (NAME); part 000`
is called NAME, that of part 003 NAME_3. The format has no text, no genre, and no way to say that nobody has looked for mentions.

Source: https://conll.cemantix.org/2012/data.html.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..errors import DataError
from .brackets import Brackets, Marks, marks
from .documents import NOBODY, Document

_BEGIN = re.compile(r"#begin document \(?(.*?)\)?(?:; *part (\d+))?;?\s*$")
_BRACKET = re.compile(r"\((?P<alone>[^()|\s]+)\)|\((?P<open>[^()|\s]+)|(?P<close>[^()|\s]+)\)")
_CELL = re.compile(r"[-_*]|(?:\([^()|\s]+\)?\|?|[^()|\s]+\)\|?)+")
WORDLESS = "_"


class _Reading:
    """A document in the making."""

    def __init__(self, path: Path, found: re.Match[str]):
        part = int(found[2] or 0)
        self.name = f"{found[1]}_{part}" if part else found[1]
        self.about = {"part": str(part)} if part else {}
        self.where = f"{path}, document {self.name}"
        self.sentences: list[list[str]] = [[]]
        self.speakers: list[str] = []
        self.brackets = Brackets(self.where)
        self.widths: dict[bool, int] = {}

    def add(self, line: str, number: int) -> None:
        columns, where = line.split("\t") if "\t" in line else line.split(), f"line {number}"
        wide = self.widths.setdefault(len(columns) > 11, len(columns))
        if len(columns) < 2 or len(self.widths) > 1 or (wide < 12 and wide != len(columns)):
            raise DataError(f"{self.where}, {where}: {len(columns)} columns; the lines before have {next(iter(self.widths.values()))}")
        word = len(self.speakers)
        self.sentences[-1].append(columns[3] if len(columns) > 4 else columns[-2] if len(columns) > 2 else WORDLESS)
        self.speakers.append(columns[9] if len(columns) > 11 else NOBODY)
        if not _CELL.fullmatch(columns[-1]):
            raise DataError(f"{self.where}, {where}: '{columns[-1]}' is no cell of brackets, such as (3, 3), (3) or -, parted by |")
        for found in _BRACKET.finditer(columns[-1]):
            entity = next(filter(None, found.groups()))
            if found.lastgroup != "close":
                self.brackets.open(entity, word, where)
            if found.lastgroup != "open":
                self.brackets.close(entity, word, where)

    def document(self) -> Document:
        if not self.speakers:
            raise DataError(f"{self.where}: holds no word")
        return Document(self.name, tuple(map(tuple, self.sentences)), self.brackets.clusters(), tuple(self.speakers), about=self.about)


def read(content: str, path: Path) -> Iterator[Document]:
    """The documents of a file's content. Raises DataError, with file, document and line, for broken brackets and columns."""
    now: _Reading | None = None
    for number, line in enumerate(content.split("\n"), 1):
        if found := _BEGIN.match(line):
            if now:
                raise DataError(f"{now.where}, line {number}: another document begins before '#end document'")
            now = _Reading(path, found)
        elif line.startswith("#end document"):
            if now:
                yield now.document()
            now = None
        elif not line.strip():
            if now and now.sentences[-1]:
                now.sentences.append([])
        elif now:
            now.add(line.rstrip(), number)
        elif not line.startswith("#"):
            raise DataError(f"{path}, line {number}: a word outside of a document; '#begin document (NAME); part 000' is missing")
    if now:
        raise DataError(f"{now.where}: ends without '#end document'; the file is cut short")


def lines(documents: Sequence[Document]) -> Iterator[str]:
    """Twelve columns, parted by tabs. Warns where the format cannot hold a document's mentions, words or names."""
    for one in documents:
        if one.clusters is None:
            warnings.warn(f"document {one.name}: nobody has looked for mentions; the file will say that there are none", stacklevel=2)
        name, part = one.name, one.about.get("part", "")
        if part.isdigit() and name.endswith(f"_{int(part)}"):
            name, part = name.removesuffix(f"_{int(part)}"), f"{int(part):03}"
        else:
            part = "000"
        words, speakers = [_column(word) for word in one.words], [_column(who) for who in one.speakers or (NOBODY,) * len(one.words)]
        if (*words, *speakers) != (*one.words, *(one.speakers or speakers)):
            warnings.warn(f"document {one.name}: a column is not empty and holds no white space; '_' stands for it", stacklevel=2)
        yield f"#begin document ({' '.join(name.split())}); part {part}\n"
        word = 0
        at = marks(one.clusters or (), len(words), f"document {one.name}")
        for sentence in one.sentences:
            for i in range(len(sentence)):
                row = (_column(name), str(int(part)), str(i), words[word], *"-----", speakers[word], "*", _cell(at[word]))
                yield "\t".join(row) + "\n"
                word += 1
            yield "\n"
        yield "#end document\n"


def _column(text: str) -> str:
    return re.sub(r"\s", WORDLESS, text) or WORDLESS


def _cell(at: Marks) -> str:
    parts = [f"{n})" for n in at.closing] + [f"({n}" for n, _ in at.opening] + [f"({n})" for n in at.alone]
    return "|".join(parts) or "-"
