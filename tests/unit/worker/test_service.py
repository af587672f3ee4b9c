"""A worker as a whole: how it starts, shares partitions with others, ends, and what it refuses."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence

import pytest

from tests.builders import DEAD, INTERESTS, OUT, RELEASES, TEXTS, Gate, Setup, Worker, World, eventually
from tests.stories import expected_ids, story
from worker.broker.base import BrokerUnavailable, CommitRefused, Committed, Record
from worker.broker.memory import MemoryReader
from worker.errors import SharedGroup, WrongLog, WrongTopic
from worker.store.base import StoreRefused, StoreUnavailable, Write
from worker.store.memory import MemoryData, MemoryStore


@pytest.fixture
def world() -> World:
    return World(partitions=4)


def running(made: Worker, partitions: int) -> bool:
    return made.value("kindred_partitions", state="running") == partitions


# Starting.


def test_a_worker_joins_the_group_only_with_its_index_loaded(world: World) -> None:
    story(world)
    world.work()
    with world.worker() as made:
        assert made.service.pipeline.follower.index.donors == 12
        eventually(made.ready, "ready")


def test_a_worker_waits_for_a_redis_that_is_not_there_yet(world: World) -> None:
    world.data.down = True
    world.write("anna")
    made = Worker(world, Setup())
    made.begin()
    eventually(lambda: made.value("kindred_unavailable", service="redis") == 1, "the metric says so")
    assert not made.ready()
    world.data.down = False
    made.await_start()
    made.finish()
    made.end()
    assert world.answered() == [("anna", 1)]


@pytest.mark.parametrize("away", ["redis", "kafka"])
def test_a_worker_that_waits_for_a_service_can_be_stopped(world: World, away: str) -> None:
    world.data.down = away == "redis"
    world.broker.fail_with = "no broker" if away == "kafka" else None
    made = Worker(world, Setup())
    made.begin()
    eventually(lambda: made.value("kindred_unavailable", service=away) == 1, "it waits")
    made.end()
    assert isinstance(made.error, StoreUnavailable | BrokerUnavailable)


@pytest.mark.parametrize("topic", [TEXTS, OUT, DEAD, INTERESTS, RELEASES])
def test_a_missing_topic_stops_the_start_with_a_remedy(world: World, topic: str) -> None:
    del world.broker.topics[topic]
    with world.worker() as made:
        error = made.await_error()
    assert isinstance(error, WrongTopic)
    assert topic in str(error)
    assert "kindred topics create" in str(error)


def test_a_compacted_topic_stops_the_start_with_a_remedy(world: World) -> None:
    world.broker.topics[TEXTS].compacted = True
    with world.worker() as made:
        error = made.await_error()
    assert isinstance(error, WrongTopic)
    assert "cleanup.policy=delete" in str(error)


def test_a_redis_of_another_log_stops_the_start(world: World) -> None:
    world.work()
    world.broker.topics[TEXTS].topic_id = "another"
    with world.worker() as made:
        error = made.await_error()
    assert isinstance(error, WrongLog)
    assert "KINDRED_REDIS_URL" in str(error)


def test_another_number_of_shards_stops_the_start(world: World) -> None:
    world.work()

    def three(data: MemoryData) -> MemoryStore:
        return MemoryStore(data, shards=3)

    with world.worker(store=three) as made:
        assert isinstance(made.await_error(), StoreRefused)


def test_an_emptied_redis_is_taken_for_the_one_that_the_group_committed_for(world: World) -> None:
    story(world)
    world.work()
    before = world.users()
    world.data.flush()
    world.work()
    eventually(lambda: world.users() == before, "healed")
    assert world.ids() == Counter(expected_ids(world))


# Sharing.


def test_workers_share_the_partitions_while_one_joins_and_one_leaves(world: World) -> None:
    with world.worker() as one:
        story(world, users=20)
        with world.worker(name="worker-1") as two:
            eventually(lambda: running(one, 2) and running(two, 2), "both have two partitions")
            story(world, users=20, seed=2, first=1000)
            eventually(lambda: two.value("kindred_events_applied_total") > 0, "the second one works")
            one.end()
            eventually(lambda: running(two, 4), "the other one has taken over")
            story(world, users=20, seed=3, first=2000)
            two.finish()
    assert world.ids() == Counter(expected_ids(world)), "nothing lost and, where all leave in good order, nothing twice"
    calm = World(partitions=4)
    for record in world.log():
        calm.broker.append(TEXTS, record.key, record.value, record.headers, record.partition, record.timestamp)
    calm.work()
    assert world.users() == calm.users()


def test_a_partition_goes_to_its_new_owner_after_what_is_under_way_is_committed(world: World) -> None:
    gate = Gate(6)
    world.write("anna", partition=1)
    with world.worker(fail_point=gate) as one:
        gate.await_reached()
        two = Worker(world, Setup(name="worker-1"))
        two.begin()
        eventually(lambda: one.value("kindred_partitions", state="running") == 2, "the old owner lets go")
        assert world.commits[-1][1].offset == 0
        gate.open()
        two.await_start()
        assert world.committed()[1] == 1
        two.finish()
        two.end()
        assert two.value("kindred_events_in_total") == 0
        one.finish()
    assert two.error is None
    assert world.answered() == [("anna", 1)]


def test_what_is_collected_but_not_under_way_is_left_to_the_new_owner(world: World) -> None:
    gate = Gate(4)
    for _ in range(9):
        world.write("anna", partition=1)
    with world.worker(fail_point=gate, batch_max_events=1, batches_in_flight=1) as one:
        gate.await_reached()
        two = Worker(world, Setup(name="worker-1"))
        two.begin()
        eventually(lambda: one.value("kindred_partitions", state="running") == 2, "the old owner lets go")
        gate.open()
        two.await_start()
        two.finish()
        applied = two.value("kindred_events_applied_total")
        assert applied > 0
        assert one.value("kindred_events_applied_total") + applied == 9
        two.end()
    assert world.answered() == [("anna", 1), ("anna", 2), ("anna", 3)]


def test_a_worker_that_does_not_hand_over_in_time_commits_nothing_more(world: World) -> None:
    gate = Gate(6)
    world.write("anna", partition=1)
    with world.worker(fail_point=gate, drain=0.05) as one:
        gate.await_reached()
        with world.worker(name="worker-1") as two:
            eventually(lambda: world.all_committed(), "the new owner has done it")
            for _ in range(3):
                world.write("anna", partition=1)
            eventually(lambda: world.committed()[1] == 4, "and goes on")
            commits = len(world.commits)
            gate.open()
            eventually(lambda: not one.service.pipeline.left[0].get(1), "the old owner has forgotten the partition")
            two.finish()
            assert len(world.commits) == commits
    assert set(world.answered()) == {("anna", 1), ("anna", 2), ("anna", 3)}
    state = world.state("anna")
    assert state is not None
    assert state.count == 4


def test_two_groups_over_one_log_and_one_redis_both_answer(world: World) -> None:
    story(world)
    with world.worker() as one, world.worker(name="b", group="other") as two:
        one.finish()
        eventually(lambda: world.all_committed("other"), "the other group is done")
        assert two.error is None
    assert world.ids() == Counter(dict.fromkeys(expected_ids(world), 2))
    state = world.state("user 1")
    assert state is not None
    assert state.count == 6


def test_two_stacks_in_one_group_stop(world: World) -> None:
    """The second stack has a Redis of its own; the first one finds its commits when a partition comes back."""
    second = World(partitions=4)
    second.broker = world.broker
    with world.worker() as made:
        made.finish()
        with second.worker() as other:
            eventually(lambda: running(other, 2), "it has taken partitions")
            world.write("anna", partition=1)
            other.finish()
        assert isinstance(made.await_error(), SharedGroup)


# Ending.


def test_an_ending_worker_hands_over_everything_that_it_has_read(world: World) -> None:
    gate = Gate(4)
    story(world)
    with world.worker(fail_point=gate, batch_max_age=5.0, batch_max_events=1000) as made:
        eventually(lambda: made.value("kindred_events_in_total") == 72, "all is collected")
        assert world.answered() == []
        gate.open()
        made.end()
    assert world.all_committed()
    assert world.ids() == Counter(expected_ids(world))


class Stuck(MemoryStore):
    """Its saves never succeed; as a Redis that has gone for good."""

    def save(self, write: Write) -> set[int]:
        if write.users:
            raise StoreUnavailable("gone")
        return super().save(write)


def test_a_worker_that_ends_while_the_group_moves_takes_part_and_commits(world: World) -> None:
    class Moving(MemoryReader):
        """Takes no commit while the group moves; a member who polls goes along with it."""

        moves = False

        def poll(self, timeout_s: float, max_records: int) -> Mapping[int, Sequence[Record]]:
            Moving.moves = False
            return super().poll(timeout_s, max_records)

        def commit(self, offsets: Mapping[int, Committed]) -> None:
            if Moving.moves:
                raise CommitRefused("the group is moving", retry=True)
            super().commit(offsets)

    gate = Gate(7)
    with world.worker(reader=Moving, fail_point=gate, drain=3.0) as made:
        world.write("anna")
        gate.await_reached()
        made.service.stop()
        eventually(lambda: made.health.state == "draining", "it drains")
        Moving.moves = True
        gate.open()
        made.end()
    assert world.committed()[0] == 1


def test_a_drain_ends_at_its_deadline_and_leaves_the_rest_to_the_next_owner(world: World) -> None:
    world.write("anna")
    with world.worker(store=Stuck, drain=0.3) as made:
        eventually(lambda: made.value("kindred_unavailable", service="redis") == 1, "it is stuck")
        started = time.monotonic()
        made.end()
        assert time.monotonic() - started < 5
        made.forgiven = True
    assert world.committed()[0] == 0
    world.work()
    assert world.answered() == [("anna", 1)]


def test_an_error_in_a_stage_ends_the_worker_at_once_and_loses_nothing(world: World) -> None:
    def break_down(step: int) -> None:
        if step == 6:
            raise RuntimeError("broken")

    world.write("anna")
    started = time.monotonic()
    with world.worker(fail_point=break_down) as made:
        assert str(made.await_error()) == "broken"
    assert time.monotonic() - started < 5
    world.work()
    assert world.answered() == [("anna", 1)]
    state = world.state("anna")
    assert state is not None
    assert state.count == 1


@pytest.mark.parametrize("step", range(1, 9))
def test_a_worker_that_dies_after_any_step_is_followed_by_one_that_loses_and_doubles_nothing(
    world: World, step: int
) -> None:
    story(world)
    passed = threading.Semaphore(1)

    def die(done: int) -> None:
        if done == step and not passed.acquire(blocking=False):
            raise RuntimeError("dead")

    with world.worker(fail_point=die, batch_max_events=4) as made:
        made.await_error()
    world.work()
    assert set(world.ids()) == expected_ids(world)
    calm = World(partitions=4)
    for record in world.log():
        calm.broker.append(TEXTS, record.key, record.value, record.headers, record.partition, record.timestamp)
    calm.work()
    assert world.users() == calm.users()


def test_run_comes_after_start(world: World) -> None:
    made = Worker(world, Setup())
    with pytest.raises(RuntimeError, match="start"):
        made.service.run()
    made.service.close()
