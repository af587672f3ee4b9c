"""A machine's clock steps by an hour, to and fro: the log's timestamps decide, never a worker's clock."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.fault import in_worker
from tests.fault.conftest import MakeStack
from tests.fault.counts import CLOCK_STEPS, deadline
from tests.fault.feed import feeding
from tests.fault.harness import JOIN_S, PARTITIONS
from tests.fault.load import Load
from tests.fault.processes import WorkerProcess, wait_for
from tests.fault.tally import Tally

pytestmark = [pytest.mark.apache, pytest.mark.redis8, pytest.mark.timeout(deadline(CLOCK_STEPS, 30))]

HOUR = 3600


def test_a_clock_that_steps_by_an_hour_changes_nothing(
    make_stack: MakeStack, number: int, tally: Tally, tmp_path: Path
) -> None:
    off_by = tmp_path / "off_by"
    off_by.write_text("0")
    stack = make_stack(settings=in_worker.settings(tmp_path / "startup", in_worker.CLOCK, CLOCK_OFF_BY=str(off_by)))
    load = Load(number, partitions=PARTITIONS)
    row = tally("clock of the workers steps by an hour")
    workers = [stack.worker(), stack.worker()]
    wait_for(lambda: all(worker.serves for worker in workers), "both have partitions", JOIN_S)
    moves = _moves(workers)
    with feeding(stack, load):
        for turn in range(CLOCK_STEPS):
            stack.wait_committed(sum(stack.committed().values()) + 150)
            aside = off_by.with_suffix(".new")
            aside.write_text(str((HOUR, 0, -HOUR, 0)[turn % 4]))
            marks, stepped = stack.committed(), time.monotonic()
            aside.replace(off_by)
            row.happened()
            row.recovered(stack, marks, stepped)
    stack.wait_done()

    row.audit(stack, undisturbed=True)
    assert all(worker.alive for worker in workers)
    assert _moves(workers) == moves, "a worker lost partitions to a clock"


def _moves(workers: list[WorkerProcess]) -> int:
    return sum(worker.said.count("partitions revoked") for worker in workers)
