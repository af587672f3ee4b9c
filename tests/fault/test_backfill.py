"""A release of another space is announced under load: it is filled beside the one in service and served, whoever dies
or leaves on the way, and nothing is lost or doubled."""

from __future__ import annotations

import signal
from collections.abc import Iterable
from pathlib import Path

import pytest

from model.encoder.dummy import DummyEncoder
from schemas.codec import decode_recommendation
from schemas.topics import RECOMMENDATIONS
from tests.fault.counts import FILLING_STEPS, deadline
from tests.fault.feed import feeding
from tests.fault.harness import IN_SLOTS, PARTITIONS, Stack
from tests.fault.load import Load
from tests.fault.processes import WorkerProcess, wait_for
from tests.fault.tally import Tally
from tests.fault.test_swap import announce, serves
from tests.unit.worker.releases import Shelf

pytestmark = [pytest.mark.embedded, pytest.mark.redis8]

SERVED_S = 60.0
NEW = DummyEncoder(128)


def await_all(workers: Iterable[WorkerProcess], release: Path) -> None:
    for worker in workers:
        wait_for(
            lambda worker=worker: serves(worker, release),  # type: ignore[misc]
            lambda worker=worker: f"{release.name} is served\n{worker.said[-3000:]}",  # type: ignore[misc]
            SERVED_S,
        )


def spaces_of(stack: Stack) -> set[str]:
    return {
        decode_recommendation(record.value, record.key, record.headers).space
        for record in stack.records(RECOMMENDATIONS)
    }


@pytest.mark.timeout(deadline(len(FILLING_STEPS), 40))
def test_a_new_space_is_served_in_the_end_although_a_worker_is_killed_at_every_step_of_its_back_fill(
    stack: Stack, number: int, tally: Tally
) -> None:
    load, shelf = Load(number, partitions=PARTITIONS), Shelf(stack.directory)
    row = tally("SIGKILL in the middle of a back-fill of another space")
    new = shelf.write(0.9, encoder=NEW.name)
    points = [f"{step}:2" for step in FILLING_STEPS]
    stack.produce(load.take(2_000))
    victim = stack.worker(static_membership=IN_SLOTS, fail_point=points[0])
    other = stack.worker(static_membership=IN_SLOTS)
    stack.wait_ready(victim, other)
    stack.wait_committed(2_000)
    with feeding(stack, load):
        announce(stack, new)
        for point in [*points[1:], None]:
            assert victim.exit_code(SERVED_S) == -signal.SIGKILL
            row.happened()
            stack.restart(victim, fail_point=point)
        stack.wait_ready(victim, other)
        await_all([victim, other], new)
    stack.wait_done()
    row.audit(stack, NEW)
    assert spaces_of(stack) == {DummyEncoder().space, NEW.space}


@pytest.mark.timeout(deadline(2, 60))
def test_workers_that_come_and_go_during_a_back_fill_and_going_back_leave_one_consistent_state(
    stack: Stack, number: int, tally: Tally
) -> None:
    load, shelf = Load(number, partitions=PARTITIONS), Shelf(stack.directory)
    row = tally("rebalance, and going back, in the middle of a back-fill")
    old, new, third = shelf.write(), shelf.write(0.9, encoder=NEW.name), shelf.write(0.9, encoder="dummy-32")
    stack.produce(load.take(2_000))
    one = stack.worker()
    stack.wait_ready(one)
    stack.wait_committed(2_000)
    with feeding(stack, load):
        announce(stack, new)
        begins(one, new)
        two = stack.worker()
        row.happened()
        announce(stack, third)
        begins(one, third)
        announce(stack, old)
        stack.wait_ready(one, two)
        wait_for(lambda: two.serves, "both have partitions", SERVED_S)
        await_all([one, two], old)
        announce(stack, new)
        begins(two, new)
        one.signal(signal.SIGTERM)
        row.happened()
        await_all([two], new)
    stack.wait_done()
    row.audit(stack, NEW)


def begins(worker: WorkerProcess, release: Path) -> None:
    wait_for(
        lambda: f"back-fill for release {release.name} begins" in worker.said,
        lambda: f"{release.name} is being filled\n{worker.said[-2000:]}",
        SERVED_S,
    )
