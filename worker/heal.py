"""Where to begin reading a partition, given what the group, Redis and the log say. Pure.

Redis is a cache and the log is the record: when the lowest watermark over the shards is below the committed offset, the
log is replayed from there. Nothing is published below the old committed offset, and nothing committed until it is
passed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from worker.broker.base import Bounds
from worker.errors import WrongLog
from worker.store.base import Watermarks


def pack_note(instance: str, began: int) -> str:
    """What is left with every commit: whose data in Redis it belongs to, and where the group once began."""
    return f"{instance} {began}"


def read_note(metadata: str | None) -> tuple[str | None, int]:
    """(instance, began) of a commit; (None, 0) where the broker keeps no notes or an operator committed by hand."""
    instance, _, began = (metadata or "").partition(" ")
    return instance or None, int(began) if began.isdecimal() else 0


@dataclass(frozen=True, slots=True)
class Plan:
    """start: the offset to read first. publish_from: the first offset that is answered and committed (below it the
    replay only heals). unrecoverable: events that were needed and are no longer in the log."""

    start: int
    publish_from: int
    unrecoverable: int

    @property
    def heals(self) -> bool:
        return self.start < self.publish_from


def plan(
    topic: str,
    partition: int,
    *,
    committed: int | None,
    watermarks: Sequence[int | None],
    bounds: Bounds,
    begin: int,
    began: int = 0,
) -> Plan:
    """watermarks: one a shard, None where the shard never saw the partition. begin: where a new group starts. began:
    where this group once did, nothing before it was ever applied.

    Raises WrongLog when the group or Redis has seen more than the log holds.
    """
    seen = max([committed or 0, *(w for w in watermarks if w is not None)])
    if seen > bounds.end:
        raise WrongLog(
            f"{topic}-{partition} ends at offset {bounds.end}, but up to {seen} has been read before: the log was cut "
            "or the topic made anew. State belongs to one log: restore the log, or start with an empty Redis database "
            "and a new consumer group (KINDRED_REDIS_URL, KINDRED_GROUP)."
        )
    publish_from = begin if committed is None else committed
    lowest = publish_from
    if committed is not None:
        lowest = min(committed, *(began if w is None else w for w in watermarks))
    start = max(bounds.begin, lowest)
    unrecoverable = max(0, bounds.begin - lowest) if committed is not None else 0
    return Plan(start, max(publish_from, bounds.begin), unrecoverable)


def of_partition(watermarks: Watermarks, partition: int) -> list[int | None]:
    """One partition's watermark on each shard."""
    return [shard.get(partition) for shard in watermarks]


def fell_back(left: Watermarks, stored: Watermarks) -> bool:
    """Whether any shard is behind what this worker left there."""
    return any(
        now.get(partition, -1) < mark
        for mine, now in zip(left, stored, strict=True)
        for partition, mark in mine.items()
    )
