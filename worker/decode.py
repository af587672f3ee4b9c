"""Step 2: a record → an entry: a cleaned event, a tombstone, or a dead letter. And when bad records are too many.

Knows the codec and the cleaning; knows no Kafka, no Redis, no clock.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from model.clean import clean
from model.update import LogEvent
from model.users import UserKey
from schemas.codec import decode_user_text
from schemas.errors import BadRecord
from schemas.state import hash64
from schemas.user_text import Event
from worker.broker.base import Record

_cached_hash = lru_cache(maxsize=65_536)(hash64)
_NO_TOKENS: Final = np.empty(0, np.int32)


@dataclass(slots=True)
class Entry:
    """One record on its way through the steps.

    event: None for a tombstone; log: None too for a dead letter and for what an operator skips. text: cleaned, may be
    empty. tokens: of the text. dead: why it is a dead letter.
    """

    record: Record
    event: Event | None = None
    log: LogEvent | None = None
    text: str = ""
    tokens: NDArray[np.int32] = field(default_factory=lambda: _NO_TOKENS)
    dead: BadRecord | None = None

    @property
    def length(self) -> int:
        return len(self.tokens)


def decode(record: Record, user_key: Callable[[str], UserKey]) -> Entry:
    """Never raises: what cannot be read becomes a dead letter."""
    try:
        read = decode_user_text(record.value, record.key, record.timestamp, record.headers)
    except BadRecord as bad:
        return Entry(record, dead=bad)
    if not isinstance(read, Event):
        return Entry(record, log=_at(record, user_key(read.user_id), erases=True))
    log = _at(record, user_key(read.user_id))
    log.occurred = read.occurred_ms
    log.weight = read.weight
    log.item = None if read.item_id is None else _cached_hash(read.item_id)
    log.labels = tuple(map(_cached_hash, read.labels))
    log.event_id = None if read.event_id is None else hash64(read.event_id)
    return Entry(record, event=read, log=log, text=clean(read.text))


def _at(record: Record, user: UserKey, *, erases: bool = False) -> LogEvent:
    return LogEvent(user, record.partition, record.offset, record.timestamp, erases=erases)


class Breaker:
    """Too many bad records in one partition: so many in a row, or such a share of a full window."""

    def __init__(self, *, in_a_row: int, window: int, share: float) -> None:
        self._in_a_row = in_a_row
        self._limit = share * window
        self._window = window
        self._recent: deque[bool] = deque(maxlen=window)
        self._bad = 0
        self._run = 0

    def trips(self, bad: bool) -> bool:
        """Count one record; True when its partition must pause."""
        if len(self._recent) == self._window:
            self._bad -= self._recent[0]
        self._recent.append(bad)
        self._bad += bad
        self._run = self._run + 1 if bad else 0
        return bad and (self._run >= self._in_a_row or (len(self._recent) == self._window and self._bad >= self._limit))

    def reset(self) -> None:
        self._recent.clear()
        self._bad = self._run = 0
