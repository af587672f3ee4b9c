"""Too many bad records in a row pause their partition, and no other, until an operator has looked."""

from __future__ import annotations

import pytest

from model.encoder.dummy import DummyEncoder
from schemas.topics import USER_TEXT
from tests.fault.comparison import KEY
from tests.fault.counts import POISON, deadline
from tests.fault.harness import PARTITIONS, Stack
from tests.fault.load import Load
from tests.fault.processes import wait_for
from tests.fault.tally import Tally
from worker.decode import decode

pytestmark = [pytest.mark.embedded, pytest.mark.redis8, pytest.mark.timeout(deadline(POISON, 0.02))]

PAUSED = 1


def test_a_flood_of_bad_records_pauses_only_its_partition_until_they_are_accepted(
    stack: Stack, number: int, tally: Tally
) -> None:
    load = Load(number, partitions=PARTITIONS)
    row = tally("flood of poison in one partition")
    stack.produce([*load.take(400), *load.bad(POISON, PAUSED), *load.take(400)])
    row.happened(POISON)
    worker = stack.worker()
    wait_for(lambda: worker.metric("kindred_partitions", state="paused") == 1, "a partition is paused", 60)
    stack.wait_done(except_for=[PAUSED])
    hundredth = _hundredth_in_a_row(stack)
    wait_for(lambda: stack.committed()[PAUSED] == hundredth, "what came before the hundredth went its way")
    assert f"kindred dlq accept {PAUSED}" in worker.readiness()
    worker.kill()
    stack.restart(worker)
    wait_for(
        lambda: worker.metric("kindred_partitions", state="paused") == 1, "it is paused in the next worker too", 60
    )
    assert stack.committed()[PAUSED] == hundredth

    store = stack.store(DummyEncoder().space)
    store.note(f"accept:{PAUSED}", str(stack.ends[PAUSED]))
    store.close()
    stack.wait_done()
    row.audit(stack)
    wait_for(worker.ready, "the worker is ready again")


def _hundredth_in_a_row(stack: Stack) -> int:
    run = 0
    for record in stack.records(USER_TEXT):
        if record.partition == PAUSED:
            run = run + 1 if decode(record, KEY).dead is not None else 0
            if run == 100:
                return record.offset
    raise AssertionError("no hundred bad records in a row")
