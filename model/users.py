"""What a user is inside the service: a keyed hash, what is stored of it, and what a step of the log writes.

Knows neither where that is kept nor how it is computed.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from typing import Final

from schemas.state import UserState

USER_KEY_BYTES: Final = 16

UserKey = bytes
"""16 bytes: keyed hash of a user_id. The only name of a user inside store, index and logs."""


def user_key(user_id: str, secret: bytes) -> UserKey:
    """User id → 16 bytes, BLAKE2b keyed with the secret (at most 64 bytes, longer raises ValueError).

    Without the secret nobody who reads Redis can test whether a known user is in it.
    """
    return blake2b(user_id.encode(), digest_size=USER_KEY_BYTES, key=secret).digest()


@dataclass(frozen=True, slots=True)
class Stored:
    """What the store holds of one user. position is b"" for a user never seen; an erased user has a position only."""

    position: bytes = b""
    state: UserState | None = None


@dataclass(frozen=True, slots=True)
class UserWrite:
    """One user's new value, with the changes of the aggregates that go with it.

    expected, position: packed positions before and after. state: packed state, None to erase.
    entered, left: item hashes that this write added to and dropped from the user's recent items (users per item).
    popularity: (item hash, log2 of the forward-decayed weight) for each event that touched an item.
    labels: (label hash, weight) for each label of each applied event.
    """

    user: UserKey
    expected: bytes
    position: bytes
    state: bytes | None
    entered: tuple[int, ...] = ()
    left: tuple[int, ...] = ()
    popularity: tuple[tuple[int, float], ...] = ()
    labels: tuple[tuple[int, float], ...] = ()
