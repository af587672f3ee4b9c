"""A worker dies by SIGKILL right after each numbered step of `worker/pipeline.py`, again and again, under load; it is
started again each time, as a supervisor would, while another one goes on."""

from __future__ import annotations

import signal
import time
from random import Random

import pytest

from tests.fault.counts import KILLS_A_STEP, deadline
from tests.fault.feed import feeding
from tests.fault.harness import IN_SLOTS, PARTITIONS, Stack
from tests.fault.load import Load
from tests.fault.tally import Tally

pytestmark = [pytest.mark.redis8, pytest.mark.timeout(deadline(KILLS_A_STEP, 30))]


@pytest.mark.parametrize(
    ("step", "name"),
    [
        pytest.param(1, "poll", marks=pytest.mark.apache),
        pytest.param(2, "decode", marks=pytest.mark.apache),
        pytest.param(3, "batch", marks=pytest.mark.apache),
        pytest.param(4, "encode", marks=pytest.mark.apache),
        pytest.param(5, "update", marks=pytest.mark.embedded),
        pytest.param(6, "save", marks=pytest.mark.embedded),
        pytest.param(7, "publish", marks=pytest.mark.embedded),
        pytest.param(8, "commit", marks=pytest.mark.apache),
    ],
)
def test_a_worker_killed_after_a_step_loses_nothing_and_doubles_nothing(
    stack: Stack, number: int, tally: Tally, step: int, name: str
) -> None:
    load, pick = Load(number, partitions=PARTITIONS), Random(number)
    row = tally(f"SIGKILL after step {step}, {name}")
    victim = stack.worker(fail_point=f"{step}:40", static_membership=IN_SLOTS)
    stack.worker(static_membership=IN_SLOTS)
    with feeding(stack, load):
        for _ in range(KILLS_A_STEP):
            assert victim.exit_code(60) == -signal.SIGKILL
            killed = time.monotonic()
            row.happened()
            marks = stack.committed()
            stack.restart(victim, fail_point=f"{step}:{pick.randrange(20, 60)}")
            row.recovered(stack, marks, killed)
        victim.kill()
        stack.restart(victim)
    stack.wait_done()

    row.audit(stack)
