"""The plain neighbours that a newcomer is answered by: past texts of others that are nearest to what they wrote.

A question sees the texts of other users that stand before its event, and of these users what they had taken by then.
Knows nothing of how similar two texts are: that comes as a function.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from model.nearest import MISSING, Floats, Rows, merge, top_k
from trainer.evaluate.terms import Matrix, unit_rows, weighted
from trainer.later import Later
from trainer.prepare import Prepared
from trainer.questions import ragged

NEIGHBOURS: Final = 50
"""As many as transfer looks at donors."""
TOGETHER: Final = 256
"""Questions a block; in TF-IDF rarity is what it was before the block's first one."""
_COLUMNS: Final = 1 << 16
"""Events compared with a block at once: bounds memory."""
_DIGITS: Final = 5
"""Of a similarity: a matrix product's last bits depend on its shape, and equals must stay equals."""


@dataclass(frozen=True, slots=True)
class Asked:
    """Q questions in the order of the log. event: (Q,) of the data. texts: of each, the rows of the user's texts up to
    it, none of them missing."""

    event: NDArray[np.int64]
    texts: Sequence[Sequence[int]]


class Similar(Protocol):
    """What similarity is taken to be."""

    def start(self, texts: Sequence[Sequence[int]], event: int) -> None:
        """A block of B newcomers with these texts each; nothing from this event on is known."""
        ...

    def to(self, rows: NDArray[np.int32]) -> Floats:
        """(B, N) cosine of each newcomer to each of N texts; -1 is a text that is none."""
        ...


class ByVectors:
    """vectors: (T, D) unit vectors of the data's texts. A newcomer is the mean of theirs."""

    def __init__(self, vectors: NDArray[np.floating]) -> None:
        self._vectors = vectors
        self._queries = np.empty((0, vectors.shape[1]), np.float32)

    def start(self, texts: Sequence[Sequence[int]], event: int) -> None:  # noqa: ARG002 (vectors know no other texts)
        sums = [np.asarray(self._vectors[list(rows)], np.float32).sum(axis=0) for rows in texts]
        queries = np.array(sums, np.float32).reshape(len(texts), self._vectors.shape[1])
        self._queries = queries / np.maximum(np.linalg.norm(queries, axis=1, keepdims=True), np.float32(1e-9))

    def to(self, rows: NDArray[np.int32]) -> Floats:
        found: Floats = self._queries @ np.asarray(self._vectors[np.maximum(rows, 0)], np.float32).T
        found[:, rows == MISSING] = 0
        return found


class ByTerms:
    """counts: (T, V) as `terms.counted` gives them. text: (E,) the data's. A newcomer is the mean of their texts."""

    def __init__(self, counts: Matrix, text: NDArray[np.int32]) -> None:
        self._counts = counts
        self._text = text
        self._weighted: Matrix = counts
        self._queries: Matrix = counts[:0]

    def start(self, texts: Sequence[Sequence[int]], event: int) -> None:
        past = self._text[:event]
        self._weighted = weighted(self._counts, past[past >= 0])
        own = [row for rows in texts for row in rows]
        ends = np.cumsum([0, *map(len, texts)])
        of = self._weighted[own]
        mixing = type(of)((np.ones(len(own), np.float32), np.arange(len(own)), ends), (len(texts), len(own)))
        self._queries = unit_rows(mixing @ of)

    def to(self, rows: NDArray[np.int32]) -> Floats:
        found: Floats = (self._queries @ self._weighted[np.maximum(rows, 0)].T).toarray()
        found[:, rows == MISSING] = 0
        return found


def nearest_texts(
    data: Prepared, asked: Asked, similar: Similar, progress: Callable[[int], None] = lambda _: None
) -> tuple[Rows, Floats]:
    """(Q, 50) events of the nearest texts, best first, -1 for none, and their similarities above 0. progress: told the
    number of questions of each block."""
    found: list[tuple[Rows, Floats]] = [(np.empty((0, NEIGHBOURS), np.int32), np.empty((0, NEIGHBOURS), np.float32))]
    for start in range(0, len(asked.event), TOGETHER):
        some = slice(start, start + TOGETHER)
        found.append(_block(data, asked.event[some], asked.texts[some], similar))
        progress(len(asked.event[some]))
    rows, values = zip(*found, strict=True)
    return np.concatenate(rows), np.concatenate(values)


def _block(
    data: Prepared, event: NDArray[np.int64], texts: Sequence[Sequence[int]], similar: Similar
) -> tuple[Rows, Floats]:
    similar.start(texts, int(event[0]))
    rows: list[NDArray[np.int64]] = []
    values: list[Floats] = []
    for start in range(0, int(event.max()), _COLUMNS):
        stop = min(start + _COLUMNS, int(event.max()))
        near = np.round(similar.to(data.text[start:stop]), _DIGITS)
        theirs = data.user[None, start:stop] != data.user[event][:, None]
        past = np.arange(start, stop)[None, :] < event[:, None]
        near[~(theirs & past & (near > 0))] = -np.inf
        columns, best = top_k(near, NEIGHBOURS)
        rows.append(columns + start)
        values.append(best)
    return merge(rows, values, len(event), NEIGHBOURS)


def items_of(data: Prepared, asked: Asked, near: Rows, values: Floats, limit: int) -> Rows:
    """(Q, limit) items of those who wrote the nearest texts, each user counted once by the nearest of them; without the
    newcomer's own items. -1 where there are no more; of equals the one that was first taken first."""
    later = Later(data)
    answers = []
    for event, others, similarities in zip(asked.event.tolist(), near.tolist(), values.tolist(), strict=True):
        scores: dict[int, float] = {}
        for user, similarity in _users(data, others, similarities):
            for item in later.taken_before(user, event):
                scores[item] = scores.get(item, 0.0) + similarity
        for item in later.taken(event):
            scores.pop(item, None)
        answers.append(sorted(scores, key=lambda item: (-round(scores[item], _DIGITS), item))[:limit])
    return ragged([row + [MISSING] * (limit - len(row)) for row in answers]).reshape(len(answers), limit)


def labels_of(data: Prepared, near: Rows, values: Floats) -> Rows:
    """(Q,) the label that the nearest texts have most, weighted by similarity, -1 for none; of equals the one that was
    met first."""
    best = np.full(len(near), MISSING, np.int32)
    for place, (others, similarities) in enumerate(zip(near, values, strict=True)):
        there = others >= 0
        labels = data.labels[others[there]]
        weight = np.broadcast_to(similarities[there][:, None], labels.shape)[labels >= 0]
        sums = np.bincount(labels[labels >= 0], weight)
        if len(sums):
            best[place] = int(np.round(sums, _DIGITS).argmax())
    return best


def _users(data: Prepared, others: Sequence[int], similarities: Sequence[float]) -> Iterator[tuple[int, float]]:
    """The users of texts that are given best first, each with the similarity of the best."""
    met: set[int] = set()
    for event, similarity in zip(others, similarities, strict=True):
        if event == MISSING:
            return
        user = int(data.user[event])
        if user not in met:
            met.add(user)
            yield user, similarity
