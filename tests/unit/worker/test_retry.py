"""Calls that are repeated for as long as a service is away."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from model.health import Health
from worker.broker.base import BrokerUnavailable
from worker.metrics import Metrics
from worker.retry import Persistent
from worker.store.base import FellBack, StoreUnavailable


class Bench:
    def __init__(self) -> None:
        self.metrics, self.health = Metrics(), Health()
        self.health.state = "running"
        self.persist = Persistent(self.metrics, self.health, longest_pause=0.001)

    def value(self, name: str, service: str) -> float:
        return self.metrics.registry.get_sample_value(name, {"service": service}) or 0.0


@pytest.fixture
def bench() -> Bench:
    return Bench()


def failing(times: int, error: Exception, seen: Callable[[], None] = lambda: None) -> Callable[[], str]:
    left = [times]

    def call() -> str:
        if left[0]:
            left[0] -= 1
            if not left[0]:
                seen()
            raise error
        return "done"

    return call


@pytest.mark.parametrize("error", [StoreUnavailable("loading"), BrokerUnavailable("no leader")])
def test_a_call_is_repeated_until_it_succeeds(bench: Bench, error: Exception) -> None:
    assert bench.persist("redis", failing(5, error)) == "done"
    assert bench.value("kindred_retries_total", "redis") >= 5


def test_trouble_stands_on_readyz_and_in_the_metrics_while_it_lasts(bench: Bench) -> None:
    seen: list[object] = []

    def look() -> None:
        seen.extend(bench.health.report()[1]["reasons"])  # type: ignore[arg-type]
        seen.append(bench.value("kindred_unavailable", "redis"))

    bench.persist("redis", failing(3, StoreUnavailable("loading"), look))
    assert seen == ["redis does not answer: loading", 1.0]
    assert bench.health.report()[0]
    assert bench.value("kindred_unavailable", "redis") == 0


@pytest.mark.parametrize("error", [FellBack("behind"), ValueError("a bug")])
def test_what_a_repeat_does_not_mend_comes_through_at_once(bench: Bench, error: Exception) -> None:
    with pytest.raises(type(error)):
        bench.persist("redis", failing(1, error))
    assert bench.value("kindred_retries_total", "redis") == 0


def test_an_abandoned_call_gives_its_last_error_within_its_pause() -> None:
    bench = Bench()
    bench.persist = Persistent(bench.metrics, bench.health, longest_pause=3600)
    errors: list[BaseException] = []

    def work() -> None:
        try:
            bench.persist("redis", failing(10**9, StoreUnavailable("gone")))
        except StoreUnavailable as error:
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    bench.persist.abandon.set()
    thread.join(10)
    assert [str(error) for error in errors] == ["gone"]


def test_a_call_that_is_made_again_by_itself_tells_its_trouble_and_comes_through() -> None:
    metrics, health = Metrics(), Health()
    persist = Persistent(metrics, health, longest_pause=0.01)

    def away() -> None:
        raise StoreUnavailable("no route")

    with pytest.raises(StoreUnavailable):
        persist.once("redis", away)
    assert metrics.registry.get_sample_value("kindred_unavailable", {"service": "redis"}) == 1
    assert persist.once("redis", lambda: 7) == 7
    assert metrics.registry.get_sample_value("kindred_unavailable", {"service": "redis"}) == 0
