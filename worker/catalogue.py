"""The `items` topic, read whole by every worker: what there is to recommend, and whether it still is.

A thread of its own reads and encodes; the stage that owns the index takes the listings over between two batches. The
topic is compacted and its records are few beside events, so each worker starts from its beginning and keeps nothing.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

from model.clean import clean
from model.encoder.base import Encoder
from model.index import Index
from model.item_table import Listing
from schemas.codec import ItemTombstone, decode_item
from schemas.errors import BadRecord
from schemas.item import Item
from schemas.state import hash64
from worker.broker.base import Log, Record
from worker.reading import Reading

log = logging.getLogger(__name__)

_HAND_OVER: Final = 0.2
_PIECE: Final = 256
"""Records encoded at once: small beside a batch of events, which waits meanwhile."""
_WAITING: Final = 4096
"""Listings read and not yet taken over; then reading waits."""


class Catalogue:
    """encode_lock: the encoder computes one thing at a time. on_bad: told why a record cannot be read."""

    def __init__(
        self, items: Log, encoder: Encoder, encode_lock: threading.Lock, on_bad: Callable[[str], None]
    ) -> None:
        self._encoder = encoder
        self._lock = encode_lock
        self._on_bad = on_bad
        self._listings: dict[int, Listing] = {}
        self._news: queue.Queue[tuple[int, Listing | None]] = queue.Queue(_WAITING)
        self._reading = Reading(items, "items", self._read, piece=_PIECE)
        self.complete = self._reading.complete
        """Set once what stood in the topic at the start has been read, or reading failed for good."""

    def start(self) -> None:
        self._reading.start()

    def stop(self) -> None:
        """Whether it was started or not."""
        self._reading.stop()

    def take_over(self, index: Index) -> None:
        """Bring the index up to date with what has been read since the last call. Raises what ended the reading."""
        self._reading.check()
        for item, listing in self._drain():
            if listing is None:
                self._listings.pop(item, None)
                index.withdraw(item)
            else:
                self._listings[item] = listing
                index.put_item(listing)

    def take_over_all(self, index: Index) -> None:
        """Fill a fresh index."""
        for listing in self._listings.values():
            index.put_item(listing)
        self.take_over(index)

    def _drain(self) -> Iterator[tuple[int, Listing | None]]:
        while not self._news.empty():
            yield self._news.get()

    def _read(self, records: Sequence[Record]) -> None:
        latest: dict[int, Item | None] = {}
        for record in records:
            try:
                read = decode_item(record.value, record.key, record.headers)
            except BadRecord as bad:
                self._on_bad(bad.reason)
                log.warning("%s-%d@%d is left out: %s", record.topic, record.partition, record.offset, bad)
                continue
            if isinstance(read, ItemTombstone):
                latest[hash64(read.item_id)] = None
            else:
                latest[hash64(read.item_id)] = read
        for item, listing in self._listed(latest).items():
            self._hand_over(item, listing)

    def _hand_over(self, item: int, listing: Listing | None) -> None:
        while not self._reading.stopping.is_set():
            try:
                self._news.put((item, listing), timeout=_HAND_OVER)
            except queue.Full:
                continue
            return

    def _listed(self, items: Mapping[int, Item | None]) -> dict[int, Listing | None]:
        known = {item: found for item, found in items.items() if found is not None}
        if not known:
            return dict.fromkeys(items)
        texts = [clean(f"{found.title}. {found.text or ''}") for found in known.values()]
        with self._lock:
            vectors = self._encoder.encode(self._encoder.tokenise(texts))
        listings = {
            item: Listing(
                item,
                found.item_id,
                found.title,
                vector,
                found.available,
                None if found.expires_at is None else int(found.expires_at.timestamp() * 1000),
            )
            for (item, found), vector in zip(known.items(), vectors, strict=True)
        }
        return {item: listings.get(item) for item in items}
