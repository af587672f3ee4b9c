"""A release is announced under load: running workers serve it within seconds, one that is killed in the middle of the
swap begins with it, and nothing is lost or doubled; one that is bad changes nothing."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any, Final

import pytest

from schemas.announcement import CURRENT
from schemas.codec import decode_recommendation, encode
from schemas.topics import MODEL_RELEASES, RECOMMENDATIONS
from tests.fault.feed import feeding
from tests.fault.harness import IN_SLOTS, PARTITIONS, Stack
from tests.fault.load import Load
from tests.fault.processes import WorkerProcess, wait_for
from tests.fault.tally import Tally
from tests.unit.worker.releases import Shelf, announcement

pytestmark = [pytest.mark.embedded, pytest.mark.redis8]

SERVED_S: Final = 5.0
"""Within it running workers serve what is announced."""


def test_a_release_is_swapped_in_under_load_also_where_a_worker_is_killed_in_the_middle(
    stack: Stack, number: int, tally: Tally
) -> None:
    load, shelf = Load(number, partitions=PARTITIONS), Shelf(stack.directory)
    row = tally("SIGKILL in the middle of a swap of releases")
    victim = stack.worker(fail_point="0:1", static_membership=IN_SLOTS)
    other = stack.worker(static_membership=IN_SLOTS)
    builtin = shelf.write()
    second = shelf.write(0.9)
    with feeding(stack, load):
        stack.wait_committed(300)
        announce(stack, second)
        row.happened()
        await_serving(other, second)
        assert victim.exit_code() == -signal.SIGKILL
        stack.restart(victim)
        wait_for(lambda: serves(victim, second), f"it begins with what is announced\n{victim.said[-2000:]}")
        stack.wait_ready(victim, other)
        announce(stack, builtin)
        for worker in (victim, other):
            await_serving(worker, builtin)
            assert worker.metric("kindred_swaps_total") >= 1
    stack.wait_done()

    row.audit(stack)
    assert {builtin.name, second.name} == {
        decode_recommendation(record.value, record.key, record.headers).release
        for record in stack.records(RECOMMENDATIONS)
    }


def test_a_bad_release_is_refused_while_running_and_by_a_worker_that_starts(stack: Stack, number: int) -> None:
    load, shelf = Load(number, partitions=PARTITIONS), Shelf(stack.directory)
    worker = stack.worker()
    stack.wait_ready(worker)
    good, bad = shelf.write(0.9), shelf.write(0.5)
    announce(stack, good)
    await_serving(worker, good)
    announce(stack, bad, sha256="f" * 64)
    wait_for(lambda: refused(worker), "it is refused", SERVED_S)
    assert worker.ready()
    assert f"the announced release {bad.name} is not served" in worker.readiness()
    worker.kill()
    stack.produce(load.take(200))
    stack.restart(worker)
    stack.wait_ready(worker)
    assert serves(worker, good)
    assert refused(worker)
    assert f"serving {good}, the last release of this group, instead" in worker.said
    stack.wait_done()


def announce(stack: Stack, release: Path, **changes: Any) -> None:
    stack.send(MODEL_RELEASES, CURRENT.encode(), encode(announcement(release, **changes)))


def serves(worker: WorkerProcess, release: Path) -> bool:
    return worker.metric("kindred_release_info", release=release.name) == 1


def await_serving(worker: WorkerProcess, release: Path) -> None:
    wait_for(lambda: serves(worker, release), lambda: f"{release.name} is served\n{worker.said[-2000:]}", SERVED_S)


def refused(worker: WorkerProcess) -> bool:
    return worker.metric("kindred_releases_refused_total", reason="checksum") == 1
