"""The broker does not answer for a while, or dies and comes back: the worker says so, waits, and goes on."""

from __future__ import annotations

import time

import pytest

from tests.fault.comparison import assert_equals_reference
from tests.fault.counts import BROKER_KILLS, deadline
from tests.fault.feed import feeding
from tests.fault.harness import PARTITIONS, Stack
from tests.fault.load import Load
from tests.fault.processes import wait_for
from tests.fault.tally import Tally

pytestmark = pytest.mark.redis8


@pytest.mark.embedded
def test_a_worker_waits_for_a_frozen_broker_and_goes_on(stack: Stack, number: int) -> None:
    load = Load(number, partitions=PARTITIONS)
    stack.produce(load.take(1500))
    worker = stack.worker()
    stack.wait_committed(200)
    stack.broker.freeze()
    wait_for(
        lambda: worker.metric("kindred_unavailable", service="kafka") == 1, "the worker says that Kafka is away", 60
    )
    assert not worker.ready()
    stack.broker.wake()
    stack.produce(load.take(200))
    stack.wait_done()

    assert_equals_reference(stack)
    assert worker.alive


@pytest.mark.apache
@pytest.mark.needs("keeps_log")
@pytest.mark.timeout(deadline(BROKER_KILLS, 60))
def test_workers_wait_for_a_broker_that_was_killed_and_comes_back(stack: Stack, number: int, tally: Tally) -> None:
    load = Load(number, partitions=PARTITIONS)
    row = tally("broker killed and restarted")
    workers = [stack.worker(), stack.worker()]
    with feeding(stack, load):
        for _ in range(BROKER_KILLS):
            stack.wait_committed(sum(stack.committed().values()) + 200)
            marks = stack.committed()
            stack.kill_broker()
            row.happened()
            wait_for(
                lambda: any(worker.metric("kindred_unavailable", service="kafka") for worker in workers),
                "a worker says that Kafka is away",
                60,
            )
            stack.start_broker()
            row.recovered(stack, marks, time.monotonic())
    stack.wait_done()

    row.audit(stack)
    assert all(worker.alive for worker in workers)
