"""Step 3: entries → batches, closed by padded tokens, count or age. Knows no Kafka, no clock and no encoder."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from worker.decode import Entry
from worker.partition import Lease


@dataclass(slots=True)
class Batch:
    """Entries in log order within each partition, all of a partition under one lease.

    next_offsets: partition → the offset after its last record here. opened: when the first entry came, in the
    caller's seconds.
    """

    opened: float
    entries: list[Entry] = field(default_factory=list)
    leases: dict[int, Lease] = field(default_factory=dict)
    next_offsets: dict[int, int] = field(default_factory=dict)
    longest: int = 0

    def add(self, entry: Entry, lease: Lease) -> None:
        self.entries.append(entry)
        self.leases[lease.partition] = lease
        self.next_offsets[lease.partition] = entry.record.offset + 1
        self.longest = max(self.longest, entry.length)

    def drop_dead(self) -> None:
        """Forget what is held under leases that have ended: those partitions were taken away or set back."""
        self.drop([partition for partition, lease in self.leases.items() if not lease.alive])

    def drop(self, partitions: Collection[int]) -> None:
        """Forget what is held of these partitions."""
        gone = [partition for partition in self.leases if partition in partitions]
        if gone:
            self.entries = [entry for entry in self.entries if entry.record.partition not in gone]
            for partition in gone:
                del self.leases[partition], self.next_offsets[partition]


class Batcher:
    """Collects entries; a batch is closed before it would pass a limit, so only a single text can be longer.

    max_tokens counts padded tokens: entries times the longest of them.
    """

    def __init__(self, *, max_events: int, max_tokens: int, max_age: float) -> None:
        self.max_events = max_events
        self._max_tokens = max_tokens
        self._max_age = max_age
        self._open: Batch | None = None

    def add(self, entry: Entry, lease: Lease, now: float) -> Batch | None:
        """Take an entry in; returns the batch that it closed, if any."""
        closed = None
        if self._open is not None:
            events = len(self._open.entries) + 1
            if events > self.max_events or events * max(self._open.longest, entry.length) > self._max_tokens:
                closed = self.close()
        if self._open is None:
            self._open = Batch(now)
        self._open.add(entry, lease)
        return closed

    def due(self, now: float) -> bool:
        """Whether the open batch has waited long enough."""
        return self._open is not None and now - self._open.opened >= self._max_age

    def wait(self, now: float) -> float | None:
        """Seconds until the open batch is due; None while there is none."""
        return None if self._open is None else max(0.0, self._open.opened + self._max_age - now)

    def close(self) -> Batch | None:
        batch, self._open = self._open, None
        return batch

    def drop(self, partition: int) -> None:
        """Forget what is held of a partition."""
        if self._open is not None:
            self._open.drop([partition])
            if not self._open.entries:
                self._open = None
