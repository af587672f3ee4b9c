"""Steps 7 and 8: a batch's outputs and offsets on their way to the log, at least once or exactly once.

At least once: outputs are sent as soon as they are known, and offsets are committed once every output is acknowledged.
What failed is sent again; ids make a repeat harmless.

Exactly once: outputs and offsets go in one transaction. The group's generation goes with the offsets, so that the
broker refuses a worker that has lost its partitions; the producer's epoch, so that it refuses an earlier worker of the
same slot. What was aborted is done again. Where nobody can tell whether a transaction was committed, nothing is
repeated from memory: its partitions are read again from the offsets that the log says are committed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Final, Protocol

from worker.batch import Batch
from worker.broker.base import (
    CommitRefused,
    Committed,
    OutRecord,
    Publisher,
    Reader,
    RecordTooLarge,
    Sent,
    Transactions,
    Undecided,
)
from worker.errors import BadSettings, WrongTopic
from worker.heal import pack_note
from worker.retry import Persistent

log = logging.getLogger(__name__)

PUBLISH_TIMEOUT: Final = 30.0
"""Seconds to wait for acknowledgements before everything of the batch is sent again."""
COMMIT_PAUSE: Final = 0.1
"""Seconds between two tries to commit while the group is rebalancing."""


class Outgoing(Protocol):
    """What delivery needs to know of a batch on its way (see Work). out: what is to be published, by the partition that
    asks for it."""

    batch: Batch
    out: dict[int, list[OutRecord]]
    sent: Sent | None


class Delivery(Protocol):
    """`send` belongs to the thread of step 6, `publish` and `commit` to the one behind it; both take batches in order.
    instance: whose data Redis holds, goes into every commit."""

    def open(self) -> None:
        """Before the group is joined. Raises BadSettings where the broker cannot keep what is asked."""
        ...

    def send(self, work: Outgoing) -> None:
        """The outputs are known: begin what can be begun without waiting."""
        ...

    def publish(self, work: Outgoing) -> None:
        """Step 7: every output is acknowledged when it returns."""
        ...

    def commit(self, work: Outgoing, instance: str) -> bool:
        """Step 8, for partitions that are still held; False when the batch is left to whoever reads it next."""
        ...

    def close(self) -> None: ...


class AtLeastOnce:
    """max_bytes: of a record that the broker was told to take."""

    def __init__(self, publisher: Publisher, reader: Reader, persist: Persistent, *, max_bytes: int) -> None:
        self._publisher = publisher
        self._reader = reader
        self._persist = persist
        self._max_bytes = max_bytes

    def open(self) -> None:
        """Nothing is left open by anybody."""

    def send(self, work: Outgoing) -> None:
        work.sent = self._persist("kafka", lambda: self._send(work))

    def publish(self, work: Outgoing) -> None:
        self._persist("kafka", lambda: self._acknowledged(work))

    def _acknowledged(self, work: Outgoing) -> None:
        """Wait for what was sent; where that failed, send all of it again."""
        sent, work.sent = work.sent, None
        if sent is None:
            sent = self._send(work)
        try:
            sent.wait(PUBLISH_TIMEOUT)
        except RecordTooLarge as error:
            raise _too_large(error, self._max_bytes) from error

    def _send(self, work: Outgoing) -> Sent:
        try:
            return self._publisher.send([record for records in work.out.values() for record in records])
        except RecordTooLarge as error:
            raise _too_large(error, self._max_bytes) from error

    def commit(self, work: Outgoing, instance: str) -> bool:
        return _commit_offsets(self._reader, self._persist, work.batch, instance)

    def close(self) -> None:
        self._publisher.close()


class Withheld:
    """Of a back-fill: nothing goes out, nothing is committed; that a batch is through is noted."""

    def open(self) -> None:
        """Nothing."""

    def send(self, work: Outgoing) -> None:
        """Nothing is sent."""

    def publish(self, work: Outgoing) -> None:
        """Nothing was sent."""

    def commit(self, work: Outgoing, instance: str) -> bool:  # noqa: ARG002
        work.batch.drop_dead()
        _note_progress(work.batch)
        return False

    def close(self) -> None:
        """Nothing is held."""


class ExactlyOnce:
    """start_over: read all partitions again from what is committed. max_bytes: see AtLeastOnce."""

    def __init__(
        self,
        transactions: Transactions,
        reader: Reader,
        persist: Persistent,
        start_over: Callable[[], None],
        *,
        max_bytes: int,
    ) -> None:
        self._transactions = transactions
        self._reader = reader
        self._persist = persist
        self._start_over = start_over
        self._max_bytes = max_bytes
        self._written: frozenset[int] = frozenset()
        """The partitions whose outputs are in the open transaction; empty while none is open."""

    def open(self) -> None:
        if not self._persist("kafka", self._reader.isolates_transactions):
            raise BadSettings(
                "KINDRED_DELIVERY=exactly_once needs a broker that keeps aborted transactions from readers, and this "
                "one (the embedded broker does not) lets them through: use Apache Kafka (`kindred up --kafka apache`), "
                "or KINDRED_DELIVERY=at_least_once, where consumers drop repeats by recommendation_id"
            )
        self._persist("kafka", self._transactions.open)

    def send(self, work: Outgoing) -> None:
        """A transaction holds one batch at a time: nothing can be begun before the last one has ended."""

    def publish(self, work: Outgoing) -> None:
        self._persist("kafka", lambda: self._write(work))

    def _write(self, work: Outgoing) -> None:
        """Open a transaction with the outputs of partitions that are still held; none when there are no outputs."""
        work.batch.drop_dead()
        asking = frozenset(partition for partition in work.batch.leases if work.out.get(partition))
        if not asking:
            return
        try:
            self._transactions.publish([record for number in sorted(asking) for record in work.out[number]])
        except RecordTooLarge as error:
            raise _too_large(error, self._max_bytes) from error
        self._written = asking

    def commit(self, work: Outgoing, instance: str) -> bool:
        while True:
            try:
                ended = self._persist("kafka", lambda: self._end(work, instance))
            except CommitRefused as error:
                if not error.retry or self._persist.abandon.wait(COMMIT_PAUSE):
                    log.warning("a batch was not committed, its next owner does it again: %s", error)
                    self._abort()
                    self._leave(work.batch)
                    return False
                continue
            except Undecided as error:
                log.warning("nobody can tell whether a batch was committed, reading on from what is: %s", error)
                self._written = frozenset()
                self._leave(work.batch)
                return False
            return ended or _commit_offsets(self._reader, self._persist, work.batch, instance)

    def _leave(self, batch: Batch) -> None:
        """Read its partitions again from what is committed."""
        for lease in batch.leases.values():
            lease.alive = False  # what comes behind this batch must not be committed past it
        self._start_over()

    def _end(self, work: Outgoing, instance: str) -> bool:
        """Commit the transaction; where one of its partitions was lost meanwhile, begin anew without it. False when
        there is nothing to publish, and so no transaction."""
        # First whose word it is, then what it is about: a partition lost in between makes the broker refuse the word.
        membership = self._reader.membership()
        work.batch.drop_dead()
        if not self._written <= work.batch.leases.keys():
            self._abort()
        if not self._written:
            self._write(work)
        if not self._written:
            return False
        self._written = frozenset()  # whatever happens now, this transaction is over
        self._transactions.commit(_offsets(work.batch, instance), membership)
        _note_progress(work.batch)
        return True

    def _abort(self) -> None:
        if self._written:
            self._transactions.abort()
            self._written = frozenset()

    def close(self) -> None:
        self._transactions.close()


def _offsets(batch: Batch, instance: str) -> dict[int, Committed]:
    """What there is to commit: nothing below what was committed before."""
    return {
        partition: Committed(mark, pack_note(instance, batch.leases[partition].began))
        for partition, mark in batch.next_offsets.items()
        if mark > batch.leases[partition].committed
    }


def _commit_offsets(reader: Reader, persist: Persistent, batch: Batch, instance: str) -> bool:
    """Commit outside a transaction, for partitions that are still held."""

    def commit() -> None:
        batch.drop_dead()  # before every try: a partition that was lost meanwhile belongs to somebody else
        offsets = _offsets(batch, instance)
        if offsets:
            reader.commit(offsets)

    while True:
        try:
            persist("kafka", commit)
        except CommitRefused as error:
            if not error.retry or persist.abandon.wait(COMMIT_PAUSE):
                log.warning("offsets were not committed, their next owner replays: %s", error)
                return False
            continue
        _note_progress(batch)
        return True


def _note_progress(batch: Batch) -> None:
    marks: Mapping[int, int] = batch.next_offsets
    for partition, mark in marks.items():
        lease = batch.leases[partition]
        lease.done = max(lease.done, mark)
        lease.committed = max(lease.committed, mark)


def _too_large(error: RecordTooLarge, max_bytes: int) -> WrongTopic:
    return WrongTopic(
        f"the broker refuses a record within KINDRED_MAX_RECORD_BYTES ({max_bytes}): {error}. "
        "Raise max.message.bytes of recommendations and user-text.dlq, or lower the setting."
    )
