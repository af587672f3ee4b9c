"""What a replay asks and what could be said, as arrays. Knows nothing of how either came about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from model.nearest import MISSING, Floats, Rows


@dataclass(frozen=True, slots=True)
class Questions:
    """Q questions in the order of the log, and what could be said then.

    user, event: (Q,) who asks, after which event of the data. known: (Q,) 1, 2 or 3 texts. items: (Q, C) candidates,
    numbers of the data's items, -1 behind them. signals: (Q, C, S) float16. sharing: (Q, C) users who share an item
    with whoever asks and have the candidate. strength: (Q,) 0 to 1, how far the donors were to be trusted. plain: name
    → (Q, 20) a plain method's answer, best first, -1 for none. wanted: (Q, W) new items that the user took later, -1
    for none. reachable: (Q,) whether one of these was known to the index.
    """

    user: NDArray[np.int32]
    event: NDArray[np.int64]
    known: NDArray[np.int32]
    items: Rows
    signals: NDArray[np.float16]
    sharing: Rows
    strength: Floats
    plain: dict[str, Rows]
    wanted: Rows
    reachable: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.user)

    def where(self, chosen: NDArray[np.bool_]) -> Self:
        """Those of the questions."""
        values = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "plain"}
        return type(self)(
            **{name: value[chosen] for name, value in values.items()},
            plain={name: rows[chosen] for name, rows in self.plain.items()},
        )


@dataclass(frozen=True, slots=True)
class Labelled:
    """What the donors' labels say of Q texts whose own labels are hidden, once the whole window is known. best: (Q,)
    the label with the highest score, -1 for none. wanted: (Q, W) the text's own, -1 for none."""

    user: NDArray[np.int32]
    event: NDArray[np.int64]
    known: NDArray[np.int32]
    best: Rows
    wanted: Rows


def stacked(pieces: Sequence[NDArray[Any]], width: int, fill: float) -> NDArray[Any]:
    """(B, C, …) pieces one under the other, each made (B, width, …)."""
    total = sum(map(len, pieces))
    shape = pieces[0].shape[2:] if pieces else ()
    stacked = np.full((total, width, *shape), fill, pieces[0].dtype if pieces else np.int32)
    row = 0
    for piece in pieces:
        stacked[row : row + len(piece), : piece.shape[1]] = piece
        row += len(piece)
    return stacked


def ragged(rows: Sequence[Sequence[int]]) -> Rows:
    """(N, W) int32, -1 behind each row."""
    found = np.full((len(rows), max(1, max(map(len, rows), default=1))), MISSING, np.int32)
    for number, row in enumerate(rows):
        found[number, : len(row)] = row
    return found
