"""Redis does not answer for a while: the worker says so, waits, and goes on."""

from __future__ import annotations

import signal

import pytest

from tests.fault.comparison import assert_equals_reference
from tests.fault.harness import PARTITIONS, Stack
from tests.fault.load import Load
from tests.fault.processes import wait_for

pytestmark = [pytest.mark.embedded, pytest.mark.redis8]


def test_a_worker_waits_for_a_frozen_redis_and_goes_on(stack: Stack, number: int) -> None:
    load = Load(number, partitions=PARTITIONS)
    stack.produce(load.take(1000))
    worker = stack.worker()
    stack.wait_committed(200)
    stack.freeze_redis()
    stack.produce(load.take(500))
    wait_for(lambda: worker.metric("kindred_unavailable", service="redis") == 1, "the worker says that Redis is away")
    assert not worker.ready()
    stack.wake_redis()
    stack.wait_done()

    assert_equals_reference(stack)
    assert worker.alive


def test_a_worker_that_is_told_to_end_while_redis_is_away_ends_in_time(stack: Stack, number: int) -> None:
    load = Load(number, partitions=PARTITIONS)
    stack.produce(load.take(1000))
    worker = stack.worker(drain_seconds="2")
    stack.wait_committed(200)
    stack.freeze_redis()
    worker.signal(signal.SIGTERM)
    worker.exit_code(25)
    stack.wake_redis()
    stack.worker()
    stack.wait_done()

    assert_equals_reference(stack)
