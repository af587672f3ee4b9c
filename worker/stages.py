"""The threads between the steps, and the bounded hand-over from one to the next."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Final

from prometheus_client import Gauge

from worker.pipeline import Work

_TICK: Final = 0.1
"""Seconds after which a waiting stage looks whether it should stop or do its idle work."""


class Stage:
    """One thread that takes works in order, does one thing to each and hands it on.

    idle is called before every work and while there is none. The first exception of `do` or `idle` is kept in `failure`
    and ends the thread.
    """

    def __init__(
        self,
        name: str,
        do: Callable[[Work], None],
        hand_on: Callable[[Work], None],
        *,
        capacity: int,
        waiting: Gauge,
        idle: Callable[[], None] | None = None,
    ) -> None:
        self._do = do
        self._hand_on = hand_on
        self._inbox: queue.Queue[Work] = queue.Queue(capacity)
        self._waiting = waiting
        self._idle = idle
        self._stop = threading.Event()
        self.failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def offer(self, work: Work, timeout: float) -> bool:
        """Hand a work over; False when the stage stayed full."""
        try:
            self._inbox.put(work, timeout=timeout)
        except queue.Full:
            return False
        self._waiting.set(self._inbox.qsize())
        return True

    def put(self, work: Work) -> None:
        """Hand a work over, waiting while the stage is full; gives up (drops it) once the stage has stopped."""
        while not self._stop.is_set() and self.failure is None:
            if self.offer(work, _TICK):
                return

    @property
    def alive(self) -> bool:
        """Whether its thread runs."""
        return self._thread.is_alive()

    def stop(self, timeout: float) -> None:
        """Whether it was started or not."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(timeout)

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                if self._idle is not None:
                    self._idle()
                try:
                    work = self._inbox.get(timeout=_TICK)
                except queue.Empty:
                    continue
                self._waiting.set(self._inbox.qsize())
                self._do(work)
                self._hand_on(work)
        except BaseException as error:
            self.failure = error
