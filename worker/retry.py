"""A service that does not answer is asked again, with back-off, for as long as it lasts. Tenacity does the work."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Final, Literal, TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_when_event_set, wait_random_exponential
from tenacity.nap import sleep_using_event

from model.health import Health
from worker.broker.base import BrokerUnavailable
from worker.metrics import Metrics
from worker.store.base import StoreUnavailable

log = logging.getLogger(__name__)
T = TypeVar("T")

Service = Literal["redis", "kafka"]
_PASSING: Final = (StoreUnavailable, BrokerUnavailable)


class Persistent:
    """Calls that are repeated until they succeed, or until `abandon` is set (then the last error comes through).

    Trouble stands in the metrics and on /readyz for as long as it lasts.
    """

    def __init__(self, metrics: Metrics, health: Health, *, longest_pause: float) -> None:
        self.abandon = threading.Event()
        self._metrics = metrics
        self._health = health
        self._longest = longest_pause

    def __call__(self, service: Service, call: Callable[[], T]) -> T:
        try:
            return self.once(service, call)
        except _PASSING:
            result = self._repeat(service, call)
        self._answers(service)
        return result

    def once(self, service: Service, call: Callable[[], T]) -> T:
        """A call that is made again later by itself: trouble is told, and comes through."""
        try:
            result = call()
        except _PASSING as error:
            self._note(service, error)
            raise
        self._answers(service)
        return result

    def _answers(self, service: Service) -> None:
        if self._health.clear(service):
            self._metrics.unavailable.labels(service).set(0)
            log.info("%s answers again", service)

    def _repeat(self, service: Service, call: Callable[[], T]) -> T:
        def noted(state: RetryCallState) -> None:
            error = state.outcome.exception() if state.outcome else None
            if error is not None:
                self._note(service, error)

        retrying = Retrying(
            retry=retry_if_exception_type(_PASSING),
            wait=wait_random_exponential(multiplier=0.05, max=self._longest),
            stop=stop_when_event_set(self.abandon),
            sleep=sleep_using_event(self.abandon),
            before_sleep=noted,
            reraise=True,
        )
        return retrying(call)

    def _note(self, service: Service, error: BaseException) -> None:
        self._metrics.retries.labels(service).inc()
        self._metrics.unavailable.labels(service).set(1)
        if self._health.trouble(service, f"{service} does not answer: {error}"):
            log.warning("%s does not answer, trying again: %s", service, error)
