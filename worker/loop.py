"""Steps 1 to 3 and the life of partitions: the thread that polls.

Callbacks of a rebalance only leave a note here; this thread acts on it. A partition is read only after its check: topic
and Redis belong together, watermarks say where to begin. While a stage is full the partitions are paused and polling
goes on, so that the group sees this worker alive.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from model.encoder.base import Encoder
from model.health import Health
from model.users import UserKey
from worker.batch import Batch, Batcher
from worker.broker.base import BrokerUnavailable, CommitRefused, Record, Source
from worker.checks import Checking
from worker.decode import Breaker, Entry, decode
from worker.metrics import Metrics
from worker.partition import Assignments, InFlight, Lease, Partition, PartitionState
from worker.pipeline import Pipeline, Work
from worker.progress import Named, Progress
from worker.stages import Stage
from worker.store.base import Store, StoreUnavailable
from worker.stretches import read_stretches, skip_note

log = logging.getLogger(__name__)

_POLL: Final = 0.1
_HAND_OVER: Final = 0.05
_KEEP: Final = 0.01
_CHORES: Final = 1.0
"""Seconds between looks at lag, operators' requests and services that were away."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What the polling thread is told.

    dead_*: see Breaker. drain: seconds for batches in flight at the end. pauses: whether too many bad records pause
    their partition.
    """

    dead_in_a_row: int
    dead_window: int
    dead_share: float
    drain: float
    max_records: int
    pauses: bool = True


class Loop:
    """between: called once a turn, in the polling thread, with the partitions. name: put before what is logged."""

    def __init__(
        self,
        *,
        reader: Source,
        store: Store,
        encoder: Encoder,
        pipeline: Pipeline,
        batcher: Batcher,
        stages: Iterable[Stage],
        assignments: Assignments,
        in_flight: InFlight,
        user_key: Callable[[str], UserKey],
        checks: Checking,
        limits: Limits,
        metrics: Metrics,
        health: Health,
        fail_point: Callable[[int], None],
        between: Callable[[Mapping[int, Partition]], None] = lambda _: None,
        name: str = "",
    ) -> None:
        self._reader = reader
        self._store = store
        self._encoder = encoder
        self._pipeline = pipeline
        self._batcher = batcher
        self._stages = tuple(stages)
        self._assignments = assignments
        self._in_flight = in_flight
        self._user_key = user_key
        self._checks = checks
        self._limits = limits
        self._metrics = metrics
        self._health = health
        self._fail_point = fail_point
        self._between = between
        self._log = Named(name)
        self._partitions: dict[int, Partition] = {}
        self._progress = Progress(self._partitions, reader, metrics, health, self._log)
        self._pending: deque[Batch] = deque()
        self._held = False
        self._refused = -1
        """The partition that could not be checked last."""
        self._next_chores = 0.0
        self.stopping = threading.Event()
        self.start_over = threading.Event()

    def run(self) -> None:
        """Until `stopping` is set, or a stage failed. Then drains."""
        while not self.stopping.is_set():
            self._turn()
        self._drain()

    def _turn(self) -> None:
        for stage in self._stages:
            if stage.failure is not None:
                raise stage.failure
        self._follow_group()
        self._between(self._partitions)
        if self.start_over.is_set():
            self._set_back()
        now = time.monotonic()
        if now >= self._next_chores:
            self._next_chores = now + _CHORES
            self._chores()
        for partition in self._checking():
            if not self._check(partition):
                self._refused = partition.number
                break  # each try may take seconds
        self._hand_over()
        records = self._poll()
        self._follow_group()  # what was revoked meanwhile must not be taken in
        if records:
            self._fail_point(1)
        for number, taken in records.items():
            self._take(number, taken)
        if self._batcher.due(time.monotonic()):
            self._close_batch()

    # Steps 1 to 3.

    def _poll(self) -> Mapping[int, Sequence[Record]]:
        try:
            records = self._reader.poll(self._patience(), self._limits.max_records)
        except BrokerUnavailable as error:
            if self._health.trouble("poll", f"kafka gives no records: {error}"):
                self._log.warning("kafka gives no records, trying again: %s", error)
            self._metrics.retries.labels("kafka").inc()
            self.stopping.wait(_POLL)
            return {}
        if self._health.clear("poll"):
            self._log.info("kafka gives records again")
        return records

    def _patience(self) -> float:
        if self._held:
            return 0.0
        wait = self._batcher.wait(time.monotonic())
        return _POLL if wait is None else min(wait, _POLL)

    def _take(self, number: int, records: Iterable[Record]) -> None:
        """Decode, tokenise and batch what was polled of one partition."""
        partition = self._partitions.get(number)
        if partition is None or partition.lease is None or not partition.reads:
            return
        entries = []
        for record in records:
            if record.offset < partition.next_offset:
                continue
            entry = self._decoded(partition, record)
            if self._trips(partition, entry, partition.lease):
                self._pause(partition, record.offset)
                break
            partition.next_offset = record.offset + 1
            entries.append(entry)
        self._metrics.events_in.inc(len(entries))
        self._tokenise(entries)
        self._fail_point(2)
        for entry in entries:
            closed = self._batcher.add(entry, partition.lease, time.monotonic())
            if closed is not None:
                self._queue(closed)

    def _decoded(self, partition: Partition, record: Record) -> Entry:
        if not partition.skips(record.offset):
            return decode(record, self._user_key)
        # What an operator skips is not read; but who is to be forgotten is forgotten all the same.
        entry = decode(record, self._user_key) if record.value is None else Entry(record)
        return Entry(record) if entry.dead is not None else entry

    def _trips(self, partition: Partition, entry: Entry, lease: Lease) -> bool:
        """Whether bad records have become too many. Those that were dealt with before, or by an operator, do not count;
        one that has paused the partition before does so again."""
        offset, bad = entry.record.offset, entry.dead is not None
        if offset < max(partition.accept_below, lease.publish_from) or not self._limits.pauses:
            return False
        return partition.breaker.trips(bad) or (bad and offset == partition.tripped)

    def _tokenise(self, entries: list[Entry]) -> None:
        texts = [entry for entry in entries if entry.text]
        if not texts:
            return
        tokens = self._encoder.tokenise([entry.text for entry in texts])
        for entry, ids in zip(texts, tokens.ids, strict=True):
            entry.tokens = ids
        known = sum(map(len, tokens.ids))
        self._metrics.unknown_token_share.set(tokens.unknown / known if known else 0.0)

    def _close_batch(self) -> None:
        batch = self._batcher.close()
        if batch is not None:
            self._queue(batch)

    def _queue(self, batch: Batch) -> None:
        self._metrics.batch_fill.observe(len(batch.entries) / self._batcher.max_events)
        self._pending.append(batch)
        self._fail_point(3)

    def _hand_over(self) -> None:
        """Give closed batches to the first stage; pause everything while it is full."""
        while self._pending:
            batch = self._pending[0]
            batch.drop_dead()
            if batch.entries:
                work = Work(batch, tuple(batch.leases))
                if not self._in_flight.enter(batch.leases.values()):
                    break  # the news that a partition is taken away comes with the next turn
                if not self._stages[0].offer(work, _HAND_OVER):
                    self._in_flight.leave(work.held)
                    break
            self._pending.popleft()
        held = bool(self._pending)
        if held != self._held:
            self._held = held
            reading = [n for n, p in self._partitions.items() if p.reads]
            (self._reader.pause if held else self._reader.resume)(reading)

    # The life of partitions.

    def _follow_group(self) -> None:
        while not self._assignments.news.empty():
            given, numbers = self._assignments.news.get()
            for number in numbers:
                if given:
                    limits = self._limits
                    breaker = Breaker(in_a_row=limits.dead_in_a_row, window=limits.dead_window, share=limits.dead_share)
                    partition = self._partitions[number] = Partition(number, breaker)
                    partition.move(PartitionState.CHECKING)
                elif number in self._partitions:
                    self._give_up(self._partitions.pop(number))
            self._log.info("partitions %s: %s", "assigned" if given else "revoked", sorted(numbers))
            self._progress.report()

    def _give_up(self, partition: Partition) -> None:
        """Forget what has not set out; what is under way is finished, and its lease ends with it (see InFlight)."""
        self._forget_collected(partition)
        partition.move(PartitionState.REVOKED)
        self._progress.forget(partition.number)
        self._health.clear(f"partition {partition.number}")

    def _forget_collected(self, partition: Partition) -> None:
        self._batcher.drop(partition.number)
        for batch in self._pending:
            batch.drop([partition.number])

    def _checking(self) -> list[Partition]:
        """Those that are to be checked. Behind them the one that could not be checked last: its leader may be away, and
        the others must not wait for it."""
        found = [p for p in self._partitions.values() if p.state is PartitionState.CHECKING]
        return sorted(found, key=lambda partition: (partition.number <= self._refused, partition.number))

    def _check(self, partition: Partition) -> bool:
        """Find where to begin, and begin. Waits for what is still under way; False when a service is away."""
        number = partition.number
        if self._in_flight.busy([number]):
            return True
        # Until it has been checked this worker writes nothing of it, and must not hold others up by what it once left.
        self._pipeline.forget(number)
        try:
            self._begin(partition)
        except (BrokerUnavailable, StoreUnavailable, CommitRefused) as error:
            if self._health.trouble(f"partition {number}", f"partition {number} cannot be checked: {error}"):
                self._log.warning("partition %d cannot be checked, trying again: %s", number, error)
            return False
        self._health.clear(f"partition {number}")
        self._progress.report()
        return True

    def _begin(self, partition: Partition) -> None:
        number = partition.number
        found = self._checks.begin(number, held=self._assignments.news.empty)
        self._read_requests(partition)
        self._pipeline.adopt(number, found.watermarks)
        lease = partition.lease = Lease(number, found.publish_from, found.publish_from, found.began, found.start)
        self._in_flight.hold(lease)
        partition.next_offset = partition.started = found.start
        self._reader.seek(number, found.start)
        if not self._held:
            self._reader.resume([number])
        partition.move(PartitionState.HEALING if found.heals else PartitionState.RUNNING)
        if found.heals:
            self._log.warning("partition %d: healing from offset %d to %d", number, found.start, found.publish_from)
        else:
            self._log.info("partition %d: running from offset %d", number, found.start)

    def _set_back(self) -> None:
        """Redis lost writes, or a transaction ended nobody knows how: every partition is checked again, and read from
        where Redis and the group now stand."""
        self.start_over.clear()
        if any(partition.lease is not None for partition in self._partitions.values()):
            self._log.warning("checking all partitions again")
        self.recheck_all()
        try:
            self._checks.identify()
        except StoreUnavailable as error:
            self._log.debug("whose data Redis holds cannot be read: %s", error)
            self.start_over.set()

    def exchange(self, store: Store, encoder: Encoder, pipeline: Pipeline) -> None:
        """Another space from here on, in the polling thread, while nothing is under way: every partition is checked
        anew, and so begins where the new space and the group stand."""
        self._store, self._encoder, self._pipeline = store, encoder, pipeline
        self.recheck_all()

    def recheck_all(self) -> None:
        """Forget what is collected, and check again where every partition begins."""
        for partition in self._partitions.values():
            if partition.lease is not None:
                self._recheck(partition)

    def _recheck(self, partition: Partition) -> None:
        partition.end_lease()
        self._forget_collected(partition)
        self._reader.pause([partition.number])
        partition.move(PartitionState.CHECKING)

    def _pause(self, partition: Partition, offset: int) -> None:
        number = partition.number
        self._reader.pause([number])
        partition.move(PartitionState.PAUSED)
        partition.next_offset = offset
        remedy = (
            f"partition {number} is paused at offset {offset}: too many bad records. See `kindred dlq list`; then let "
            f"them go to the dead letter topic with `kindred dlq accept {number} --to OFFSET`, or pass over them with "
            f"`kindred offsets skip {number} --to OFFSET`."
        )
        self._health.trouble(f"partition {number}", remedy)
        self._log.error("%s", remedy)
        partition.tripped = offset
        try:
            self._store.note(f"paused:{number}", str(offset))
        except StoreUnavailable as error:
            self._log.warning("the next owner of partition %d will count its bad records anew: %s", number, error)
        self._progress.report()

    def _read_requests(self, partition: Partition) -> None:
        number = partition.number
        partition.accept_below = int(self._store.noted(f"accept:{number}") or 0)
        partition.skipped = read_stretches(self._store.noted(skip_note(number)))
        partition.tripped = int(self._store.noted(f"paused:{number}") or -1)

    # Chores.

    def _chores(self) -> None:
        try:
            for partition in self._partitions.values():
                if partition.state is PartitionState.PAUSED:
                    self._read_requests(partition)
                    at = partition.next_offset
                    if partition.accept_below > at or partition.skips(at):
                        partition.breaker.reset()
                        self._recheck(partition)
        except StoreUnavailable as error:
            self._log.debug("operators' requests cannot be read: %s", error)
        self._pipeline.abandon(lambda number: number in self._partitions or self._in_flight.busy([number]))
        if self._partitions:
            self._progress.measure()
            self._checks.watch_group(time.monotonic())
        self._checks.watch_partitions(time.monotonic())
        self._progress.report()

    # The end.

    def _drain(self) -> None:
        """Hand over what is collected and wait for what is under way, at most the drain deadline."""
        self._health.state = "draining"
        deadline = time.monotonic() + self._limits.drain
        self._close_batch()
        while time.monotonic() < deadline:
            self._follow_group()
            self._hand_over()
            if not self._pending and not self._in_flight.busy(list(self._partitions)):
                return
            if any(stage.failure is not None for stage in self._stages):
                break
            self._keep_place()
        self._log.warning("drained only in part: what is left will be replayed by the next owner")

    def _keep_place(self) -> None:
        """Go on taking part in the group: while it moves it takes no commits of a member who does not poll. What a
        poll gives is left to the next owner."""
        self._reader.pause([number for number, partition in self._partitions.items() if partition.reads])
        try:
            self._reader.poll(_KEEP, 1)
        except BrokerUnavailable:
            time.sleep(_KEEP)
