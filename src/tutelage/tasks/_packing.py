"""Documents as rows of equal length: several in a row that do not see each other, none padded but in the last row."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

NO_TARGET = -100
Document = tuple[Sequence[int], Sequence[bool]]
"""Token numbers, and which of them are to be predicted."""


def pack(documents: Sequence[Document], length: int) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """Ragged columns `input_ids` and `position_ids`, the targets in the same form, and the rows' lengths.

    Documents stand in their order; one that is longer than a row, or than what is left of one, is cut and goes on in the
    next row. Positions start anew with each piece, so that models let pieces of a row not see each other. The target at a
    place is the next token of the same piece where that is to be predicted, else NO_TARGET; the first token of a piece is
    never predicted.
    """
    ids: list[int] = []
    positions: list[int] = []
    targets: list[int] = []
    for numbers, learned in documents:
        start = 0
        while start < len(numbers):
            room = length - len(ids) % length
            stop = min(len(numbers), start + room)
            ids += numbers[start:stop]
            positions += range(stop - start)
            targets += [numbers[i] if learned[i] else NO_TARGET for i in range(start + 1, stop)] + [NO_TARGET]
            start = stop
    total = len(ids)
    lengths = np.array([min(length, total - i) for i in range(0, total, length)], dtype=np.int64)
    columns = {"input_ids": np.array(ids, dtype=np.int32), "position_ids": np.array(positions, dtype=np.int32)}
    return columns, np.array(targets, dtype=np.int32), lengths
