"""Documents of coreference for tests: the public ones, random ones, and ones that can be learned."""

from __future__ import annotations

import os
import random
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import strategies as st

from tutelage.coref import formats
from tutelage.coref.documents import Document

DATA = Path(os.environ.get("TUTELAGE_DATA") or "/nowhere")
public = pytest.mark.skipif(not (DATA / "coref").is_dir(), reason="needs coref/ below the folder TUTELAGE_DATA")
scorer = pytest.mark.skipif(not (DATA / "coref-scorer").is_dir(), reason="needs coref-scorer/ below the folder TUTELAGE_DATA")

NAMES, FILLERS = ("good", "bad", "film", "plot"), ("the", "a", "is", "was", "very", "not", "and")
_WORDS = st.text(st.characters(exclude_categories=("Z", "C"), include_characters="\u00a0\u2009"), min_size=1, max_size=5)


def quietly(path: Path) -> list[Document]:
    """The documents of a file whose warnings are expected."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return formats.read(path)


@st.composite
def documents(draw, *, text: bool = False, crossing: bool = False, name: str = "d"):
    """Random words in sentences with random clusters; mentions of one cluster cross only where `crossing`."""
    sentences = draw(st.lists(st.lists(_WORDS, min_size=1, max_size=6), min_size=1, max_size=4))
    words = [word for sentence in sentences for word in sentence]
    places = st.tuples(st.integers(0, len(words) - 1), st.integers(0, 4)).map(lambda p: (p[0], min(p[0] + p[1], len(words) - 1)))
    clusters: list[list[tuple[int, int]]] = [[] for _ in range(draw(st.integers(0, 3)))]
    for span in draw(st.lists(places, max_size=10, unique=True)) if clusters else []:
        mine = draw(st.sampled_from(clusters))
        if crossing or not any(a < span[0] <= b < span[1] or span[0] < a <= span[1] < b for a, b in mine):
            mine.append(span)
    about: dict = {"clusters": [c for c in clusters if c]}
    if draw(st.booleans()):
        who = draw(st.lists(st.sampled_from(["-", "Ann", "Bo"]), min_size=len(sentences), max_size=len(sentences)))
        about["speakers"] = [one for one, sentence in zip(who, sentences, strict=True) for _ in sentence]
    if text:
        written, offsets = draw(st.sampled_from(["", " ", "\n"])), []
        for word in words:
            offsets.append((len(written), len(written) + len(word)))
            written += word + draw(st.sampled_from([" ", " ", "", "\n", "\n\n", "\t ", "  "]))
        about |= {"text": written, "offsets": np.array(offsets)}
    return Document(name, sentences, **about)


def toys(many: int, seed: int, words: int = 40) -> list[Document]:
    """Documents in which a name means the same wherever it stands, alone or behind an article."""
    draw, out = random.Random(seed), []
    for number in range(many):
        sentences, clusters, place = [], {}, 0
        while place < words:
            sentence: list[str] = []
            for _ in range(3):
                sentence += [draw.choice(FILLERS[2:]) for _ in range(draw.randint(1, 2))]
                start, name = place + len(sentence), draw.choice(NAMES)
                sentence += [draw.choice(FILLERS[:2])] * draw.randint(0, 1) + [name]
                clusters.setdefault(name, []).append((start, place + len(sentence) - 1))
            sentences.append(tuple(sentence))
            place += len(sentence)
        speakers = tuple(draw.choice("xy") for sentence in sentences for _ in sentence)
        out.append(Document(f"d{number}", tuple(sentences), tuple(map(tuple, clusters.values())), speakers))
    return out
