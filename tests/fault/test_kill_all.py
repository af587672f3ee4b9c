"""`kill -9` of every worker while events keep coming."""

from __future__ import annotations

import pytest

from tests.fault.comparison import assert_equals_reference
from tests.fault.harness import PARTITIONS, Stack
from tests.fault.load import Load

pytestmark = [pytest.mark.embedded, pytest.mark.redis8]


def test_killing_every_worker_twice_in_the_middle_loses_nothing_and_doubles_nothing(stack: Stack, number: int) -> None:
    load = Load(number, partitions=PARTITIONS)
    for killed_after in (200, 1000):
        stack.produce(load.take(800))
        stack.worker()
        stack.worker()
        stack.wait_committed(killed_after)
        stack.kill_all()
    stack.produce(load.take(400))
    stack.worker()
    stack.wait_done()

    assert_equals_reference(stack)
