"""Other spaces than the one in use: who is erased is erased there, and what nobody uses any more is removed."""

from __future__ import annotations

import pytest

from model.update import LogEvent
from tests.builders import World, key_of
from worker import spaces
from worker.spaces import Spaces
from worker.store.base import Write
from worker.store.memory import MemoryData, MemoryStore

OTHER = "b" * 16


@pytest.fixture
def world() -> World:
    found = World()
    for user in ("anna", "bo"):
        found.write(user)
    found.work()
    copy = found.of_space(OTHER)
    for here, there in zip(found.data.stored, copy.stored, strict=True):
        there.users.update(here.users)
    return found


def beside(world: World) -> Spaces:
    return Spaces(
        world.store(), lambda name, _: MemoryStore(world.of_space(name)), newcomer_events=3, user_ttl_ms=10**12
    )


def tombstone(user: str, offset: int) -> LogEvent:
    return LogEvent(key_of(user), 0, offset, 10**13, erases=True)


def test_a_user_is_erased_in_the_other_space_and_nobody_else_is(world: World) -> None:
    beside(world).erase([tombstone("anna", 5)])
    assert world.state("anna", world.of_space(OTHER)) is None
    assert world.state("bo", world.of_space(OTHER)) is not None


def test_a_tombstone_that_the_other_space_has_seen_changes_nothing(world: World) -> None:
    position = world.users()[key_of("anna")]
    beside(world).erase([tombstone("anna", 0)])
    assert world.users(world.of_space(OTHER))[key_of("anna")] == position


def test_an_erasure_is_repeated_where_somebody_else_was_faster(world: World) -> None:
    class Overtaken(MemoryStore):
        """Whose first write comes too late."""

        def save(self, write: Write) -> set[int]:
            if not late:
                late.append(1)
                return set(range(len(write.users)))
            return super().save(write)

    late: list[int] = []
    found = Spaces(
        world.store(), lambda name, _: Overtaken(world.of_space(name)), newcomer_events=3, user_ttl_ms=10**12
    )
    found.erase([tombstone("anna", 5), tombstone("bo", 6)])
    assert late
    assert world.state("anna", world.of_space(OTHER)) is None
    assert world.state("bo", world.of_space(OTHER)) is None


def test_a_space_that_nobody_keeps_is_removed_and_one_that_is_kept_stays(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spaces, "KEEP_S", 0.0)
    kept = world.of_space("c" * 16)
    kept.kept = True
    found = beside(world)
    for _ in range(5):
        found.tend()
    assert world.data.kept, "its own it keeps"
    assert OTHER not in world.data.beside
    assert "c" * 16 in world.data.beside


def test_looking_after_spaces_waits_between_two_times(world: World) -> None:
    asked: list[MemoryData] = []

    class Watched(MemoryStore):
        def keep(self) -> None:
            asked.append(self._data)

    found = Spaces(
        Watched(world.data), lambda name, _: MemoryStore(world.of_space(name)), newcomer_events=3, user_ttl_ms=1
    )
    world.of_space(OTHER).kept = True
    for _ in range(5):
        found.tend()
    assert asked == [world.data]
