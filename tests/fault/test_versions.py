"""An old and a new version of the worker side by side, and back again."""

from __future__ import annotations

import pytest

from tests.fault import in_worker
from tests.fault.counts import KILLS_OF_TWO, deadline
from tests.fault.feed import feeding
from tests.fault.harness import JOIN_S, PARTITIONS, Stack
from tests.fault.load import Load
from tests.fault.processes import WorkerProcess
from tests.fault.tally import Tally
from worker.errors import WrongStore

pytestmark = [pytest.mark.apache, pytest.mark.redis8, pytest.mark.timeout(deadline(KILLS_OF_TWO, 60))]


def test_a_version_that_reads_the_next_format_runs_beside_one_that_does_not(
    stack: Stack, number: int, tally: Tally
) -> None:
    load = Load(number, partitions=PARTITIONS)
    row = tally("an old and a new worker version side by side")
    old = stack.worker()
    new = _newer(stack, in_worker.READS_NEXT_FORMAT)
    with feeding(stack, load):
        for victim in [old, new] * KILLS_OF_TWO:
            stack.wait_committed(sum(stack.committed().values()) + 150)
            victim.kill()
            row.happened()
            stack.restart(victim)
            stack.wait_ready(victim)
    stack.wait_done()

    row.audit(stack)


def test_an_old_version_stops_at_the_first_state_that_only_a_newer_one_can_read(
    stack: Stack, number: int, tally: Tally
) -> None:
    load = Load(number, partitions=PARTITIONS)
    row = tally("an old worker meets states of a newer version, and a way back")
    new = _newer(stack, in_worker.WRITES_NEXT_FORMAT)
    stack.produce(load.take(500))
    stack.wait_done()
    old = stack.worker()
    row.happened()
    assert old.exit_code(JOIN_S) == WrongStore.exit_code
    assert "run the version of Kindred that wrote it" in old.said
    stack.produce(load.take(500))
    stack.wait_done()
    assert new.alive, "the newer one goes on alone"

    new.kill()
    with stack.redis_client() as client:
        client.flushall()  # the other remedy: let the log bring back what the old version can read
    stack.produce(load.take(100))
    stack.restart(old)
    stack.wait_done()
    row.audit(stack)


def _newer(stack: Stack, code: str) -> WorkerProcess:
    """A worker of a version to come, beside the stack's others."""
    directory = stack.directory / "newer"
    worker = stack.worker()
    worker.kill()
    worker.settings = {**worker.settings, **in_worker.settings(directory, code)}
    worker.start()
    return worker
