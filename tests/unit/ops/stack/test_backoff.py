from __future__ import annotations

from ops.stack.backoff import HEALTHY_SECONDS, MAX_SECONDS, Backoff


def test_pauses_grow_and_never_pass_five_seconds() -> None:
    backoff = Backoff()
    pauses = [backoff.died(0.1) for _ in range(50)]
    assert pauses == sorted(pauses)
    assert pauses[0] < 1.0
    assert pauses[-1] == MAX_SECONDS == 5.0


def test_a_process_that_ran_well_starts_anew_quickly() -> None:
    backoff = Backoff()
    first = backoff.died(0.1)
    for _ in range(10):
        backoff.died(0.1)
    assert backoff.died(HEALTHY_SECONDS) == first
