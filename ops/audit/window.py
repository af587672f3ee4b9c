"""What of the log is audited, and reading topics in pieces without a group.

The window of a partition ends at the offset that the workers' group has committed: behind it records are under way. It
begins where the group once began (the note of its commits says where), or where the log now begins.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import kafka

from model.kafka.header_names import tolerate
from ops import broker
from ops.audit.rules import Rules
from ops.cli.target import Target
from ops.errors import NoAnswer, NoStack
from schemas.access import KafkaAccess
from schemas.topics import USER_TEXT, Topic
from worker.broker.base import Record
from worker.heal import read_note

PIECE: Final = 4096
"""Records taken at once, or fewer once they reach"""
PIECE_BYTES: Final = 16 << 20
STALL_S: Final = 60.0
"""Without a single record for so long, the audit gives up."""


@dataclass(frozen=True, slots=True)
class Window:
    """Of one partition: offsets [start, stop) are audited. end: offset of the next record to be written. whole: the log
    still has everything that was ever applied."""

    partition: int
    start: int
    stop: int
    end: int
    whole: bool


@dataclass(frozen=True, slots=True)
class Bounds:
    """Of one topic: partition → begin and end. since_ms: answers to what was written later than this are still there;
    None where nothing was ever removed."""

    begins: dict[int, int]
    ends: dict[int, int]
    since_ms: int | None

    @property
    def records(self) -> int:
        """At most so many."""
        return sum(self.ends.values()) - sum(self.begins.values())


def windows(target: Target, rules: Rules) -> tuple[list[Window], str]:
    """One a partition of `user-text`, and the topic's id. Raises NoStack where there is no topic, Unreachable."""
    topic = target.topic(USER_TEXT)
    with broker.admin(target.kafka) as admin, broker.reader(target.kafka) as reader:
        parts = broker.partitions(admin, topic)
        if not parts:
            raise NoStack(f"The topic {topic} does not exist.", "Create the topics with `kindred topics create`.")
        (described,) = admin.describe_topics([topic])
        # Committed first: the ends can then only lie behind it.
        marks = admin.list_group_offsets({target.group: parts})[target.group]
        begins = broker.beginnings(admin, parts)
        at: dict[Any, Any] = {}
        if isinstance(rules.start, datetime):
            at = broker.at_time(admin, parts, int(rules.start.timestamp() * 1000))
        ends = broker.ends(admin, reader, parts)
    found = []
    for part in parts:
        mark = marks.get(part)
        instance, began = read_note(None if mark is None else mark.metadata)
        if instance is None and at:
            # Without a record of that time or later, nothing has been read.
            began = ends[part] if at[part] is None else at[part]
        start = max(begins[part], began)
        stop = max(start, mark.offset if mark is not None else 0)
        found.append(Window(part.partition, start, stop, max(ends[part], stop), whole=begins[part] <= began))
    return found, str(described["topic_id"])


def bounds(target: Target, topic: Topic) -> Bounds:
    """As they are now; without partitions where the topic does not exist. Raises Unreachable."""
    name = target.topic(topic)
    with broker.admin(target.kafka) as admin, broker.reader(target.kafka) as reader:
        if name not in set(admin.list_topics()):
            return Bounds({}, {}, None)
        parts = broker.partitions(admin, name)
        begins = broker.beginnings(admin, parts)
        ends = broker.ends(admin, reader, parts)
    cut = [part for part in parts if begins[part] > 0]
    found = Bounds(
        {part.partition: begins[part] for part in parts},
        {part.partition: ends[part] for part in parts},
        None,
    )
    if not cut:
        return found
    firsts = [next(iter(_records(target.kafka, name, p.partition, begins[p], ends[p])), None) for p in cut]
    since = max((record.timestamp for record in firsts if record is not None), default=0)
    # Of a partition that has nothing left nobody can tell what it had.
    return Bounds(found.begins, found.ends, since if None not in firsts else 1 << 62)


def pieces(access: KafkaAccess, topic: str, partition: int, start: int, stop: int) -> Iterator[list[Record]]:
    """The records of [start, stop) in order, in bounded pieces. Raises NoAnswer when none comes for STALL_S,
    Unreachable."""
    piece: list[Record] = []
    size = 0
    for record in _records(access, topic, partition, start, stop):
        piece.append(record)
        size += len(record.value or b"")
        if len(piece) >= PIECE or size >= PIECE_BYTES:
            yield piece
            piece, size = [], 0
    if piece:
        yield piece


def topic_pieces(target: Target, topic: Topic, of: Bounds) -> Iterator[list[Record]]:
    """A whole topic, partition after partition."""
    for partition, begin in of.begins.items():
        yield from pieces(target.kafka, target.topic(topic), partition, begin, of.ends[partition])


def _records(access: KafkaAccess, topic: str, partition: int, start: int, stop: int) -> Iterator[Record]:
    if start >= stop:
        return
    tolerate()
    part = kafka.TopicPartition(topic, partition)
    with broker.reader(access) as client:
        client.assign([part])
        client.seek(part, start)
        deadline = time.monotonic() + STALL_S
        # By position, not by the last record: a transaction's marker takes an offset that no record has.
        while client.position(part) < stop:
            polled: Sequence[Any] = client.poll(timeout_ms=200, max_records=PIECE).get(part, ())
            for found in polled:
                if found.offset < stop:
                    yield Record(topic, partition, found.offset, found.timestamp, found.key, found.value, found.headers)
            if polled:
                deadline = time.monotonic() + STALL_S
            elif time.monotonic() > deadline:
                raise NoAnswer(
                    f"{topic}-{partition} gave no record for {STALL_S:.0f} s, at offset {client.position(part)} of "
                    f"{stop}.",
                    "Try again; `kindred doctor` checks the broker.",
                )
