"""The group's topic read beside the group, in memory; see `kafka_shadow.py`."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from worker.broker.base import Bounds, Committed, RebalanceListener, Record
from worker.broker.memory import MemoryBroker, MemoryReader


class MemoryShadow:
    """A Shadow of a group's reader."""

    def __init__(self, broker: MemoryBroker, topic: str, group: str, listener: RebalanceListener) -> None:
        self.topic = topic
        self._own = MemoryReader(broker, topic, group, listener)
        self._wanted: frozenset[int] = frozenset()

    def hold(self, partitions: Collection[int]) -> None:
        self._wanted = frozenset(partitions)

    def poll(self, timeout_s: float, max_records: int) -> Mapping[int, Sequence[Record]]:
        own, wanted = self._own, self._wanted
        gone, new = frozenset(own.owned - wanted), frozenset(wanted - own.owned)
        own.owned = set(wanted)
        own.paused |= new
        own.positions.update(dict.fromkeys(new, 0))
        if gone:
            own.listener.lost(gone)
        if new:
            own.listener.assigned(new)
        return own.poll(timeout_s, max_records)

    def joined(self) -> bool:
        return True

    def partitions(self) -> Sequence[int]:
        return self._own.partitions()

    def seek(self, partition: int, offset: int) -> None:
        self._own.seek(partition, offset)

    def position(self, partition: int) -> int | None:
        return self._own.position(partition)

    def pause(self, partitions: Iterable[int]) -> None:
        self._own.pause(partitions)

    def resume(self, partitions: Iterable[int]) -> None:
        self._own.resume(partitions)

    def committed(self, partition: int) -> Committed | None:
        return self._own.committed(partition)

    def commits(self) -> dict[int, Committed]:
        return self._own.commits()

    def bounds(self, partitions: Iterable[int]) -> dict[int, Bounds]:
        return self._own.bounds(partitions)

    def ends(self, partitions: Iterable[int]) -> dict[int, int]:
        return self._own.ends(partitions)

    def close(self) -> None:
        """Nothing is held."""
