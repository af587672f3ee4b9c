"""Outputs and offsets, at least once and exactly once, as consumers of the log see them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import pytest

from tests.builders import Gate, K, World, eventually
from tests.stories import expected_ids, in_order, story
from worker.broker.base import BrokerUnavailable, CommitRefused, Committed, OutRecord, RecordTooLarge, Undecided
from worker.broker.memory import MemoryBroker, MemoryReader, MemorySent, MemoryTransactions
from worker.errors import BadSettings, WrongTopic


@pytest.fixture
def world() -> World:
    return World()


@dataclass(slots=True)
class Troubled(MemoryTransactions):
    """Trouble comes once for each entry of `fails`, in turn; "late" strikes after the commit was made."""

    fails: list[tuple[str, Exception]] = field(default_factory=list)
    committed: int = 0

    def publish(self, records: Sequence[OutRecord]) -> None:
        self._strike("publish")
        MemoryTransactions.publish(self, records)

    def commit(self, offsets: Mapping[int, Committed], membership: object) -> None:
        self._strike("commit")
        MemoryTransactions.commit(self, offsets, membership)
        self.committed += 1
        self._strike("late")

    def _strike(self, where: str) -> None:
        if self.fails and self.fails[0][0] == where and (self.committed or where == "late"):
            self.written = None
            raise self.fails.pop(0)[1]


def troubled(*fails: tuple[str, Exception]) -> Callable[..., Troubled]:
    return lambda broker: Troubled(broker, fails=list(fails))


def test_exactly_once_publishes_every_answer_once_and_commits_everything(world: World) -> None:
    story(world)
    world.work(transactions=MemoryTransactions)
    assert set(world.ids()) == expected_ids(world)
    assert set(world.ids().values()) == {1}


@pytest.mark.parametrize(
    "trouble",
    [
        ("publish", BrokerUnavailable("no broker")),
        ("commit", BrokerUnavailable("no broker")),
        ("commit", CommitRefused("the group is moving", retry=True)),
        ("commit", Undecided("no answer")),
        ("late", Undecided("no answer")),
    ],
    ids=[
        "while-publishing",
        "before-the-offsets",
        "group-moves",
        "not-committed-nobody-knows",
        "committed-nobody-knows",
    ],
)
def test_exactly_once_survives_trouble(world: World, trouble: tuple[str, Exception]) -> None:
    story(world)
    world.work(transactions=troubled(trouble, trouble))
    assert set(world.ids()) == expected_ids(world)
    assert set(world.ids().values()) == {1}


def test_a_batch_that_was_given_up_is_not_passed_by_the_next_one(world: World) -> None:
    class GivenUp(MemoryTransactions):
        refused = False

        def commit(self, offsets: Mapping[int, Committed], membership: object) -> None:
            if not GivenUp.refused:
                GivenUp.refused = True
                self.abort()
                raise CommitRefused("the group is moving", retry=False)
            super().commit(offsets, membership)

    for user in ("anna", "bo", "cy"):
        world.write(user)
    world.work(transactions=GivenUp, batch_max_events=1)
    assert GivenUp.refused
    assert world.answered() == [("anna", 1), ("bo", 1), ("cy", 1)]
    assert set(world.ids().values()) == {1}


def test_a_partition_lost_while_its_outputs_are_written_is_left_to_its_next_owner(world: World) -> None:
    for user, partition in (("anna", 0), ("bo", 1)):
        world.write(user, partition=partition)
    gate = Gate(7)
    with world.worker(transactions=MemoryTransactions, fail_point=gate, batch_max_age=0.2) as first:
        gate.await_reached()
        group = next(member.listener for member in world.broker.members)
        group.lost(frozenset({1}))
        gate.open()
        eventually(lambda: world.answered() == [("anna", 1)], "only what is still held was published")
        group.assigned(frozenset({1}))
        first.finish()
    assert sorted(world.answered()) == [("anna", 1), ("bo", 1)]


def test_a_worker_that_ends_with_an_open_transaction_publishes_nothing_of_it(world: World) -> None:
    class Killed(BaseException):
        pass

    def die(step: int) -> None:
        if step == 7:
            raise Killed

    world.write("anna")
    with world.worker(transactions=MemoryTransactions, fail_point=die) as victim:
        assert isinstance(victim.await_error(), Killed)
    assert not world.recommendations()
    world.work(transactions=MemoryTransactions)
    assert world.answered() == [("anna", 1)]


def test_what_needs_no_answer_is_committed_without_a_transaction(world: World) -> None:
    class Counted(MemoryTransactions):
        opened = 0

        def publish(self, records: Sequence[OutRecord]) -> None:
            Counted.opened += 1
            super().publish(records)

    for _ in range(K):
        world.write("anna")
    world.work(transactions=Counted, batch_max_events=1)
    assert Counted.opened == K
    world.write("anna")
    world.work(transactions=Counted)
    assert Counted.opened == K
    assert world.all_committed()


def test_a_broker_that_isolates_nothing_is_refused_with_the_remedy(world: World) -> None:
    class Leaky(MemoryReader):
        def isolates_transactions(self) -> bool:
            return False

    with world.worker(transactions=MemoryTransactions, reader=Leaky) as made:
        error = made.await_error()
    assert isinstance(error, BadSettings)
    assert "KINDRED_DELIVERY=at_least_once" in str(error)


# At least once.


class ShyPublisher:
    """Takes records, but the first acknowledgements fail; like a broker that restarts."""

    def __init__(self, broker: MemoryBroker) -> None:
        self._broker = broker
        self._failures = 5

    def send(self, records: Sequence[OutRecord]) -> ShySent:
        return ShySent(MemorySent(self._broker, list(records)), self._fail)

    def _fail(self) -> None:
        if self._failures:
            self._failures -= 1
            raise BrokerUnavailable("no leader")

    def close(self) -> None:
        """Nothing is held."""


class ShySent:
    def __init__(self, sent: MemorySent, fail: Callable[[], None]) -> None:
        self._sent = sent
        self._fail = fail

    def wait(self, timeout_s: float) -> None:
        self._fail()
        self._sent.wait(timeout_s)


def test_what_was_not_acknowledged_is_sent_again_before_anything_is_committed(world: World) -> None:
    story(world)
    with world.worker(publisher=ShyPublisher) as made:
        made.finish()
        assert made.value("kindred_retries_total", service="kafka") >= 5
    assert world.ids() == Counter(expected_ids(world))
    in_order(world)


class SmallPublisher(ShyPublisher):
    def send(self, records: Sequence[OutRecord]) -> ShySent:
        if records:
            raise RecordTooLarge("1001 bytes, at most 1000")
        return super().send(records)


def test_a_broker_that_takes_no_record_of_the_agreed_size_stops_the_worker_with_a_remedy(world: World) -> None:
    world.write("anna")
    with world.worker(publisher=SmallPublisher) as made:
        error = made.await_error()
    assert isinstance(error, WrongTopic)
    assert "max.message.bytes" in str(error)
