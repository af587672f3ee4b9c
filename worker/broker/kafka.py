"""Kafka by kafka-python. What was found out about the client, and is relied on here:

* Callbacks of a rebalance run on its IO thread, where commit(), committed() and position() raise and slow code stops
  heartbeats; pausing works there, and an async listener may await a kafka Future that another thread completes.
* commit() from a second thread works; a cooperative consumer is STABLE (heartbeats on, commits taken) while it awaits
  `on_partitions_revoked`.
* A record that its parser cannot read makes poll() raise once and spin for ever after: see header_names.py.
* Nothing bounds the producer's memory: the worker bounds what is in flight.
* With read_committed the fetcher asks for stable offsets; log ends are asked for uncommitted, because a broker may let
  the last stable offset lag. The embedded broker tells the end of the log wrongly (the first record of the last batch
  + 1), so the end is taken from an answer that carries records.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from kafka import (
    AsyncConsumerRebalanceListener,
    KafkaAdminClient,
    KafkaConsumer,
    OffsetAndMetadata,
    OffsetSpec,
    TopicPartition,
)
from kafka.admin import ConfigResource
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.coordinator.base import MemberState
from kafka.errors import (
    CommitFailedError,
    KafkaError,
    RebalanceInProgressError,
)
from kafka.future import Future as KafkaFuture

from model.kafka import header_names
from model.kafka.abilities import Abilities, abilities
from model.kafka.client import (
    CALL_TIMEOUT_MS,
    asked,
    keep_joining,
    making_no_topics,
    partitions_of,
    polled,
    slot_taken,
    translated,
)
from schemas.access import KafkaAccess
from worker.broker.base import (
    Bounds,
    BrokerUnavailable,
    CommitRefused,
    Committed,
    RebalanceListener,
    Record,
    SlotTaken,
)

HEARTBEAT_MS: Final = 1_000
"""A third of a session timeout or less; also bounds how long a finished hand-over waits for the IO thread to wake."""
ADMIN_TIMEOUT_MS: Final = 5_000
"""The polling thread asks; while a network is stalled nothing else of its work goes on for so long."""
FETCH_BYTES: Final = 128 * 1024
"""Of a partition at a time, some batches' worth: all of it is handed out before the next partition's turn comes, and
with the client's 1 MiB a newcomer waited up to 30 s behind another partition's backlog, at a CPU encoder's pace. A
larger record comes all the same, alone."""
METADATA_MS: Final = 10_000
"""How soon new partitions, and a topic that was made anew, are heard of."""


def records_of(found: Mapping[TopicPartition, Iterable[Any]]) -> dict[int, list[Record]]:
    """What a consumer polled, as records by partition."""
    return {
        tp.partition: [Record(r.topic, r.partition, r.offset, r.timestamp, r.key, r.value, r.headers) for r in taken]
        for tp, taken in found.items()
    }


class _Bridge(AsyncConsumerRebalanceListener):  # type: ignore[misc]
    """From kafka-python's callbacks to ours. Pauses what is new, waits (bounded) for what goes."""

    def __init__(self, reader: KafkaReader, listener: RebalanceListener, drain_seconds: float) -> None:
        self._reader = reader
        self._listener = listener
        self._drain_seconds = drain_seconds

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        partitions = list(assigned)
        self._reader.consumer.pause(*partitions)
        self._listener.assigned(frozenset(tp.partition for tp in partitions))

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        drained = self._listener.revoked(frozenset(tp.partition for tp in revoked))
        done = KafkaFuture()
        once = threading.Lock()

        def finish(*_: object) -> None:
            if once.acquire(blocking=False):
                done.success(None)

        timer = threading.Timer(self._drain_seconds, drained.cancel)
        timer.daemon = True
        timer.start()
        drained.add_done_callback(finish)
        await done
        timer.cancel()

    async def on_partitions_lost(self, lost: Iterable[TopicPartition]) -> None:
        self._listener.lost(frozenset(tp.partition for tp in lost))


class KafkaReader:
    """A member of the group: cooperative rebalancing, no automatic commits, committed records only."""

    def __init__(
        self,
        *,
        access: KafkaAccess,
        topic: str,
        group: str,
        client_id: str,
        listener: RebalanceListener,
        session_timeout_ms: int,
        drain_seconds: float,
        slot: str | None = None,
    ) -> None:
        """slot: join as a static member of this name."""
        header_names.tolerate()
        self.topic = topic
        self._group = group
        self._admin = asked(
            lambda: KafkaAdminClient(**access.arguments(), client_id=client_id, request_timeout_ms=ADMIN_TIMEOUT_MS),
            "admin",
        )
        self.consumer = asked(
            lambda: KafkaConsumer(
                **access.arguments(),
                group_id=group,
                group_instance_id=slot,
                client_id=client_id,
                kafka_client=making_no_topics,
                enable_auto_commit=False,
                auto_offset_reset="earliest",
                isolation_level="read_committed",
                partition_assignment_strategy=[CooperativeStickyAssignor],
                session_timeout_ms=session_timeout_ms,
                heartbeat_interval_ms=min(HEARTBEAT_MS, session_timeout_ms // 3),
                request_timeout_ms=max(CALL_TIMEOUT_MS, session_timeout_ms) + 5_000,
                fetch_max_wait_ms=100,
                metadata_max_age_ms=METADATA_MS,
                max_partition_fetch_bytes=FETCH_BYTES,
            ),
            "consumer",
        )
        self._make_scout = lambda: KafkaConsumer(
            **access.arguments(),
            client_id=f"{client_id}-ends",
            kafka_client=making_no_topics,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            max_partition_fetch_bytes=1 << 20,
            fetch_max_wait_ms=100,
        )
        self._scout: Any = None
        self._drain_seconds = drain_seconds
        self._listener = listener
        self._slot = slot

    def join(self) -> None:
        """Subscribe; partitions come with a later poll."""
        self.consumer.subscribe([self.topic], listener=_Bridge(self, self._listener, self._drain_seconds))

    def poll(self, timeout_s: float, max_records: int) -> Mapping[int, Sequence[Record]]:
        keep_joining(self.consumer._coordinator)
        records = polled(self.consumer, timeout_s, max_records)
        if self._slot is not None and self._displaced():
            raise SlotTaken(slot_taken("heartbeat"))
        return records_of(records)

    def unowned(self) -> frozenset[int]:
        """Only among static members: one that dies while it hands partitions over, and is back within its session
        timeout, is given what it was to keep, without a rebalance. Nobody asks for the others then. (Any other member
        that dies makes the group move.)"""
        if self._slot is None:
            return frozenset()
        found = asked(lambda: self._admin.describe_groups([self._group]), "describe group")[self._group]
        if found["group_state"] != "Stable":
            return frozenset()
        owned = {
            number
            for member in found["members"]
            for place in (member["member_assignment"] or {}).get("assigned_partitions", ())
            if place["topic"] == self.topic
            for number in place["partitions"]
        }
        return frozenset(self.partitions()) - owned

    def rejoin(self) -> None:
        self.consumer._coordinator.request_rejoin()

    def isolates_transactions(self) -> bool:
        return self.abilities().transactions

    def abilities(self) -> Abilities:
        """What this broker tells of itself. Raises BrokerUnavailable."""
        cluster = asked(self._admin.describe_cluster, "describe cluster")
        return abilities(cluster["cluster_id"], {int(key) for key in asked(self._admin.api_versions, "api versions")})

    def membership(self) -> object:
        found = self.consumer.group_metadata()
        if found.generation_id < 0 or not found.member_id:
            # The broker would take offsets without a generation from anybody.
            raise CommitRefused("this worker has no place in the group now", retry=True)
        return found

    def position(self, partition: int) -> int | None:
        place = self._at(partition)
        if place not in self.consumer.assignment():
            return None
        found: int | None = asked(lambda: self.consumer.position(place, timeout_ms=CALL_TIMEOUT_MS), "position")
        return found

    def _displaced(self) -> bool:
        """Whether a heartbeat heard that another member has this one's slot: 3.0.12 stops its heartbeats then, tells
        nobody, and goes on reading."""
        coordinator = self.consumer._coordinator
        with coordinator._lock:
            settled = coordinator.state == MemberState.STABLE and not coordinator.rejoining
            return bool(settled and not coordinator.rejoin_needed and not coordinator._heartbeat_enabled)

    def seek(self, partition: int, offset: int) -> None:
        with suppress(ValueError):  # the group has taken it away just now
            self.consumer.seek(self._at(partition), offset)

    def pause(self, partitions: Iterable[int]) -> None:
        for partition in partitions:
            with suppress(KeyError):
                self.consumer.pause(self._at(partition))

    def resume(self, partitions: Iterable[int]) -> None:
        for partition in partitions:
            with suppress(KeyError):
                self.consumer.resume(self._at(partition))

    def joined(self) -> bool:
        return bool(self.consumer.group_metadata().state == MemberState.STABLE)

    def missing(self, topics: Iterable[str]) -> list[str]:
        return sorted(set(topics) - set(asked(self._admin.list_topics, "list topics")))

    def compacted(self) -> bool:
        found = asked(lambda: self._admin.describe_configs([ConfigResource("topic", self.topic)]), "describe configs")
        policy = found.get("topic", {}).get(self.topic, {}).get("cleanup.policy", {})
        value = policy.get("value") if isinstance(policy, dict) else policy
        return "compact" in str(value)

    def partitions(self) -> list[int]:
        """All partitions of the topic; empty when it does not exist."""
        return partitions_of(self.consumer, self.topic)

    def committed(self, partition: int) -> Committed | None:
        found = asked(
            lambda: self.consumer.committed(self._at(partition), metadata=True, timeout_ms=CALL_TIMEOUT_MS), "committed"
        )
        if found is None or found.offset < 0:
            return None
        return Committed(found.offset, found.metadata or None)

    def commits(self) -> dict[int, Committed]:
        found = asked(lambda: self._admin.list_group_offsets({self._group: None}), "commits")[self._group]
        return {
            place.partition: Committed(mark.offset, mark.metadata or None)
            for place, mark in found.items()
            if place.topic == self.topic and mark.offset >= 0
        }

    def bounds(self, partitions: Iterable[int]) -> dict[int, Bounds]:
        places = list(map(self._at, partitions))
        begin = self._offsets(places, OffsetSpec.EARLIEST)
        end = self._offsets(places, OffsetSpec.LATEST)
        self._look_behind(begin, end)
        return {tp.partition: Bounds(begin[tp], end[tp]) for tp in places}

    def ends(self, partitions: Iterable[int]) -> dict[int, int]:
        places = list(map(self._at, partitions))
        told = self._offsets(places, OffsetSpec.LATEST)
        return {tp.partition: max(told[tp], self.consumer.highwater(tp) or 0) for tp in places}

    def _look_behind(self, begin: Mapping[TopicPartition, int], end: dict[TopicPartition, int]) -> None:
        """Mend `end` where the broker told the last batch's first record instead of its last: an answer with records
        carries the true end on every broker."""
        unread = {tp for tp in end if end[tp] > begin[tp]}
        if self._scout is None:
            self._scout = asked(self._make_scout, "consumer")
        scout = self._scout
        scout.assign(sorted(unread))
        for tp in unread:
            scout.seek(tp, end[tp] - 1)
        deadline = time.monotonic() + CALL_TIMEOUT_MS / 1000
        while unread:
            asked(lambda: scout.poll(timeout_ms=100), "log end")
            for tp in [tp for tp in unread if scout.position(tp) >= end[tp]]:
                unread.remove(tp)
                end[tp] = max(end[tp], scout.highwater(tp) or 0)
            if unread and time.monotonic() > deadline:
                raise BrokerUnavailable(f"log end: nothing came from {sorted(unread)}")

    def offset_at(self, partition: int, timestamp_ms: int) -> int:
        place = self._at(partition)
        found = asked(lambda: self.consumer.offsets_for_times({place: timestamp_ms}), "offsets for times")[place]
        # For a time after its last record the embedded broker answers offset 0 with timestamp -1.
        if found is None or found.offset < 0 or found.timestamp < timestamp_ms:
            return self.bounds([partition])[partition].end
        return int(found.offset)

    def commit(self, offsets: Mapping[int, Committed]) -> None:
        """Raises CommitRefused, BrokerUnavailable."""
        try:
            self.consumer.commit(
                {self._at(p): OffsetAndMetadata(c.offset, c.metadata or "", -1) for p, c in offsets.items()},
                timeout_ms=CALL_TIMEOUT_MS,
            )
        except RebalanceInProgressError as error:
            raise CommitRefused(str(error), retry=True) from error
        except CommitFailedError as error:
            rebalancing = isinstance(error.args[0] if error.args else None, RebalanceInProgressError)
            raise CommitRefused(str(error), retry=rebalancing) from error
        except KafkaError as error:
            raise translated(error, "commit") from error

    def topic_id(self) -> str:
        (found,) = asked(lambda: self._admin.describe_topics([self.topic]), "describe topic")
        return str(found["topic_id"])

    def close(self) -> None:
        try:
            if self._scout is not None:
                self._scout.close()
            self.consumer.close(autocommit=False, timeout_ms=CALL_TIMEOUT_MS)
        finally:
            self._admin.close()

    def _at(self, partition: int) -> TopicPartition:
        return TopicPartition(self.topic, partition)

    def _offsets(self, places: Sequence[TopicPartition], spec: Any) -> dict[TopicPartition, int]:
        found = asked(
            lambda: self._admin.list_partition_offsets(dict.fromkeys(places, spec), timeout_ms=CALL_TIMEOUT_MS),
            "offsets",
        )
        return {tp: int(found[tp].offset) for tp in places}
