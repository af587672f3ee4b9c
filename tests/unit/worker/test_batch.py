"""Batches: what closes them, and what leaves them."""

from __future__ import annotations

import numpy as np

from worker.batch import Batcher
from worker.broker.base import Record
from worker.decode import Entry
from worker.partition import Lease

LEASE = Lease(0, 0, 0)


def entry(offset: int, tokens: int = 5, partition: int = 0) -> Entry:
    return Entry(Record("t", partition, offset, 0, b"u", b""), tokens=np.zeros(tokens, np.int32))


def batcher(*, events: int = 100, tokens: int = 10_000, age: float = 1.0) -> Batcher:
    return Batcher(max_events=events, max_tokens=tokens, max_age=age)


def test_a_batch_is_closed_when_one_more_event_would_be_too_many() -> None:
    made = batcher(events=2)
    assert made.add(entry(0), LEASE, 0.0) is None
    assert made.add(entry(1), LEASE, 0.0) is None
    closed = made.add(entry(2), LEASE, 0.0)
    assert closed is not None
    assert [e.record.offset for e in closed.entries] == [0, 1]
    assert closed.next_offsets == {0: 2}


def test_padding_counts_towards_the_tokens() -> None:
    made = batcher(tokens=30)
    assert made.add(entry(0, 5), LEASE, 0.0) is None
    assert made.add(entry(1, 5), LEASE, 0.0) is None
    closed = made.add(entry(2, 20), LEASE, 0.0)
    assert closed is not None, "three texts padded to 20 tokens would be 60"
    assert len(closed.entries) == 2


def test_a_single_text_over_the_limit_travels_alone() -> None:
    made = batcher(tokens=30)
    assert made.add(entry(0, 100), LEASE, 0.0) is None
    closed = made.add(entry(1, 1), LEASE, 0.0)
    assert closed is not None
    assert [e.record.offset for e in closed.entries] == [0]


def test_a_batch_is_due_when_its_first_event_has_waited_long_enough() -> None:
    made = batcher(age=2.0)
    assert (made.due(100.0), made.wait(100.0)) == (False, None)
    made.add(entry(0), LEASE, 10.0)
    made.add(entry(1), LEASE, 11.5)
    assert (made.due(11.9), made.wait(11.5)) == (False, 0.5)
    assert (made.due(12.0), made.wait(13.0)) == (True, 0.0)


def test_a_closed_batch_is_handed_out_once() -> None:
    made = batcher()
    made.add(entry(0), LEASE, 0.0)
    assert made.close() is not None
    assert made.close() is None


def test_what_is_held_under_an_ended_lease_is_forgotten_and_the_rest_stays() -> None:
    made = batcher()
    other = Lease(1, 0, 0)
    made.add(entry(0), LEASE, 0.0)
    made.add(entry(7, partition=1), other, 0.0)
    batch = made.close()
    assert batch is not None
    other.alive = False
    batch.drop_dead()
    assert [e.record.partition for e in batch.entries] == [0]
    assert batch.next_offsets == {0: 1}
    assert batch.leases == {0: LEASE}


def test_a_partition_that_is_dropped_leaves_no_empty_batch_behind() -> None:
    made = batcher()
    made.add(entry(0), LEASE, 0.0)
    made.drop(0)
    assert made.close() is None
    assert made.wait(0.0) is None
