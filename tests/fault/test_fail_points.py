"""A worker dies by SIGKILL right after each numbered step of `worker/pipeline.py`, and another one takes over."""

from __future__ import annotations

import signal

import pytest

from tests.fault.comparison import assert_equals_reference
from tests.fault.harness import PARTITIONS, Stack
from tests.fault.load import Load

pytestmark = [pytest.mark.embedded, pytest.mark.redis8]


@pytest.mark.parametrize(
    ("step", "count"),
    [(1, 40), (2, 30), (3, 40), (4, 40), (5, 40), (6, 40), (7, 40), (8, 40)],
    ids=["1-poll", "2-decode", "3-batch", "4-encode", "5-update", "6-save", "7-publish", "8-commit"],
)
def test_a_worker_killed_after_a_step_loses_nothing_and_doubles_nothing(
    stack: Stack, number: int, step: int, count: int
) -> None:
    load = Load(number, partitions=PARTITIONS)
    stack.produce(load.take(2000))
    victim = stack.worker(fail_point=f"{step}:{count}")
    assert victim.exit_code(60) == -signal.SIGKILL
    assert 0 < sum(stack.committed().values()) < 2000, "it was to die in the middle of its work"

    stack.produce(load.take(200))
    stack.worker()
    stack.wait_done()

    assert_equals_reference(stack)
