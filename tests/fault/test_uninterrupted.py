"""The yardstick of all fault tests: a worker that nothing happens to leaves nothing for the audit to find."""

from __future__ import annotations

import pytest

from tests.fault.comparison import assert_equals_reference
from tests.fault.harness import PARTITIONS, Stack
from tests.fault.load import Load

pytestmark = [pytest.mark.embedded, pytest.mark.redis8]


def test_a_worker_that_nothing_happens_to_equals_the_serial_replay(stack: Stack, number: int) -> None:
    load = Load(number, partitions=PARTITIONS)
    stack.produce(load.take(2000))
    worker = stack.worker()
    stack.wait_done()
    stack.produce(load.take(500))
    stack.wait_done()

    report = assert_equals_reference(stack, undisturbed=True)

    assert report.checked.bad_records
    assert report.checked.roaming
    assert report.checked.erased
    assert worker.metric("kindred_writes_refused_total") == 0
