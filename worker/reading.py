"""The thread that reads a topic whole and goes on reading it, and what becomes of it when the broker is away.

Knows nothing of what the records mean.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from typing import Final

from worker.broker.base import BrokerUnavailable, Log, Record

log = logging.getLogger(__name__)

_POLL: Final = 0.2
_AGAIN: Final = 1.0


class Reading:
    """take: given what each poll brought, nothing included, in the reading thread. piece: records of one poll."""

    def __init__(self, source: Log, name: str, take: Callable[[Sequence[Record]], None], *, piece: int) -> None:
        self._log = source
        self._name = name
        self._take = take
        self._piece = piece
        self._away = False
        self._failure: BaseException | None = None
        self.stopping = threading.Event()
        self.complete = threading.Event()
        """Set once what stood in the topic at the start has been read, or reading failed for good."""
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Whether it was started or not."""
        self.stopping.set()
        if self._thread.ident is not None:
            self._thread.join(5)
        self._log.close()

    def check(self) -> None:
        """Raises what ended the reading."""
        if self._failure is not None:
            raise self._failure

    def _run(self) -> None:
        try:
            while not self.stopping.is_set():
                self._turn()
        except BaseException as error:
            self._failure = error
            self.complete.set()

    def _turn(self) -> None:
        try:
            self._take(self._log.poll(_POLL, self._piece))
            if not self.complete.is_set() and self._log.at_end():
                self.complete.set()
        except BrokerUnavailable as error:
            if not self._away:
                log.warning("the topic %s cannot be read, trying again: %s", self._name, error)
            self._away = True
            self.stopping.wait(_AGAIN)
        else:
            self._away = False
