"""When answers go out: before their offsets are committed, and not once more while Redis is healed."""

from __future__ import annotations

import pytest

from model.encoder.dummy import DummyEncoder
from tests.fault.comparison import assert_equals_reference
from tests.fault.conftest import MakeStack
from tests.fault.harness import JOIN_S, PARTITIONS, Stack
from tests.fault.load import Load
from tests.fault.processes import wait_for

pytestmark = [pytest.mark.embedded, pytest.mark.redis8]


def test_nothing_is_committed_before_its_answers_are_acknowledged(make_stack: MakeStack, number: int) -> None:
    stack = make_stack(gated=True)
    assert stack.gate is not None
    load = Load(number, partitions=PARTITIONS)
    stack.produce([*load.take(40), load.tombstone("nobody"), *load.bad(1, 0)])
    victim = stack.worker()
    stack.wait_done()  # now it knows all topics: to ask for one it needs the connection that will be held
    before = stack.committed()
    stack.gate.hold()
    stack.produce(load.take(40))
    store = stack.store(DummyEncoder().space)
    wait_for(lambda: store.watermarks()[0] == stack.ends, "Redis has seen all events", JOIN_S)
    store.close()
    assert stack.committed() == before
    victim.kill()
    stack.gate.release()
    stack.worker()
    stack.wait_done()

    assert_equals_reference(stack)


def test_healing_answers_nobody_again(stack: Stack, number: int) -> None:
    load = Load(number, partitions=PARTITIONS)
    stack.produce(load.take(1000))
    worker = stack.worker()
    stack.wait_done()
    with stack.redis_client() as client:
        client.flushall()
    wait_for(lambda: worker.metric("kindred_events_in_total") >= 2000, "everything is replayed")
    stack.produce(load.take(100))
    stack.wait_done()

    assert_equals_reference(stack, undisturbed=True)
