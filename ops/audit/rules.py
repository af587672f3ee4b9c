"""What an audit is told: the workers' settings that decide what must come out of a log, and how strict to be."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from model.users import UserKey


@dataclass(frozen=True, slots=True)
class Stretch:
    """Offsets [start, stop) of one partition of `user-text`."""

    partition: int
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class Rules:
    """now_ms: milliseconds since 1970, decides only what Redis may have let expire.
    start, newcomer_events, user_ttl_ms, secret, min_donors, answer_after_ms: as the workers are set.
    exactly_once: a read_committed reader must see no answer and no dead letter twice.
    undisturbed: nothing was ever killed, so that answers to users who were erased later are owed as well.
    sample: vectors are computed and compared for one user in so many, by the user's hash.
    skipped: records that an operator has skipped, so that they were not applied.
    unanswered: records that were applied and need no answer and no dead letter (a group that was set ahead by hand).
    """

    now_ms: int
    newcomer_events: int
    user_ttl_ms: int
    secret: bytes = field(default=b"", repr=False)
    start: Literal["earliest", "latest"] | datetime = "earliest"
    min_donors: int = 1
    answer_after_ms: int = 0
    exactly_once: bool = False
    undisturbed: bool = False
    sample: int = 1
    skipped: tuple[Stretch, ...] = ()
    unanswered: tuple[Stretch, ...] = ()

    def sampled(self, user: UserKey) -> bool:
        """By the first bytes of the hash; shards go by the last ones."""
        return self.sample <= 1 or int.from_bytes(user[:8], "little") % self.sample == 0


def within(stretches: tuple[Stretch, ...], partition: int, offset: int) -> bool:
    return any(s.partition == partition and s.start <= offset < s.stop for s in stretches)
