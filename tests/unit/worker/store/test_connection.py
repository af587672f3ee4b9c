from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import redis

from tests.redis_servers import RedisServer
from worker.store.base import StoreRefused, StoreUnavailable
from worker.store.connection import Connection, Script, pairs

pytestmark = pytest.mark.embedded

ECHO = Script.read("load.lua")


@pytest.fixture
def connection(own_server: RedisServer) -> Iterator[Connection]:
    made = Connection(own_server.url)
    yield made
    made.close()


@pytest.fixture
def admin(own_server: RedisServer) -> Iterator[Any]:
    with redis.Redis.from_url(own_server.url) as client:
        yield client


def test_answers_come_in_the_order_of_the_commands(connection: Connection) -> None:
    assert connection.ask([(b"SET", "a", 1), (b"INCR", "a"), (b"GET", "a")]) == [b"OK", 2, b"2"]
    assert connection.ask([]) == []


def test_a_hash_is_read_as_pairs() -> None:
    assert pairs([b"a", b"1", b"b", b"2"]) == {b"a": b"1", b"b": b"2"}


def test_an_error_among_the_answers_leaves_the_connection_usable(connection: Connection) -> None:
    with pytest.raises(StoreRefused, match="WRONGTYPE"):
        connection.ask([(b"SET", "a", "secret text"), (b"HGET", "a", "f"), (b"SET", "b", 1)])
    assert connection.ask([(b"GET", "b")]) == [b"1"]


def test_errors_hold_no_argument_of_a_command(connection: Connection) -> None:
    with pytest.raises(StoreRefused) as caught:
        connection.ask([(b"SET", "a", 1), (b"HSET", "a", "f", "secret text")])
    assert "secret" not in str(caught.value)


def test_an_unknown_command_is_not_repeated_with_what_followed_it(connection: Connection) -> None:
    with pytest.raises(StoreRefused, match="unknown command") as caught:
        connection.ask([(b"LOGIN", "anna", "secret text")])
    assert "secret" not in str(caught.value)


def test_a_script_that_redis_forgot_is_loaded_and_run(connection: Connection, admin: Any) -> None:
    for _ in range(2):
        assert connection.run(ECHO, [([b"a"], []), ([b"b", b"c"], [])]) == [[None] * 2, [None] * 4]
        admin.script_flush()


def test_a_server_that_died_is_unavailable_and_served_again_when_it_is_back(
    connection: Connection, own_server: RedisServer
) -> None:
    connection.ask([(b"PING",)])
    own_server.kill()
    with pytest.raises(StoreUnavailable, match=f"127.0.0.1:{own_server.port}"):
        connection.ask([(b"PING",)])
    with pytest.raises(StoreUnavailable):
        connection.run(ECHO, [([b"a"], [])])
    own_server.start()
    assert connection.run(ECHO, [([b"a"], [])]) == [[None, None]]


def test_a_server_without_memory_is_unavailable_and_writes_nothing(connection: Connection, admin: Any) -> None:
    admin.config_set("maxmemory", 1)
    with pytest.raises(StoreUnavailable, match="OutOfMemory"):
        connection.ask([(b"SET", "a", 1)])
    admin.config_set("maxmemory", 0)
    assert connection.ask([(b"GET", "a")]) == [None]


def test_a_replica_is_unavailable_for_writes(connection: Connection, admin: Any) -> None:
    admin.execute_command("REPLICAOF", "127.0.0.1", "1")
    with pytest.raises(StoreUnavailable, match="ReadOnly"):
        connection.ask([(b"SET", "a", 1)])


def test_a_wrong_password_is_refused_and_not_told(own_server: RedisServer, admin: Any) -> None:
    admin.execute_command("ACL", "SETUSER", "kindred", "on", ">right", "~kindred:*", "+@all")
    url = own_server.url.replace("redis://", "redis://kindred:wr0ng@")
    connection = Connection(url)
    with pytest.raises(StoreRefused, match="check user and password") as caught:
        connection.ask([(b"PING",)])
    assert "wr0ng" not in str(caught.value)
    connection.close()


def test_a_key_that_the_user_may_not_touch_is_refused(own_server: RedisServer, admin: Any) -> None:
    admin.execute_command("ACL", "SETUSER", "kindred", "on", ">right", "~kindred:*", "+@all")
    connection = Connection(own_server.url.replace("redis://", "redis://kindred:right@"))
    assert connection.ask([(b"GET", "kindred:a")]) == [None]
    with pytest.raises(StoreRefused, match="ACL"):
        connection.ask([(b"GET", "other")])
    connection.close()


def test_a_url_that_is_none_is_refused_without_repeating_it() -> None:
    with pytest.raises(StoreRefused, match="cannot be read") as caught:
        Connection("htp://user:pass@host")
    assert "pass@" not in str(caught.value)
