"""The thread that looks every few seconds what answers led to, for as long as the trainer serves.

A broker that is away, or a right that is missing, is told, and tried again with longer and longer pauses; refits go on.
Knows nothing of what is looked at.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from typing import Final, TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_when_event_set, wait_random_exponential
from tenacity.nap import sleep_using_event

from model.health import Health
from model.kafka.base import BrokerRefused, BrokerUnavailable
from trainer.errors import Stopped
from trainer.follow import Figures

log = logging.getLogger(__name__)
T = TypeVar("T")

LOOK_S: Final = 5.0
PASSING: Final = (BrokerUnavailable, BrokerRefused)
LONGEST_PAUSE_S: Final = 60.0
_WHAT: Final = "online truth"

Opened = AbstractContextManager[Callable[[], Figures]]
"""What looks, while it is open."""


class Watch:
    """The thread that looks every few seconds. opened: what looks, its topics open meanwhile; given whether to stop
    looking. shown: given what each look found."""

    def __init__(
        self, opened: Callable[[Callable[[], bool]], Opened], shown: Callable[[Figures], None], health: Health
    ) -> None:
        self._opened = opened
        self._shown = shown
        self._health = health
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="online", daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(LOOK_S)

    def _run(self) -> None:
        try:
            with ExitStack() as stack:
                look = self._persistently(lambda: stack.enter_context(self._opened(self._stop.is_set)))
                while not self._stop.is_set():
                    self._shown(self._persistently(look))
                    self._stop.wait(LOOK_S)
        except (*PASSING, Stopped) as error:
            log.debug("what answers led to is followed no more: %s", error)
        except Exception as error:
            log.exception("what answers led to is followed no more, on an error that is not known; please report it")
            self._health.notice(_WHAT, f"what answers led to is followed no more ({type(error).__name__}); start anew")

    def _persistently(self, call: Callable[[], T]) -> T:
        """Raises one of PASSING once it is stopped."""

        def noted(state: RetryCallState) -> None:
            error = state.outcome.exception() if state.outcome else None
            said = f"what answers led to cannot be followed, trying again: {error}"
            (log.debug if state.attempt_number > 1 else log.warning)("%s", said)
            self._health.notice(_WHAT, said)

        found = Retrying(
            retry=retry_if_exception_type(PASSING),
            wait=wait_random_exponential(multiplier=1, max=LONGEST_PAUSE_S),
            stop=stop_when_event_set(self._stop),
            sleep=sleep_using_event(self._stop),
            before_sleep=noted,
            reraise=True,
        )(call)
        self._health.take_back(_WHAT)
        return found
