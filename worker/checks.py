"""Before a partition is read: do topic, group and Redis belong together, and where does reading begin?"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal, Protocol

from worker.broker.base import BrokerUnavailable, CommitRefused, Committed, Reader
from worker.errors import SharedGroup, WrongLog
from worker.heal import of_partition, pack_note, plan, read_note
from worker.metrics import Metrics
from worker.store.base import Identity, Store, StoreUnavailable, Watermarks, Write

log = logging.getLogger(__name__)

WATCH_S: Final = 5.0
"""Seconds between two looks at what the whole group commits, and at who has which partition."""
SETTLE_S: Final = 15.0
"""Seconds within which every worker of a stack has noticed that its Redis was emptied."""

Start = Literal["earliest", "latest"] | datetime
"""Where a new group begins."""

PARTITIONS_NOTE: Final = "partitions"
"""Under this name Redis keeps how many partitions there were at first."""


@dataclass(frozen=True, slots=True)
class Beginning:
    """start: the offset to read first. publish_from: below it the replay only heals. began: where the group began.
    watermarks: as they were stored when this was found."""

    start: int
    publish_from: int
    began: int
    watermarks: Watermarks

    @property
    def heals(self) -> bool:
        return self.start < self.publish_from


class Checking(Protocol):
    """What the polling thread asks before it reads a partition, and has looked at now and then; see `Checks`."""

    def begin(self, number: int, held: Callable[[], bool]) -> Beginning: ...

    def identify(self) -> None: ...

    def watch_group(self, now: float) -> None: ...

    def watch_partitions(self, now: float) -> None: ...


class Checks:
    """Belongs to the polling thread. identity: what Redis said at the start of whose data it holds; identify asks it
    again (see Store.identify)."""

    def __init__(
        self,
        reader: Reader,
        store: Store,
        identity: Identity,
        identify: Callable[[str, frozenset[str]], Identity],
        start: Start,
        metrics: Metrics,
    ) -> None:
        self._reader = reader
        self._store = store
        self._identity = identity
        self._ask = identify
        self._start = start
        self._metrics = metrics
        self._identified = self._watched = self._looked = time.monotonic()
        self._unowned: frozenset[int] = frozenset()
        self._settled: dict[int, int] = {}
        """Partition → the offset at which the data that Redis held before was last seen to be committed."""

    def exchange(self, store: Store) -> None:
        """Another space is in service, of the same data."""
        self._store = store

    def begin(self, number: int, held: Callable[[], bool]) -> Beginning:
        """Where to begin reading a partition that was just given to this worker or set back.

        A new group's beginning is committed and marked in Redis at once, while the partition is held: a slow check must
        not overwrite what its next owner has committed. Raises WrongLog, SharedGroup, CommitRefused, and what the
        services raise while they are away.
        """
        reader = self._reader
        if reader.topic_id() != self._identity.topic_id:
            raise WrongLog(
                f"{reader.topic} was made anew while this worker ran: state belongs to one log. Start with an empty "
                "Redis database and a new consumer group (KINDRED_REDIS_URL, KINDRED_GROUP)."
            )
        committed = reader.committed(number)
        began = 0 if committed is None else self._own(number, committed)
        watermarks = self._store.watermarks()
        bounds = reader.bounds([number])[number]
        begin = bounds.begin
        if self._start == "latest" and number < self._partitions_then() and committed is None:
            begin = bounds.end
        elif isinstance(self._start, datetime):
            begin = max(begin, reader.offset_at(number, int(self._start.timestamp() * 1000)))
        seen = [mark for mark in of_partition(watermarks, number) if mark is not None]
        forgotten = committed is None and len(seen) == len(watermarks)
        if forgotten:
            begin = self._begin_again(number, begin, min(seen))
        found = plan(
            reader.topic,
            number,
            committed=None if committed is None else committed.offset,
            watermarks=of_partition(watermarks, number),
            bounds=bounds,
            begin=begin,
            began=began,
        )
        if committed is None:
            # Where it once began nobody knows any more: should Redis be lost, all that the log holds is healed.
            began = bounds.begin if forgotten else found.publish_from
            # Both say where the group began: nothing before it counts as lost. (Without users any thread may save.)
            if not held():
                raise CommitRefused(f"partition {number} is being taken away", retry=False)
            self._store.save(Write({number: began}, [{} for _ in watermarks]))
            reader.commit({number: Committed(began, pack_note(self._identity.instance, began))})
            watermarks = self._store.watermarks()
        if found.unrecoverable:
            self._metrics.events_unrecoverable.inc(found.unrecoverable)
            log.error(
                "partition %d: %d events that Redis needs are no longer in the log (it begins at %d); states lack them",
                number,
                found.unrecoverable,
                bounds.begin,
            )
        return Beginning(found.start, found.publish_from, began, watermarks)

    def _begin_again(self, number: int, begin: int, seen: int) -> int:
        """Where to begin when Redis has seen the partition and Kafka has no commit of it: Kafka forgets the commits of
        a group without members (offsets.retention.minutes, a week).

        begin: of a new group. seen: the lowest watermark. What comes behind it nobody has read, wherever a new group
        would begin.
        """
        log.warning(
            "partition %d: Kafka has no commit of the group, and Redis has seen it up to offset %d: commits of a group "
            "without members expire (offsets.retention.minutes); reading from offset %d, answers may be repeated",
            number,
            seen,
            min(begin, seen),
        )
        return min(begin, seen)

    def _partitions_then(self) -> int:
        """How many there were when a group first began at the end of the log. One that was added since has no past to
        pass over: what was written to it before a worker heard of it must not be lost."""
        noted = self._store.noted(PARTITIONS_NOTE)
        if noted is None:
            noted = str(len(self._reader.partitions()))
            self._store.note(PARTITIONS_NOTE, noted)
        return int(noted)

    def _own(self, number: int, committed: Committed) -> int:
        """Where the group began in the partition. Raises SharedGroup when somebody else's commit stands there."""
        instance, began = read_note(committed.metadata)
        if instance is not None and instance not in self._known():
            self.identify()  # another worker may have found an emptied Redis before this one
            if instance not in self._known():
                raise self._shared(number, instance)
        return began

    def watch_group(self, now: float) -> None:
        """See whether another stack commits in this group, now and then. Partitions of two stacks with a Redis each may
        lie apart for long, so that neither would meet the other's commits; until then each lacks half of the events.

        now: seconds, monotonic. Raises SharedGroup.
        """
        if now - self._watched < WATCH_S:
            return
        self._watched = now
        try:
            commits = self._reader.commits()
            for number, found in commits.items():
                self._own(number, found)
        except (BrokerUnavailable, StoreUnavailable) as error:
            log.debug("whose commits stand in the group cannot be told: %s", error)
            return
        for number, found in commits.items():
            instance, _ = read_note(found.metadata)
            # Workers that have not yet noticed that Redis was emptied commit for what it held before, for a moment.
            if instance in (None, self._identity.instance) or now - self._identified < SETTLE_S:
                continue
            if found.offset > self._settled.setdefault(number, found.offset):
                raise self._shared(number, instance)

    def watch_partitions(self, now: float) -> None:
        """See whether the group has partitions that nobody reads, at two looks one after the other, and let it spread
        them anew then.

        now: seconds, monotonic.
        """
        if now - self._looked < WATCH_S:
            return
        self._looked = now
        try:
            unowned = self._reader.unowned()
        except BrokerUnavailable as error:
            log.debug("who has which partition cannot be told: %s", error)
            return
        if unowned & self._unowned:
            log.warning(
                "nobody reads partitions %s: joining the group anew, so that it gives them out", sorted(unowned)
            )
            self._reader.rejoin()
            unowned = frozenset()
        self._unowned = unowned

    def _shared(self, number: int, instance: str | None) -> SharedGroup:
        return SharedGroup(
            f"partition {number} was committed for another Redis (data {instance}, here {self._identity.instance}): "
            "two stacks share one consumer group. Give each its own KINDRED_GROUP, or point both at one "
            "KINDRED_REDIS_URL. (Where Redis was restored from a backup made before it was emptied: empty it, and the "
            "workers heal it.)"
        )

    def _known(self) -> frozenset[str]:
        return self._identity.previous | {self._identity.instance}

    def identify(self) -> None:
        """Whose data Redis holds now, which may have been emptied."""
        previous = self._known()
        identity = self._ask(self._identity.topic_id, previous)
        if identity.topic_id != self._identity.topic_id:
            raise WrongLog(
                f"Redis now holds the state of another log (topic id {identity.topic_id}, here "
                f"{self._identity.topic_id}): another stack writes to it. Give each stack its own Redis database "
                "(KINDRED_REDIS_URL)."
            )
        if identity.instance != self._identity.instance:
            self._identified, self._settled = time.monotonic(), {}
        self._identity = Identity(identity.topic_id, identity.instance, identity.previous | previous)
