"""The life of a partition in this worker, and the lease under which its events are on their way.

                    ┌──────────────── set back: Redis lost writes ───────────────┐
                    v                                                            │
assigned ──> checking ──> healing ──(committed offset reached)──> running ───────┤
                    ^  └──────────(nothing to heal)──────────────────^ │         │
                    │                                                  v         │
                    └────────(operator: dlq accept, offsets skip)── paused       │
                                                                                 │
any of them ──> revoked (rebalance, shutdown)                healing ────────────┘
"""

from __future__ import annotations

import queue
import threading
from collections import Counter
from collections.abc import Collection, Iterable
from concurrent.futures import Future
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from worker.decode import Breaker
from worker.stretches import Stretch


class PartitionState(StrEnum):
    ASSIGNED = "assigned"
    CHECKING = "checking"
    HEALING = "healing"
    RUNNING = "running"
    PAUSED = "paused"
    REVOKED = "revoked"


TRANSITIONS: Final[dict[PartitionState, frozenset[PartitionState]]] = {
    PartitionState.ASSIGNED: frozenset({PartitionState.CHECKING, PartitionState.REVOKED}),
    PartitionState.CHECKING: frozenset({PartitionState.HEALING, PartitionState.RUNNING, PartitionState.REVOKED}),
    PartitionState.HEALING: frozenset(
        {PartitionState.RUNNING, PartitionState.CHECKING, PartitionState.PAUSED, PartitionState.REVOKED}
    ),
    PartitionState.RUNNING: frozenset({PartitionState.CHECKING, PartitionState.PAUSED, PartitionState.REVOKED}),
    PartitionState.PAUSED: frozenset({PartitionState.CHECKING, PartitionState.REVOKED}),
    PartitionState.REVOKED: frozenset(),
}


@dataclass(slots=True)
class Lease:
    """This worker's hold on a partition, from one check to the next. Entries carry it; those of a dead one are dropped.

    publish_from: offsets below it are healed, not published and not committed. committed: the last committed offset.
    began: where the group once began in this partition. done: offsets below it have gone through all steps under this
    lease. closing: the group takes the partition away: what is under way is finished, nothing more may set out.
    """

    partition: int
    publish_from: int
    committed: int
    began: int = 0
    done: int = 0
    alive: bool = True
    closing: bool = False


@dataclass(slots=True)
class Partition:
    """What the polling thread knows of one partition. next_offset: of the next record it expects from the log.
    started: where the lease began. accept_below: an operator lets bad records below it go. skipped: stretches that an
    operator passes over. tripped: offset at which bad records have paused it before, perhaps in another worker; -1 for
    none."""

    number: int
    breaker: Breaker
    state: PartitionState = PartitionState.ASSIGNED
    lease: Lease | None = None
    next_offset: int = 0
    started: int = 0
    accept_below: int = 0
    skipped: tuple[Stretch, ...] = ()
    tripped: int = -1

    def move(self, state: PartitionState) -> None:
        if state not in TRANSITIONS[self.state]:
            raise ValueError(f"partition {self.number} cannot go from {self.state} to {state}")
        self.state = state

    def skips(self, offset: int) -> bool:
        return any(start <= offset < stop for start, stop in self.skipped)

    @property
    def reads(self) -> bool:
        """Whether records of it are wanted."""
        return self.state in (PartitionState.HEALING, PartitionState.RUNNING)

    def end_lease(self) -> None:
        if self.lease is not None:
            self.lease.alive = False
            self.lease = None


@dataclass(slots=True)
class InFlight:
    """The leases in force, and how many batches are under way that hold a partition: a rebalance waits for them. Used
    from all threads."""

    _lock: threading.Lock = field(default_factory=threading.Lock)
    _leases: dict[int, Lease] = field(default_factory=dict)
    _count: Counter[int] = field(default_factory=Counter)
    _waiting: list[tuple[frozenset[int], Future[None]]] = field(default_factory=list)

    def hold(self, lease: Lease) -> None:
        """From now on this is the lease of its partition."""
        with self._lock:
            self._leases[lease.partition] = lease

    def enter(self, leases: Collection[Lease]) -> bool:
        """A batch under these leases sets out; False, and it must not, where one of them is closing."""
        with self._lock:
            if any(lease.closing for lease in leases):
                return False
            self._count.update(lease.partition for lease in leases)
            return True

    def leave(self, partitions: Iterable[int]) -> None:
        with self._lock:
            self._count.subtract(partitions)
            done = [(held, future) for held, future in self._waiting if not self._busy(held)]
            self._waiting = [(held, future) for held, future in self._waiting if self._busy(held)]
        _complete([future for _, future in done])

    def busy(self, partitions: Collection[int]) -> bool:
        with self._lock:
            return self._busy(partitions)

    def any(self) -> bool:
        """Whether any batch is under way."""
        with self._lock:
            return any(count > 0 for count in self._count.values())

    def drained(self, partitions: frozenset[int]) -> Future[None]:
        """Close the leases; completes when no batch under way holds any of the partitions. Who will not wait any longer
        cancels it. The leases end with it, either way."""
        future: Future[None] = Future()
        with self._lock:
            leases = [self._leases[p] for p in partitions if p in self._leases]
            for lease in leases:
                lease.closing = True
            busy = self._busy(partitions)
            if busy:
                self._waiting.append((partitions, future))
        future.add_done_callback(lambda _: _end(leases))
        if not busy:
            _complete([future])
        return future

    def lost(self, partitions: frozenset[int]) -> None:
        """End the leases at once: what is under way must not be committed."""
        with self._lock:
            leases = [self._leases.pop(p) for p in partitions if p in self._leases]
        _end(leases)

    def abandon(self) -> None:
        """Nothing under way will be finished any more: let nobody wait for it."""
        with self._lock:
            self._count.clear()
            waiting, self._waiting = self._waiting, []
        _complete([future for _, future in waiting])

    def _busy(self, partitions: Collection[int]) -> bool:
        return any(self._count[p] > 0 for p in partitions)


class Assignments:
    """The RebalanceListener: notes what the group decided, and lets revocations wait for batches in flight."""

    def __init__(self, in_flight: InFlight) -> None:
        self.news: queue.SimpleQueue[tuple[bool, frozenset[int]]] = queue.SimpleQueue()
        self._in_flight = in_flight

    def assigned(self, partitions: frozenset[int]) -> None:
        self.news.put((True, partitions))

    def revoked(self, partitions: frozenset[int]) -> Future[None]:
        self.news.put((False, partitions))
        return self._in_flight.drained(partitions)

    def lost(self, partitions: frozenset[int]) -> None:
        self._in_flight.lost(partitions)
        self.news.put((False, partitions))


def _end(leases: Iterable[Lease]) -> None:
    for lease in leases:
        lease.alive = False


def _complete(futures: Iterable[Future[None]]) -> None:
    for future in futures:
        if future.set_running_or_notify_cancel():
            future.set_result(None)
