"""The Redis value: what is remembered of one user, and its bytes.

A user is two byte strings. The *position* says where the user stands in the log (partition → last applied offset) and
is compared, as bytes, by the save script. The *state* is everything else. A user who was erased has a position, with
the time of the erasure, and no state.

This module knows nothing of Redis, of the space or of what the numbers are used for; `model/update.py` makes them.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Final

import numpy as np
from numpy.typing import NDArray

from schemas.errors import SchemaError

FORMAT: Final = 1
"""Version of the bytes below. A reader refuses a higher one; two versions of workers may run side by side."""

MAX_ITEMS: Final = 32
MAX_LABELS: Final = 16
MAX_EVENT_IDS: Final = 16
MAX_FIRST: Final = 32
"""Upper bound of K: the positions of a user's first K events are kept so that a replay answers the same events."""

_HEAD: Final = struct.Struct("<BBBBBxHdqqI")
_POSITION: Final = struct.Struct("<IQ")
_NO_WEIGHT: Final = float("-inf")

_ERASED: Final = 0xFFFF_FFFF
"""In a packed position, where a partition's number stands: the last erasure follows and not an offset. A version that
does not know it takes it for one more partition, and leaves it as it is."""
_ERASED_IN: Final = 20
"""Bits of an erasure's partition, under its time."""

Position = dict[int, int]
"""Partition → offset of the last event that was applied."""
Erasure = tuple[int, int]
"""Kafka timestamp (milliseconds) and partition of the newest tombstone of a user. Without it an older event that is
read later, from another partition, would bring the user back."""


class StateFormatError(SchemaError, ValueError):
    """Bytes in Redis that this version cannot read."""


@dataclass(slots=True)
class UserState:
    """What is known of one user.

    vector: (D,) float16, the decayed mean of the user's text vectors in the encoder's space, rounded after every event;
        all zeros when nothing has moved it.
    weight: log2 of the mean's forward-decayed weight (landmark and half-life in `model/update.py`); -inf when empty.
    last_time, seen_at: newest `occurred_at` and newest Kafka timestamp, milliseconds since 1970.
    count: events applied, all partitions together.
    first: (partition, offset) of the first K events in the order in which they were applied.
    items: 64-bit hashes of the most recent items, oldest first, each at most once.
    labels: 64-bit hash of a label → summed weight of the events that carried it.
    event_ids: 64-bit hashes of the last event ids that a producer gave, oldest first.
    """

    vector: NDArray[np.float16]
    weight: float = _NO_WEIGHT
    last_time: int = 0
    seen_at: int = 0
    count: int = 0
    first: tuple[tuple[int, int], ...] = ()
    items: tuple[int, ...] = ()
    labels: dict[int, float] = field(default_factory=dict)
    event_ids: tuple[int, ...] = ()


def hash64(text: str) -> int:
    """64-bit hash of an item, label or event id; stable across machines and releases."""
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little")


def pack_position(position: Position, erased: Erasure | None = None) -> bytes:
    """Position → bytes, the same bytes for the same position (sorted by partition); empty for a user never seen."""
    if len(position) == 1 and erased is None:
        ((partition, offset),) = position.items()
        return _POSITION.pack(partition, offset)
    packed = b"".join(_POSITION.pack(p, position[p]) for p in sorted(position))
    if erased is not None:
        timestamp, partition = erased
        packed += _POSITION.pack(_ERASED, max(0, timestamp) << _ERASED_IN | partition)
    return packed


def unpack_position(data: bytes) -> Position:
    """Raises StateFormatError."""
    return unpack_place(data)[0]


def unpack_place(data: bytes) -> tuple[Position, Erasure | None]:
    """Where a user stands, and the user's last erasure. Raises StateFormatError."""
    if len(data) % _POSITION.size:
        raise StateFormatError(f"a position of {len(data)} bytes is not a multiple of {_POSITION.size}")
    position = dict(_POSITION.iter_unpack(data))
    packed = position.pop(_ERASED, None)
    return position, None if packed is None else (packed >> _ERASED_IN, packed & ((1 << _ERASED_IN) - 1))


def pack_state(state: UserState) -> bytes:
    """State → bytes: a fixed head, then first-K positions, items, labels, event ids and the vector."""
    first, items, labels, ids = state.first, state.items, state.labels, state.event_ids
    head = _HEAD.pack(
        FORMAT, len(first), len(items), len(labels), len(ids), state.vector.shape[0],
        state.weight, state.last_time, state.seen_at, state.count,
    )  # fmt: skip
    body = struct.pack(
        f"<{'IQ' * len(first)}{len(items)}Q{len(ids)}Q{len(labels)}Q{len(labels)}f",
        *(n for pair in first for n in pair), *items, *ids, *labels.keys(), *labels.values(),
    )  # fmt: skip
    return head + body + state.vector.tobytes()


def unpack_state(data: bytes) -> UserState:
    """Bytes → state.

    Raises StateFormatError for another format version and for bytes of another length than their head says.
    """
    if data[:1] not in (b"", bytes([FORMAT])):
        raise StateFormatError(f"user state of format {data[0]}, this version reads {FORMAT}; upgrade the worker")
    try:
        _, n_first, n_items, n_labels, n_ids, dimension, weight, last_time, seen_at, count = _HEAD.unpack_from(data)
        layout = f"<{'IQ' * n_first}{n_items}Q{n_ids}Q{n_labels}Q{n_labels}f"
        numbers = struct.unpack_from(layout, data, _HEAD.size)
        vector = np.frombuffer(data, np.float16, dimension, _HEAD.size + struct.calcsize(layout))
    except (struct.error, ValueError) as error:
        raise StateFormatError(f"user state of {len(data)} bytes is cut off: {error}") from error
    if len(data) != _HEAD.size + struct.calcsize(layout) + vector.nbytes:
        raise StateFormatError(f"user state of {len(data)} bytes has {dimension} dimensions and something behind them")
    pairs, rest = numbers[: 2 * n_first], numbers[2 * n_first :]
    hashes = rest[n_items + n_ids : n_items + n_ids + n_labels]
    return UserState(
        vector=vector,
        weight=weight,
        last_time=last_time,
        seen_at=seen_at,
        count=count,
        first=tuple(zip(pairs[::2], pairs[1::2], strict=True)),
        items=rest[:n_items],
        labels=dict(zip(hashes, rest[n_items + n_ids + n_labels :], strict=True)),
        event_ids=rest[n_items : n_items + n_ids],
    )
