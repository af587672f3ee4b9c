"""Workers come, go, freeze and wake up while events keep coming."""

from __future__ import annotations

import signal

import pytest

from schemas.topics import USER_TEXT
from tests.fault.comparison import assert_equals_reference, known
from tests.fault.conftest import MakeStack
from tests.fault.harness import JOIN_S, PARTITIONS, Stack
from tests.fault.load import Load
from tests.fault.processes import wait_for

pytestmark = [pytest.mark.embedded, pytest.mark.redis8]


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


@pytest.mark.parametrize("step", [5, 6, 7], ids=["before-it-saved", "before-it-published", "before-it-committed"])
def test_a_frozen_worker_that_wakes_up_brings_no_erased_user_back(stack: Stack, number: int, step: int) -> None:
    load = Load(number, partitions=PARTITIONS, users=5000)
    stack.produce(load.take(1500))
    zombie = stack.worker(fail_point=f"{step}:30:stop")
    wait_for(lambda: zombie.frozen, "the worker froze with a batch in hand", JOIN_S)
    erased = _users_in_hand(stack)
    stack.produce([load.tombstone(user) for user in erased])
    heir = stack.worker()
    stack.wait_done()
    committed = stack.committed()
    zombie.signal(signal.SIGCONT)
    wait_for(lambda: "revoked" in zombie.said, "the zombie knows that it lost its partitions", JOIN_S)
    wait_for(lambda: zombie.serves and heir.serves, "both share the partitions", JOIN_S)
    assert all(mark >= committed[number] for number, mark in stack.committed().items()), "commits went backwards"
    assert not [user for user in erased if known(stack, user)]
    stack.produce(load.take(300))
    stack.wait_done()

    assert_equals_reference(stack)


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


def _users_in_hand(stack: Stack) -> list[str]:
    """Users with an event in what the frozen worker was about to save, publish or commit: far fewer than 200 events are
    under way at a time."""
    committed = stack.committed()
    found = {
        record.key.decode()
        for record in stack.records(USER_TEXT)
        if record.key and 0 <= record.offset - committed[record.partition] < 200
    }
    return sorted(user for user in found if user.startswith("u"))
