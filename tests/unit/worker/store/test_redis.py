from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import redis

from tests.redis_servers import RedisServer
from tests.stores import SPACE, RedisBackend, at, batch, event, user, user_in
from worker.store.base import FellBack, StoreRefused, StoreUnavailable
from worker.store.redis import GRACE_MS, RedisStore
from worker.store.save import MARKER_MS

pytestmark = pytest.mark.embedded

ANNA = user_in(0)


def connect(url: str, user_ttl_ms: int | None = 1000) -> RedisStore:
    return RedisStore.connect(url, namespace="n", space=SPACE, shards=4, user_ttl_ms=user_ttl_ms)


@pytest.fixture
def admin(own_server: RedisServer) -> Iterator[Any]:
    with redis.Redis.from_url(own_server.url) as client:
        yield client


def ttl_of(backend: RedisBackend) -> int:
    return int(backend.client.pttl(backend.keys(0).user + ANNA.hex().encode()))


def test_a_user_expires_after_the_time_to_live_and_each_write_renews_it(backend: RedisBackend) -> None:
    store = backend.open(users_ms=50_000)
    store.save(batch(event(ANNA, 1), upto=2))
    assert 0 < ttl_of(backend) <= 50_000
    renewed = backend.open(users_ms=90_000)
    renewed.save(batch(event(ANNA, 2, after=1), upto=3))
    assert 50_000 < ttl_of(backend) <= 90_000


def test_the_marker_of_an_erased_user_stays_a_week_and_goes_when_the_user_is_back(backend: RedisBackend) -> None:
    store = backend.open(users_ms=0)
    store.save(batch(event(ANNA, 1), upto=2))
    assert ttl_of(backend) == -1
    store.save(batch(event(ANNA, 2, after=1, erase=True), upto=3))
    assert MARKER_MS - 60_000 < ttl_of(backend) <= MARKER_MS
    assert backend.client.hkeys(backend.keys(0).user + ANNA.hex().encode()) == [b"p"]
    store.save(batch(event(ANNA, 3, after=2), upto=4))
    assert ttl_of(backend) == -1


def test_the_time_to_live_leaves_a_week_to_the_rule_of_the_log(own_server: RedisServer, admin: Any) -> None:
    store = connect(own_server.url, user_ttl_ms=1000)
    store.save(batch(event(ANNA, 1), upto=2))
    (key,) = admin.keys("*:u:*")
    assert GRACE_MS < admin.pttl(key) <= GRACE_MS + 1000
    store.close()


def test_saving_survives_a_script_flush(backend: RedisBackend) -> None:
    store = backend.open()
    store.save(batch(event(ANNA, 1), upto=2))
    backend.client.script_flush()
    assert store.save(batch(event(ANNA, 2, after=1), upto=3)) == set()
    backend.client.script_flush()
    assert store.load([ANNA])[0].state is not None


def test_a_batch_that_was_saved_before_the_connection_broke_is_refused_when_repeated(own_server: RedisServer) -> None:
    store = connect(own_server.url)
    write = batch(event(ANNA, 1), upto=2)
    store.save(write)
    own_server.kill()
    with pytest.raises(StoreUnavailable):
        store.save(write)
    own_server.start()
    with pytest.raises(FellBack):
        store.save(batch(upto=3, left=at(2)))
    assert store.save(write) == set()
    assert store.save(write) == {0}
    store.close()


def test_all_keys_touched_lie_in_the_slot_of_their_shard(backend: RedisBackend) -> None:
    store = backend.open()
    store.save(batch(*(event(user(n), 1, popularity=((n, 1.0),), labels=((n, 1.0),)) for n in range(50)), upto=2))
    names = backend.client.scan_iter(match=f"kindred:{backend.namespace}:*", count=1000)
    assert {name.split(b"{")[1].split(b"}")[0] for name in names} == {b"s00", b"s01", b"s02", b"s03"}


def test_a_redis_that_would_throw_users_away_is_refused(own_server: RedisServer, admin: Any) -> None:
    admin.config_set("maxmemory-policy", "allkeys-lru")
    with pytest.raises(StoreRefused, match="set maxmemory-policy to noeviction"):
        connect(own_server.url)


def test_a_redis_that_hides_its_settings_is_used_with_a_warning(
    own_server: RedisServer, admin: Any, caplog: pytest.LogCaptureFixture
) -> None:
    admin.execute_command("ACL", "SETUSER", "kindred", "on", ">right", "~kindred:*", "+@all", "-config")
    store = connect(own_server.url.replace("redis://", "redis://kindred:right@"))
    assert "noeviction" in caplog.text
    assert store.save(batch(event(ANNA, 1), upto=2)) == set()
    store.close()


def test_a_wrong_password_is_refused_at_once(own_server: RedisServer, admin: Any) -> None:
    admin.config_set("requirepass", "right")
    with pytest.raises(StoreRefused, match="check user and password"):
        connect(own_server.url.replace("redis://", "redis://:wrong@"))


def test_a_server_that_is_not_there_is_unavailable(own_server: RedisServer) -> None:
    own_server.kill()
    with pytest.raises(StoreUnavailable):
        connect(own_server.url)


def test_fewer_than_one_shard_is_an_error(shared_server: RedisServer) -> None:
    with pytest.raises(ValueError, match="shards"):
        RedisStore.connect(shared_server.url, namespace="n", space=SPACE, shards=0, user_ttl_ms=None)
