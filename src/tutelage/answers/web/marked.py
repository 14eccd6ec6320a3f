"""Where a quote holds the words of a segment: pieces of text for the page, which escapes each."""

from __future__ import annotations

import re
from collections.abc import Iterator

from .. import lexical

_PIECE = re.compile(r"\w+|\W+", re.UNICODE)


def marked(quote: str, segment: str) -> Iterator[tuple[str, bool]]:
    """(piece of the quote, whether it is a content word of the segment); joined the pieces are the quote."""
    wanted = lexical.words(segment)
    run = ""
    for piece in _PIECE.findall(quote):
        if piece.casefold() in wanted:
            if run:
                yield run, False
            run = ""
            yield piece, True
        else:
            run += piece
    if run:
        yield run, False
