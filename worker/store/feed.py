"""Reading Redis for the index: everything once (snapshot), then what changed since (the feed).

The cursors of a snapshot are read before it scans, and the feed is read before its head: whatever happens in between
comes again with the next piece and is never lost. Knows nothing of what the index does with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from math import inf
from struct import pack
from typing import Final, TypeVar

import numpy as np

from model.index import Changes
from model.item_table import ItemRow
from model.users import Stored, UserKey
from worker.store.base import FeedLost
from worker.store.connection import Command, Connection, pairs
from worker.store.keys import ShardKeys, hash_bytes, shard_of_hash, user_of
from worker.store.popularity import log2_sum

PIECE: Final = 1000
"""Users or items read in one round trip: about 1.5 MB at 384 dimensions."""

FEED_PIECE: Final = 16_384
"""Most entries of a shard's feed taken in one call, so that a reader that fell behind does not take it all at once."""

OWN_SCORES: Final = 65_536
"""Scores of own calls remembered a shard: half an hour at 30 batches a second, if the feed is not read meanwhile."""

_NOTHING: Final = pack("<dd", -inf, 0.0)
"""The aggregates of an item that a shard has not seen."""

_T = TypeVar("_T")
_Load = Callable[[Sequence[UserKey]], list[Stored]]


class FeedReader:
    """Reads one space. Not for two threads at a time."""

    def __init__(self, connection: Connection, shards: Sequence[ShardKeys], pattern: bytes, load: _Load) -> None:
        self._connection = connection
        self._shards = shards
        self._pattern = pattern
        self._load = load
        self._own: list[dict[float, None]] = [{} for _ in shards]

    def remember(self, shard: int, score: float) -> None:
        """A call of this store made this score: its users are left out of `changes`."""
        own = self._own[shard]
        own[score] = None
        if len(own) > OWN_SCORES:
            del own[next(iter(own))]

    def users(self) -> Iterator[list[UserKey]]:
        """See Store.users."""
        for keys in self._scan((b"SCAN",), (b"MATCH", self._pattern)):
            yield [user_of(key) for key in keys]

    def snapshot(self) -> Iterator[Changes]:
        cursors = tuple(float(last or 0) for (last,) in self._heads(b"last"))
        for users in self.users():
            stored = zip(users, self._load(users), strict=True)
            yield Changes(cursors, users=[(user, value.state) for user, value in stored if value.state])
        for shard in self._shards:
            for ids in self._scan((b"HSCAN", shard.item_ids)):
                yield Changes(cursors, items=self._rows([_number(item) for item in pairs(ids)]))
            for names in self._scan((b"HSCAN", shard.label_names)):
                yield Changes(cursors, labels=[(_number(label), text.decode()) for label, text in pairs(names).items()])
        yield Changes(cursors)

    def since(self, cursors: tuple[float, ...]) -> Changes:
        """See Store.changes. Takes at most FEED_PIECE entries a shard, whole scores only; the rest comes next time.

        Raises FeedLost where a cursor is older than what the feed still has, above its highest score, or from before
        the shard was emptied; ValueError for a wrong number of cursors.
        """
        if len(cursors) != len(self._shards):
            raise ValueError(f"{len(cursors)} cursors for {len(self._shards)} shards")
        entries = self._entries(cursors)
        for shard, (last, trimmed, began) in enumerate(self._heads(b"last", b"trimmed", b"began")):
            self._check(shard, cursors[shard], float(last or 0), float(trimmed or 0), float(began or 0))
        users: list[UserKey] = []
        items: dict[int, None] = {}
        labels: dict[int, None] = {}
        for shard, rows in enumerate(entries):
            own = self._own[shard]
            for score in [score for score in own if score <= cursors[shard]]:
                del own[score]
            for member, score in rows:
                if member[:1] == b"u":
                    if score not in own:
                        users.append(member[1:])
                else:
                    (items if member[:1] == b"i" else labels)[_number(member[1:])] = None
        states = [stored.state for piece in _pieces(users) for stored in self._load(piece)]
        return Changes(
            cursors=tuple(rows[-1][1] if rows else cursor for rows, cursor in zip(entries, cursors, strict=True)),
            users=list(zip(users, states, strict=True)),
            items=[row for piece in _pieces(list(items)) for row in self._rows(piece)],
            labels=self._texts(list(labels)),
        )

    def _entries(self, cursors: tuple[float, ...]) -> list[list[tuple[bytes, float]]]:
        """Per shard the (member, score) above the cursor, by rising score; never a part of a score."""

        def ranges(bounds: Sequence[tuple[int, bytes, bytes]], *limit: bytes | int) -> list[list[tuple[bytes, float]]]:
            commands: list[Command] = [
                (b"ZRANGEBYSCORE", self._shards[shard].feed, low, high, b"WITHSCORES", *limit)
                for shard, low, high in bounds
            ]
            answers = self._connection.ask(commands) if commands else []
            return [[(flat[n], float(flat[n + 1])) for n in range(0, len(flat), 2)] for flat in answers]

        above = [(shard, b"(%d" % int(cursor), b"+inf") for shard, cursor in enumerate(cursors)]
        entries = ranges(above, b"LIMIT", 0, FEED_PIECE)
        cut = [shard for shard, rows in enumerate(entries) if len(rows) == FEED_PIECE]
        highest = {shard: entries[shard][-1][1] for shard in cut}
        whole = ranges([(shard, b"%d" % int(score), b"%d" % int(score)) for shard, score in highest.items()])
        for shard, last in zip(cut, whole, strict=True):
            # Members of the last score may have moved on meanwhile; the score itself has then been read.
            rest = [row for row in entries[shard] if row[1] < highest[shard]]
            entries[shard] = rest + (last or entries[shard][-1:])
        return entries

    def _check(self, shard: int, cursor: float, last: float, trimmed: float, began: float) -> None:
        if cursor > last:
            reason = "its highest score fell"
        elif 0 < cursor < began:
            reason = "the shard was emptied since"
        elif cursor < trimmed:
            reason = "the cursor is older than the feed"
        else:
            return
        raise FeedLost(
            f"feed of shard {shard}: {reason} (cursor {cursor:.0f}, highest {last:.0f}); read the snapshot again"
        )

    def _heads(self, *fields: bytes) -> list[list[bytes | None]]:
        return self._connection.ask([(b"HMGET", shard.head, *fields) for shard in self._shards])

    def _scan(self, command: tuple[bytes, ...], options: tuple[bytes, ...] = ()) -> Iterator[list[bytes]]:
        """Non-empty pieces of a SCAN or HSCAN."""
        cursor = b"0"
        while True:
            ((cursor, found),) = self._connection.ask([(*command, cursor, *options, b"COUNT", PIECE)])
            if found:
                yield found
            if cursor == b"0":
                return

    def _rows(self, items: Sequence[int]) -> list[ItemRow]:
        """Those of at most a few thousand items that have a catalogue entry; aggregates summed over the shards."""
        if not items:
            return []
        names = [hash_bytes(item) for item in items]
        at_home: list[list[int]] = [[] for _ in self._shards]
        for n, item in enumerate(items):
            at_home[shard_of_hash(item, len(self._shards))].append(n)
        commands: list[Command] = [(b"HMGET", shard.aggregates, *names) for shard in self._shards]
        homes = [(shard, places) for shard, places in zip(self._shards, at_home, strict=True) if places]
        for shard, places in homes:
            here = [names[n] for n in places]
            commands += [(b"HMGET", key, *here) for key in (shard.item_ids, shard.titles, shard.vectors)]
        answers = self._connection.ask(commands)
        sums, catalogue = answers[: len(self._shards)], answers[len(self._shards) :]
        packed = b"".join(value or _NOTHING for row in sums for value in row)
        weights, users = (
            np.frombuffer(packed, "<f8").reshape(len(sums), len(items), 2).transpose(2, 0, 1)
        )  # (S, N) each
        popularity, users = log2_sum(weights), users.sum(axis=0)  # (N,)
        rows = []
        for home, (_, places) in enumerate(homes):
            for n, item_id, title, vector in zip(places, *catalogue[3 * home : 3 * home + 3], strict=True):
                if item_id is not None:
                    text = title.decode() if title else None
                    rows.append(
                        ItemRow(items[n], item_id.decode(), text, float(popularity[n]), int(users[n]), vector or b"")
                    )
        return rows

    def _texts(self, labels: list[int]) -> list[tuple[int, str]]:
        homes: list[list[int]] = [[] for _ in self._shards]
        for label in labels:
            homes[shard_of_hash(label, len(self._shards))].append(label)
        asked = [(shard, here) for shard, here in zip(self._shards, homes, strict=True) if here]
        if not asked:
            return []
        answers = self._connection.ask([(b"HMGET", s.label_names, *(hash_bytes(n) for n in here)) for s, here in asked])
        found = zip((label for _, here in asked for label in here), (t for a in answers for t in a), strict=True)
        return [(label, text.decode()) for label, text in found if text is not None]


def _number(name: bytes) -> int:
    return int.from_bytes(name, "little")


def _pieces(items: list[_T]) -> Iterator[list[_T]]:
    for start in range(0, len(items), PIECE):
        yield items[start : start + PIECE]
