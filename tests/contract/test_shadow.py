"""A group's topic read outside the group, on every broker: what is told is read, and the group does not notice."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final
from uuid import uuid4

import pytest

from tests.broker_servers import KIND
from tests.brokers import Backend, Listener, MemoryBackend, kafka_backend
from worker.broker.base import Bounds, Committed, Reader, Shadow

pytestmark = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")  # see tests/brokers.py

BROKERS: Final = ["memory", pytest.param(KIND, marks=getattr(pytest.mark, KIND))]
MOVE: Final = 40.0


@pytest.fixture(scope="module", params=BROKERS)
def broker(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backend]:
    if request.param == "memory":
        yield MemoryBackend()
        return
    with kafka_backend(tmp_path_factory.mktemp("broker")) as backend:
        yield backend


@dataclass(slots=True)
class Group:
    """A group with one member on a topic of two partitions, which has committed, and its shadow."""

    member: Reader
    given: Listener
    shadow: Shadow
    told: Listener
    taken: list[tuple[int, int]] = field(default_factory=list)

    def until(self, condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + MOVE
        while not condition():
            assert time.monotonic() < deadline, f"not in time; taken: {self.taken}, told: {self.told.told}"
            self.member.poll(0.02, 100)
            for number, records in self.shadow.poll(0.02, 100).items():
                self.taken += [(number, record.offset) for record in records]


@pytest.fixture(scope="module")
def group(broker: Backend) -> Iterator[Group]:
    topic, name = broker.topic(2), uuid4().hex
    broker.write(topic, [b"0", b"1", b"2"])
    broker.write(topic, [b"0", b"1"], partition=1)
    given, told = Listener(), Listener()
    member = broker.reader(topic, given, name)
    member.join()
    found = Group(member, given, broker.shadow(topic, told, name), told)
    found.until(lambda: given.has() == {0, 1} and member.joined())
    member.commit({0: Committed(2, "note"), 1: Committed(0, "note")})
    yield found
    found.shadow.close()
    member.close()


@pytest.fixture
def shadow(group: Group) -> Shadow:
    """Of that group, holding nothing."""
    group.shadow.hold([])
    group.until(lambda: group.told.has() == set())
    group.taken.clear()
    return group.shadow


def read(group: Group, partition: int, start: int, count: int) -> None:
    """So many records of a partition that is held, from an offset on."""
    group.until(lambda: partition in group.told.has())
    before = len(group.taken)
    group.shadow.seek(partition, start)
    group.shadow.resume([partition])
    group.until(lambda: len(group.taken) >= before + count)


def test_a_shadow_reads_nothing_until_it_is_told_to(shadow: Shadow) -> None:
    assert list(shadow.partitions()) == [0, 1]
    assert shadow.joined()
    assert not shadow.poll(0.05, 10)


def test_what_it_is_told_to_read_is_paused_until_it_is_sought_and_resumed(group: Group, shadow: Shadow) -> None:
    shadow.hold([0])
    assert not shadow.poll(0.05, 10)
    assert group.told.told[-1] == ("assigned", frozenset({0}))
    read(group, 0, 1, 2)
    assert group.taken == [(0, 1), (0, 2)]


def test_a_further_partition_leaves_the_place_in_the_first_one(group: Group, shadow: Shadow) -> None:
    shadow.hold([0])
    read(group, 0, 0, 3)
    shadow.hold([0, 1])
    read(group, 1, 0, 2)
    assert group.taken == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1)]
    assert (shadow.position(0), shadow.position(1)) == (3, 2)


def test_a_partition_that_it_is_no_longer_told_to_read_is_lost(group: Group, shadow: Shadow) -> None:
    shadow.hold([0, 1])
    group.until(lambda: group.told.has() == {0, 1})
    shadow.hold([1])
    group.until(lambda: group.told.has() == {1})
    assert group.told.told[-1] == ("lost", frozenset({0}))
    shadow.seek(0, 0)
    shadow.resume([0])
    shadow.pause([0])
    assert not shadow.poll(0.05, 10)


def test_it_knows_what_the_group_has_committed_and_where_the_log_ends(broker: Backend, group: Group) -> None:
    group.member.commit({0: Committed(2, "note"), 1: Committed(0, "note")})
    note = "note" if broker.abilities.keeps_notes else None
    assert group.shadow.committed(0) == Committed(2, note)
    assert {number: found.offset for number, found in group.shadow.commits().items()} == {0: 2, 1: 0}
    assert group.shadow.bounds([0, 1]) == {0: Bounds(0, 3), 1: Bounds(0, 2)}


def test_the_member_keeps_its_partitions_and_goes_on_committing(group: Group, shadow: Shadow) -> None:
    shadow.hold([0, 1])
    group.until(lambda: group.told.has() == {0, 1})
    assert group.given.told == [("assigned", frozenset({0, 1}))]
    group.member.commit({0: Committed(3)})
    found = shadow.committed(0)
    assert found is not None
    assert found.offset == 3
