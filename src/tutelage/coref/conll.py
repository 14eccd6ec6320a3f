"""CoNLL-2012 files: a word a line, columns, and brackets in the last one.

Twelve columns and more are document, part, number, word, part of speech, parse, lemma, frame, sense, speaker, name, ..., coreference;
of fewer, five and more have the word in the fourth, three and four just before the last, and two have no words, as in the reference
scorer's cases. Files of SemEval-2010, whose first column counts the words of a sentence from 1, have the word in the second. Columns are
parted by tabs where a line has one, else by blanks. The document of `#begin document (NAME); part 000`, or `# begin document NAME`, is
called NAME, that of part 003 NAME_3. The format has no text, no genre, and no way to say that nobody has looked for mentions.

Sources: https://conll.cemantix.org/2012/data.html; Recasens et al. 2010, SemEval-2010 task 1, for its columns.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..errors import DataError
from .brackets import Brackets, Marks, marks
from .documents import NOBODY, Document

BEGIN = re.compile(r"#[ \t]*begin document\b[ \t]*(?:\((.*)\)|(.*?))[ \t]*(?:;[ \t]*part[ \t]+([0-9]{1,9}))?;?[ \t\r]*$")
_END = re.compile(r"#[ \t]*end document\b")
_NAME = r"[^()|\s]++"
_BRACKET = re.compile(rf"\((?P<alone>{_NAME})\)|\((?P<open>{_NAME})|(?<![^()|\s])(?P<close>{_NAME})\)")
_CELL = re.compile(rf"[-_*]|(?<![^()|\s])(?:\({_NAME}\)?+\|?+|{_NAME}\)\|?+)++")
WORDLESS = "_"
_NO_WORDS = ({"-"}, {WORDLESS}, {"*"}, {"[WORD]"})
"""What stands in place of every word where a file holds none."""
_NUMBER = re.compile("[0-9]+")
_BLANKS = " \t\r"
_TOUCHING = (
    "brackets cannot say which is which: they are read in the order of the cell, and the reference scorer, which opens before it closes, "
    "reads others. JSON lines hold them"
)


class _Reading:
    """A document in the making, called `name` where its first line gives no name."""

    def __init__(self, path: Path, found: re.Match[str], name: str):
        part = int(found[3] or 0)
        self.name = f"{found[1] or found[2] or name}{f'_{part}' if part else ''}"
        self.about = {"part": str(part)} if part else {}
        self.where = f"{path}, document {self.name}"
        self.sentences: list[list[tuple[int, list[str]]]] = [[]]
        """By sentence, the number and the columns of each line."""
        self.words = 0
        self.brackets = Brackets(self.where)
        self.touching: list[str] = []
        self.widths: dict[bool, int] = {}

    def add(self, line: str, number: int) -> None:
        columns, where = line.split("\t") if "\t" in line else re.split(" +", line.strip(" ")), f"line {number}"
        wide = self.widths.setdefault(len(columns) > 11, len(columns))
        if len(columns) < 2 or len(self.widths) > 1 or (wide < 12 and wide != len(columns)):
            raise DataError(f"{self.where}, {where}: {len(columns)} columns; the lines before have {next(iter(self.widths.values()))}")
        if not _CELL.fullmatch(columns[-1]):
            raise DataError(f"{self.where}, {where}: '{columns[-1]}' is no cell of brackets, such as (3, 3), (3) or -, parted by |")
        self.sentences[-1].append((number, columns))
        closed = set()
        for found in _BRACKET.finditer(columns[-1]):
            entity = next(filter(None, found.groups()))
            if found.lastgroup != "close":
                self.brackets.open(entity, self.words, where)
            if found.lastgroup != "open":
                self.brackets.close(entity, self.words, where)
            if found.lastgroup == "close":
                closed.add(entity)
            elif found.lastgroup == "open" and entity in closed:
                self.touching.append(where)
        self.words += 1

    def document(self) -> Document:
        if not self.words:
            raise DataError(f"{self.where}: holds no word")
        at = self._word_column()
        sentences = [[columns[at] if at is not None else WORDLESS for _, columns in rows] for rows in self.sentences]
        speakers = [columns[9] if at == 3 and len(columns) > 11 else NOBODY for rows in self.sentences for _, columns in rows]
        if self.touching:
            many = f"cells where a mention of an entity ends and another of it begins: {len(self.touching)} (first {self.touching[0]})"
            warnings.warn(f"{self.where}: {many}; {_TOUCHING}", stacklevel=2)
        if at is not None and self.words > 1 and set().union(*sentences) in _NO_WORDS:
            stands = f"holds no words, '{sentences[0][0]}' stands for each"
            warnings.warn(f"{self.where}: {stands}; only its brackets say something", stacklevel=2)
        return Document(self.name, tuple(map(tuple, sentences)), self.brackets.clusters(), tuple(speakers), about=self.about)

    def _word_column(self) -> int | None:
        """The column of the words, from 0; None where there is none. Raises DataError where the columns are those of no known layout."""
        rows = [row for sentence in self.sentences for row in sentence]
        if self.widths.get(False, 12) < 5:
            return -2 if self.widths[False] > 2 else None
        unnumbered = next(((number, columns[2]) for number, columns in rows if not _NUMBER.fullmatch(columns[2])), None)
        if unnumbered is None and (self._counts(2) or not self._counts(3)):
            return 3
        if unnumbered is not None and self._counts(0):
            return 1
        number, cell = unnumbered or (rows[0][0], rows[0][1][3])
        what = f"'{cell}' stands where CoNLL-2012 has the number of the word" if unnumbered else f"the number '{cell}' stands for the word"
        raise DataError(
            f"{self.where}, line {number}: {what}, so no column is known to hold the words; put document, part, number and word first, or "
            "leave the document and the brackets alone"
        )

    def _counts(self, column: int) -> bool:
        """Whether a column counts the words of each sentence, from 1 (from 0 too for a column that is not the first)."""
        starts = (1,) if not column else (0, 1)
        sentences = [[columns[column] for _, columns in rows] for rows in self.sentences if rows]
        return any(all(cells == [str(i) for i in range(start, start + len(cells))] for cells in sentences) for start in starts)


def read(content: str, path: Path) -> Iterator[Document]:
    """The documents of a file's content; one without a name is called by the file's. Raises DataError, with file, document and line, for
    broken brackets and columns."""
    now: _Reading | None = None
    count = 0
    for number, line in enumerate(content.split("\n"), 1):
        if found := BEGIN.match(line):
            if now:
                raise DataError(f"{now.where}, line {number}: another document begins before '#end document'")
            count += 1
            now = _Reading(path, found, path.stem if count == 1 else f"{path.stem}-{count}")
        elif _END.match(line):
            if now:
                yield now.document()
            now = None
        elif not line.strip(_BLANKS):
            if now and now.sentences[-1]:
                now.sentences.append([])
        elif now:
            now.add(line.rstrip(_BLANKS), number)
        elif not line.startswith("#"):
            raise DataError(f"{path}, line {number}: a word outside of a document; '#begin document (NAME); part 000' is missing")
    if now:
        raise DataError(f"{now.where}: ends without '#end document'; the file is cut short")


def lines(documents: Sequence[Document]) -> Iterator[str]:
    """Twelve columns, parted by tabs. Warns where the format cannot hold a document's mentions, words or names."""
    for one in documents:
        where = f"document {one.name}"
        if one.clusters is None:
            warnings.warn(f"{where}: nobody has looked for mentions; the file will say that there are none", stacklevel=2)
        name, part = one.name, one.about.get("part", "")
        if part.isdigit() and name.endswith(f"_{int(part)}"):
            name, part = name.removesuffix(f"_{int(part)}"), f"{int(part):03}"
        else:
            part = "000"
        words, speakers = [_column(word) for word in one.words], [_column(who) for who in one.speakers or (NOBODY,) * len(one.words)]
        if (*words, *speakers) != (*one.words, *(one.speakers or speakers)):
            warnings.warn(f"{where}: a column is not empty and holds no white space; '_' stands for it", stacklevel=2)
        yield f"#begin document ({' '.join(name.split())}); part {part}\n"
        word = 0
        at = marks(one.clusters or (), len(words), where)
        if touching := [i for i, marked in enumerate(at) if set(marked.closing) & {entity for entity, _ in marked.opening}]:
            many = f"words where a mention of an entity ends and another of it begins: {len(touching)} (first word {touching[0]})"
            warnings.warn(f"{where}: {many}; {_TOUCHING}", stacklevel=2)
        for sentence in one.sentences:
            for i in range(len(sentence)):
                row = (_column(name), str(int(part)), str(i), words[word], *"-----", speakers[word], "*", _cell(at[word]))
                yield "\t".join(row) + "\n"
                word += 1
            yield "\n"
        yield "#end document\n"


def _column(text: str) -> str:
    return re.sub(r"[ \t\n\r\f\v]", WORDLESS, text) or WORDLESS


def _cell(at: Marks) -> str:
    parts = [f"{n})" for n in at.closing] + [f"({n}" for n, _ in at.opening] + [f"({n})" for n in at.alone]
    return "|".join(parts) or "-"
