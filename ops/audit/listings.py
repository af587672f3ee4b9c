"""The catalogue as the `items` topic tells it: which items could not be recommended at a given time.

A worker reads the topic and may be a while behind it: around a change both sides of it are possible. Where compaction
has taken earlier records away nothing is claimed about that time. Knows nothing of answers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Final

from ops.audit.expected import Version
from ops.audit.findings import Kind
from ops.audit.spill import Spill
from ops.audit.window import Bounds, topic_pieces
from ops.cli.target import Target
from schemas.codec import ItemTombstone, decode_item
from schemas.errors import BadRecord
from schemas.state import hash64
from schemas.topics import ITEMS

LATE_MS: Final = 60_000
"""How far a worker may be behind the topic: it encodes every text of a large import first."""

KEPT: Final = 16_384
"""Items whose records are kept in memory: answers name the same ones again and again."""


class Listings:
    """since: from when on the catalogue decides, None where it never did. intact: the topic has lost no record."""

    def __init__(self, spill: Spill, since: int | None, *, intact: bool) -> None:
        self._versions = lru_cache(KEPT)(spill.versions)
        self._since = since
        self._intact = intact

    def closed(self, item: int, at_ms: int) -> Kind | None:
        """Why the item could not be recommended at that time; None where it could, or nobody can tell."""
        versions = self._versions(item)
        decides = self._since is not None and at_ms >= self._since + LATE_MS
        if not versions:
            return Kind.UNLISTED_ITEM if decides and self._intact else None
        return closed(versions, at_ms, decides=decides)

    def ever_listed(self, item: int) -> bool:
        return any(version.listed for version in self._versions(item)) or not self._intact


def closed(versions: Sequence[Version], at_ms: int, *, decides: bool) -> Kind | None:
    """The same, of an item's records in the order of the log. decides: the catalogue had records by then."""
    before = [place for place, version in enumerate(versions) if version.timestamp <= at_ms - LATE_MS]
    if not before:
        return None
    possible = [v for v in versions[before[-1] :] if v.timestamp <= at_ms + LATE_MS]
    reasons = [_closed(version, at_ms, decides=decides) for version in possible]
    return None if None in reasons else reasons[0]


def _closed(version: Version, at_ms: int, *, decides: bool) -> Kind | None:
    if not version.listed:
        return Kind.UNLISTED_ITEM if decides else None
    if not version.available:
        return Kind.WITHDRAWN_ITEM
    if version.expires is not None and version.expires <= at_ms:
        return Kind.EXPIRED_ITEM
    return None


def read_listings(target: Target, of: Bounds, spill: Spill) -> Iterator[int]:
    """The whole topic into the spill; records that cannot be read are left out, as workers do. Yields how many records
    were read since."""
    for piece in topic_pieces(target, ITEMS, of):
        for record in piece:
            try:
                read = decode_item(record.value, record.key, record.headers)
            except BadRecord:
                continue
            if isinstance(read, ItemTombstone):
                version = Version(record.timestamp, listed=False, available=False, expires=None)
            else:
                expires = None if read.expires_at is None else int(read.expires_at.timestamp() * 1000)
                version = Version(record.timestamp, True, read.available, expires)
            spill.list_item(hash64(read.item_id), record.partition, record.offset, version)
        yield len(piece)
