"""A worker freezes for longer than the session timeout and wakes with a full batch in hand, across tombstones."""

from __future__ import annotations

import signal

import pytest

from schemas.topics import USER_TEXT
from tests.fault.comparison import known
from tests.fault.counts import ZOMBIES
from tests.fault.harness import JOIN_S, PARTITIONS, Stack
from tests.fault.load import Load
from tests.fault.processes import wait_for
from tests.fault.tally import Tally

pytestmark = [pytest.mark.apache, pytest.mark.redis8]


@pytest.mark.parametrize("_nth", range(ZOMBIES))
@pytest.mark.parametrize("step", [5, 6, 7], ids=["before-it-saved", "before-it-published", "before-it-committed"])
def test_a_frozen_worker_that_wakes_up_brings_no_erased_user_back(
    stack: Stack, number: int, tally: Tally, step: int, _nth: int
) -> None:
    load = Load(number + _nth, partitions=PARTITIONS, users=5000)
    row = tally("SIGSTOP past the session timeout, then SIGCONT, across tombstones")
    stack.produce(load.take(1500))
    zombie = stack.worker(fail_point=f"{step}:30:stop")
    wait_for(lambda: zombie.frozen, "the worker froze with a batch in hand", JOIN_S)
    row.happened()
    erased = _users_in_hand(stack)
    assert erased
    stack.produce([load.tombstone(user) for user in erased])
    heir = stack.worker()
    stack.wait_done()
    committed = stack.committed()
    zombie.signal(signal.SIGCONT)
    wait_for(lambda: "revoked" in zombie.said, "the zombie knows that it lost its partitions", JOIN_S)
    wait_for(lambda: zombie.serves and heir.serves, "both share the partitions", JOIN_S)
    assert all(mark >= committed[number] for number, mark in stack.committed().items()), "commits went backwards"
    assert not [user for user in erased if known(stack, user)]
    stack.produce(load.take(300))
    stack.wait_done()

    row.audit(stack)


def _users_in_hand(stack: Stack) -> list[str]:
    """Users with an event in what the frozen worker was about to save, publish or commit: far fewer than 200 events are
    under way at a time."""
    committed = stack.committed()
    found = {
        record.key.decode()
        for record in stack.records(USER_TEXT)
        if record.key and 0 <= record.offset - committed[record.partition] < 200
    }
    return sorted(user for user in found if user.startswith("u"))
