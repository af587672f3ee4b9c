"""The group's topic read outside the group: partitions are told, not given, and nothing is committed.

A consumer with a group's name that never subscribes is no member: it may ask what the group has committed.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable, Mapping, Sequence

from kafka import TopicPartition

from model.kafka.client import asked, polled
from worker.broker.base import Bounds, Committed, RebalanceListener, Record
from worker.broker.kafka import KafkaReader, records_of


class KafkaShadow:
    """reader: of its own, which does not join. listener: told of partitions as a group would tell."""

    def __init__(self, reader: KafkaReader, listener: RebalanceListener) -> None:
        self.topic = reader.topic
        self._reader = reader
        self._listener = listener
        self._held: frozenset[int] = frozenset()
        self._wanted: frozenset[int] = frozenset()
        self._idle = threading.Event()

    def hold(self, partitions: Collection[int]) -> None:
        self._wanted = frozenset(partitions)

    def poll(self, timeout_s: float, max_records: int) -> Mapping[int, Sequence[Record]]:
        if self._wanted != self._held:
            self._take_up(self._wanted)
        if not self._held:
            self._idle.wait(timeout_s)  # a consumer without partitions raises
            return {}
        return records_of(polled(self._reader.consumer, timeout_s, max_records))

    def _take_up(self, wanted: frozenset[int]) -> None:
        gone, new = self._held - wanted, wanted - self._held
        consumer = self._reader.consumer
        asked(lambda: consumer.assign([TopicPartition(self.topic, number) for number in sorted(wanted)]), "assign")
        self._held = wanted
        self._reader.pause(new)
        if gone:
            self._listener.lost(gone)
        if new:
            self._listener.assigned(new)

    def joined(self) -> bool:
        return True

    def partitions(self) -> Sequence[int]:
        return self._reader.partitions()

    def seek(self, partition: int, offset: int) -> None:
        self._reader.seek(partition, offset)

    def position(self, partition: int) -> int | None:
        return self._reader.position(partition)

    def pause(self, partitions: Iterable[int]) -> None:
        self._reader.pause(partitions)

    def resume(self, partitions: Iterable[int]) -> None:
        self._reader.resume(partitions)

    def committed(self, partition: int) -> Committed | None:
        return self._reader.committed(partition)

    def commits(self) -> dict[int, Committed]:
        return self._reader.commits()

    def bounds(self, partitions: Iterable[int]) -> dict[int, Bounds]:
        return self._reader.bounds(partitions)

    def ends(self, partitions: Iterable[int]) -> dict[int, int]:
        return self._reader.ends(partitions)

    def close(self) -> None:
        self._reader.close()
