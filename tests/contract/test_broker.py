"""What every broker promises (worker/broker/base.py), on each of them.

A group's first member takes seconds on a real broker, so the tests of a single member share one.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from uuid import uuid4

import pytest

from tests.broker_servers import KIND
from tests.brokers import MAX_RECORD_BYTES, Backend, Listener, MemoryBackend, kafka_backend
from tests.builders import eventually
from worker.broker.base import Bounds, BrokerUnavailable, Committed, OutRecord, Reader, Record, RecordTooLarge

pytestmark = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")  # see tests/brokers.py

BROKERS: Final = ["memory", pytest.param(KIND, marks=getattr(pytest.mark, KIND))]
MOVE: Final = 40.0
"""Seconds that a rebalance may take; the embedded broker takes about ten."""


@pytest.fixture(scope="module", params=BROKERS)
def broker(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backend]:
    if request.param == "memory":
        yield MemoryBackend()
        return
    with kafka_backend(tmp_path_factory.mktemp("broker")) as backend:
        yield backend


def until(reader: Reader, condition: Callable[[Mapping[int, Sequence[Record]]], bool], seconds: float = MOVE) -> None:
    """Poll until what a poll gave makes the condition true."""
    deadline = time.monotonic() + seconds
    while not condition(reader.poll(0.1, 100)):
        assert time.monotonic() < deadline, "not in time"


def glance(reader: Reader, listener: Listener, wanted: set[int], pause: float) -> None:
    """Poll without waiting, with so many seconds in between, until it holds the partitions that are wanted."""
    deadline = time.monotonic() + MOVE
    while listener.has() != wanted or not reader.joined():
        assert time.monotonic() < deadline, "the join was forgotten"
        assert not reader.poll(0.0, 10)
        time.sleep(pause)


def read(reader: Reader, count: int, max_records: int = 100) -> dict[int, list[Record]]:
    """So many records of the partitions that are not paused."""
    taken: dict[int, list[Record]] = {}
    deadline = time.monotonic() + 10
    while sum(map(len, taken.values())) < count:
        assert time.monotonic() < deadline, f"only {taken}"
        for number, records in reader.poll(0.1, max_records).items():
            taken.setdefault(number, []).extend(records)
    return taken


# Without a group.


@pytest.fixture(scope="module")
def topic(broker: Backend) -> str:
    """Two partitions: five records in the first (timestamps 1000 to 5000), none in the second."""
    name = broker.topic(2)
    broker.write(name, [b"0", b"1", None, b"3", b"4"])
    return name


@pytest.fixture(scope="module")
def visitor(broker: Backend, topic: str) -> Iterator[Reader]:
    """A reader that has not joined."""
    made = broker.reader(topic, Listener())
    yield made
    made.close()


def test_a_topic_has_its_partitions(visitor: Reader) -> None:
    assert list(visitor.partitions()) == [0, 1]


def test_a_topic_that_does_not_exist_has_none(broker: Backend) -> None:
    made = broker.reader("nowhere", Listener())
    assert list(made.partitions()) == []
    made.close()


def test_reading_a_topic_that_does_not_exist_does_not_make_it(broker: Backend) -> None:
    name = uuid4().hex
    made = broker.reader(name, Listener())
    made.join()
    deadline = time.monotonic() + 3
    while time.monotonic() < deadline:
        assert not made.poll(0.1, 10)
    assert list(made.partitions()) == []
    made.close()


def test_bounds_are_the_first_offset_and_the_one_after_the_last(visitor: Reader) -> None:
    assert visitor.bounds([0, 1]) == {0: Bounds(0, 5), 1: Bounds(0, 0)}


@pytest.mark.parametrize(("timestamp", "offset"), [(0, 0), (1000, 0), (2500, 2), (3000, 2), (5001, 5)])
def test_an_offset_is_found_by_time(broker: Backend, visitor: Reader, timestamp: int, offset: int) -> None:
    assert visitor.offset_at(0, timestamp) == (offset if broker.abilities.finds_by_own_time else 0)


def test_a_time_after_all_records_is_the_end(visitor: Reader) -> None:
    assert visitor.offset_at(0, 10**14) == 5


def test_a_time_in_an_empty_partition_is_its_end(visitor: Reader) -> None:
    assert visitor.offset_at(1, 1000) == 0


def test_a_new_group_has_committed_nothing(visitor: Reader) -> None:
    assert visitor.committed(0) is None


def test_a_topic_has_an_id_of_its_own(broker: Backend, visitor: Reader) -> None:
    other = broker.reader(broker.topic(), Listener())
    assert visitor.topic_id() == visitor.topic_id()
    assert visitor.topic_id() != other.topic_id()
    other.close()


def test_a_topic_that_is_compacted_is_known_as_such_where_the_broker_tells(broker: Backend, visitor: Reader) -> None:
    compacted = broker.reader(broker.topic(compacted=True), Listener())
    assert compacted.compacted() is broker.abilities.tells_policy
    assert visitor.compacted() is False
    compacted.close()


def test_a_broker_tells_whether_it_isolates_transactions(broker: Backend, visitor: Reader) -> None:
    assert visitor.isolates_transactions() is broker.abilities.isolates_transactions


def test_who_has_not_joined_has_no_place_in_the_group(visitor: Reader) -> None:
    assert not visitor.joined()


# A group of one.


@pytest.mark.parametrize("pause", [0.005, 0.05])
def test_a_member_joins_however_short_its_polls(broker: Backend, pause: float) -> None:
    listener = Listener()
    made = broker.reader(broker.topic(2), listener)
    made.join()
    glance(made, listener, {0, 1}, pause)
    made.commit({0: Committed(0)})
    made.close()


@pytest.mark.needs("adds_partitions")
def test_partitions_that_are_added_come_however_short_the_polls(
    broker: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.broker.kafka.METADATA_MS", 500)
    name, listener = broker.topic(), Listener()
    made = broker.reader(name, listener)
    made.join()
    until(made, lambda _: listener.has() == {0})
    for wanted in ({0, 1}, {0, 1, 2}):
        broker.add_partitions(name, len(wanted))
        glance(made, listener, wanted, 0.005)
    made.close()


@dataclass(slots=True)
class Joined:
    reader: Reader
    listener: Listener
    first_polls: list[int]
    """How many records each poll gave before anything was resumed."""


@pytest.fixture(scope="module")
def alone(broker: Backend, topic: str) -> Iterator[Joined]:
    listener = Listener()
    reader = broker.reader(topic, listener)
    reader.join()
    polls: list[int] = []

    def complete(records: Mapping[int, Sequence[Record]]) -> bool:
        polls.append(len(records))
        return listener.has() == {0, 1} and reader.joined()

    until(reader, complete)
    polls += [len(reader.poll(0.05, 100)) for _ in range(5)]
    yield Joined(reader, listener, polls)
    reader.close()
    assert listener.told[-1] == ("revoked", frozenset({0, 1}))


def test_a_new_member_is_given_all_partitions_paused(alone: Joined) -> None:
    assert alone.listener.told == [("assigned", frozenset({0, 1}))]
    assert not any(alone.first_polls)
    assert alone.reader.joined()


@pytest.fixture
def member(alone: Joined) -> Iterator[Reader]:
    """The same member, with all paused and the first partition at its beginning."""
    alone.reader.pause([0, 1])
    alone.reader.seek(0, 0)
    yield alone.reader
    alone.reader.pause([0, 1])


def test_records_come_in_order_with_all_that_they_hold(member: Reader, topic: str) -> None:
    member.resume([0])
    records = read(member, 5)[0]
    assert [(r.offset, r.timestamp, r.value) for r in records] == [
        (0, 1000, b"0"),
        (1, 2000, b"1"),
        (2, 3000, None),
        (3, 4000, b"3"),
        (4, 5000, b"4"),
    ]
    assert {(r.topic, r.partition, r.key, tuple(r.headers)) for r in records} == {(topic, 0, b"key", (("name", b"1"),))}


def test_reading_begins_where_it_was_sought(member: Reader) -> None:
    member.seek(0, 3)
    member.resume([0])
    assert [r.offset for r in read(member, 2)[0]] == [3, 4]
    member.seek(0, 1)
    assert [r.offset for r in read(member, 4)[0]] == [1, 2, 3, 4]


def test_a_poll_gives_no_more_than_it_is_asked_for_and_goes_on_where_it_stopped(member: Reader) -> None:
    member.resume([0])
    taken: list[int] = []

    def all_read(records: Mapping[int, Sequence[Record]]) -> bool:
        assert len(records.get(0, ())) <= 2
        taken.extend(r.offset for r in records.get(0, ()))
        return len(taken) == 5

    deadline = time.monotonic() + 10
    while not all_read(member.poll(0.1, 2)):
        assert time.monotonic() < deadline
    assert taken == [0, 1, 2, 3, 4]


def test_a_paused_partition_gives_nothing_and_loses_nothing(member: Reader) -> None:
    member.resume([0])
    assert len(read(member, 2, max_records=2)[0]) == 2
    member.pause([0])
    assert not any(member.poll(0.05, 100) for _ in range(3))
    member.resume([0])
    assert [r.offset for r in read(member, 3)[0]] == [2, 3, 4]


def test_partitions_that_are_not_held_may_be_named(member: Reader) -> None:
    """The group may take one away between two calls."""
    member.pause([7])
    member.resume([7])
    member.seek(7, 0)


def test_a_commit_is_read_back_with_its_note_where_the_broker_keeps_notes(broker: Backend, member: Reader) -> None:
    member.commit({0: Committed(3, "note"), 1: Committed(0, "other")})
    note = "note" if broker.abilities.keeps_notes else None
    assert member.committed(0) == Committed(3, note)
    member.commit({0: Committed(4, "note")})
    assert member.committed(0) == Committed(4, note)


def test_a_commit_may_come_from_another_thread(member: Reader) -> None:
    thread = threading.Thread(target=lambda: member.commit({1: Committed(0, "x")}))
    thread.start()
    until(member, lambda _: not thread.is_alive())
    assert member.committed(1) is not None


def test_a_record_with_an_unreadable_header_name_is_read_and_so_is_what_follows(
    broker: Backend, member: Reader, topic: str
) -> None:
    broker.write_unreadable_header(topic)
    broker.write(topic, [b"after"], start_ms=9000)
    member.seek(0, 5)
    member.resume([0])
    odd, after = read(member, 2)[0]
    assert (odd.value, list(odd.headers)) == (b"odd", [("??name", b"2")])
    assert after.value == b"after"


# A group of two.


@dataclass(slots=True)
class Member:
    """A reader in a thread of its own, that resumes what it is given."""

    reader: Reader
    listener: Listener
    taken: list[tuple[int, int]] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)
    errors: list[BaseException] = field(default_factory=list)
    thread: threading.Thread = field(init=False)

    def __post_init__(self) -> None:
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            self.reader.join()
            while not self.stop.is_set():
                for number, records in self.reader.poll(0.05, 100).items():
                    self.taken += [(number, record.offset) for record in records]
                self.reader.resume(self.listener.has())
            self.reader.close()
        except BaseException as error:
            self.errors.append(error)

    def end(self) -> None:
        self.stop.set()
        self.thread.join(MOVE)
        assert self.errors == []


def test_a_partition_moves_only_after_its_old_owner_has_let_go(broker: Backend) -> None:
    topic = broker.topic(2)
    for partition in (0, 1):
        broker.write(topic, [b"x"] * 3, partition=partition)
    release: Future[None] = Future()
    old, new = Listener(revocation=lambda: release), Listener()
    first = Member(broker.reader(topic, old, topic), old)
    eventually(lambda: len(first.taken) == 6, "the first member has read everything", MOVE)
    first.reader.commit({0: Committed(3), 1: Committed(3)})
    second = Member(broker.reader(topic, new, topic), new)
    eventually(lambda: old.told[-1][0] == "revoked", "the first member is asked to let go", MOVE)
    first.reader.commit({0: Committed(3), 1: Committed(3)})  # while the group waits, it may still commit
    assert new.has() == set()
    moving = set(old.told[-1][1])
    assert len(moving) == 1, "what stays is not touched"
    release.set_result(None)
    eventually(lambda: new.has() == moving, "the second member has it", MOVE)
    assert old.has() == {0, 1} - moving
    broker.write(topic, [b"y"], partition=moving.pop())
    eventually(lambda: len(second.taken) > 0, "and reads it", MOVE)
    assert second.taken == [(min(new.has()), 3)], "from where the first one committed"
    second.end()
    first.end()


# Publishing.


def test_what_is_acknowledged_stands_in_the_topic_in_order(broker: Backend) -> None:
    topic = broker.topic()
    publisher = broker.publisher()
    publisher.send([]).wait(10)
    publisher.send(
        [
            OutRecord(topic, b"a", b"1", [("h", b"x"), ("n", None)]),
            OutRecord(topic, None, None),
            OutRecord(topic, b"a", b"2"),
        ]
    ).wait(10)
    publisher.send([OutRecord(topic, b"b", b"3")]).wait(10)
    publisher.close()
    reader = broker.reader(topic, Listener())
    assert reader.bounds([0]) == {0: Bounds(0, 4)}
    reader.close()


def test_a_record_that_the_broker_does_not_take_is_told_from_a_broker_that_is_away(broker: Backend) -> None:
    topic = broker.topic()
    publisher = broker.publisher()
    with pytest.raises(RecordTooLarge):
        publisher.send([OutRecord(topic, b"a", b"x" * 2 * MAX_RECORD_BYTES)]).wait(10)
    publisher.send([OutRecord(topic, b"a", b"small")]).wait(10)
    publisher.close()


# A broker that is away.


@pytest.fixture(params=BROKERS)
def restless(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Backend]:
    """A broker of its own, which may go away."""
    for module in ("kafka", "kafka_publisher"):
        monkeypatch.setattr(f"worker.broker.{module}.CALL_TIMEOUT_MS", 300)
    if request.param == "memory":
        yield MemoryBackend()
        return
    with kafka_backend(tmp_path) as backend:
        yield backend


def test_a_broker_that_is_away_is_named_as_such_by_every_call(restless: Backend) -> None:
    topic = restless.topic()
    reader = restless.reader(topic, Listener())
    restless.go_away()
    calls: list[Callable[[], object]] = [
        lambda: reader.bounds([0]),
        lambda: reader.committed(0),
        lambda: reader.commit({0: Committed(1, "x")}),
    ]
    for call in calls:
        with pytest.raises(BrokerUnavailable):
            call()
    reader.close()


def test_a_publisher_sends_again_to_a_broker_that_has_come_back(restless: Backend) -> None:
    topic = restless.topic()
    publisher = restless.publisher()
    record = OutRecord(topic, b"a", b"1")
    publisher.send([record]).wait(10)
    restless.go_away()
    with pytest.raises(BrokerUnavailable):
        publisher.send([record]).wait(0.3)
    restless.come_back(topic)

    def taken() -> bool:
        try:
            publisher.send([record]).wait(2)
        except BrokerUnavailable:
            return False
        return True

    eventually(taken, "the record is acknowledged", 15)
    publisher.close()


def test_a_publisher_can_be_closed_while_the_broker_is_away(restless: Backend) -> None:
    topic = restless.topic()
    publisher = restless.publisher()
    publisher.send([OutRecord(topic, b"a", b"1")]).wait(10)
    restless.go_away()
    with pytest.raises(BrokerUnavailable):
        publisher.send([OutRecord(topic, b"a", b"2")]).wait(0.3)
    publisher.close()
