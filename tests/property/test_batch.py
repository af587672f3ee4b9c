"""However entries come, batches hold all of them in order and keep their limits."""

from __future__ import annotations

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from worker.batch import Batch, Batcher
from worker.broker.base import Record
from worker.decode import Entry
from worker.partition import Lease

ARRIVALS = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 50), st.floats(0, 2)), max_size=60)
"""(partition, tokens, seconds since the one before)."""


@given(ARRIVALS, st.integers(1, 10), st.integers(1, 200))
def test_nothing_is_lost_reordered_or_too_large(
    arrivals: list[tuple[int, int, float]], max_events: int, max_tokens: int
) -> None:
    batcher = Batcher(max_events=max_events, max_tokens=max_tokens, max_age=1.0)
    leases = [Lease(number, 0, 0) for number in range(3)]
    offsets: Counter[int] = Counter()
    entries: list[Entry] = []
    batches: list[Batch | None] = []
    now = 0.0
    for partition, tokens, gap in arrivals:
        now += gap
        if batcher.due(now):
            batches.append(batcher.close())
        entry = Entry(Record("t", partition, offsets[partition], 0, b"u", b""), tokens=np.zeros(tokens, np.int32))
        offsets[partition] += 1
        entries.append(entry)
        batches.append(batcher.add(entry, leases[partition], now))
    batches.append(batcher.close())
    closed = [batch for batch in batches if batch is not None]
    assert [id(entry) for batch in closed for entry in batch.entries] == [id(entry) for entry in entries]
    passed: dict[int, int] = {}
    for batch in closed:
        count, longest = len(batch.entries), max(entry.length for entry in batch.entries)
        assert count <= max_events
        assert count * longest <= max_tokens or count == 1
        ends = {entry.record.partition: entry.record.offset + 1 for entry in batch.entries}
        assert batch.next_offsets == ends
        assert set(batch.leases) == set(ends)
        assert all(offset > passed.get(partition, 0) for partition, offset in ends.items()), "offsets only rise"
        passed |= ends


@given(ARRIVALS, st.sets(st.integers(0, 2)))
def test_ended_leases_take_their_entries_along_and_nothing_else(
    arrivals: list[tuple[int, int, float]], ended: set[int]
) -> None:
    batch = Batch(0.0)
    leases = [Lease(number, 0, 0) for number in range(3)]
    for offset, (partition, _, _) in enumerate(arrivals):
        batch.add(Entry(Record("t", partition, offset, 0, b"u", b"")), leases[partition])
    wanted = [entry for entry in batch.entries if entry.record.partition not in ended]
    for number in ended:
        leases[number].alive = False
    batch.drop_dead()
    assert [id(entry) for entry in batch.entries] == [id(entry) for entry in wanted]
    assert set(batch.next_offsets) == set(batch.leases) == {entry.record.partition for entry in wanted}
