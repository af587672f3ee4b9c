"""States of two spaces or namespaces in one Redis never meet; a space that nobody uses any more can be removed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

import pytest
import redis

from model.users import Stored
from tests.redis_servers import RedisServer
from tests.stores import ANNA, BO, SHARDS, batch, counts, event, everything, user
from worker.store.keys import kept_key, meta_key
from worker.store.redis import RedisStore

pytestmark = pytest.mark.embedded

HERE = ("here", "a" * 40)


@contextmanager
def stores(server: RedisServer, *places: tuple[str, str]) -> Iterator[list[RedisStore]]:
    """Stores of (namespace, space); nothing is left of them."""
    opened = [
        RedisStore.connect(server.url, namespace=namespace, space=space, shards=SHARDS, user_ttl_ms=60_000)
        for namespace, space in places
    ]
    try:
        yield opened
    finally:
        for store in opened:
            store.close()
        with redis.Redis.from_url(server.url) as client:
            client.flushall()


@pytest.fixture
def namespace() -> str:
    return uuid4().hex


def forsake(server: RedisServer, namespace: str, space: str) -> None:
    """As if nobody had used the space for long."""
    with redis.Redis.from_url(server.url) as client:
        client.delete(kept_key(namespace, space))


@pytest.mark.parametrize("elsewhere", [("here", "b" * 40), ("there", "a" * 40)], ids=["space", "namespace"])
def test_a_store_sees_nothing_of_another_one(embedded_server: RedisServer, elsewhere: tuple[str, str]) -> None:
    with stores(embedded_server, HERE, elsewhere) as (mine, other):
        mine.save(batch(event(ANNA, 1), upto=2))
        assert counts(everything(mine).users) == {ANNA: 2}
        assert other.load([ANNA]) == [Stored()]
        assert everything(other).users == []
        assert other.watermarks() == [{} for _ in range(SHARDS)]


def test_the_spaces_of_a_namespace_are_data_of_one_instance(embedded_server: RedisServer, namespace: str) -> None:
    """A worker that serves one space must not take another's commits for those of another Redis."""
    with stores(embedded_server, (namespace, "a" * 40), (namespace, "b" * 40), ("there", "a" * 40)) as found:
        mine, beside, elsewhere = (store.identify("topic", frozenset()).instance for store in found)
        assert mine == beside
        assert mine != elsewhere


def test_a_store_knows_the_other_spaces_and_whether_they_are_kept(embedded_server: RedisServer, namespace: str) -> None:
    with stores(embedded_server, (namespace, "a" * 40), (namespace, "b" * 40)) as (mine, other):
        mine.identify("topic", frozenset())
        assert mine.spaces() == {}
        other.identify("topic", frozenset())
        assert mine.spaces() == {"b" * 12: (SHARDS, True)}
        assert other.spaces() == {"a" * 12: (SHARDS, True)}
        with redis.Redis.from_url(embedded_server.url) as client:
            assert 0 < client.pttl(kept_key(namespace, "b" * 40)) <= 7 * 86_400_000
            client.delete(kept_key(namespace, "b" * 40))
        assert mine.spaces() == {"b" * 12: (SHARDS, False)}
        other.keep()
        assert mine.spaces() == {"b" * 12: (SHARDS, True)}


def test_all_users_are_told_erased_ones_too(embedded_server: RedisServer, namespace: str) -> None:
    with stores(embedded_server, (namespace, "a" * 40), (namespace, "b" * 40)) as (mine, other):
        many = [user(number) for number in range(2_500)]
        mine.save(batch(*(event(each, 1) for each in many), upto=2))
        mine.save(batch(event(BO, 2, erase=True), upto=3))
        other.save(batch(event(ANNA, 1), upto=2))
        assert {each for piece in mine.users() for each in piece} == {*many, BO}


def test_a_space_that_is_discarded_leaves_nothing_and_the_other_one_stays(
    embedded_server: RedisServer, namespace: str
) -> None:
    with stores(embedded_server, (namespace, "a" * 40), (namespace, "b" * 40)) as (mine, other):
        for store in (mine, other):
            store.identify("topic", frozenset())
            store.save(batch(*(event(user(number), 1) for number in range(2_500)), upto=2))
        before = counts(everything(mine).users)
        assert list(other.discard()) == [], "it is kept"
        assert mine.spaces() == {"b" * 12: (SHARDS, True)}
        forsake(embedded_server, namespace, "b" * 40)
        assert len(list(other.discard())) > 1
        with redis.Redis.from_url(embedded_server.url) as client:
            left = list(client.scan_iter(match=meta_key(namespace, "b" * 40)[:-4] + b"*", count=1000))
        assert left == []
        assert mine.spaces() == {}
        assert counts(everything(mine).users) == before


def test_a_space_that_is_filled_again_while_it_is_discarded_keeps_what_is_filled(
    embedded_server: RedisServer, namespace: str
) -> None:
    with stores(embedded_server, (namespace, "a" * 40)) as (store,):
        store.identify("topic", frozenset())
        store.save(batch(*(event(user(number), 1) for number in range(2_500)), upto=2))
        forsake(embedded_server, namespace, "a" * 40)
        steps = store.discard()
        next(steps)
        assert store.watermarks() == [{} for _ in range(SHARDS)], "whoever comes begins from nothing"
        store.identify("topic", frozenset())
        store.save(batch(event(ANNA, 1), upto=2))
        for _ in steps:
            pass
        assert store.load([ANNA])[0].state is not None
        assert store.watermarks() == [{0: 2} for _ in range(SHARDS)]
