"""A log in memory, for unit tests and demonstrations: topics, partitions, one consumer group with eager hand-over.

Keeps what a reader may rely on (order, offsets, commits with metadata, pausing, callbacks on joining and leaving);
knows no network, so `fail_with` makes it unavailable on purpose.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import wait
from dataclasses import dataclass, field
from zlib import crc32

from schemas.headers import Headers
from worker.broker.base import (
    Bounds,
    BrokerUnavailable,
    CommitRefused,
    Committed,
    OutRecord,
    RebalanceListener,
    Record,
    RecordTooLarge,
)


@dataclass(slots=True)
class Topic:
    partitions: list[list[Record]]
    begin: list[int]
    topic_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    compacted: bool = False


class MemoryBroker:
    """What readers and publishers of one test share.

    fail_with: while it is set, nothing answers, with this text. now_ms: timestamp of appended records.
    """

    def __init__(self, topics: Mapping[str, int], max_record_bytes: int = 1 << 20) -> None:
        self.max_record_bytes = max_record_bytes
        self.topics: dict[str, Topic] = {}
        for name, partitions in topics.items():
            self.add_topic(name, partitions)
        self.committed: dict[tuple[str, str, int], Committed] = {}
        self.lock = threading.RLock()
        self.appended = threading.Condition(self.lock)
        self.members: list[MemoryReader] = []
        self.moving = threading.Lock()
        self.fail_with: str | None = None
        self.now_ms = int(time.time() * 1000)

    def add_topic(self, name: str, partitions: int, *, compacted: bool = False) -> None:
        self.topics[name] = Topic([[] for _ in range(partitions)], [0] * partitions, compacted=compacted)

    def append(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        headers: Headers = (),
        partition: int | None = None,
        timestamp: int | None = None,
    ) -> Record:
        with self.lock:
            found = self.topics[topic]
            number = crc32(key or b"") % len(found.partitions) if partition is None else partition
            log = found.partitions[number]
            offset = found.begin[number] + len(log)
            record = Record(topic, number, offset, timestamp or self.now_ms, key, value, tuple(headers))
            log.append(record)
            self.appended.notify_all()
            return record

    def truncate(self, topic: str, partition: int, begin: int) -> None:
        """Drop records below `begin`, as retention does."""
        with self.lock:
            found = self.topics[topic]
            del found.partitions[partition][: begin - found.begin[partition]]
            found.begin[partition] = begin

    def records(self, topic: str) -> list[Record]:
        with self.lock:
            return [record for log in self.topics[topic].partitions for record in log]

    def check(self) -> None:
        if self.fail_with is not None:
            raise BrokerUnavailable(self.fail_with)

    def check_sizes(self, records: Sequence[OutRecord]) -> None:
        """Raises BrokerUnavailable and RecordTooLarge."""
        self.check()
        for record in records:
            size = len(record.key or b"") + len(record.value or b"")
            if size > self.max_record_bytes:
                raise RecordTooLarge(f"a record of {size} bytes, at most {self.max_record_bytes}")

    def rebalance(self, group: str, topic: str) -> None:
        """Spread the topic's partitions evenly over the group's members; callbacks run here, revocations first. The
        caller holds `moving`."""
        with self.lock:
            members = [m for m in self.members if (m.group, m.topic) == (group, topic)]
            wanted: dict[MemoryReader, set[int]] = {m: set() for m in members}
            if members and topic in self.topics:
                for number in range(len(self.topics[topic].partitions)):
                    wanted[members[number % len(members)]].add(number)
        for member, numbers in wanted.items():
            if gone := frozenset(member.owned - numbers):
                member.give_up(gone)
                with self.lock:
                    member.owned -= gone
        for member, numbers in wanted.items():
            if new := frozenset(numbers - member.owned):
                with self.lock:
                    member.owned |= new
                    member.paused |= new
                    for number in new:
                        known = self.committed.get((member.group, member.topic, number))
                        member.positions[number] = known.offset if known else 0
                member.listener.assigned(new)


class MemoryReader:
    def __init__(
        self, broker: MemoryBroker, topic: str, group: str, listener: RebalanceListener, drain_seconds: float = 5.0
    ) -> None:
        self.topic = topic
        self.group = group
        self.listener = listener
        self.drain_seconds = drain_seconds
        self.subscribed = False
        self.owned: set[int] = set()
        self.paused: set[int] = set()
        self.positions: dict[int, int] = {}
        self._broker = broker

    def join(self) -> None:
        with self._broker.moving:
            with self._broker.lock:
                self._broker.members.append(self)
                self.subscribed = True
            self._broker.rebalance(self.group, self.topic)

    def joined(self) -> bool:
        return self.subscribed

    def unowned(self) -> frozenset[int]:
        with self._broker.lock:
            members = [m for m in self._broker.members if (m.group, m.topic) == (self.group, self.topic)]
            return frozenset(self.partitions()).difference(*(member.owned for member in members))

    def rejoin(self) -> None:
        with self._broker.moving:
            self._broker.rebalance(self.group, self.topic)

    def partitions(self) -> Sequence[int]:
        found = self._broker.topics.get(self.topic)
        return range(len(found.partitions)) if found else ()

    def missing(self, topics: Iterable[str]) -> list[str]:
        self._broker.check()
        return sorted(set(topics) - self._broker.topics.keys())

    def compacted(self) -> bool:
        return self._broker.topics[self.topic].compacted

    def poll(self, timeout_s: float, max_records: int) -> Mapping[int, Sequence[Record]]:
        deadline = time.monotonic() + timeout_s
        with self._broker.appended:
            while True:
                if self._broker.fail_with is None:
                    taken = self._take(max_records)
                    if taken:
                        return taken
                left = deadline - time.monotonic()
                if left <= 0:
                    return {}
                self._broker.appended.wait(left)

    def _take(self, max_records: int) -> dict[int, Sequence[Record]]:
        taken: dict[int, Sequence[Record]] = {}
        for number in sorted(self.owned - self.paused):
            topic = self._broker.topics[self.topic]
            start = max(self.positions[number], topic.begin[number])
            place = start - topic.begin[number]
            records = topic.partitions[number][place : place + max_records]
            if records:
                taken[number] = records
                self.positions[number] = records[-1].offset + 1
        return taken

    def seek(self, partition: int, offset: int) -> None:
        self.positions[partition] = offset

    def position(self, partition: int) -> int | None:
        return self.positions.get(partition)

    def isolates_transactions(self) -> bool:
        return True

    def membership(self) -> object:
        if self not in self._broker.members:
            raise CommitRefused("this member is not in the group", retry=False)
        return self

    def pause(self, partitions: Iterable[int]) -> None:
        self.paused |= set(partitions)

    def resume(self, partitions: Iterable[int]) -> None:
        self.paused -= set(partitions)

    def committed(self, partition: int) -> Committed | None:
        self._broker.check()
        return self._broker.committed.get((self.group, self.topic, partition))

    def commits(self) -> dict[int, Committed]:
        self._broker.check()
        with self._broker.lock:
            return {
                number: found
                for (group, topic, number), found in self._broker.committed.items()
                if (group, topic) == (self.group, self.topic)
            }

    def bounds(self, partitions: Iterable[int]) -> dict[int, Bounds]:
        self._broker.check()
        topic = self._broker.topics[self.topic]
        return {n: Bounds(topic.begin[n], topic.begin[n] + len(topic.partitions[n])) for n in partitions}

    def ends(self, partitions: Iterable[int]) -> dict[int, int]:
        return {number: found.end for number, found in self.bounds(partitions).items()}

    def offset_at(self, partition: int, timestamp_ms: int) -> int:
        self._broker.check()
        for record in self._broker.topics[self.topic].partitions[partition]:
            if record.timestamp >= timestamp_ms:
                return record.offset
        return self.bounds([partition])[partition].end

    def commit(self, offsets: Mapping[int, Committed]) -> None:
        self._broker.check()
        with self._broker.lock:
            if self not in self._broker.members:
                raise CommitRefused("this member is not in the group", retry=False)
            for partition, committed in offsets.items():
                self._broker.committed[(self.group, self.topic, partition)] = committed

    def topic_id(self) -> str:
        self._broker.check()
        return self._broker.topics[self.topic].topic_id

    def give_up(self, partitions: frozenset[int]) -> None:
        """Wait for what is under way, at most the drain deadline; then the listener is told by cancelling."""
        drained = self.listener.revoked(partitions)
        wait([drained], self.drain_seconds)
        drained.cancel()

    def close(self) -> None:
        if not self.subscribed:
            return
        with self._broker.moving:
            self.give_up(frozenset(self.owned))
            with self._broker.lock:
                self.owned.clear()
                self.subscribed = False
                self._broker.members.remove(self)
            self._broker.rebalance(self.group, self.topic)


class MemoryLog:
    """A topic of one partition, read whole; empty where there is none."""

    def __init__(self, broker: MemoryBroker, topic: str) -> None:
        self._broker = broker
        self._topic = topic
        self._read = 0
        self._end = len(self._records())

    def _records(self) -> list[Record]:
        return self._broker.records(self._topic) if self._topic in self._broker.topics else []

    def poll(self, timeout_s: float, max_records: int) -> Sequence[Record]:
        with self._broker.appended:
            self._broker.check()
            if self._read == len(self._records()):
                self._broker.appended.wait(timeout_s)
            taken = self._records()[self._read : self._read + max_records]
            self._read += len(taken)
            return taken

    def at_end(self) -> bool:
        self._broker.check()
        return self._read >= self._end

    def close(self) -> None:
        """Nothing is held."""


@dataclass(frozen=True, slots=True)
class MemorySent:
    broker: MemoryBroker
    records: Sequence[OutRecord]

    def wait(self, timeout_s: float) -> None:  # noqa: ARG002 - nothing here takes time
        """The records enter the log here: what was never waited for is lost, as it may be with a real broker."""
        self.broker.check_sizes(self.records)
        for record in self.records:
            self.broker.append(record.topic, record.key, record.value, record.headers)


@dataclass(frozen=True, slots=True)
class MemoryPublisher:
    broker: MemoryBroker

    def send(self, records: Sequence[OutRecord]) -> MemorySent:
        return MemorySent(self.broker, list(records))

    def close(self) -> None:
        """Nothing is held."""


@dataclass(slots=True)
class MemoryTransactions:
    """Written to the log when they are committed, so that nothing aborted is ever seen."""

    broker: MemoryBroker
    written: list[OutRecord] | None = None

    def open(self) -> None:
        self.written = None

    def publish(self, records: Sequence[OutRecord]) -> None:
        self.broker.check_sizes(records)
        self.written = list(records)

    def commit(self, offsets: Mapping[int, Committed], membership: object) -> None:
        written, self.written = self.written, None
        if written is None or not isinstance(membership, MemoryReader):
            raise TypeError("no transaction is open, or this is no member's place")
        with self.broker.lock:
            membership.commit(offsets)
            for record in written:
                self.broker.append(record.topic, record.key, record.value, record.headers)

    def abort(self) -> None:
        self.written = None

    def close(self) -> None:
        self.written = None
