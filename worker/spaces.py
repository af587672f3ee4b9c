"""The other spaces that Redis holds states of, besides the one of this worker: those that were served before, where a
rollback goes, and one that is being filled.

Who is erased is erased there too. A space that nobody has served for long is removed.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final

import numpy as np

from model.update import LogEvent, update
from model.users import UserKey
from worker.store.base import Store, Write

log = logging.getLogger(__name__)

KEEP_S: Final = 60.0
"""Seconds between two times that a worker says that its space is in use."""
_NO_VECTORS: Final = np.empty((0, 0), np.float32)


class Spaces:
    """own: the store of the space in use. open_space: (name, shards) → the store of another one. Belongs to the thread
    that saves."""

    def __init__(
        self, own: Store, open_space: Callable[[str, int], Store], *, newcomer_events: int, user_ttl_ms: int
    ) -> None:
        self._own = own
        self._open = open_space
        self._newcomer_events = newcomer_events
        self._user_ttl_ms = user_ttl_ms
        self._next = 0.0
        self._removing: Iterator[None] | None = None

    def erase(self, tombstones: Sequence[LogEvent]) -> None:
        """Apply tombstones in every other space, by the same rules as everywhere: a space that is filled or healed
        later finds them at its users' positions. Raises StoreUnavailable: to be done again, as a whole."""
        for name, (shards, _) in self._own.spaces().items():
            other = self._open(name, shards)
            try:
                self._erase_in(other, tombstones)
            finally:
                other.close()

    def _erase_in(self, other: Store, tombstones: Sequence[LogEvent]) -> None:
        pending: set[UserKey] = {event.user for event in tombstones}
        while pending:
            users = sorted(pending)
            found = update(
                dict(zip(users, other.load(users), strict=True)),
                [event for event in tombstones if event.user in pending],
                _NO_VECTORS,
                newcomer_events=self._newcomer_events,
                user_ttl_ms=self._user_ttl_ms,
            )
            refused = other.save(Write({}, [{} for _ in range(other.shards)], found.writes))
            pending = {found.writes[place].user for place in refused}

    def tend(self) -> None:
        """Now and then, and quickly: say that the own space is in use, and remove a piece of one that nobody has used
        for long. Raises StoreUnavailable."""
        now = time.monotonic()
        if self._removing is not None:
            if next(self._removing, self) is self:
                self._removing = None
            return
        if now < self._next:
            return
        self._next = now + KEEP_S
        self._own.keep()
        for name, (shards, kept) in self._own.spaces().items():
            if not kept:
                self._removing = self._remove(name, shards)
                return

    def _remove(self, name: str, shards: int) -> Iterator[None]:
        other = self._open(name, shards)
        try:
            yield from other.discard()
        finally:
            other.close()
        log.info("space %s, which nobody has served for long, was removed from Redis", name)
