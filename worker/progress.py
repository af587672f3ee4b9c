"""How far each partition is: lag, healing and its end, states; on the metrics and in the health report."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import Any, Final

from model.health import Health
from worker.broker.base import BrokerUnavailable, Source
from worker.errors import WrongLog
from worker.metrics import Metrics
from worker.partition import Lease, Partition, PartitionState

PATIENCE_S: Final = 1.0
"""For asking partitions one by one; polling waits meanwhile."""


class Named(logging.LoggerAdapter[logging.Logger]):
    """Says before each line whose it is."""

    def __init__(self, name: str) -> None:
        super().__init__(logging.getLogger(__name__))
        self._name = name

    def process(self, msg: Any, kwargs: Any) -> tuple[Any, Any]:
        return f"{self._name}{msg}", kwargs


class Progress:
    """Belongs to the polling thread. partitions: those of this worker, kept up to date by the caller."""

    def __init__(
        self,
        partitions: Mapping[int, Partition],
        reader: Source,
        metrics: Metrics,
        health: Health,
        log: logging.LoggerAdapter[logging.Logger],
    ) -> None:
        self._partitions = partitions
        self._reader = reader
        self._metrics = metrics
        self._health = health
        self._log = log
        self._healing_since = time.monotonic()
        self._silent: set[int] = set()
        """Partitions that did not answer alone when they were last asked: they are asked last."""

    def measure(self) -> None:
        """Ask how far the log goes; partitions that have been healed run from now on."""
        ends = self._ends()
        self._check_ends(ends)
        remaining, done = 0, 0
        for number, partition in self._partitions.items():
            lease = partition.lease
            if lease is None or number not in ends:
                continue
            reached = self._reached(partition, lease)
            self._metrics.consumer_lag.labels(number).set(max(0, ends[number] - max(lease.committed, reached)))
            if partition.state is PartitionState.HEALING:
                left = max(0, lease.publish_from - reached)
                self._metrics.healing_remaining.labels(number).set(left)
                remaining, done = remaining + left, done + lease.done - partition.started
                if not left:
                    partition.move(PartitionState.RUNNING)
                    self._log.info("partition %d: healed", number)
        self._estimate(remaining, done)

    def _ends(self) -> dict[int, int]:
        """Of all partitions; where that fails, of those that answer one by one within moments: with a leader away the
        others go on."""
        began = time.monotonic()
        try:
            ends = self._reader.ends(self._partitions)
        except BrokerUnavailable as error:
            if self._health.trouble("log", f"kafka does not answer: {error}"):
                self._log.warning("kafka does not answer: %s", error)
            self._metrics.unavailable.labels("kafka").set(1)
            # Nothing answers where all of them took long to fail.
            return self._ends_one_by_one() if time.monotonic() - began < PATIENCE_S else {}
        if self._health.clear("log"):
            self._metrics.unavailable.labels("kafka").set(0)
            self._log.info("kafka answers again")
        return ends

    def _ends_one_by_one(self) -> dict[int, int]:
        ends: dict[int, int] = {}
        deadline = time.monotonic() + PATIENCE_S
        for number in sorted(self._partitions, key=lambda number: (number in self._silent, number)):
            if time.monotonic() > deadline:
                break
            try:
                ends |= self._reader.ends([number])
                self._silent.discard(number)
            except BrokerUnavailable:
                self._silent.add(number)
        return ends

    def _reached(self, partition: Partition, lease: Lease) -> int:
        """Offsets below it are done with. Where the next ones hold no record (a producer's transaction ended there, or
        a record was aborted) reading passes over them, and nothing comes that could be done or committed."""
        done = max(lease.done, partition.started)
        if partition.next_offset > done:
            return done  # something is under way
        try:
            return max(done, self._reader.position(partition.number) or 0)
        except BrokerUnavailable as error:
            self._log.debug("the position of partition %d is not known: %s", partition.number, error)
            return done

    def _check_ends(self, ends: Mapping[int, int]) -> None:
        """Raises WrongLog where the log has been cut below what was committed: new events stand where old ones did."""
        committed = {n: p.lease.committed for n, p in self._partitions.items() if p.lease is not None and n in ends}
        short = [number for number, offset in committed.items() if ends[number] < offset]
        try:
            bounds = self._reader.bounds(short) if short else {}
        except BrokerUnavailable as error:
            self._log.debug("the end of the log cannot be made sure of: %s", error)
            return
        for number, found in bounds.items():
            if found.end < committed[number]:
                raise WrongLog(
                    f"{self._reader.topic}-{number} now ends at offset {found.end}, below the committed offset "
                    f"{committed[number]}: the log was cut. State belongs to one log: restore the log, or start with "
                    "an empty Redis database and a new consumer group (KINDRED_REDIS_URL, KINDRED_GROUP)."
                )

    def _estimate(self, remaining: int, done: int) -> None:
        """Time to heal, from the pace since this healing began."""
        now = time.monotonic()
        if not remaining:
            self._healing_since = now
            self._metrics.healing_eta.set(0)
        elif done > 0:
            self._metrics.healing_eta.set(remaining * (now - self._healing_since) / done)

    def report(self) -> None:
        states = [p.state for p in self._partitions.values()]
        for state in PartitionState:
            self._metrics.partitions.labels(state.value).set(states.count(state))
        self._health.state = _in_words(states, self._reader.joined())

    def forget(self, number: int) -> None:
        """A partition was given away."""
        for gauge in (self._metrics.healing_remaining, self._metrics.consumer_lag):
            if (str(number),) in gauge._metrics:
                gauge.remove(str(number))


def _in_words(states: list[PartitionState], joined: bool) -> str:
    if not joined:
        return "joining the group"
    for state in (PartitionState.CHECKING, PartitionState.HEALING):
        if state in states:
            return str(state)
    return "running"
