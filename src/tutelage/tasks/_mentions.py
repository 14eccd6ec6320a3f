"""Documents of coreference as a task stores them: lines of JSON, token numbers, and what predictions are made from."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..coref import jsonlines
from ..coref.documents import Document
from ..records import digest


@dataclasses.dataclass(frozen=True)
class Places:
    """The documents behind the rows."""

    documents: list[Document]

    @property
    def digest(self) -> str:
        """SHA-256 over all of them."""
        return digest(list(jsonlines.lines(self.documents)))

    def join(self, other: Places) -> Places:
        """These, then the other's."""
        return Places([*self.documents, *other.documents])


def documents_of(texts: Sequence[str]) -> list[Document]:
    """The documents of lines of JSON."""
    return list(jsonlines.read("\n".join(text.strip("\n") for text in texts), Path("documents")))


def tokens_of(document: Document, tokenizer: Any) -> tuple[np.ndarray, np.ndarray]:
    """Token numbers and the word of each; a word without a token of its own becomes the unknown one."""
    ids: list[int] = []
    word: list[int] = []
    words = list(document.words)
    made = tokenizer(words, is_split_into_words=True, add_special_tokens=False, verbose=False)
    numbers, of = made["input_ids"], made.word_ids()
    at = 0
    for i in range(len(words)):
        mine = []
        while at < len(of) and of[at] == i:
            mine.append(numbers[at])
            at += 1
        mine = mine or [tokenizer.unk_token_id or 0]
        ids += mine
        word += [i] * len(mine)
    return np.array(ids, dtype=np.int32), np.array(word, dtype=np.int32)
