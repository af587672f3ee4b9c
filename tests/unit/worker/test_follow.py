"""The index follows what other workers write."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from model.index import Changes, Index
from model.users import UserWrite
from tests.builders import Worker, World, eventually, key_of
from tests.stores import batch, event, user
from tests.stories import story
from worker.follow import Follower
from worker.metrics import Metrics
from worker.store.base import StoreUnavailable, Write
from worker.store.memory import MemoryData, MemoryStore

ANNA, BO = user("anna"), user("bo")


@pytest.fixture
def world() -> World:
    return World()


class Scene:
    """Another worker's store, and this worker's follower over the same data."""

    def __init__(self, refresh_seconds: float = 0.0) -> None:
        self.data = MemoryData()
        self.other = MemoryStore(self.data)
        self.metrics = Metrics()
        self.follower = Follower(
            MemoryStore(self.data), lambda head: Index(8, 4 << 20, interest=head), None, self.metrics, refresh_seconds
        )


def test_what_is_stored_at_the_start_is_in_the_index() -> None:
    scene = Scene()
    scene.other.save(batch(event(ANNA, 1), event(BO, 1), upto=2))
    scene.follower.load()
    assert scene.follower.index.donors == 2


def test_others_users_come_and_erased_ones_go() -> None:
    scene = Scene()
    scene.follower.load()
    scene.other.save(batch(event(ANNA, 1), event(BO, 1), upto=2))
    scene.follower.refresh()
    assert scene.follower.index.donors == 2
    assert scene.metrics.registry.get_sample_value("kindred_donors") == 2
    scene.other.save(batch(event(ANNA, 2, after=1, erase=True), upto=3))
    scene.follower.refresh()
    assert scene.follower.index.donors == 1


def test_a_lost_feed_is_answered_with_a_whole_new_index() -> None:
    scene = Scene()
    scene.other.save(batch(event(ANNA, 1), upto=2))
    scene.follower.load()
    before = scene.follower.index
    scene.data.flush()
    scene.other.save(batch(event(BO, 1), upto=2))
    scene.follower.refresh()
    assert scene.follower.index is not before
    assert scene.follower.index.donors == 1


def test_the_feed_is_looked_at_no_more_often_than_asked_for() -> None:
    scene = Scene(refresh_seconds=3600)
    scene.follower.load()
    assert scene.follower.due()
    scene.follower.refresh()
    assert not scene.follower.due()


def test_a_store_that_is_away_leaves_the_index_as_it_was_and_growing_stale() -> None:
    scene = Scene()
    scene.other.save(batch(event(ANNA, 1), upto=2))
    scene.follower.load()
    scene.data.down = True
    with pytest.raises(StoreUnavailable):
        scene.follower.refresh()
    assert scene.follower.index.donors == 1
    assert (scene.metrics.registry.get_sample_value("kindred_index_staleness_seconds") or 0) > 0


# In a whole worker.


def test_a_donor_of_another_worker_is_found_through_the_feed(world: World) -> None:
    world.write("bo", item_id="boat", item_title="boat", partition=1)
    with world.worker() as one:
        one.finish()
        with world.worker(name="worker-1") as two:
            eventually(lambda: both(one, two), "both have a partition")
            world.write("cy", item_id="ship", item_title="ship", partition=1)
            eventually(lambda: one.value("kindred_donors") == two.value("kindred_donors") == 2, "both know both")


def both(one: Worker, two: Worker) -> bool:
    return all(made.value("kindred_partitions", state="running") == 1 for made in (one, two))


class Unsteady(MemoryStore):
    """Fails in the middle of its second snapshot."""

    snapshots = 0

    def snapshot(self) -> Iterator[Changes]:
        self.snapshots += 1
        yield from super().snapshot()
        if self.snapshots == 2:
            raise StoreUnavailable("gone in the middle")


def test_an_index_that_could_not_be_loaded_whole_is_loaded_again(world: World) -> None:
    story(world)
    other = World()
    other.write("zoe")
    other.work()
    position, state = other.users()[key_of("zoe")]
    with world.worker(store=Unsteady) as made:
        made.finish()
        with world.data.lock:  # the feed has lost an entry before this worker could read it
            world.store().save(Write({}, [{} for _ in range(4)], [UserWrite(key_of("zoe"), b"", position, state)]))
            for shard in world.data.stored:
                shard.trimmed = shard.last
        eventually(lambda: made.value("kindred_donors") == 13, "all donors are there")
