"""The broker does not answer for a while: the worker says so, waits, and goes on."""

from __future__ import annotations

import pytest

from tests.fault.comparison import assert_equals_reference
from tests.fault.harness import PARTITIONS, Stack
from tests.fault.load import Load
from tests.fault.processes import wait_for

pytestmark = [pytest.mark.embedded, pytest.mark.redis8]


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
