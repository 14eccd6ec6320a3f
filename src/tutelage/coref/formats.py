"""Files of coreference: JSON lines, CoNLL-2012, CoNLL-U and raw text, read and written by their endings or content.

What a format cannot hold is said with `warnings.warn`; what is wrong in a file is a DataError with file, document and line.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from .. import records, textfiles
from ..errors import DataError
from . import conll, conllu, jsonlines
from .documents import Document, of_text, some

_KINDS = {"JSON lines": jsonlines, "CoNLL-2012": conll, "CoNLL-U": conllu}
_ENDINGS = {
    ".jsonl": "JSON lines", ".jsonlines": "JSON lines", ".ndjson": "JSON lines", ".json": "JSON lines", ".conll": "CoNLL-2012",
    ".v4_gold_conll": "CoNLL-2012", ".v4_auto_conll": "CoNLL-2012", ".conllu": "CoNLL-U",
}  # fmt: skip


def read(path: str | Path) -> list[Document]:
    """The documents of a file. An ending that says nothing leaves it to the content; `.txt` without marks is one raw text.

    Raises DataError for a file that is missing or broken, holds no document, or two of one name.
    """
    path = Path(path)
    content = textfiles.content(path)
    if not content.strip():
        raise DataError(f"{path}: is empty; it holds no document")
    kind = _ENDINGS.get(textfiles.ending(path)) or _by_content(path, content)
    found = list(_KINDS[kind].read(content, path)) if kind else [of_text(textfiles.stem(path), content)]
    if not found:
        raise DataError(f"{path}: holds no document in {kind}")
    twice = [name for name, count in Counter(one.name for one in found).items() if count > 1]
    if twice:
        raise DataError(f"{path}: names of documents that come twice: {some(twice)}; give each its own")
    return found


def write(path: str | Path, documents: Sequence[Document]) -> None:
    """Write documents, whole or not at all, in the format that the ending names: .jsonl, .conll or .conllu."""
    records.write(Path(path), "".join(_KINDS[writable(path)].lines(documents)))


def writable(path: str | Path, others: Sequence[str] = ()) -> str:
    """The format that an ending names, or '' for one of `others`. Raises DataError for an ending that names none."""
    ending = Path(path).suffix.lower()
    if ending not in _ENDINGS and ending not in others:
        *first, last = (".jsonl", ".conll", ".conllu", *others[:1])
        raise DataError(f"{path}: its ending names no format; end it with {', '.join(first)} or {last}")
    return _ENDINGS.get(ending, "")


def _by_content(path: Path, content: str) -> str | None:
    start = content.lstrip()
    if start.startswith("{"):
        return "JSON lines"
    for line in itertools.islice(filter(str.strip, content.split("\n")), 50):
        if conll.BEGIN.match(line):
            return "CoNLL-2012"
        if line.startswith(("# newdoc", "# global.Entity", "# sent_id")) or (line.startswith("1\t") and line.count("\t") == 9):
            return "CoNLL-U"
    if textfiles.ending(path) == ".txt":
        return None
    raise DataError(f"{path}: is neither JSON lines nor CoNLL-2012 nor CoNLL-U; raw text ends in .txt")
