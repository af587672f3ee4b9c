"""What exactly-once and static members rest on, on a broker that has them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack
from typing import Any
from uuid import uuid4

import kafka
import pytest

from schemas.access import KafkaAccess
from tests.broker_servers import BrokerServer
from tests.brokers import Listener
from worker.broker.base import BrokerUnavailable, CommitRefused, Committed, OutRecord, SlotTaken, Undecided
from worker.broker.kafka import KafkaReader
from worker.broker.kafka_transactions import KafkaTransactions

pytestmark = [pytest.mark.apache, pytest.mark.needs("isolates_transactions")]

PATIENCE_S = 60.0


class Place:
    """A topic to read, one to write, a group, and whatever is made of them; all of it is closed at the end."""

    def __init__(self, server: BrokerServer, ends: ExitStack) -> None:
        self._access = KafkaAccess(server.address)
        self._ends = ends
        self.topic, self.out, self.group, self.slot = (uuid4().hex for _ in range(4))
        admin = kafka.KafkaAdminClient(**self._access.arguments())
        settings = {"num_partitions": 2, "replication_factor": 1}
        admin.create_topics(dict.fromkeys((self.topic, self.out), settings), wait_for_metadata=True)
        admin.close()

    def transactions(self, slot: str | None = None) -> KafkaTransactions:
        made = KafkaTransactions(
            access=self._access,
            client_id="contract",
            max_record_bytes=100_000,
            transactional_id=slot or self.slot,
            timeout_ms=60_000,
            topic=self.topic,
        )
        self._ends.callback(made.close)
        return made

    def joining(self, slot: str | None, listener: Listener) -> KafkaReader:
        made = KafkaReader(
            access=self._access,
            topic=self.topic,
            group=self.group,
            client_id="contract",
            listener=listener,
            session_timeout_ms=10_000,
            drain_seconds=5.0,
            slot=slot,
        )
        self._ends.callback(made.close)
        made.join()
        return made

    def member(
        self, slot: str | None = None, beside: KafkaReader | None = None, listener: Listener | None = None
    ) -> KafkaReader:
        """Has joined and owns something. beside: another member, who must poll meanwhile to take part."""
        listener = listener or Listener()
        made = self.joining(slot, listener)

        def settled() -> bool:
            for each in filter(None, (beside, made)):
                each.poll(0.05, 1)
            return bool(listener.has()) and all(each.joined() for each in filter(None, (beside, made)))

        until(settled)
        return made

    def seen(self) -> list[bytes]:
        """Values that a reader of committed records sees; it has read to the last stable offset."""
        consumer = kafka.KafkaConsumer(**self._access.arguments(), isolation_level="read_committed")
        try:
            places = [kafka.TopicPartition(self.out, number) for number in range(2)]
            consumer.assign(places)
            consumer.seek_to_beginning(*places)
            ends, found = consumer.end_offsets(places), list[bytes]()
            deadline = time.monotonic() + PATIENCE_S
            while any(consumer.position(place) < end for place, end in ends.items()) and time.monotonic() < deadline:
                found += [record.value for records in consumer.poll(50).values() for record in records]
            return found
        finally:
            consumer.close()


def until(condition: Callable[[], Any]) -> None:
    """The markers of a committed transaction are written a moment after the commit."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "it did not come true"


@pytest.fixture
def place(lasting_broker: BrokerServer) -> Iterator[Place]:
    with ExitStack() as ends:
        yield Place(lasting_broker, ends)


def record(place: Place, value: bytes) -> OutRecord:
    return OutRecord(place.out, value, value)


def test_outputs_and_offsets_become_visible_together_and_not_before(place: Place) -> None:
    reader, transactions = place.member(), place.transactions()
    transactions.open()
    transactions.publish([record(place, b"a"), record(place, b"b")])
    assert place.seen() == []
    transactions.commit({0: Committed(5, "a note")}, reader.membership())
    until(lambda: sorted(place.seen()) == [b"a", b"b"])
    assert reader.committed(0) == Committed(5, "a note")


def test_what_was_aborted_is_never_seen(place: Place) -> None:
    reader, transactions = place.member(), place.transactions()
    transactions.publish([record(place, b"a")])
    transactions.abort()
    transactions.publish([record(place, b"b")])
    transactions.commit({0: Committed(1)}, reader.membership())
    until(lambda: place.seen() == [b"b"])


def test_an_earlier_worker_of_the_slot_is_fenced_and_what_it_left_open_aborted(place: Place) -> None:
    reader, zombie = place.member(), place.transactions()
    zombie.publish([record(place, b"of the zombie")])
    heir = place.transactions()
    heir.open()
    heir.publish([record(place, b"of its heir")])
    heir.commit({0: Committed(1)}, reader.membership())
    until(lambda: place.seen() == [b"of its heir"])  # nothing open holds the reader up
    with pytest.raises((BrokerUnavailable, Undecided)):
        zombie.commit({0: Committed(2)}, reader.membership())
    assert reader.committed(0) == Committed(1)
    until(lambda: place.seen() == [b"of its heir"])


def test_a_fenced_producer_is_replaced_by_a_fresh_one(place: Place) -> None:
    reader, first, second = place.member(), place.transactions(), place.transactions()
    first.publish([record(place, b"lost")])
    second.open()
    with pytest.raises((BrokerUnavailable, Undecided)):
        first.commit({0: Committed(1)}, reader.membership())
    first.publish([record(place, b"a")])
    first.commit({0: Committed(1)}, reader.membership())
    until(lambda: place.seen() == [b"a"])


def test_offsets_of_an_earlier_generation_are_refused_and_nothing_of_them_is_seen(place: Place) -> None:
    first, transactions = place.member(), place.transactions()
    stale = first.membership()
    place.member(beside=first)
    transactions.publish([record(place, b"a")])
    with pytest.raises(CommitRefused) as refused:
        transactions.commit({0: Committed(1)}, stale)
    assert refused.value.retry
    transactions.publish([record(place, b"a")])
    transactions.commit({0: Committed(1)}, first.membership())
    until(lambda: place.seen() == [b"a"])


def test_who_is_no_member_has_no_word(lasting_broker: BrokerServer, place: Place) -> None:
    reader = KafkaReader(
        access=KafkaAccess(lasting_broker.address),
        topic=place.topic,
        group=place.group,
        client_id="contract",
        listener=Listener(),
        session_timeout_ms=10_000,
        drain_seconds=5.0,
    )
    with pytest.raises(CommitRefused):
        reader.membership()
    reader.close()


def test_a_second_worker_in_a_slot_puts_the_first_out_for_good(place: Place) -> None:
    first = place.member("worker-0")
    place.member("worker-0")
    with pytest.raises(SlotTaken, match="KINDRED_NAME"):
        until(lambda: first.poll(0.05, 1) and False)


def test_what_a_static_member_was_to_hand_over_when_it_died_is_owned_by_nobody_until_somebody_joins_anew(
    place: Place,
) -> None:
    never = Future[None]()
    dying, told = Listener(revocation=lambda: never), Listener()
    first = place.member("worker-0", listener=dying)
    second = place.joining("worker-1", told)

    def handing_over() -> bool:
        for reader in (first, second):
            reader.poll(0.05, 1)
        return dying.told[-1][0] == "revoked"

    until(handing_over)
    again = place.member("worker-0")  # as if the first one had died here; it is never polled again

    def settled() -> bool:
        for reader in (again, second):
            reader.poll(0.05, 1)
        return again.joined() and second.joined() and bool(again.unowned())

    until(settled)
    assert again.unowned() == second.unowned() == dying.told[-1][1]
    assert told.has() == set()
    again.rejoin()

    def spread() -> bool:
        for reader in (again, second):
            reader.poll(0.05, 1)
        return bool(told.has()) and not again.unowned()

    until(spread)
    never.cancel()
