"""`delivery = exactly_once`: a reader of committed records sees every recommendation once, however workers die."""

from __future__ import annotations

import json
import time
from collections import Counter
from functools import partial
from random import Random

import pytest

from schemas.topics import RECOMMENDATIONS
from tests.fault.conftest import MakeStack
from tests.fault.counts import EOS_KILLS, deadline
from tests.fault.feed import feeding
from tests.fault.harness import PARTITIONS, Stack
from tests.fault.load import Load
from tests.fault.processes import past, wait_for
from tests.fault.tally import Tally

pytestmark = [
    pytest.mark.apache,
    pytest.mark.redis8,
    pytest.mark.needs("isolates_transactions"),
    pytest.mark.timeout(deadline(EOS_KILLS, 30)),
]

EXACTLY_ONCE = {"KINDRED_DELIVERY": "exactly_once", "KINDRED_STATIC_MEMBERSHIP": "true"}
MOST_S = 3.0
"""A worker lives at most so long after commits move, before it is killed at a random moment."""


def test_workers_killed_at_random_moments_publish_everything_exactly_once(
    make_stack: MakeStack, number: int, tally: Tally
) -> None:
    stack = make_stack(settings=EXACTLY_ONCE)
    load, pick = Load(number, partitions=PARTITIONS, users=3000), Random(number)
    row = tally("exactly once: SIGKILL at random moments")
    workers = [stack.worker(), stack.worker()]
    stack.wait_ready()
    with feeding(stack, load):
        for _ in range(EOS_KILLS):
            moment = time.monotonic() + pick.random() * MOST_S
            wait_for(partial(past, moment), "its hour has come")
            victim = pick.choice(workers)
            victim.kill()
            marks, killed = stack.committed(), time.monotonic()
            row.happened()
            stack.restart(victim)
            row.recovered(stack, marks, killed)
    stack.wait_done()

    _assert_each_once(stack)
    row.audit(stack, exactly_once=True)


@pytest.mark.parametrize("step", [6, 7, 8], ids=["before-it-publishes", "before-it-commits", "after-it-committed"])
def test_a_worker_killed_around_its_transaction_publishes_everything_exactly_once(
    make_stack: MakeStack, number: int, tally: Tally, step: int
) -> None:
    stack = make_stack(settings=EXACTLY_ONCE)
    load, pick = Load(number, partitions=PARTITIONS, users=3000), Random(number)
    row = tally(f"exactly once: SIGKILL after step {step}")
    victim = stack.worker(fail_point=f"{step}:30")
    stack.worker()
    with feeding(stack, load):
        for _ in range(max(2, EOS_KILLS // 10)):
            victim.exit_code(60)
            marks, killed = stack.committed(), time.monotonic()
            row.happened()
            stack.restart(victim, fail_point=f"{step}:{pick.randrange(20, 60)}")
            row.recovered(stack, marks, killed)
        victim.kill()
        stack.restart(victim)
    stack.wait_done()

    _assert_each_once(stack)
    row.audit(stack, exactly_once=True)


def _assert_each_once(stack: Stack) -> None:
    """Counted here as a consumer would, besides what the audit says."""
    seen = Counter(json.loads(record.value or b"")["recommendation_id"] for record in stack.records(RECOMMENDATIONS))
    assert seen
    assert not [key for key, times in seen.items() if times > 1]
