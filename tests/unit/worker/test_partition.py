"""The states of a partition, leases, and waiting for what is under way."""

from __future__ import annotations

import pytest

from worker.decode import Breaker
from worker.partition import TRANSITIONS, InFlight, Lease, Partition, PartitionState


def partition(state: PartitionState = PartitionState.ASSIGNED) -> Partition:
    return Partition(0, Breaker(in_a_row=1, window=1, share=1.0), state)


@pytest.mark.parametrize("state", PartitionState)
@pytest.mark.parametrize("to", PartitionState)
def test_only_the_transitions_of_the_diagram_are_possible(state: PartitionState, to: PartitionState) -> None:
    made = partition(state)
    if to in TRANSITIONS[state]:
        made.move(to)
        assert made.state is to
    else:
        with pytest.raises(ValueError, match=f"from {state} to {to}"):
            made.move(to)


@pytest.mark.parametrize("state", [state for state in PartitionState if state is not PartitionState.REVOKED])
def test_every_partition_can_be_taken_away(state: PartitionState) -> None:
    partition(state).move(PartitionState.REVOKED)


def test_records_are_wanted_while_healing_and_running_only() -> None:
    assert {s for s in PartitionState if partition(s).reads} == {PartitionState.HEALING, PartitionState.RUNNING}


def test_ending_a_lease_tells_everyone_who_holds_it() -> None:
    made, lease = partition(), Lease(0, 0, 0)
    made.lease = lease
    made.end_lease()
    assert not lease.alive
    made.end_lease()


def in_flight(*leases: Lease) -> InFlight:
    made = InFlight()
    for lease in leases:
        made.hold(lease)
    return made


def test_a_revocation_with_nothing_under_way_is_done_at_once() -> None:
    lease = Lease(0, 0, 0)
    assert in_flight(lease).drained(frozenset({0})).done()
    assert not lease.alive


def test_a_revocation_waits_for_every_batch_that_holds_the_partition() -> None:
    lease, other = Lease(0, 0, 0), Lease(1, 0, 0)
    made = in_flight(lease, other)
    assert made.enter([lease, other])
    assert made.enter([lease])
    future = made.drained(frozenset({0}))
    made.leave([0, 1])
    assert not future.done()
    assert lease.alive, "what is under way is still committed"
    made.leave([0])
    assert future.done()
    assert (lease.alive, other.alive) == (False, True)


def test_no_batch_sets_out_with_a_partition_that_is_being_taken_away() -> None:
    lease, other = Lease(0, 0, 0), Lease(1, 0, 0)
    made = in_flight(lease, other)
    made.enter([lease])
    made.drained(frozenset({0}))
    assert not made.enter([lease, other])
    assert not made.busy([1])
    assert made.enter([other])


def test_who_gives_up_waiting_ends_the_leases() -> None:
    lease = Lease(0, 0, 0)
    made = in_flight(lease)
    made.enter([lease])
    future = made.drained(frozenset({0}))
    future.cancel()
    assert not lease.alive
    made.leave([0])
    assert not made.busy([0])


def test_a_partition_that_is_lost_ends_its_lease_at_once() -> None:
    lease = Lease(0, 0, 0)
    made = in_flight(lease)
    made.enter([lease])
    made.lost(frozenset({0, 5}))
    assert not lease.alive


def test_a_partition_that_comes_back_has_a_lease_of_its_own() -> None:
    old, new = Lease(0, 0, 0), Lease(0, 0, 0)
    made = in_flight(old)
    made.drained(frozenset({0}))
    made.hold(new)
    assert made.enter([new])
    assert not made.enter([old])


def test_when_nothing_will_be_finished_any_more_nobody_waits() -> None:
    lease = Lease(0, 0, 0)
    made = in_flight(lease)
    made.enter([lease])
    future = made.drained(frozenset({0}))
    made.abandon()
    assert future.done()
    assert made.drained(frozenset({0})).done()
