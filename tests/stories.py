"""What happens to a `World`, and what must have come of it."""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import Final

from schemas.recommendation import recommendation_id
from tests.builders import K, World

WORDS: Final = ("sailing", "bread", "jazz", "chess", "moss", "comets", "knots", "maps", "tea", "owls")


def story(world: World, users: int = 12, events: int = 6, seed: int = 1, *, first: int = 0) -> None:
    """Events of several users, mixed, with items and labels; the same for the same seed. Each user stays in one
    partition. first: number of the first event, so that a story can be told in pieces."""
    random = Random(f"{seed} {first}")
    told = [f"user {user}" for user in range(users) for _ in range(events)]
    random.shuffle(told)
    for number, user in enumerate(told, start=first):
        item = random.randrange(20)
        world.write(
            user,
            f"{random.choice(WORDS)} {random.choice(WORDS)} {random.choice(WORDS)}",
            partition=None,
            timestamp=world.broker.now_ms + number,
            item_id=f"item {item}",
            item_title=f"{WORDS[item % len(WORDS)]} and more",
            labels=[random.choice(WORDS)],
            weight=random.choice([0.5, 1.0, 2.0]),
        )


def expected_ids(world: World) -> set[str]:
    """Ids of the recommendations that the log asks for, where every record is a good event."""
    seen: Counter[bytes] = Counter()
    due = set()
    for record in world.log():
        assert record.key is not None
        seen[record.key] += 1
        if seen[record.key] <= K:
            due.add(recommendation_id(record.key.decode(), record.topic, record.partition, record.offset))
    return due


def in_order(world: World) -> None:
    """A user's answers stand in the topic in the order of their numbers."""
    numbers: dict[str, list[int]] = {}
    for user, nth in world.answered():
        numbers.setdefault(user, []).append(nth)
    assert all(found == sorted(found) for found in numbers.values())
