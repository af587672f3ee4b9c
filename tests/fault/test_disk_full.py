"""No room on the disk for a release: a worker says so, leaves nothing half-written, and starts once there is room."""

from __future__ import annotations

import resource

import pytest

from tests.fault.harness import PARTITIONS, Stack
from tests.fault.load import Load
from tests.fault.processes import WorkerProcess
from tests.fault.tally import Tally
from worker.errors import Unready

pytestmark = [pytest.mark.apache, pytest.mark.redis8]

ROOM = 8 * 1024
"""Bytes that any one file may have: enough for a worker's log, too little for a release."""


def test_a_worker_without_room_for_its_release_says_so_and_starts_once_there_is_some(
    stack: Stack, number: int, tally: Tally
) -> None:
    load = Load(number, partitions=PARTITIONS)
    row = tally("disk full for releases")
    stack.produce(load.take(300))
    worker = stack.worker()
    _fill_disk(worker)
    assert worker.exit_code() == Unready.exit_code
    row.happened()
    releases = stack.directory / "releases"
    assert "could not be written" in worker.said
    assert str(releases) in worker.said
    assert not [path for path in releases.iterdir() if path.is_dir()], "a piece of a release was left behind"

    stack.restart(worker)
    stack.wait_done()
    late = stack.worker()
    _fill_disk(late)
    row.happened()
    stack.wait_ready(late)  # the release is there: nothing needs to be written
    stack.produce(load.take(300))
    stack.wait_done()

    row.audit(stack)


def _fill_disk(worker: WorkerProcess) -> None:
    """For this process; it has only just been started and has not come to its release yet."""
    assert worker.process is not None
    resource.prlimit(worker.process.pid, resource.RLIMIT_FSIZE, (ROOM, ROOM))
