"""A topic on Kafka as the trainer reads it: a consumer of its own without a group, committed records only.

Knows nothing of what records mean. (With read_committed a broker tells as the end the offset up to which every
transaction is decided, so that an open one delays no run. The embedded broker tells the end wrongly, the first record
of the last batch + 1: the last batch is looked at.)
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any, Final

from kafka import KafkaAdminClient, KafkaConsumer, TopicPartition

from model.kafka import header_names
from model.kafka.base import Bounds, BrokerRefused, BrokerUnavailable, Record
from model.kafka.client import CALL_TIMEOUT_MS, asked, making_no_topics, partitions_of, polled
from schemas.access import KafkaAccess
from trainer.read import Piece

POLL_S: Final = 0.2
PIECE: Final = 2_000
"""Records handed out, and kept by the window, at once. A batch on the broker may hold more: see `bounds`."""
STALL_S: Final = 60.0
"""Without getting on for so long, reading gives up; the same call may be made again."""

_UNKNOWN: Final = 3
_NOT_ALLOWED: Final = 29
"""Kafka's codes for a topic that is not there, and for one that one may not see."""


class KafkaLog:
    """One topic; whoever makes it closes it. Raises BrokerUnavailable, BrokerRefused."""

    def __init__(self, *, access: KafkaAccess, topic: str, client_id: str) -> None:
        header_names.tolerate()
        self.topic = topic
        self._admin = asked(
            lambda: KafkaAdminClient(**access.arguments(), client_id=client_id, request_timeout_ms=CALL_TIMEOUT_MS),
            "admin",
        )
        self._consumer = asked(
            lambda: KafkaConsumer(
                **access.arguments(),
                group_id=None,
                client_id=client_id,
                kafka_client=making_no_topics,
                enable_auto_commit=False,
                auto_offset_reset="earliest",
                isolation_level="read_committed",
                fetch_max_wait_ms=100,
            ),
            "consumer",
        )

    def topic_id(self) -> str | None:
        (found,) = asked(lambda: self._admin.describe_topics([self.topic]), "describe topic")
        if found["error_code"] == _NOT_ALLOWED:
            raise BrokerRefused(
                f"Kafka refuses this user DESCRIBE on the topic {self.topic}: docs/security.md lists the ACLs"
            )
        return None if found["error_code"] == _UNKNOWN else str(found["topic_id"])

    def bounds(self) -> dict[int, Bounds]:
        places = self._places()
        if not places:
            return {}
        begins = asked(lambda: self._consumer.beginning_offsets(places), "beginning offsets")
        ends = self._ends(places, begins)
        return {place.partition: Bounds(begins[place], ends[place]) for place in places}

    def offsets_at(self, timestamp_ms: int) -> dict[int, int]:
        places = self._places()
        wanted = dict.fromkeys(places, timestamp_ms)
        found = asked(lambda: self._consumer.offsets_for_times(wanted), "offsets for times")
        # For a time after its last record the embedded broker answers offset 0 with timestamp -1.
        none = [p for p in places if found[p] is None or found[p].offset < 0 or found[p].timestamp < timestamp_ms]
        ends = self._ends(none, asked(lambda: self._consumer.beginning_offsets(none), "beginning offsets"))
        return {p.partition: int(ends[p] if p in ends else found[p].offset) for p in places}

    def read(self, starts: Mapping[int, int], stops: Mapping[int, int]) -> Iterator[Piece]:
        unread = {partition for partition, stop in stops.items() if starts[partition] < stop}
        self._assign({self._at(partition): starts[partition] for partition in unread})
        reached = dict(starts)
        deadline = time.monotonic() + STALL_S
        while unread:
            records = [
                Record(r.topic, r.partition, r.offset, r.timestamp, r.key, r.value, r.headers)
                for taken in polled(self._consumer, POLL_S, PIECE).values()
                for r in taken
                if r.offset < stops[r.partition]
            ]
            # By position, not by the last record: a transaction's marker takes an offset that no record has.
            moved = {p: offset for p in unread if (offset := min(self._position(p), stops[p])) > reached[p]}
            if moved:
                reached |= moved
                yield Piece(records, moved)
                deadline = time.monotonic() + STALL_S
            elif time.monotonic() > deadline:
                raise BrokerUnavailable(f"{self.topic}: nothing came of {sorted(unread)} for {STALL_S:.0f} s")
            done = {p for p in moved if reached[p] >= stops[p]}
            self._consumer.pause(*map(self._at, done))
            unread -= done

    def close(self) -> None:
        self._consumer.close()
        self._admin.close()

    def _places(self) -> list[TopicPartition]:
        return [self._at(partition) for partition in partitions_of(self._consumer, self.topic)]

    def _at(self, partition: int) -> TopicPartition:
        return TopicPartition(self.topic, partition)

    def _assign(self, places: Mapping[TopicPartition, int]) -> None:
        self._consumer.unsubscribe()  # what was fetched or paused before is forgotten
        self._consumer.assign(sorted(places))
        for place, offset in places.items():
            self._consumer.seek(place, offset)

    def _position(self, partition: int) -> int:
        place = self._at(partition)
        found = asked(lambda: self._consumer.position(place, timeout_ms=CALL_TIMEOUT_MS), "position")
        if found is None:
            raise BrokerUnavailable(f"{self.topic}-{partition}: the broker tells no place to read from")
        return int(found)

    def _ends(self, places: list[TopicPartition], begins: Mapping[Any, int]) -> dict[TopicPartition, int]:
        """As the broker tells them, or where reading the last batch leads to, if that is further."""
        if not places:
            return {}
        told = dict(asked(lambda: self._consumer.end_offsets(places), "end offsets"))
        unread = {place for place in places if told[place] > begins[place]}
        self._assign({place: told[place] - 1 for place in unread})
        deadline = time.monotonic() + STALL_S
        while unread:
            polled(self._consumer, POLL_S, 1 << 30)  # a whole batch
            for place in [place for place in unread if self._position(place.partition) >= told[place]]:
                unread.remove(place)
                told[place] = max(told[place], self._position(place.partition))
                self._consumer.pause(place)
            if unread and time.monotonic() > deadline:
                raise BrokerUnavailable(f"{self.topic}: its end could not be read for {STALL_S:.0f} s")
        return told
