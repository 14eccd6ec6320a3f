"""What an index of passages is made with, and its columns."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from ..config import Count, settings

if TYPE_CHECKING:
    import numpy as np
    import pyarrow

    from .passages import Passage

ABOUT = b"tutelage"
"""The key of the table's metadata that holds how it was made."""
SHOWN = ["docid", "title", "text"]


@settings
class Making:
    """What an index is made with: kept in it, the same for all its passages."""

    encoder: str = "minilm"
    """Name or folder of a Hugging Face encoder; its weights' digest is kept with it."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """What the encoder computes in; auto takes bfloat16 where the processor has it."""
    tokens: Count = 512
    """Tokens of a passage that the encoder sees, if it takes so many."""
    titled: bool = True
    """Whether the encoder sees the title before the text."""
    query_prefix: str = ""
    """What the encoder wants before a question, such as E5's `query: `."""
    passage_prefix: str = ""
    """What the encoder wants before a passage."""
    title_times: Annotated[int, Field(ge=0)] = 3
    """How often the title counts in the full text; 0 leaves it out."""
    language: str = "English"
    """Language of stemming and stop words, as LanceDB names it."""
    stem: bool = True
    """Whether words count by their stems."""
    stop_words: bool = True
    """Whether stop words are left out."""
    exact_up_to: Count = 100_000
    """Passages up to which the vectors are compared one by one; above, an approximate index is built."""


def schema(making: Making, digest: str, size: int) -> pyarrow.Schema:
    """The columns of an index, `full` what is searched by words; the metadata hold how it was made and its encoder's digest."""
    import pyarrow

    about = {"making": dataclasses.asdict(making), "digest": digest}
    text = [pyarrow.field(name, pyarrow.string()) for name in (*SHOWN, "full")]
    more = [pyarrow.field("digest", pyarrow.binary()), pyarrow.field("vector", pyarrow.list_(pyarrow.float32(), size))]
    return pyarrow.schema([*text, *more], metadata={ABOUT: json.dumps(about)})


def as_rows(
    making: Making, encoder: str, changed: Sequence[tuple[Passage, bytes]], encode: Callable[[list[str]], np.ndarray]
) -> pyarrow.Table:
    """Passages and the digests of their content as rows of an index; `encode` makes vectors (texts, size), `encoder` is its digest."""
    import pyarrow

    heads = [f"{one.title}\n" if one.title else "" for one, _ in changed]
    texts = [one.text for one, _ in changed]
    seen = [head + text for head, text in zip(heads, texts, strict=True)] if making.titled else texts
    vectors = encode([making.passage_prefix + text for text in seen])
    columns = {
        "docid": [one.docid for one, _ in changed],
        "title": [one.title for one, _ in changed],
        "text": texts,
        "full": [head * making.title_times + text for head, text in zip(heads, texts, strict=True)],
        "digest": [digest for _, digest in changed],
        "vector": pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(vectors.ravel()), vectors.shape[1]),
    }
    return pyarrow.table(columns, schema=schema(making, encoder, vectors.shape[1]))
