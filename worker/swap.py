"""The hot swap: `model-releases` followed by a running worker.

A thread of its own reads, verifies, loads and computes the donors' interest vectors; nothing waits for it. The stage
that owns the index then exchanges one reference between two batches, so that every batch is answered by one release.
A release of another space is filled first (worker/exchange.py). A release that is refused changes nothing. Whoever
announces has decided: a verdict is logged, not judged here.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from model.donor_vectors import Turned
from model.errors import ReleaseRefused
from model.health import Health
from model.index import Index
from schemas.announcement import ReleaseAnnouncement
from schemas.codec import decode_release_announcement
from schemas.errors import BadRecord
from worker.broker.base import Log, Record
from worker.lane import Lane
from worker.metrics import Metrics
from worker.reading import Reading
from worker.retry import Persistent
from worker.serving import Serving

log = logging.getLogger(__name__)

SWAP: Final = 0
"""The step that the fault tests call the middle of a swap."""
NOTICE: Final = "release"
_POLL: Final = 0.2
_PIECE: Final = 256


@dataclass(frozen=True, slots=True)
class _Ready:
    """index: that it was made ready for. turned: None where the head stays. began: when the announcement was read, by
    time.monotonic."""

    serving: Serving
    index: Index
    turned: Turned | None
    began: float


class Swap:
    """load: an announcement → what it announces, verified, for the lane in service. open_lane: the same for another
    space. Both raise ReleaseRefused. note: keeps in Redis what is served. pending: announced, and to be considered as
    soon as reading begins, because the worker begins with another space.

    serving: what is in service, written by the thread that owns the index, in `take_over`, and by `moved`.
    """

    def __init__(
        self,
        announcements: Log,
        load: Callable[[ReleaseAnnouncement, Lane], Serving],
        open_lane: Callable[[ReleaseAnnouncement], Lane],
        first: Lane,
        metrics: Metrics,
        health: Health,
        note: Callable[[Serving], None],
        pending: ReleaseAnnouncement | None = None,
    ) -> None:
        self.serving = first.serving
        self._lane = first
        self._load = load
        self._open_lane = open_lane
        self._metrics = metrics
        self._health = health
        self._note = note
        self._index: Callable[[], Index] | None = None
        self._ask: Callable[[Lane | None, float], None] = lambda _lane, _began: None
        self._announced = pending
        """The last announcement that could be read."""
        self._again = pending is not None
        """Whether it is to be considered, although nothing came."""
        self._last = first.serving
        """The latest release that was found good."""
        self._loaded: tuple[Serving, float] | None = None
        """Found good just now; the topic is looked at once more before the work on the donors begins."""
        self._ready: deque[_Ready] = deque(maxlen=1)
        self._lock = threading.Lock()
        """Of what both threads write: lane, serving, ready."""
        self._unnoted: Serving | None = None
        """In service since the polling thread said so, which does not wait for Redis."""
        self._acked = 0.0
        self._gap: float | None = None
        """The longest wait for an acknowledgement since a release was announced; None while none is."""
        self._exchanged = False
        self._reading = Reading(announcements, "model-releases", self._take, piece=_PIECE)
        _tell(first.serving, metrics)

    def start(self, index: Callable[[], Index], ask: Callable[[Lane | None, float], None]) -> None:
        """index: the one in service. ask: to fill a lane and serve it, or with None to stay (see Exchange.ask)."""
        self._index = index
        self._ask = ask
        self._reading.start()

    def stop(self) -> None:
        """Whether it was started or not."""
        self._reading.stop()

    def take_over(self, index: Index, fail_point: Callable[[int], None]) -> None:
        """Exchange the release if another one is ready. In the thread that owns the index, between two batches.

        Raises what ended the reading, and what `note` raises.
        """
        self._reading.check()
        with self._lock:
            unnoted, self._unnoted = self._unnoted, None
        if unnoted is not None:
            self._note(unnoted)
        with self._lock:
            if not self._ready:
                return
            ready, before = self._ready.popleft(), self.serving
            if ready.index is not index or ready.serving.space != before.space:
                self._again = True  # it was made ready for an index that was in service until just now
                return
            began = time.perf_counter()
            index.turn(ready.serving.head, ready.turned)
            fail_point(SWAP)
            self.serving = ready.serving
        self._tell_exchange(before, ready.serving, ready.began, time.perf_counter() - began)
        self._note(ready.serving)

    def moved(self, lane: Lane, began: float, stood: float) -> None:
        """Another space is in service. In the polling thread, while nothing is under way. began: when its release was
        announced. stood: since when batches wait, both by time.monotonic."""
        with self._lock:
            before, self._lane, self.serving = self.serving, lane, lane.serving
            self._unnoted = lane.serving
            # Something else may have been announced in the very moment.
            self._again = self._again or self._last is not lane.serving
        self._tell_exchange(before, lane.serving, began, time.monotonic() - stood)

    def given_up(self) -> None:
        """What was to be filled is not served: its announcement may come again. From any thread."""
        with self._lock:
            self._last = self.serving

    def acknowledged(self, opened: float) -> None:
        """A batch is through whose first event came at `opened` (time.monotonic). In the thread that commits."""
        now = time.monotonic()
        waited, self._acked = now - max(self._acked, opened), now
        with self._lock:
            if self._gap is None:
                return
            self._gap = max(self._gap, waited)
            self._metrics.swap_ack_gap.set(self._gap)
            if self._exchanged:
                self._gap = None

    def _tell_exchange(self, before: Serving, now: Serving, began: float, held: float) -> None:
        seconds = time.monotonic() - began
        self._exchanged = True
        self._metrics.swaps.inc()
        self._metrics.swap_seconds.observe(seconds)
        _tell(now, self._metrics)
        log.info(
            "release %s takes the place of %s, %.1f s after it was announced; batches waited for %.0f ms",
            now.release,
            before.release,
            seconds,
            held * 1000,
        )

    # In the reading thread.

    def _take(self, records: Sequence[Record]) -> None:
        """One poll. What came while a release was loaded is read before that goes on: only the last one matters."""
        announced = latest(records, self._metrics)
        with self._lock:
            again, self._again = self._again, False
            if announced is not None:
                self._announced = announced
            elif again:
                announced, self._last = self._announced, self.serving
        if announced is not None:
            self._loaded = self._considered(announced)
        elif self._loaded is not None and self._index is not None:
            (found, began), self._loaded = self._loaded, None
            index = self._index()
            with self._lock:
                # Another space may have gone into service while this was loaded; its index comes after `serving`.
                self._again = self._again or found.space != self.serving.space
                if self._again:
                    return
            turned = None if index.head is found.head else index.turned(found.head)
            self._last = found
            with self._lock:
                self._ready.append(_Ready(found, index, turned, began))

    def _considered(self, announced: ReleaseAnnouncement) -> tuple[Serving, float] | None:
        """A release of the space in service that is to be made ready; None where there is none."""
        began = time.monotonic()
        if announced.sha256 == self._last.sha256:
            self._health.take_back(NOTICE)
            return None
        with self._lock:
            self._gap, self._exchanged = 0.0, False
        with self._lock:
            lane, serving = self._lane, self.serving
        try:
            if announced.sha256 == serving.sha256:
                found = serving  # back to what is still in service, while another was being made ready
            elif announced.space == serving.space:
                found = self._load(announced, lane)
            else:
                other = self._open_lane(announced)
                self._health.take_back(NOTICE)
                self._last = other.serving
                self._ask(other, began)
                return None
        except ReleaseRefused as refused:
            tell_refused(announced.release, refused, self._metrics, self._health)
            return None
        self._health.take_back(NOTICE)
        self._ask(None, began)
        if found is serving:
            with self._lock:
                self._ready.clear()
            self._last = serving
            return None
        known = self._last if self._last.space == found.space else serving
        if found.head_sha256 == known.head_sha256:
            found = replace(found, head=known.head)  # the donors' interest vectors stay
        return found, began


def announced_now(source: Log, metrics: Metrics, persist: Persistent) -> ReleaseAnnouncement | None:
    """The release that is announced when a worker starts: the topic is read to its end. None where there is none."""
    found = None
    while True:
        found = latest(persist("kafka", lambda: source.poll(_POLL, _PIECE)), metrics) or found
        if persist("kafka", source.at_end):
            return found


def latest(records: Sequence[Record], metrics: Metrics) -> ReleaseAnnouncement | None:
    """The last announcement among the records; one that cannot be read is counted, logged and passed over."""
    found = None
    for record in records:
        try:
            found = decode_release_announcement(record.value, record.key, record.headers)
        except BadRecord as bad:
            metrics.announcements_bad.labels(bad.reason).inc()
            log.warning("%s-%d@%d is passed over: %s", record.topic, record.partition, record.offset, bad)
    return found


def tell_refused(release: str, refused: ReleaseRefused, metrics: Metrics, health: Health) -> None:
    """A release that was announced is not served: in the log, on /readyz, in the metrics."""
    metrics.releases_refused.labels(refused.reason).inc()
    text = f"the announced release {release} is not served: {refused}"
    health.notice(NOTICE, text)
    log.error("%s", text)


def _tell(serving: Serving, metrics: Metrics) -> None:
    metrics.release.info({"release": serving.release, "space": serving.space, "backend": serving.backend})
