"""Records that were made wrong: each is an event, a tombstone or one dead letter, and nothing else happens."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import seed as seeded
from hypothesis import strategies as st

from schemas.dead_letter import dead_letter, read_dead_letter
from schemas.errors import Reason
from schemas.topics import USER_TEXT
from tests.fault.comparison import KEY
from tests.fault.counts import MUTATIONS, MUTATIONS_SENT, deadline
from tests.fault.harness import PARTITIONS, Stack
from tests.fault.load import Load, seed
from tests.fault.mutate import mutated
from tests.fault.tally import Tally
from worker.broker.base import Record
from worker.decode import decode

pytestmark = [pytest.mark.apache, pytest.mark.redis8, pytest.mark.timeout(deadline(MUTATIONS, 0.05))]

NUMBER = seed()
MAX_BYTES = 1_000_000


@seeded(NUMBER)
@settings(max_examples=MUTATIONS, suppress_health_check=list(HealthCheck), database=None, print_blob=True)
@given(st.integers(0, 2**32), st.randoms(use_true_random=False))
def test_whatever_was_done_to_a_record_it_is_read_or_becomes_a_dead_letter(which: int, pick: Random) -> None:
    sending = mutated(Load(which, partitions=PARTITIONS).take(1)[0], pick)
    record = Record("user-text", 0, 7, sending.timestamp_ms, sending.key, sending.value, sending.headers)
    entry = decode(record, KEY)

    if entry.dead is None:
        assert entry.log is not None
        assert entry.log.erases == (entry.event is None)
        return
    assert entry.event is None
    assert entry.log is None
    assert entry.dead.reason in Reason
    raw = dead_letter(record, entry.dead.reason, str(entry.dead), "worker", MAX_BYTES)
    letter = read_dead_letter(raw.headers, raw.key, raw.value)
    assert (letter.value, letter.key, letter.offset) == (record.value, record.key, 7)


def test_mutated_records_among_good_ones_cost_a_dead_letter_each_and_nothing_else(
    stack: Stack, number: int, tally: Tally
) -> None:
    load, pick = Load(number, partitions=PARTITIONS), Random(number)
    row = tally("mutated records among good ones")
    sendings = [*load.take(MUTATIONS_SENT), *(mutated(each, pick) for each in load.take(MUTATIONS_SENT))]
    pick.shuffle(sendings)
    stack.produce(sendings)
    row.happened(MUTATIONS_SENT)
    worker = stack.worker(dead_letters_in_a_row="1000000", dead_letters_share="1")
    stack.wait_done()

    row.audit(stack, undisturbed=True)
    assert any(decode(record, KEY).dead is not None for record in stack.records(USER_TEXT))
    assert worker.alive
