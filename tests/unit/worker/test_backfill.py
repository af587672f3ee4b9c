"""Another space filled from the log beside the one in service, whoever dies, fails or is forgotten meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from model.encoder.base import Encoder
from schemas.announcement import ReleaseAnnouncement
from tests.builders import TEXTS, Gate, World, eventually, key_of
from tests.stories import expected_ids, story
from tests.unit.worker.releases import Shelf, announce, announcement
from tests.unit.worker.two_spaces import NEW, OLD, alone, await_space, nothing_lost_or_doubled, serves
from worker.backfill import pause
from worker.heal import read_note
from worker.serving import Serving
from worker.store.base import StoreRefused, Write
from worker.store.keys import INSTANCE_NOTE
from worker.store.memory import MemoryData, MemoryStore


@pytest.fixture
def world() -> World:
    return World(partitions=3)


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path)


@pytest.mark.parametrize("busy", [True, False])
def test_it_pauses_after_each_batch_while_the_space_in_service_has_work(
    world: World, shelf: Shelf, busy: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    shares: list[float] = []

    def paused(spent: float, share: float) -> float:
        assert spent >= 0
        shares.append(share)
        return 0.0

    monkeypatch.setattr("worker.backfill.pause", paused)
    path, gate = shelf.write(0.9, encoder="dummy-128"), Gate(4)
    story(world, users=30)
    with world.worker(open=shelf.open, batch_max_events=4) as made:
        made.finish()
    with world.worker(open=shelf.open, batch_max_events=4, fail_point=gate if busy else lambda _: None) as made:
        if busy:
            world.write("anna")
            gate.await_reached()
        announce(world, path)
        if busy:
            eventually(lambda: len(shares) > 5, "it pauses")
            gate.open()
        await_space(made, NEW)
    assert set(shares) == ({1.0} if busy else set())


@pytest.mark.parametrize(("share", "seconds"), [(1.0, 0.0), (0.5, 2.0), (0.25, 6.0)])
def test_a_pause_leaves_the_share_that_is_set(share: float, seconds: float) -> None:
    assert pause(2.0, share) == seconds


# Dying, and failing.


@pytest.mark.parametrize("step", [11, 13, 14, 15, 16, 17, 18])
def test_a_worker_that_dies_at_a_step_of_a_back_fill_goes_on_with_it_when_it_starts_again(
    world: World, shelf: Shelf, step: int
) -> None:
    path = shelf.write(0.9, encoder="dummy-128")
    gate = Gate(step)
    story(world, users=30)
    with world.worker(open=shelf.open, fail_point=gate, batch_max_events=4) as made:
        announce(world, path)
        gate.await_reached()
        made.service._loop.start_over.set()  # type: ignore[union-attr]  # whatever else happens meanwhile
        made.service.stop()
        gate.open()
    with world.worker(open=shelf.open, pending=announcement(path)) as made:
        await_space(made, NEW)
        story(world, users=45, seed=2, first=1000)
        made.finish()
    nothing_lost_or_doubled(world)
    assert world.users(world.of_space(NEW)) == alone(world, shelf, path)


def test_a_back_fill_goes_on_from_where_another_one_stopped(world: World, shelf: Shelf) -> None:
    path, gate = shelf.write(0.9, encoder="dummy-128"), Gate(18)
    story(world, users=30)
    with world.worker(open=shelf.open, fail_point=gate, batch_max_events=4) as made:
        made.finish()
        announce(world, path)
        gate.await_reached()
        gate.open()
    done = {n: mark for shard in world.of_space(NEW).stored for n, mark in shard.watermarks.items()}
    assert done
    with world.worker(open=shelf.open, pending=announcement(path)) as made:
        await_space(made, NEW)
    assert world.users(world.of_space(NEW)) == alone(world, shelf, path)


def test_a_new_space_that_redis_loses_while_it_is_filled_is_filled_again(world: World, shelf: Shelf) -> None:
    path, gate = shelf.write(0.9, encoder="dummy-128"), Gate(18)
    story(world, users=30)
    with world.worker(open=shelf.open, fail_point=gate, batch_max_events=4) as made:
        made.finish()
        announce(world, path)
        gate.await_reached()
        world.of_space(NEW).stored[1] = MemoryData(shards=4).stored[1]
        gate.open()
        await_space(made, NEW)
        story(world, users=45, seed=2, first=1000)
        made.finish()
    nothing_lost_or_doubled(world)
    assert world.users(world.of_space(NEW)) == alone(world, shelf, path)


def test_a_back_fill_that_fails_leaves_the_old_space_in_service_and_is_told(world: World, shelf: Shelf) -> None:
    class Full(MemoryStore):
        def save(self, write: Write) -> set[int]:
            if self._data is world.of_space(NEW):
                raise StoreRefused("no room for another space")
            return super().save(write)

    path = shelf.write(0.9, encoder="dummy-128")
    story(world, users=30)
    with world.worker(open=shelf.open, store=Full) as made:
        announce(world, path)
        eventually(lambda: made.value("kindred_releases_refused_total", reason="backfill") == 1, "it is counted")
        assert "no room for another space" in str(made.health.report()[1]["notices"])
        story(world, users=45, seed=2, first=1000)
        made.finish()
        assert made.ready()
        assert serves(made, OLD)
    nothing_lost_or_doubled(world)


def test_a_back_fill_that_failed_is_tried_again_when_its_release_is_announced_again(world: World, shelf: Shelf) -> None:
    failing = threading.Event()
    failing.set()

    class Full(MemoryStore):
        def save(self, write: Write) -> set[int]:
            if self._data is world.of_space(NEW) and failing.is_set():
                raise StoreRefused("no room for another space")
            return super().save(write)

    path = shelf.write(0.9, encoder="dummy-128")
    story(world, users=30)
    with world.worker(open=shelf.open, store=Full) as made:
        announce(world, path)
        eventually(lambda: made.value("kindred_releases_refused_total", reason="backfill") == 1, "it is counted")
        failing.clear()
        announce(world, path)
        await_space(made, NEW)
        assert "notices" not in made.health.report()[1]


def test_a_worker_that_has_no_room_for_another_space_goes_on_with_the_old_one(
    world: World, shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = shelf.write(0.9, encoder="dummy-128")
    story(world, users=30)
    with world.worker(open=shelf.open) as made:
        made.finish()

        def full(*_: object, **__: object) -> None:
            raise MemoryError("no room for a second index")

        monkeypatch.setattr("worker.service.Backfill", full)
        announce(world, path)
        eventually(lambda: made.value("kindred_releases_refused_total", reason="backfill") == 1, "it is counted")
        world.write("anna")
        made.finish()
        assert serves(made, OLD)


def test_a_redis_that_is_emptied_while_a_space_is_filled_is_that_of_the_group_afterwards(
    world: World, shelf: Shelf
) -> None:
    """Else the worker would commit for data that is no more, and take itself for another stack."""
    path, gate = shelf.write(0.9, encoder="dummy-128"), Gate(18)
    story(world, users=30)
    with world.worker(open=shelf.open, fail_point=gate, batch_max_events=4) as made:
        made.finish()
        announce(world, path)
        gate.await_reached()
        world.of_space(NEW).flush()
        world.data.flush()
        gate.open()
        await_space(made, NEW)
        story(world, users=45, seed=2, first=1000)
        made.finish()
        instance = made.service.pipeline.instance
    assert instance == world.data.notes[INSTANCE_NOTE]
    assert {read_note(found.metadata)[0] for found in world.broker.committed.values()} == {instance}
    assert set(world.ids()) == expected_ids(world)
    assert world.users(world.of_space(NEW)) == alone(world, shelf, path)


def test_a_worker_that_ends_in_a_back_fill_closes_what_it_has_opened(world: World, shelf: Shelf) -> None:
    closed: list[str] = []

    class Told(MemoryStore):
        def close(self) -> None:
            closed.append("new" if self._data is world.of_space(NEW) else "old")

    path, gate = shelf.write(0.9, encoder="dummy-128"), Gate(15)
    story(world, users=30)
    with world.worker(open=shelf.open, store=Told, fail_point=gate) as made:
        announce(world, path)
        gate.await_reached()
        made.service.stop()
        gate.open()
    eventually(lambda: sorted(closed) == ["new", "old"], "both are closed")


# Who is forgotten.


@pytest.mark.parametrize("when", ["before", "during", "after"])
def test_an_erased_user_is_erased_in_every_space(world: World, shelf: Shelf, when: str) -> None:
    path, gate = shelf.write(0.9, encoder="dummy-128"), Gate(15)
    story(world, users=30)
    world.write("anna", partition=1)
    with world.worker(open=shelf.open, fail_point=gate) as made:
        made.finish()
        if when == "before":
            world.forget("anna", partition=1)
            made.finish()
        announce(world, path)
        gate.await_reached()
        if when == "during":
            world.forget("anna", partition=1)
            made.finish()
        gate.open()
        await_space(made, NEW)
        made.finish()
        if when == "after":
            world.forget("anna", partition=1)
            made.finish()
        assert world.state("anna") is None
        assert world.state("anna", world.of_space(NEW)) is None
        assert key_of("anna") not in made.service.pipeline.follower.index._rows


def test_an_old_user_whose_events_the_log_has_lost_is_no_newcomer_in_the_new_space(world: World, shelf: Shelf) -> None:
    path = shelf.write(0.9, encoder="dummy-128")
    for _ in range(5):
        world.write("anna", item_id="boat", item_title="boat")
    for _ in range(2):
        world.write("bo")
    with world.worker(open=shelf.open) as made:
        made.finish()
        world.broker.truncate(TEXTS, 0, 6)
        announce(world, path)
        await_space(made, NEW)
        made.finish()
        found = {name: world.state(name, world.of_space(NEW)) for name in ("anna", "bo")}
        assert found["anna"] is not None
        assert found["bo"] is not None
        assert (found["anna"].count, found["bo"].count) == (5, 2)
        assert not found["anna"].vector.any()
        assert found["bo"].vector.any()
        before = len(world.recommendations())
        for name in ("anna", "bo", "bo"):
            world.write(name)
        made.finish()
        assert [found.user_id for found in world.recommendations()[before:]] == ["bo"]


# While it lasts.


def opening(shelf: Shelf, opened: list[str]) -> Callable[[ReleaseAnnouncement], tuple[Encoder, Serving]]:
    def open_(announced: ReleaseAnnouncement) -> tuple[Encoder, Serving]:
        opened.append(announced.release)
        return shelf.open(announced)

    return open_


def test_a_release_that_is_announced_twice_is_filled_once(world: World, shelf: Shelf) -> None:
    path, gate, opened = shelf.write(0.9, encoder="dummy-128"), Gate(15), list[str]()
    story(world, users=30)
    with world.worker(open=opening(shelf, opened), fail_point=gate) as made:
        announce(world, path)
        gate.await_reached()
        announce(world, path)
        gate.open()
        await_space(made, NEW)
        announce(world, path)
        made.finish()
    assert opened == [path.name]


def test_readyz_tells_how_far_a_back_fill_is_and_stays_ready(world: World, shelf: Shelf) -> None:
    path, gate = shelf.write(0.9, encoder="dummy-128"), Gate(15)
    story(world, users=30)
    with world.worker(open=shelf.open, fail_point=gate) as made:
        made.finish()
        announce(world, path)
        gate.await_reached()

        def told() -> Any:
            ready, said = made.health.report()
            return ready and f"space {NEW[:12]} is filled beside" in str(said.get("notices"))

        eventually(told, "it is told")
        assert made.value("kindred_backfill_remaining") > 0
        gate.open()
        await_space(made, NEW)
