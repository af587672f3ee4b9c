"""What the worker asks of the log. Kafka keeps it in service, a list in unit tests.

One `Reader` a worker, in its consumer group; one `Publisher`. A reader hands out new partitions **paused**: whoever
polls checks the watermarks, seeks, and only then resumes them. Callbacks of a rebalance come on a foreign thread and do
no I/O; see `RebalanceListener`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import NamedTuple, Protocol

# Part of this contract too; what is read without a group needs them as well.
from model.kafka.base import Bounds as Bounds
from model.kafka.base import BrokerRefused as BrokerRefused
from model.kafka.base import BrokerUnavailable as BrokerUnavailable
from model.kafka.base import Record as Record
from model.kafka.base import SlotTaken as SlotTaken
from schemas.headers import Headers


class OutRecord(NamedTuple):
    topic: str
    key: bytes | None
    value: bytes | None
    headers: Headers = ()


@dataclass(frozen=True, slots=True)
class Committed:
    """A committed position: the next offset to read, and the note that the committer left (None where the broker keeps
    none)."""

    offset: int
    metadata: str | None = None


class CommitRefused(Exception):
    """The offsets were not committed because the group is moving or this member is out of it.

    retry: the group is only rebalancing and this member may still own the partitions.
    """

    def __init__(self, text: str, *, retry: bool) -> None:
        super().__init__(text)
        self.retry = retry


class Undecided(Exception):
    """Nobody can tell whether a transaction was committed: what the log says next is true."""


class RecordTooLarge(Exception):
    """The broker takes no record of this size; sending it again will not help."""


class RebalanceListener(Protocol):
    """Called on the reader's own thread: must return at once and do no I/O."""

    def assigned(self, partitions: frozenset[int]) -> None: ...

    def revoked(self, partitions: frozenset[int]) -> Future[None]:
        """The future completes when nothing of these partitions is under way any more; the reader waits for it, at most
        for its drain deadline, then cancels it; only then the group goes on."""
        ...

    def lost(self, partitions: frozenset[int]) -> None:
        """The group has already given the partitions away: nothing can be committed any more."""
        ...


class Source(Protocol):
    """One topic's partitions, read from where one is set. All calls belong to one thread."""

    topic: str

    def partitions(self) -> Sequence[int]:
        """All partitions of the topic; empty when it does not exist."""
        ...

    def poll(self, timeout_s: float, max_records: int) -> Mapping[int, Sequence[Record]]:
        """Records by partition, in offset order. Raises BrokerUnavailable."""
        ...

    def joined(self) -> bool:
        """Whether this reader has its place (it may own nothing)."""
        ...

    def seek(self, partition: int, offset: int) -> None: ...

    def position(self, partition: int) -> int | None:
        """The offset that is polled next, also past offsets that hold no record; None when it is not known now."""
        ...

    def pause(self, partitions: Iterable[int]) -> None: ...

    def resume(self, partitions: Iterable[int]) -> None: ...

    def committed(self, partition: int) -> Committed | None:
        """What the group has committed."""
        ...

    def commits(self) -> dict[int, Committed]:
        """What the group has committed, of every partition, this worker's or not."""
        ...

    def bounds(self, partitions: Iterable[int]) -> dict[int, Bounds]: ...

    def ends(self, partitions: Iterable[int]) -> dict[int, int]:
        """Partition → the log's end as it is told without reading: cheap, for measuring lag; may be a batch short."""
        ...

    def close(self) -> None:
        """Leave the group, where it is a member. The listener's `revoked` is called first."""
        ...


class Shadow(Source, Protocol):
    """Reads, outside the group, the partitions that it is told to; what is new is paused, and its listener hears of it
    in the next poll."""

    def hold(self, partitions: Collection[int]) -> None:
        """Read these from the next poll on, and no others. From any thread."""
        ...


class Reader(Source, Protocol):
    """A member of the consumer group. Only `commit` may be called from another thread."""

    def join(self) -> None:
        """Become a member; partitions come with a later poll."""
        ...

    def unowned(self) -> frozenset[int]:
        """Partitions that the settled group has given to nobody, where that can come about; empty while it moves."""
        ...

    def rejoin(self) -> None:
        """Let the group spread its partitions anew, with the next poll."""
        ...

    def missing(self, topics: Iterable[str]) -> list[str]:
        """Those of the topics that do not exist, or that this worker may not see."""
        ...

    def compacted(self) -> bool:
        """Whether the topic is compacted, as far as the broker tells."""
        ...

    def isolates_transactions(self) -> bool:
        """Whether the broker keeps what was aborted from readers."""
        ...

    def membership(self) -> object:
        """This member's place in the group as it is now, for `Transactions`. Raises CommitRefused without one."""
        ...

    def offset_at(self, partition: int, timestamp_ms: int) -> int:
        """First offset with a timestamp at or after the given one; the log's end where there is none."""
        ...

    def commit(self, offsets: Mapping[int, Committed]) -> None:
        """Commit next offsets. Raises CommitRefused, BrokerUnavailable."""
        ...

    def topic_id(self) -> str:
        """The log's identity: another id means that the topic was made anew."""
        ...


class Log(Protocol):
    """A whole topic from its beginning, outside any group. Used from one thread."""

    def poll(self, timeout_s: float, max_records: int) -> Sequence[Record]:
        """What comes next, in the order of each partition. Raises BrokerUnavailable."""
        ...

    def at_end(self) -> bool:
        """Whether everything that stood in the topic when reading began has been polled. Raises BrokerUnavailable."""
        ...

    def close(self) -> None: ...


class Publisher(Protocol):
    def send(self, records: Sequence[OutRecord]) -> Sent:
        """Hand records over, in order; returns at once unless the client's buffer is full."""
        ...

    def close(self) -> None: ...


class Transactions(Protocol):
    """Outputs and offsets that become visible together, or never; one transaction at a time."""

    def open(self) -> None:
        """Abort what an earlier worker of this slot left open, and keep it from writing. Raises BrokerUnavailable."""
        ...

    def publish(self, records: Sequence[OutRecord]) -> None:
        """Begin a transaction and wait until every record is acknowledged. Raises BrokerUnavailable and RecordTooLarge:
        nothing is open then, and all may be done again."""
        ...

    def commit(self, offsets: Mapping[int, Committed], membership: object) -> None:
        """Add the offsets and make all of it visible. Raises CommitRefused (the member's place is not what it was) and
        BrokerUnavailable: nothing is open then, and all may be done again. Raises Undecided."""
        ...

    def abort(self) -> None:
        """Drop what is open."""
        ...

    def close(self) -> None: ...


class Sent(Protocol):
    """Records that were handed over together."""

    def wait(self, timeout_s: float) -> None:
        """Until every record is acknowledged by all in-sync replicas. Raises BrokerUnavailable (some may have been
        written: send all again, consumers know duplicates by their id) or RecordTooLarge."""
        ...
