"""`kill -9` of several workers at once while events keep coming, and of one that nobody starts again."""

from __future__ import annotations

import time

import pytest

from tests.fault.counts import KILLS_OF_TWO, deadline
from tests.fault.feed import feeding
from tests.fault.harness import IN_SLOTS, PARTITIONS, Stack
from tests.fault.load import Load
from tests.fault.tally import Tally

pytestmark = [pytest.mark.redis8, pytest.mark.timeout(deadline(KILLS_OF_TWO, 40))]


@pytest.mark.embedded
def test_killing_two_workers_at_once_loses_nothing_and_doubles_nothing(stack: Stack, number: int, tally: Tally) -> None:
    load = Load(number, partitions=PARTITIONS)
    row = tally("SIGKILL of two workers at once")
    workers = [stack.worker(static_membership=IN_SLOTS), stack.worker(static_membership=IN_SLOTS)]
    with feeding(stack, load):
        for _ in range(KILLS_OF_TWO):
            stack.wait_committed(sum(stack.committed().values()) + 200)
            stack.kill_all()
            killed = time.monotonic()
            row.happened()
            marks = stack.committed()
            for worker in workers:
                stack.restart(worker)
            row.recovered(stack, marks, killed)
    stack.wait_done()

    row.audit(stack)


@pytest.mark.apache
def test_a_worker_that_is_killed_and_not_started_again_is_replaced_by_the_others(
    stack: Stack, number: int, tally: Tally
) -> None:
    load = Load(number, partitions=PARTITIONS)
    row = tally("SIGKILL, nobody starts it again (session timeout 6 s)")
    stack.worker()
    stack.worker()
    stack.wait_ready()
    with feeding(stack, load):
        for _ in range(KILLS_OF_TWO):
            stack.wait_committed(sum(stack.committed().values()) + 200)
            stack.workers[-2].kill()
            killed = time.monotonic()
            row.happened()
            row.recovered(stack, stack.committed(), killed)
            stack.wait_ready(stack.worker())
    stack.wait_done()

    row.audit(stack)
