"""A world with states of two spaces, and what is to be true of it: for tests of a back-fill and of going over."""

from __future__ import annotations

from pathlib import Path

from model.encoder.dummy import DummyEncoder
from model.users import UserKey
from tests.builders import TEXTS, Worker, World, eventually
from tests.stories import expected_ids, in_order
from tests.unit.worker.releases import Shelf, announcement

OLD, NEW = DummyEncoder().space, DummyEncoder(128).space


def serves(made: Worker, space: str) -> bool:
    return made.service.lane.serving.space == space


def await_space(made: Worker, space: str) -> None:
    eventually(lambda: serves(made, space) or made.error, f"space {space[:8]} is served ({made.why()})")


def spaces(world: World) -> list[str]:
    return [found.space for found in world.recommendations()]


def alone(world: World, shelf: Shelf, path: Path) -> dict[UserKey, tuple[bytes, bytes | None]]:
    """The users of a space as a worker leaves them that knows no other: a serial replay of the same log."""
    calm = World(partitions=world.partitions)
    for record in world.log():
        calm.broker.append(TEXTS, record.key, record.value, record.headers, record.partition, record.timestamp)
    calm.work(first=lambda: shelf.open(announcement(path)))
    return calm.users(calm.of_space(DummyEncoder(128).space))


def nothing_lost_or_doubled(world: World) -> None:
    assert set(world.ids()) == expected_ids(world)
    assert max(world.ids().values()) == 1
    in_order(world)
