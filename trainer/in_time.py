"""What was said in several partitions, which are read in any order, in the order in which it was said. Pure.

Within a partition the log's order stands: where a timestamp goes back, the latest one before it counts. Between
partitions timestamps decide, then topic and partition.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from typing import Final, Generic, TypeVar

T = TypeVar("T")

ROOM: Final = 100_000
"""Records that wait for others to be read; beyond it the oldest ones wait no longer."""

Source = tuple[int, int]
"""Number of a topic, and partition."""


class InTime(Generic[T]):
    def __init__(self, room: int = ROOM) -> None:
        self._room = room
        self._waiting: list[tuple[int, Source, int, T]] = []
        self._clocks: dict[Source, int] = {}

    def put(self, source: Source, offset: int, timestamp: int, said: T) -> None:
        """In the order of offsets for each source; no offset twice."""
        at = self._clocks[source] = max(timestamp, self.clock(source))
        heapq.heappush(self._waiting, (at, source, offset, said))

    def clock(self, source: Source) -> int:
        """The time up to which this source has been read; 0 before its first record."""
        return self._clocks.get(source, 0)

    def until(self, time: int) -> Iterator[tuple[int, T]]:
        """Time and record of what was said before `time`, once each; and what there is no room for."""
        while self._waiting and (self._waiting[0][0] < time or len(self._waiting) > self._room):
            at, _, _, said = heapq.heappop(self._waiting)
            yield at, said
