"""SIGTERM: what is under way is finished; a second one leaves at once."""

from __future__ import annotations

import signal
import time

import pytest

from model.encoder.dummy import DummyEncoder
from tests.fault.comparison import assert_equals_reference
from tests.fault.counts import TERMS, deadline
from tests.fault.feed import feeding
from tests.fault.harness import PARTITIONS, Stack
from tests.fault.load import Load
from tests.fault.processes import wait_for
from tests.fault.tally import Tally
from worker.errors import FORCED_EXIT

pytestmark = pytest.mark.redis8


@pytest.mark.embedded
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
    assert_equals_reference(stack, undisturbed=True)


@pytest.mark.apache
@pytest.mark.timeout(deadline(TERMS, 40))
def test_workers_that_are_told_to_end_under_load_drain_in_time_and_publish_nothing_twice(
    stack: Stack, number: int, tally: Tally
) -> None:
    load = Load(number, partitions=PARTITIONS)
    row = tally("SIGTERM under load (drain deadline 20 s)")
    workers = [stack.worker(), stack.worker()]
    stack.wait_ready()
    with feeding(stack, load):
        for turn in range(TERMS):
            stack.wait_committed(sum(stack.committed().values()) + 200)
            leaving = workers[turn % 2]
            marks, told = stack.committed(), time.monotonic()
            leaving.signal(signal.SIGTERM)
            assert leaving.exit_code(20) == 0
            row.happened()
            row.recovered(stack, marks, told)
            stack.restart(leaving)
            stack.wait_ready(leaving)
    stack.wait_done()

    row.audit(stack, undisturbed=True)


@pytest.mark.embedded
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
