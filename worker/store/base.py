"""What the worker asks of the place where user states live. Redis keeps it in service, a dict in unit tests.

Rules that every store keeps (the contract suite in tests/contract checks them on each):

* **Compare and set.** A user's write names the position that it was computed from; where the stored one differs, that
  user's write (state, aggregates, feed) is refused and nothing of it is applied.
* **Chained watermarks.** A write names, for every shard and partition, the watermark that this worker left there; where
  the stored one is lower the shard writes nothing and the store raises FellBack. Otherwise the watermarks are raised
  on every shard, also where the batch has no user, but not where a user was refused: a watermark says that all below
  it has been applied. They never go down.
* **Aggregates** move only with a user's accepted write, in the same call.
* **The feed** gives, per shard, what changed since a cursor, in strictly increasing scores that the store makes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from model.index import Changes
from model.item_table import ItemEntry
from model.users import Stored, UserKey, UserWrite

Watermarks = list[dict[int, int]]
"""One dict a shard: partition → the next offset to read, as that shard has seen it. A missing one was never seen."""


@dataclass(frozen=True, slots=True)
class Write:
    """One batch. watermarks: partition → next offset to read, for every partition of the batch; left: see above."""

    watermarks: dict[int, int]
    left: Watermarks
    users: Sequence[UserWrite] = ()
    items: Sequence[ItemEntry] = ()
    labels: Sequence[tuple[int, str]] = ()


@dataclass(frozen=True, slots=True)
class Identity:
    """Whose state this is: the id of the log's topic, the id of this Redis' data and the ids it took over from."""

    topic_id: str
    instance: str
    previous: frozenset[str] = field(default_factory=frozenset)


class StoreError(Exception):
    """Base of what a store raises on its own account."""


class StoreUnavailable(StoreError):
    """The store did not answer, or refused for now (loading, read-only, out of memory): try again, nothing is known
    about whether the call took effect."""


class FellBack(StoreError):
    """A shard's watermark is lower than the one this worker left: the store has lost writes. Heal from the log."""


class FeedLost(StoreError):
    """The reader's cursor is older than the feed, or the feed's scores fell: reload everything."""


class StoreRefused(StoreError):
    """The store must not be used as it is: another number of shards, another topic, a wrong maxmemory policy. The text
    names the remedy."""


class Store(Protocol):
    """Calls are synchronous and made from one thread at a time per instance; StoreUnavailable from any of them means
    that the caller may repeat the same call."""

    shards: int

    def load(self, users: Sequence[UserKey]) -> list[Stored]:
        """What is stored of each user, in the given order."""
        ...

    def save(self, write: Write) -> set[int]:
        """Save one batch; returns the indices into write.users of refused writes. Raises FellBack (some shards may have
        written by then: the caller heals, and positions make the replay harmless)."""
        ...

    def watermarks(self) -> Watermarks:
        """The watermarks of every shard as stored now."""
        ...

    def identify(self, topic_id: str, previous: frozenset[str]) -> Identity:
        """Write (topic_id, instance id, previous) where nothing is stored yet; return what is stored. The instance is
        that of the other spaces beside it, a new one where there is none. Raises StoreRefused when another number of
        shards is stored."""
        ...

    def snapshot(self) -> Iterator[Changes]:
        """Everything, in bounded pieces; the last piece's cursors are where `changes` goes on without a gap."""
        ...

    def changes(self, cursors: tuple[float, ...]) -> Changes:
        """What changed since the cursors. Users whose latest change is an accepted write of this very store object are
        left out: its caller has them. An item or label may come again unchanged. Raises FeedLost."""
        ...

    def users(self) -> Iterator[list[UserKey]]:
        """All users that something is stored of, erased ones too, each at least once, in bounded pieces."""
        ...

    def keep(self) -> None:
        """This space is in use: keep it from now on for as long as unused spaces are kept."""
        ...

    def spaces(self) -> dict[str, tuple[int, bool]]:
        """The other spaces of the namespace, as their names are cut: (shards, whether somebody has kept it lately)."""
        ...

    def discard(self) -> Iterator[None]:
        """Remove all of this space, a bounded piece a step; nothing of one that is kept. Where somebody begins to fill
        it meanwhile, what is there by then stays and is healed."""
        ...

    def note(self, key: str, value: str | None) -> None:
        """Keep a small string beside the states (the release a group served, an operator's request); None deletes."""
        ...

    def noted(self, key: str) -> str | None: ...

    def close(self) -> None: ...
