"""The donor index and what keeps it true: the store's feed of changes, and the catalogue.

Belongs to the thread that answers. Between two looks at the feed the worker's own writes go into the index directly.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Final

from model.head import Head, identity
from model.index import Index
from worker.catalogue import Catalogue
from worker.metrics import Metrics
from worker.store.base import FeedLost, Store

log = logging.getLogger(__name__)

MOST_PIECES: Final = 16
"""Pieces of the feed taken over at once; what is left waits for the next second, so that batches go on."""


class Follower:
    """index: the one in service; replaced whole when it is loaded anew. make_index: an empty one
    with this head."""

    def __init__(
        self,
        store: Store,
        make_index: Callable[[Head], Index],
        catalogue: Catalogue | None,
        metrics: Metrics,
        refresh_seconds: float,
        head: Head = identity,
    ) -> None:
        self._store = store
        self._make_index = make_index
        self._catalogue = catalogue
        self._metrics = metrics
        self._refresh_seconds = refresh_seconds
        self._cursors: tuple[float, ...] = ()
        self._next_refresh = 0.0
        self.index = make_index(head)

    def tell(self, metrics: Metrics) -> None:
        """From now on on these."""
        self._metrics = metrics

    def due(self) -> bool:
        """Whether it is time to look at the feed again."""
        return time.monotonic() >= self._next_refresh

    def refresh(self) -> None:
        """Take over what others changed. Raises StoreUnavailable; the next try comes at the usual time."""
        now = time.monotonic()
        self._next_refresh = now + self._refresh_seconds
        self.take_over()
        try:
            self._read_feed(now)
        finally:
            self._metrics.donors.set(self.index.donors)
            self._metrics.index_bytes.set(self.index.bytes)
            self._metrics.index_staleness.set(self.index.staleness(time.monotonic()))

    def take_over(self) -> None:
        """What the catalogue has said since."""
        if self._catalogue is not None:
            self._catalogue.take_over(self.index)

    def load(self) -> None:
        """Fill an empty index from the store, then take it into service. Raises StoreUnavailable."""
        now = time.monotonic()
        index, cursors = self._make_index(self.index.head), self._cursors
        for piece in self._store.snapshot():
            index.apply(piece, now)
            cursors = piece.cursors
        if self._catalogue is not None:
            self._catalogue.take_over_all(index)
        self.index, self._cursors = index, cursors

    def _read_feed(self, now: float) -> None:
        try:
            for _ in range(MOST_PIECES):
                changes = self._store.changes(self._cursors)
                self.index.apply(changes, now)
                self._cursors = changes.cursors
                if not (changes.users or changes.items or changes.labels):
                    return
        except FeedLost as error:
            log.warning("the donor index is loaded anew: %s", error)
            self.load()
