"""The hot swap: `model-releases` followed by a running worker, for releases of the space in service.

A thread of its own reads, verifies, loads and computes the donors' interest vectors; nothing waits for it. The stage
that owns the index then exchanges one reference between two batches, so that every batch is answered by one release.
A release that is refused changes nothing. Whoever announces has decided: a verdict is logged, not judged here.
"""

from __future__ import annotations

import logging
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
    """turned: None where the head stays. began: when the announcement was read, by time.monotonic."""

    serving: Serving
    turned: Turned | None
    began: float


class Swap:
    """load: an announcement → what it announces, verified; raises ReleaseRefused. note: keeps in Redis what is served.

    serving: what is in service, written by the thread that owns the index, in `take_over`.
    """

    def __init__(
        self,
        announcements: Log,
        load: Callable[[ReleaseAnnouncement], Serving],
        first: Serving,
        metrics: Metrics,
        health: Health,
        note: Callable[[Serving], None],
    ) -> None:
        self.serving = first
        self._load = load
        self._metrics = metrics
        self._health = health
        self._note = note
        self._index: Callable[[], Index] | None = None
        self._last = first
        """The latest release that was found good."""
        self._loaded: tuple[Serving, float] | None = None
        """Found good just now; the topic is looked at once more before the work on the donors begins."""
        self._ready: deque[_Ready] = deque(maxlen=1)
        self._reading = Reading(announcements, "model-releases", self._take, piece=_PIECE)
        _tell(first, metrics)

    def start(self, index: Callable[[], Index]) -> None:
        """index: the one in service."""
        self._index = index
        self._reading.start()

    def stop(self) -> None:
        """Whether it was started or not."""
        self._reading.stop()

    def take_over(self, index: Index, fail_point: Callable[[int], None]) -> None:
        """Exchange the release if another one is ready. In the thread that owns the index, between two batches.

        Raises what ended the reading, and what `note` raises.
        """
        self._reading.check()
        if not self._ready:
            return
        ready, before = self._ready.popleft(), self.serving
        began = time.perf_counter()
        index.turn(ready.serving.head, ready.turned)
        fail_point(SWAP)
        self.serving = ready.serving
        held, seconds = time.perf_counter() - began, time.monotonic() - ready.began
        self._metrics.swaps.inc()
        self._metrics.swap_seconds.observe(seconds)
        _tell(ready.serving, self._metrics)
        log.info(
            "release %s takes the place of %s, %.1f s after it was announced; batches waited for %.0f ms",
            ready.serving.release,
            before.release,
            seconds,
            held * 1000,
        )
        self._note(ready.serving)

    # In the reading thread.

    def _take(self, records: Sequence[Record]) -> None:
        """One poll. What came while a release was loaded is read before that goes on: only the last one matters."""
        announced = latest(records, self._metrics)
        if announced is not None:
            self._loaded = self._considered(announced)
        elif self._loaded is not None and self._index is not None:
            (found, began), self._loaded = self._loaded, None
            index = self._index()
            turned = None if index.head is found.head else index.turned(found.head)
            self._last = found
            self._ready.append(_Ready(found, turned, began))

    def _considered(self, announced: ReleaseAnnouncement) -> tuple[Serving, float] | None:
        began = time.monotonic()
        if announced.sha256 == self._last.sha256:
            self._health.take_back(NOTICE)
            return None
        try:
            found = self._load(announced)
        except ReleaseRefused as refused:
            tell_refused(announced.release, refused, self._metrics, self._health)
            return None
        self._health.take_back(NOTICE)
        if found.head_sha256 == self._last.head_sha256:
            found = replace(found, head=self._last.head)  # the donors' interest vectors stay
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
