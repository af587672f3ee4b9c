"""From the space in service to another one: a back-fill is begun, watched, and what it has filled is taken into service
between two batches.

                ask(lane)            close enough              its threads end          nothing under way
    serving ────────────> filling ───────────────> finishing ──────────────> draining ────────────────> serving
       ^                     │                         │                         │
       └─────────────────────┴── ask(None), ask(other lane), or it failed ───────┘

A worker goes over with all its partitions at once, and asks no other: each recommendation names its space, and an
event's answer has the same id in every space.
"""

from __future__ import annotations

import logging
import queue
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Final

from model.health import Health
from worker.backfill import Backfill
from worker.lane import Lane
from worker.metrics import Metrics
from worker.partition import InFlight, Partition

log = logging.getLogger(__name__)

LOOK_S: Final = 0.2
"""Seconds between two looks at how far a back-fill is."""
NOTICE: Final = "backfill"
REFUSED: Final = "backfill"
"""The reason under which a back-fill that failed is counted."""


class Exchange:
    """make: lane and when its release was announced → its back-fill. serve: takes what was filled into service.
    recheck: lets every partition go on where it is. given_up: told that a back-fill failed, so that it may be asked for
    again.

    All but `ask` belongs to the thread that polls for the group.
    """

    def __init__(
        self,
        make: Callable[[Lane, float], Backfill],
        serve: Callable[[Backfill], None],
        recheck: Callable[[], None],
        given_up: Callable[[], None],
        in_flight: InFlight,
        metrics: Metrics,
        health: Health,
    ) -> None:
        self._make = make
        self._serve = serve
        self._recheck = recheck
        self._given_up = given_up
        self._in_flight = in_flight
        self._metrics = metrics
        self._health = health
        self._asked: queue.SimpleQueue[tuple[Lane | None, float]] = queue.SimpleQueue()
        self._fill: Backfill | None = None
        self._finishing = False
        self._drained: tuple[frozenset[int], Future[None]] | None = None
        self._next_look = 0.0

    def ask(self, lane: Lane | None, began: float) -> None:
        """Fill this lane and then serve it; None: stay with the space in service. From any thread."""
        self._asked.put((lane, began))

    def turn(self, partitions: Mapping[int, Partition]) -> None:
        """Once a turn of the polling thread. partitions: those of this worker."""
        while not self._asked.empty():
            lane, began = self._asked.get()
            self._give_up()
            if lane is not None:
                self._begin(lane, began)
        if self._fill is not None and (self._drained is not None or time.monotonic() >= self._next_look):
            self._next_look = time.monotonic() + LOOK_S
            self._look(self._fill, partitions)

    def close(self) -> None:
        """The worker ends; what was filled so far stays in Redis."""
        fill = self._fill
        self._give_up()
        if fill is not None:
            fill.join(2.0)
        while not self._asked.empty():
            lane, _ = self._asked.get()
            if lane is not None:
                lane.close()

    def _begin(self, lane: Lane, began: float) -> None:
        try:
            self._fill = self._make(lane, began)
        except Exception as error:  # no room for a second index, say: the space in service goes on
            lane.close()
            self._refuse(lane, error)
            return
        self._fill.start()

    def _look(self, fill: Backfill, partitions: Mapping[int, Partition]) -> None:
        if fill.ended and (fill.failure is not None or not self._finishing):
            self._failed(fill)
            return
        held = frozenset(partitions)
        if not self._finishing:
            fill.hold(held)
            committed = {number: p.lease.committed for number, p in partitions.items() if p.lease is not None}
            self._tell(fill, committed)
            if len(committed) == len(held) and fill.close_enough(committed):
                fill.finish()
                self._finishing = True
        elif self._drained is None or self._drained[0] != held:
            if fill.ended:
                self._drained = held, self._in_flight.drained(held)
        elif not self._drained[1].done():
            return
        elif self._in_flight.any():
            # Also of a partition that was just taken away: its batches are the old space's. And what was given or
            # checked meanwhile has a lease that is open.
            self._drained = held, self._in_flight.drained(held)
        else:
            self._fill, self._finishing, self._drained = None, False, None
            self._quiet()
            self._serve(fill)

    def _tell(self, fill: Backfill, committed: Mapping[int, int]) -> None:
        left, pace = fill.remaining(committed), fill.pace()
        space = fill.lane.serving.space[:12]
        if left is None:
            self._health.notice(NOTICE, f"space {space} is prepared beside the one in service")
            return
        self._metrics.backfill_remaining.set(left)
        self._metrics.backfill_eta.set(left / pace if pace else 0)
        self._health.notice(NOTICE, f"space {space} is filled beside the one in service, {left} events are left")

    def _failed(self, fill: Backfill) -> None:
        self._give_up()
        self._refuse(fill.lane, fill.failure)

    def _refuse(self, lane: Lane, error: BaseException | None) -> None:
        text = (
            f"the back-fill of space {lane.serving.space[:12]} failed ({error}): the release {lane.serving.release} is "
            "not served; mend that, then announce it again or restart the worker"
        )
        log.error("%s", text)
        self._metrics.releases_refused.labels(REFUSED).inc()
        self._health.notice(NOTICE, text)
        self._given_up()

    def _give_up(self) -> None:
        fill, drained = self._fill, self._drained
        self._fill, self._finishing, self._drained = None, False, None
        self._quiet()
        if fill is not None:
            fill.cancel()
        if drained is not None:
            self._recheck()  # their leases have been closed

    def _quiet(self) -> None:
        self._metrics.backfill_remaining.set(0)
        self._metrics.backfill_eta.set(0)
        self._health.take_back(NOTICE)
