"""Recommendations as they arrive: a reader of the topic without a group."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ops import broker
from ops.cli.target import Target
from ops.errors import NoStack
from schemas.codec import decode_recommendation
from schemas.errors import BadRecord
from schemas.recommendation import Recommendation
from schemas.topics import RECOMMENDATIONS


class Answers:
    """Reads from where it was opened. unreadable counts records that are no recommendation."""

    def __init__(self, reader: Any) -> None:
        self._reader = reader
        self.unreadable = 0

    def poll(self, milliseconds: int, key: bytes | None = None) -> list[Recommendation]:
        """What came within the time, of one user when a key is given; returns early with the first records."""
        found: list[Recommendation] = []
        for records in self._reader.poll(timeout_ms=milliseconds).values():
            for record in records:
                if key is not None and record.key != key:
                    continue
                try:
                    found.append(decode_recommendation(record.value, record.key, record.headers))
                except BadRecord:
                    self.unreadable += 1
        return found


@contextmanager
def new_answers(target: Target) -> Iterator[Answers]:
    """Answers that are published from now on. Raises NoStack where the topic is missing, Unreachable."""
    topic = target.topic(RECOMMENDATIONS)
    with broker.reader(target.kafka) as reader:
        with broker.admin(target.kafka) as admin:
            # The ends are taken before the caller sends anything: no answer to it can come earlier.
            ends = broker.ends(admin, reader, _existing(admin, topic))
        reader.assign(list(ends))
        for part, offset in ends.items():
            reader.seek(part, offset)
        yield Answers(reader)


def last_answers(target: Target, count: int) -> list[Recommendation]:
    """The newest so many, oldest first."""
    topic = target.topic(RECOMMENDATIONS)
    with broker.admin(target.kafka) as admin, broker.reader(target.kafka) as reader:
        parts = _existing(admin, topic)
        ends, starts = broker.ends(admin, reader, parts), broker.beginnings(admin, parts)
    # The newest `count` of all partitions are among the newest `count` of each.
    starts = {part: max(starts[part], ends[part] - count) for part in parts}
    found: list[Recommendation] = []
    for record in broker.read_between(target.kafka, starts, ends):
        try:
            found.append(decode_recommendation(record.value, record.key, record.headers))
        except BadRecord:
            continue
    return sorted(found, key=lambda answer: answer.created_at)[-count:]


def _existing(admin: Any, topic: str) -> list[Any]:
    parts = broker.partitions(admin, topic)
    if not parts:
        raise NoStack(f"The topic {topic} does not exist.", "Create the topics with `kindred topics create`.")
    return parts
