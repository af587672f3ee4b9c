"""Where reading begins, and whose log and Redis these are."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import pytest

from worker.broker.base import BrokerUnavailable, CommitRefused, Committed
from worker.broker.memory import MemoryBroker, MemoryReader
from worker.checks import SETTLE_S, WATCH_S, Checks, Start
from worker.errors import SharedGroup, WrongLog
from worker.heal import pack_note, read_note
from worker.metrics import Metrics
from worker.partition import Assignments, InFlight
from worker.store.base import Identity, Write
from worker.store.memory import MemoryData, MemoryStore


class Scene:
    """Ten records a second apart in partition 0, and what a fresh worker has."""

    def __init__(self, start: Start = "earliest") -> None:
        self.broker = MemoryBroker({"user-text": 1})
        for second in range(10):
            self.broker.append("user-text", b"k", b"v", partition=0, timestamp=1_700_000_000_000 + 1000 * second)
        self.reader = MemoryReader(self.broker, "user-text", "g", Assignments(InFlight()))
        self.reader.join()
        self.data = MemoryData()
        self.store = MemoryStore(self.data)
        self.metrics = Metrics()
        self.identity = self.store.identify(self.reader.topic_id(), frozenset())
        self.checks = Checks(self.reader, self.store, self.identity, self.store.identify, start, self.metrics)

    def commit(self, offset: int, instance: str | None = None, began: int = 0) -> None:
        self.reader.commit({0: Committed(offset, pack_note(instance or self.identity.instance, began))})

    def mark(self, offset: int) -> None:
        self.store.save(Write({0: offset}, [{} for _ in range(self.store.shards)]))


@pytest.mark.parametrize(
    ("start", "offset"), [("earliest", 0), ("latest", 10), (datetime.fromtimestamp(1_700_000_004, UTC), 4)]
)
def test_a_new_group_begins_where_it_is_told_and_says_so(start: Start, offset: int) -> None:
    scene = Scene(start)
    found = scene.checks.begin(0, lambda: True)
    assert (found.start, found.publish_from, found.heals) == (offset, offset, False)
    committed = scene.reader.committed(0)
    assert committed is not None
    assert (committed.offset, read_note(committed.metadata)) == (offset, (scene.identity.instance, offset))
    assert {marks[0] for marks in scene.store.watermarks()} == {offset}


def test_a_group_goes_on_at_its_committed_offset() -> None:
    scene = Scene()
    scene.commit(7)
    scene.mark(7)
    found = scene.checks.begin(0, lambda: True)
    assert (found.start, found.publish_from) == (7, 7)


def test_a_redis_that_is_behind_is_healed_from_where_it_stands() -> None:
    scene = Scene()
    scene.commit(7)
    scene.mark(3)
    found = scene.checks.begin(0, lambda: True)
    assert (found.start, found.publish_from, found.heals) == (3, 7, True)


def test_what_the_log_no_longer_has_is_counted() -> None:
    scene = Scene()
    scene.commit(7)
    scene.broker.truncate("user-text", 0, 5)
    assert scene.checks.begin(0, lambda: True).start == 5
    assert scene.metrics.registry.get_sample_value("kindred_events_unrecoverable_total") == 5


def test_a_topic_that_was_made_anew_stops_the_worker() -> None:
    scene = Scene()
    scene.broker.topics["user-text"].topic_id = "another"
    with pytest.raises(WrongLog, match="made anew"):
        scene.checks.begin(0, lambda: True)


def test_a_commit_for_another_redis_stops_the_worker() -> None:
    scene = Scene()
    scene.commit(7, instance="a-stranger")
    with pytest.raises(SharedGroup, match="a-stranger"):
        scene.checks.begin(0, lambda: True)


def test_a_commit_of_before_redis_was_emptied_is_our_own() -> None:
    scene = Scene()
    scene.commit(7)
    before = scene.identity.instance
    scene.data.flush()
    scene.store.identify(scene.reader.topic_id(), frozenset({before}))
    scene.checks.identify()
    assert scene.checks.begin(0, lambda: True).start == 0


def test_a_beginning_is_not_committed_for_a_partition_that_is_being_taken_away() -> None:
    scene = Scene()
    with pytest.raises(CommitRefused):
        scene.checks.begin(0, lambda: False)
    assert scene.reader.committed(0) is None


def test_a_strangers_commit_is_noticed_wherever_it_stands() -> None:
    scene = Scene()
    now = time.monotonic()
    scene.checks.watch_group(now + WATCH_S)
    scene.commit(7, instance="a-stranger")
    scene.checks.watch_group(now + WATCH_S + 0.1)  # not yet due
    with pytest.raises(SharedGroup, match="a-stranger"):
        scene.checks.watch_group(now + 3 * WATCH_S)


def test_a_stack_that_took_a_living_one_for_its_own_past_notices_that_it_goes_on() -> None:
    scene = Scene()
    scene.commit(3, instance="the-other-stack")
    identity = Identity(scene.identity.topic_id, scene.identity.instance, frozenset({"the-other-stack"}))
    checks = Checks(scene.reader, scene.store, identity, scene.store.identify, "earliest", scene.metrics)
    now = time.monotonic()
    scene.commit(5, instance="the-other-stack")
    checks.watch_group(now + WATCH_S)  # a worker of ours may not have noticed yet that Redis was emptied
    checks.watch_group(now + SETTLE_S + 1)
    checks.watch_group(now + SETTLE_S + 2 * WATCH_S)  # it rests
    scene.commit(6, instance="the-other-stack")
    with pytest.raises(SharedGroup, match="the-other-stack"):
        checks.watch_group(now + SETTLE_S + 3 * WATCH_S)


class Told(MemoryReader):
    """A reader whose group says what the test says. anew: how often it was let spread its partitions anew."""

    def __init__(self, broker: MemoryBroker, *said: set[int] | None) -> None:
        super().__init__(broker, "user-text", "g", Assignments(InFlight()))
        self.said = list(said)
        self.anew = 0

    def unowned(self) -> frozenset[int]:
        found = self.said.pop(0)
        if found is None:
            raise BrokerUnavailable("no coordinator")
        return frozenset(found)

    def rejoin(self) -> None:
        self.anew += 1


@pytest.mark.parametrize(
    ("said", "anew"),
    [
        pytest.param([{1}, {1}], 1, id="nobody reads it"),
        pytest.param([{1}, set(), {1}], 0, id="somebody came between"),
        pytest.param([{1}, {2}], 0, id="it is another one"),
        pytest.param([{1, 2}, {2, 3}], 1, id="one of them stays"),
        pytest.param([{1}, None, {1}], 1, id="the broker did not answer once"),
        pytest.param([{1}, {1}, {1}], 1, id="the group is given time to move"),
    ],
)
def test_a_group_with_partitions_that_nobody_reads_is_let_spread_them_anew(
    said: list[set[int] | None], anew: int
) -> None:
    scene, now = Scene(), time.monotonic()
    reader = Told(scene.broker, *said)
    checks = Checks(reader, scene.store, scene.identity, scene.store.identify, "earliest", scene.metrics)
    for look in range(1, len(said) + 1):
        checks.watch_partitions(now + look * WATCH_S + 1)
        checks.watch_partitions(now + look * WATCH_S + 2)  # not yet due
    assert reader.anew == anew
