"""SIGTERM: what is under way is finished; a second one leaves at once."""

from __future__ import annotations

import signal

import pytest

from model.encoder.dummy import DummyEncoder
from tests.fault.comparison import assert_equals_reference
from tests.fault.harness import PARTITIONS, Stack
from tests.fault.load import Load
from tests.fault.processes import wait_for
from worker.errors import FORCED_EXIT

pytestmark = [pytest.mark.embedded, pytest.mark.redis8]


def test_a_worker_that_is_told_to_end_finishes_what_it_began(stack: Stack, number: int) -> None:
    load = Load(number, partitions=PARTITIONS)
    stack.produce(load.take(2000))
    worker = stack.worker()
    stack.wait_committed(200)
    worker.signal(signal.SIGTERM)
    assert worker.exit_code() == 0

    store = stack.store(DummyEncoder().space)
    assert store.watermarks() == [stack.committed()] * 4, "Redis and the group stand at the same place"
    store.close()

    stack.worker()
    stack.wait_done()
    assert_equals_reference(stack, exactly_once=True)


def test_a_second_signal_ends_a_worker_that_cannot_drain(stack: Stack, number: int) -> None:
    load = Load(number, partitions=PARTITIONS)
    stack.produce(load.take(2000))
    worker = stack.worker()
    stack.wait_committed(200)
    stack.freeze_redis()
    worker.signal(signal.SIGTERM)
    wait_for(lambda: "draining" in worker.readiness(), "the worker drains")
    worker.signal(signal.SIGTERM)
    assert worker.exit_code() == FORCED_EXIT

    stack.wake_redis()
    stack.worker()
    stack.wait_done()
    assert_equals_reference(stack)
