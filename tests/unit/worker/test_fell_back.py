"""A Redis that loses a reply, forgets, or is away: the worker comes to what an undisturbed run comes to."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest

from tests.builders import TEXTS, World, eventually
from tests.stories import expected_ids, in_order, story
from worker.store.base import FellBack, StoreUnavailable, Write
from worker.store.memory import MemoryStore


@pytest.fixture
def world() -> World:
    return World()


def same(one: World, other: World) -> None:
    """Both worlds came to the same users, bit for bit, the same aggregates and the same recommendations."""
    assert one.users() == other.users()
    weights = {item: weight for item, (weight, _) in one.aggregates().items()}
    assert weights == pytest.approx({item: weight for item, (weight, _) in other.aggregates().items()})
    assert {i: n for i, (_, n) in one.aggregates().items()} == {i: n for i, (_, n) in other.aggregates().items()}
    assert set(one.ids()) == set(other.ids())


def undisturbed(world: World) -> World:
    """What becomes of the same log when nothing happens."""
    calm = World(world.partitions, world.shards)
    for record in world.log():
        calm.broker.append(TEXTS, record.key, record.value, record.headers, record.partition, record.timestamp)
    calm.work()
    return calm


class LostReply(MemoryStore):
    """Makes the first save and then says that Redis did not answer."""

    lost = False

    def save(self, write: Write) -> set[int]:
        refused = super().save(write)
        if write.users and not self.lost:
            self.lost = True
            raise StoreUnavailable("the reply got lost")
        return refused


def test_a_save_whose_reply_got_lost_is_not_applied_twice(world: World) -> None:
    story(world)
    with world.worker(store=LostReply) as made:
        made.finish()
        assert made.value("kindred_retries_total", service="redis") >= 1
    same(world, undisturbed(world))
    assert world.ids() == Counter(expected_ids(world))


# Redis falls back.


def test_a_flushed_redis_heals_to_the_state_of_an_undisturbed_run(world: World) -> None:
    story(world)
    with world.worker() as made:
        made.finish()
        world.data.flush()
        story(world, first=1000)
        made.finish()
        eventually(lambda: made.value("kindred_healing_remaining", partition="0") == 0, "healed")
        same(world, undisturbed(world))
    assert world.ids() == Counter(set(world.ids())), "nothing below the old committed offset is published again"


def test_a_flush_in_the_middle_of_the_load_heals_to_the_state_of_an_undisturbed_run(world: World) -> None:
    story(world, users=20, events=8)
    flushed: list[bool] = []

    def flush_once(step: int) -> None:
        if step == 6 and not flushed and sum(world.committed().values()) > 40:
            flushed.append(True)
            world.data.flush()

    with world.worker(fail_point=flush_once) as made:
        made.finish()
        assert flushed
        same(world, undisturbed(world))


@pytest.mark.parametrize("shard", range(4))
def test_one_shard_set_back_to_an_older_copy_heals_to_the_state_of_an_undisturbed_run(world: World, shard: int) -> None:
    story(world)
    with world.worker() as made:
        made.finish()
        old = world.data.copy(shard)
        story(world, first=1000, seed=2)
        made.finish()
        world.data.restore(shard, old)
        story(world, first=2000, seed=3)
        made.finish()
        same(world, undisturbed(world))
    assert world.ids() == Counter(set(world.ids()))


def test_names_of_items_come_back_with_the_healing(world: World) -> None:
    world.write("bo", item_id="boat", item_title="The little boat", labels=["sea"])
    with world.worker() as made:
        made.finish()
        world.data.flush()
        world.write("cy")  # the first write finds out, not the refreshing
        made.finish()
    (piece,) = world.store().snapshot()
    assert [(row.item_id, row.title, row.users) for row in piece.items] == [("boat", "The little boat", 1)]
    assert [name for _, name in piece.labels] == ["sea"]


def test_while_healing_nothing_is_published_or_committed_below_the_old_offset(world: World) -> None:
    story(world)
    world.spoil()
    with world.worker() as made:
        made.finish()
        commits, published, letters = len(world.commits), len(world.recommendations()), len(world.dead_letters())
        old = world.committed()
        world.data.flush()
        eventually(lambda: made.value("kindred_events_in_total") == 2 * len(world.log()), "all is read again")
        made.finish()
        assert len(world.recommendations()) == published
        assert len(world.dead_letters()) == letters
        assert made.value("kindred_events_dead_total", reason="not_json") == 1
        story(world, first=1000)
        made.finish()
    assert all(made.offset > old[partition] for partition, made in world.commits[commits:])


def test_commits_never_go_backwards(world: World) -> None:
    story(world)
    with world.worker() as made:
        made.finish()
        world.data.flush()
        story(world, first=1000)
        made.finish()
    for partition in range(world.partitions):
        offsets = [made.offset for number, made in world.commits if number == partition]
        assert offsets == sorted(offsets)


# Services that are away.


def test_redis_may_be_away_for_a_while_and_nothing_is_lost_or_reordered(world: World) -> None:
    with world.worker() as made:
        eventually(made.ready, "ready")
        world.data.down = True
        story(world)
        eventually(lambda: made.value("kindred_unavailable", service="redis") == 1, "the metric says so")
        eventually(lambda: "redis" in made.why(), "/readyz says so")
        assert not made.ready()
        world.data.down = False
        made.finish()
        assert made.value("kindred_unavailable", service="redis") == 0
    assert world.ids() == Counter(expected_ids(world))
    in_order(world)
    same(world, undisturbed(world))


def test_nothing_is_committed_past_a_batch_that_met_a_store_which_fell_back(world: World) -> None:
    for number in range(24):
        world.write(f"u{number}")
    saves = itertools.count(1)

    class FellBackOnce(MemoryStore):
        """As when one call is answered by a replica that lags."""

        def save(self, write: Write) -> set[int]:
            if write.users and next(saves) == 2:
                raise FellBack("a replica that lags")
            return super().save(write)

    with world.worker(store=FellBackOnce, batch_max_events=4) as made:
        made.finish()
    assert set(world.ids()) == expected_ids(world)
    assert len(world.users()) == 24
