"""Names in Redis: the shard of a user, item or label, and the keys of a shard.

All keys of one shard carry the same hash tag, so that in a Redis Cluster they share a slot and one script may touch
them. This module knows neither Redis nor what the keys hold.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from model.users import USER_KEY_BYTES, UserKey

INSTANCE_NOTE: Final = "instance"
"""Under this name stands the id of the data in this Redis, of all spaces of the namespace together."""
SPACE_NOTE: Final = "space:"
"""What the names of notes begin with that say which spaces there are, and in how many shards."""
SPACE_CHARACTERS: Final = 12
"""48 bits of the space's hash: enough to keep apart the few spaces that ever share one Redis."""


def shard_of_user(user: UserKey, shards: int) -> int:
    return int.from_bytes(user, "big") % shards


def shard_of_hash(number: int, shards: int) -> int:
    """Where the catalogue entry of an item, or the text of a label, lives. (Its aggregates live with the users.)"""
    return number % shards


def hash_bytes(number: int) -> bytes:
    """64-bit hash → the 8 bytes that name it inside Redis; a Lua number would lose bits above 2^53."""
    return number.to_bytes(8, "little")


@dataclass(frozen=True, slots=True)
class ShardKeys:
    """The keys of one shard.

    Items and labels are named by their 8 bytes.
    head: hash: highest score of the feed, what was trimmed of it, when the shard began.
    watermarks: hash partition → next offset. feed: sorted set of "u" + user key, "i" + item, "l" + label.
    aggregates: hash item → log2 weight and users who have it among their recent items, two doubles.
    label_weights: hash label → summed weight, a double.
    item_ids, titles, vectors, label_names: hashes of the items and labels that live here.
    user: prefix of a user's key.
    """

    head: bytes
    watermarks: bytes
    feed: bytes
    aggregates: bytes
    label_weights: bytes
    item_ids: bytes
    titles: bytes
    vectors: bytes
    label_names: bytes
    user: bytes

    @classmethod
    def of(cls, namespace: str, space: str, shard: int) -> ShardKeys:
        prefix = f"{_prefix(namespace, space)}:{{s{shard:02d}}}:".encode()
        names = b"h", b"w", b"f", b"a", b"c", b"i", b"t", b"v", b"l", b"u:"
        return cls(*(prefix + name for name in names))

    def of_shard(self) -> tuple[bytes, ...]:
        """All keys but the users'."""
        return (
            self.head, self.watermarks, self.feed, self.aggregates, self.label_weights,
            self.item_ids, self.titles, self.vectors, self.label_names,
        )  # fmt: skip


def meta_key(namespace: str, space: str) -> bytes:
    """Hash with the topic's id, the instance, what it took over from and the number of shards."""
    return f"{_prefix(namespace, space)}:meta".encode()


def kept_key(namespace: str, space: str) -> bytes:
    """Lives for as long as the space is kept; whoever uses the space renews it."""
    return f"{_prefix(namespace, space)}:kept".encode()


def notes_key(namespace: str) -> bytes:
    """Hash of notes. They belong to the namespace, not to a space: a worker must read which release its group served
    before it knows any space."""
    return f"kindred:{_checked(namespace)}:notes".encode()


def users_pattern(namespace: str, space: str) -> bytes:
    """Glob that matches the keys of all users of a space, in every shard, and nothing else."""
    escaped = "".join(f"\\{c}" if c in "*?[]^\\" else c for c in _prefix(namespace, space))
    return f"{escaped}:{{s*}}:u:*".encode()


def user_of(key: bytes) -> UserKey:
    """The user that a key names; the reverse of ShardKeys.user + hex."""
    return bytes.fromhex(key[-2 * USER_KEY_BYTES :].decode())


def _prefix(namespace: str, space: str) -> str:
    return f"kindred:{_checked(namespace)}:{space[:SPACE_CHARACTERS]}"


def _checked(namespace: str) -> str:
    if "{" in namespace or "}" in namespace:
        raise ValueError(
            f"namespace {namespace!r} has a brace, which Redis Cluster would take for a hash tag; remove it"
        )
    return namespace
