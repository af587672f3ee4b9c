"""One batch as the arguments of save.lua, one call a shard, and the meaning of what the script returns.

Pure; knows no connection. Lists are flat and filled without per-user objects: this runs for every user of every batch.
"""

from __future__ import annotations

from binascii import hexlify
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from struct import Struct
from typing import Final

from model.users import USER_KEY_BYTES, UserWrite
from worker.store.base import FellBack, Write
from worker.store.keys import ShardKeys, hash_bytes, shard_of_hash, shard_of_user

DAY_MS: Final = 24 * 3600 * 1000
MARKER_MS: Final = 7 * DAY_MS
"""How long the marker of an erased user stays: longer than any worker that lost its partition can be asleep."""

FEED_US: Final = 3600 * 1_000_000
"""How long an entry of the feed stays; a reader older than this reloads."""


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """users_ms: after its last write, 0 = for ever. markers_ms, feed_us: see the constants. space_ms: of a space that
    nobody serves."""

    users_ms: int
    markers_ms: int = MARKER_MS
    feed_us: int = FEED_US
    space_ms: int = 7 * DAY_MS


@dataclass(frozen=True, slots=True)
class SaveCall:
    """keys, arguments: KEYS and ARGV of save.lua. indices: place in write.users of each user key, in order."""

    keys: list[bytes]
    arguments: list[bytes]
    indices: list[int]


@dataclass(frozen=True, slots=True)
class Saved:
    """score: this call's place in the feed, 0 when it changed nothing. refused: indices into write.users."""

    score: float
    refused: list[int]


def save_calls(write: Write, shards: Sequence[ShardKeys], lifetimes: Lifetimes) -> list[SaveCall]:
    """One call for each shard, also for one without users: its watermarks rise too.

    Raises ValueError where write.left does not have one dict a shard, or a user key not its 16 bytes.
    """
    if len(write.left) != len(shards):
        raise ValueError(f"a write names what it left in each shard: {len(write.left)} dicts for {len(shards)} shards")
    n = len(shards)
    items: list[list[bytes]] = [[] for _ in shards]
    for entry in write.items:
        items[shard_of_hash(entry.item, n)] += (
            hash_bytes(entry.item), entry.item_id.encode(), (entry.title or "").encode(), entry.vector,
        )  # fmt: skip
    labels: list[list[bytes]] = [[] for _ in shards]
    for number, text in write.labels:
        labels[shard_of_hash(number, n)] += hash_bytes(number), text.encode()
    marks = _pairs(write.watermarks)
    ages = [b"%d" % ms for ms in (lifetimes.users_ms, lifetimes.markers_ms, lifetimes.feed_us)]
    calls = []
    for shard, names in enumerate(shards):
        left = _pairs(write.left[shard])
        counts = len(left) // 2, len(marks) // 2, len(items[shard]) // 4, len(labels[shard]) // 2
        arguments = [*ages, *(b"%d" % count for count in counts), *left, *marks, *items[shard], *labels[shard]]
        calls.append(SaveCall(_fixed_keys(names), arguments, []))
    targets = [
        (c.keys.append, c.arguments.extend, c.indices.append, s.user) for c, s in zip(calls, shards, strict=True)
    ]
    for index, user in enumerate(write.users):
        add_key, add_arguments, add_index, prefix = targets[shard_of_user(user.user, n)]
        add_key(prefix + hexlify(user.user))
        add_arguments((user.expected, user.position, user.state or b"", pack_changes(user)))
        add_index(index)
    return calls


def pack_changes(user: UserWrite) -> bytes:
    """User key, four counts, item hashes that entered and left, (hash, log2 weight) and (hash, weight) pairs."""
    if len(user.user) != USER_KEY_BYTES:
        raise ValueError(
            f"a user key of {len(user.user)} bytes; worker.store.keys.user_key makes one of {USER_KEY_BYTES}"
        )
    entered, left, popularity, labels = user.entered, user.left, user.popularity, user.labels
    n = len(entered), len(left), len(popularity), len(labels)
    layout = _layout(*n) if sum(n) <= MOST_CACHED else _layout.__wrapped__(*n)
    return layout.pack(user.user, *n, *entered, *left, *chain.from_iterable(popularity), *chain.from_iterable(labels))


def read_answer(answer: list[bytes | int], call: SaveCall, shard: int) -> Saved:
    """What save.lua returned for a shard. Raises FellBack."""
    if answer[0] == b"FELLBACK":
        partition, stored, left = (part.decode() for part in answer[1:] if isinstance(part, bytes))
        raise FellBack(
            f"shard {shard}: watermark of partition {partition} is {stored}, this worker left {left}: the store has "
            "lost writes; the partition must be replayed from the log"
        )
    refused = [call.indices[place] for place in answer[1:] if isinstance(place, int)]
    return Saved(float(answer[0] or 0), refused)


def _pairs(offsets: dict[int, int]) -> list[bytes]:
    return [b"%d" % number for pair in offsets.items() for number in pair]


def _fixed_keys(names: ShardKeys) -> list[bytes]:
    return [
        names.head, names.watermarks, names.feed, names.aggregates, names.label_weights, names.item_ids,
        names.titles, names.vectors, names.label_names,
    ]  # fmt: skip


MOST_CACHED: Final = 64
"""Changes of a user whose layout is kept: larger ones are rare, and a Struct takes memory for each of its fields."""


@lru_cache(maxsize=1024)
def _layout(entered: int, left: int, popularity: int, labels: int) -> Struct:
    return Struct(f"<16s4I{entered + left}Q{'Qd' * (popularity + labels)}")
