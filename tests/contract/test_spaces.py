"""States of two spaces or namespaces in one Redis never meet."""

from __future__ import annotations

import pytest
import redis

from model.users import Stored
from tests.redis_servers import RedisServer
from tests.stores import ANNA, SHARDS, batch, counts, event, everything
from worker.store.redis import RedisStore

HERE = ("here", "a" * 40)


@pytest.mark.embedded
@pytest.mark.parametrize("elsewhere", [("here", "b" * 40), ("there", "a" * 40)], ids=["space", "namespace"])
def test_a_store_sees_nothing_of_another_one(embedded_server: RedisServer, elsewhere: tuple[str, str]) -> None:
    mine, other = (
        RedisStore.connect(embedded_server.url, namespace=namespace, space=space, shards=SHARDS, user_ttl_ms=60_000)
        for namespace, space in (HERE, elsewhere)
    )
    try:
        mine.save(batch(event(ANNA, 1), upto=2))
        assert counts(everything(mine).users) == {ANNA: 2}
        assert other.load([ANNA]) == [Stored()]
        assert everything(other).users == []
        assert other.watermarks() == [{} for _ in range(SHARDS)]
        assert mine.identify("topic", frozenset()).instance != other.identify("topic", frozenset()).instance
    finally:
        for store in (mine, other):
            store.close()
        with redis.Redis.from_url(embedded_server.url) as client:
            client.flushall()
