"""Documents of coreference for tests: the public ones, and random ones."""

from __future__ import annotations

import os
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

_WORDS = st.text(st.characters(exclude_categories=("Z", "C")), min_size=1, max_size=5)


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
