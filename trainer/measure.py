"""What a candidate is besides good: whether its golden vectors are right, how long its answers take, what it weighs.

Latency is a ratio to the release in service: both answer the same batches of newcomers, by turns, over an index of the
window's newest users, and the fastest answer of each counts: whatever else a machine does only makes answers slower.
Whether a number is good enough is the gate's affair (`trainer/judge.py`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from model.head import Head
from model.index import Index
from model.item_table import ItemRow
from model.transfer import transfer
from model.transfer_weights import TransferWeights
from model.users import UserKey
from schemas.release import Golden
from schemas.state import MAX_ITEMS, MAX_LABELS, UserState
from trainer.prepare import Prepared
from trainer.replay import empty_index

EVENTS: Final = 50_000
"""Of the window's newest, whose users and items are in the index that is timed."""
NEWCOMERS: Final = 32
"""Answered at once."""
ROUNDS: Final = 25
"""In each of which both answer once."""


@dataclass(frozen=True, slots=True)
class Measured:
    """golden_cosine: least, between the candidate's golden vectors and what they must be. golden_length: by how much an
    interest vector's length differs from 1 at most. latency: of the candidate's answer to a newcomer, seconds;
    latency_ratio: to that of the release in service. bytes: of the candidate's weights. A number that cannot be told is
    NaN, and holds for nothing."""

    golden_cosine: float
    golden_length: float
    latency: float
    latency_ratio: float
    bytes: int


@dataclass(frozen=True, slots=True)
class Answerer:
    """What of a release decides how long an answer takes, where encoders are the same."""

    head: Head
    weights: TransferWeights


def least_cosine(found: Sequence[Golden], wanted: Sequence[Golden]) -> float:
    """Over the golden texts of both; NaN where they have none in common, or vectors of another dimension."""
    known = {entry.text: entry.vector for entry in wanted}
    pairs = [(entry.vector, known[entry.text]) for entry in found if entry.text in known]
    if not pairs or any(len(one) != len(other) for one, other in pairs):
        return float("nan")
    one, other = np.array([pair[0] for pair in pairs]), np.array([pair[1] for pair in pairs])
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    cosines = np.divide((one * other).sum(axis=1), lengths, out=np.zeros(len(pairs)), where=lengths > 0)
    return float(cosines.min())


def length_error(found: Sequence[Golden]) -> float:
    """By how much the length of an interest vector, of a text that has a vector, differs from 1 at most."""
    told = [entry.vector if entry.interest is None else entry.interest for entry in found if any(entry.vector)]
    return max((abs(float(np.linalg.norm(row)) - 1) for row in told), default=float("nan"))


def latency(
    data: Prepared,
    vectors: NDArray[np.floating],
    candidate: Answerer,
    current: Answerer,
    clock: Callable[[], float] = time.perf_counter,
) -> tuple[float, float]:
    """Seconds a newcomer of the candidate's fastest answer to a batch; and that ÷ the same of the one in service."""
    rows = np.unique(data.text[-EVENTS:])[-NEWCOMERS:]
    asked = np.asarray(vectors[rows[rows >= 0]], np.float32)
    index = populated(data, vectors, current.head)
    other = index if candidate.head is current.head else populated(data, vectors, candidate.head)

    def answers(index: Index, weights: TransferWeights) -> Callable[[], None]:
        def answer() -> None:
            none = [()] * len(asked)
            queries = index.queries([b""] * len(asked), asked, none, [{}] * len(asked))
            transfer(queries, index.known(0), weights)

        return answer

    mine, theirs = shortest(answers(other, candidate.weights), answers(index, current.weights), clock)
    return mine / max(1, len(asked)), mine / max(theirs, 1e-9)


def shortest(one: Callable[[], None], other: Callable[[], None], clock: Callable[[], float]) -> tuple[float, float]:
    """Shortest duration of each; they are called by turns, and who begins changes from round to round."""
    took = {True: float("inf"), False: float("inf")}
    for number in range(ROUNDS):
        for first in (True, False) if number % 2 else (False, True):
            began = clock()
            (one if first else other)()
            took[first] = min(took[first], clock() - began)
    return took[True], took[False]


def populated(data: Prepared, vectors: NDArray[np.floating], head: Head) -> Index:
    """An index of whom and what the newest EVENTS events name. Means are plain, not decayed: only their number counts
    here."""
    index = empty_index(vectors.shape[1], head, data)
    events = slice(max(0, len(data.user) - EVENTS), None)
    item = data.item[events]
    held = np.bincount(item[item >= 0], minlength=1)
    index.learn([_item(data, vectors, number, int(held[number])) for number in np.flatnonzero(held).tolist()])
    users, place = np.unique(data.user[events], return_inverse=True)
    order = np.argsort(place, kind="stable")
    starts = np.searchsorted(place[order], np.arange(len(users) + 1))
    text, labels = data.text[events][order], data.labels[events][order]
    items = item[order]
    states: list[tuple[UserKey, UserState | None]] = []
    for number, user in enumerate(users.tolist()):
        own = slice(starts[number], starts[number + 1])
        texts = text[own][text[own] >= 0]
        mean = np.asarray(vectors[texts], np.float32).sum(axis=0) / max(1, len(texts))
        states.append(
            (
                user.to_bytes(16, "big"),
                UserState(
                    vector=mean.astype(np.float16),
                    count=own.stop - own.start,
                    items=_newest(items[own], MAX_ITEMS),
                    labels=dict.fromkeys(_newest(labels[own].ravel(), MAX_LABELS), 1.0),
                ),
            )
        )
    index.put_users(states)
    return index


def _item(data: Prepared, vectors: NDArray[np.floating], item: int, held: int) -> ItemRow:
    text = int(data.title[item])
    vector = np.asarray(vectors[text], np.float16).tobytes() if text >= 0 else b""
    return ItemRow(item, data.item_ids[item], data.titles[item] or None, float(np.log2(held)), held, vector)


def _newest(numbers: NDArray[np.integer], most: int) -> tuple[int, ...]:
    """Distinct ones that are not -1, the newest last."""
    found = dict.fromkeys(numbers[numbers >= 0][::-1].tolist())
    return tuple(reversed(list(found)[:most]))
