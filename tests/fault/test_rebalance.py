"""Workers come and go while events keep coming."""

from __future__ import annotations

import signal
import time
from random import Random

import pytest

from tests.fault.comparison import assert_equals_reference
from tests.fault.conftest import MakeStack
from tests.fault.counts import REBALANCES, deadline
from tests.fault.feed import feeding
from tests.fault.harness import PARTITIONS, Stack
from tests.fault.load import Load
from tests.fault.processes import wait_for
from tests.fault.tally import Tally

pytestmark = pytest.mark.redis8

MOST_WORKERS = 4


@pytest.mark.apache
@pytest.mark.timeout(deadline(REBALANCES, 20))
def test_workers_that_join_and_leave_under_load_lose_nothing_and_double_nothing(
    stack: Stack, number: int, tally: Tally
) -> None:
    load, pick = Load(number, partitions=PARTITIONS), Random(number)
    row = tally("rebalance: a worker joins, or leaves on SIGTERM")
    running = [stack.worker(), stack.worker()]
    stack.wait_ready()
    with feeding(stack, load):
        for _ in range(REBALANCES):
            marks, began = stack.committed(), time.monotonic()
            if len(running) == 1 or (len(running) < MOST_WORKERS and pick.random() < 0.5):
                running.append(stack.worker())
                stack.wait_ready(running[-1])
            else:
                leaving = running.pop(pick.randrange(len(running)))
                leaving.signal(signal.SIGTERM)
                assert leaving.exit_code() == 0
            row.happened()
            row.recovered(stack, marks, began)
    stack.wait_done()

    row.audit(stack)


@pytest.mark.embedded
def test_a_third_worker_joins_and_one_leaves_under_load(stack: Stack, number: int) -> None:
    load = Load(number, partitions=PARTITIONS)
    stack.produce(load.take(500))
    first, _ = stack.worker(), stack.worker()
    stack.wait_committed(200)
    third = stack.worker()
    while not third.serves:
        stack.produce(load.take(100))
        stack.wait_done()  # while partitions move, some wait
    first.signal(signal.SIGTERM)
    stack.produce(load.take(500))
    assert first.exit_code() == 0
    stack.produce(load.take(500))
    stack.wait_done()

    assert_equals_reference(stack)


@pytest.mark.apache
def test_a_worker_without_partitions_takes_over_after_redis_was_emptied(make_stack: MakeStack, number: int) -> None:
    stack = make_stack(partitions=1)
    load = Load(number, partitions=1)
    stack.produce(load.take(300))
    workers = [stack.worker(), stack.worker()]
    stack.wait_ready()
    owner, standby = sorted(workers, key=lambda worker: worker.serves, reverse=True)
    with stack.redis_client() as client:
        client.flushall()
    stack.produce(load.take(300))
    stack.wait_done()
    wait_for(owner.ready, "the owner has healed")
    owner.kill()
    stack.produce(load.take(300))
    stack.wait_done()

    assert standby.alive
    assert_equals_reference(stack)
