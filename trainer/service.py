"""The trainer that goes on: a refit whenever one is due, in its turn, for as long as the program runs.

What passes (a broker that is away, a full disk) is tried again with longer and longer pauses; what an operator has to
mend ends the program. Knows no Kafka: `trainer/app.py` hands in what does.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Final

from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_when_event_set, wait_random_exponential
from tenacity.nap import sleep_using_event

from model.errors import ModelError
from model.health import Health
from model.kafka.base import BrokerUnavailable
from trainer.errors import Stopped, TooLittleData, TurnLost, Unready
from trainer.metrics import TrainerMetrics
from trainer.recipe import STEPS, Refit

log = logging.getLogger(__name__)

PASSING: Final = (BrokerUnavailable, ModelError, TurnLost, Unready, OSError)
LONGEST_PAUSE_S: Final = 900.0
_WHAT: Final = "refit"


class Service:
    """due: why a refit is due now, None where it is not. refit: does one, telling its steps. look_seconds: between two
    looks. stop: set to end it; a refit under way ends at its next piece of work."""

    def __init__(
        self,
        *,
        due: Callable[[], str | None],
        refit: Callable[[Callable[[int, int, int], None]], Refit],
        shown: Callable[[Refit], None],
        metrics: TrainerMetrics,
        health: Health,
        look_seconds: float,
        stop: threading.Event,
    ) -> None:
        self._due = due
        self._refit = refit
        self._shown = shown
        self._metrics = metrics
        self._health = health
        self._look_seconds = look_seconds
        self._stop = stop

    def run(self) -> None:
        """Until it is stopped. Raises what an operator has to mend."""
        self._health.state = "running"
        while not self._stop.is_set():
            try:
                self._persistently(self._look)
            except PASSING:
                if not self._stop.is_set():
                    raise
            except Stopped:
                log.info("stopped in the middle of a refit; the next one goes on from where it is")
            self._stop.wait(self._look_seconds)

    def tell(self, step: int, _done: int, _of: int) -> None:
        """Given to the recipe. Raises Stopped."""
        if self._stop.is_set():
            raise Stopped("stopped in the middle of a refit")
        if self._metrics.at(step):
            self._health.notice(_WHAT, f"a refit is at step {step}, {STEPS[step - 1]}")
            log.info("step %d, %s", step, STEPS[step - 1])

    def _look(self) -> None:
        why = self._due()
        if why is None:
            return
        log.info("a refit is due: %s", why)
        self._metrics.begins()
        try:
            done = self._refit(self.tell)
        except TooLittleData as error:
            self._metrics.refits.labels("too_little_data").inc()
            log.warning("%s", error)
            return
        finally:
            self._metrics.ended()
            self._health.take_back(_WHAT)
        self._metrics.came_to(done)
        self._shown(done)

    def _persistently(self, call: Callable[[], None]) -> None:
        def noted(state: RetryCallState) -> None:
            error = state.outcome.exception() if state.outcome else None
            pause = state.next_action.sleep if state.next_action else 0
            self._metrics.refits.labels("failed").inc()
            self._health.trouble(_WHAT, f"the last refit failed: {error}")
            log.error("%s; tried again in %.0f s", error, pause)

        Retrying(
            retry=retry_if_exception_type(PASSING),
            wait=wait_random_exponential(multiplier=5, max=LONGEST_PAUSE_S),
            stop=stop_when_event_set(self._stop),
            sleep=sleep_using_event(self._stop),
            before_sleep=noted,
            reraise=True,
        )(call)
        self._health.clear(_WHAT)
