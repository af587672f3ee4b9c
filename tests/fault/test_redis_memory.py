"""Redis is full: it refuses every write. The worker says so, commits nothing, and goes on when there is room again."""

from __future__ import annotations

import time

import pytest

from tests.fault.counts import CUTS, deadline
from tests.fault.feed import feeding
from tests.fault.harness import PARTITIONS, Stack
from tests.fault.load import Load
from tests.fault.processes import wait_for
from tests.fault.tally import Tally

pytestmark = [pytest.mark.apache, pytest.mark.redis8, pytest.mark.timeout(deadline(CUTS, 30))]


def test_a_worker_waits_for_a_full_redis_and_says_so(stack: Stack, number: int, tally: Tally) -> None:
    load = Load(number, partitions=PARTITIONS, users=5000)
    row = tally("Redis is full (maxmemory reached)")
    worker = stack.worker()
    with feeding(stack, load), stack.redis_client() as client:
        for _ in range(CUTS):
            stack.wait_committed(sum(stack.committed().values()) + 150)
            client.config_set("maxmemory", 1)
            wait_for(lambda: worker.metric("kindred_unavailable", service="redis") == 1, "it says that Redis is away")
            wait_for(lambda: "maxmemory" in worker.readiness(), "it says why")
            assert not worker.ready()
            row.happened()
            wait_for(lambda: worker.metric("kindred_stage_queue") > 0, "work piles up")
            marks = stack.committed()
            assert worker.metric("kindred_unavailable", service="redis") == 1
            client.config_set("maxmemory", 0)
            row.recovered(stack, marks, time.monotonic())
    stack.wait_done()

    row.audit(stack)
    assert worker.alive
