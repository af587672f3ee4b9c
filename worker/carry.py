"""Users whose events the log no longer has, carried over into a new space: how many events they wrote and which their
first ones were belongs to no space, and without it an old user would come back as a newcomer.

What belongs to the old space, the vector, is left behind. Where the log still has everything nothing is carried: the
back-fill finds it all again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

import numpy as np

from model.users import Stored, UserKey, UserWrite
from schemas.state import UserState, pack_position, pack_state, unpack_place
from worker.store.base import Store, Write

log = logging.getLogger(__name__)

_EMPTY: Final = float("-inf")


class Carry:
    """open_old: the store of the space in service, for this use alone. dimension: of the new space's vectors."""

    def __init__(self, open_old: Callable[[], Store], dimension: int) -> None:
        self._open_old = open_old
        self._dimension = dimension

    def over(self, new: Store, begins: Mapping[int, int], began: Mapping[int, int]) -> None:
        """Before the back-fill: who is in the new space already stays as he is there.

        begins: partition → the log's first offset. began: partition → where the group once began. Raises
        StoreUnavailable; what was done then is not done again.
        """
        if not any(begin > began.get(partition, 0) for partition, begin in begins.items()):
            return
        count, old = 0, self._open_old()
        try:
            for users in old.users():
                found = zip(users, old.load(users), strict=True)
                writes = [write for user, stored in found if (write := carried(user, stored, begins, self._dimension))]
                refused = new.save(Write({}, [{} for _ in range(new.shards)], writes)) if writes else ()
                count += len(writes) - len(refused)
        finally:
            old.close()
        log.info("%d users with events that the log no longer has were carried over", count)


def carried(user: UserKey, stored: Stored, begins: Mapping[int, int], dimension: int) -> UserWrite | None:
    """What a user begins with in a space of this dimension; None where the log still tells all of it.

    A user without events left keeps all but the vector. Of one with some left the first K are kept that are gone, so
    that those that come from the log are counted on from there. Pure.
    """
    position, erased = unpack_place(stored.position)
    gone = {partition: offset for partition, offset in position.items() if offset < begins.get(partition, 0)}
    # So that what the log still has is applied.
    before = gone | {
        partition: begins[partition] - 1
        for partition in position
        if partition not in gone and begins.get(partition, 0) > 0
    }
    place = pack_position(before, erased)
    state = stored.state
    if state is None:
        return UserWrite(user, b"", place, None) if erased is not None and before else None
    lost = tuple((partition, offset) for partition, offset in state.first if offset < begins.get(partition, 0))
    if not lost:
        return None
    empty = np.zeros(dimension, np.float16)
    if len(gone) == len(position):
        kept = replace(state, vector=empty, weight=_EMPTY)
        return UserWrite(
            user, b"", place, pack_state(kept), entered=kept.items, labels=tuple(sorted(kept.labels.items()))
        )
    kept = UserState(empty, seen_at=state.seen_at, count=len(lost), first=lost)
    return UserWrite(user, b"", place, pack_state(kept))
