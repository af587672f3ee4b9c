"""A Redis that lets nobody in without TLS, a user and a right: with the line of docs/security.md everything works and
nothing is refused; without a part of it a worker ends with what to do.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
import redis

from ops import broker
from ops.cli.state import leave_note, read_user
from ops.cli.target import Target
from ops.errors import NotFound
from schemas.access import KafkaAccess
from schemas.settings import ReleasePlace
from schemas.topics import USER_TEXT, topic_name
from tests.broker_servers import BrokerServer
from tests.fault.processes import WorkerProcess, wait_for
from tests.redis_servers import Kind, redis_server
from tests.security.place import event
from tests.security.secured import PAGE
from tests.security.tls import TlsFront, tls_front
from worker.errors import WrongStore
from worker.store.base import StoreRefused
from worker.store.redis import RedisStore

pytestmark = [pytest.mark.embedded, pytest.mark.redis8]

PASSWORD: Final = "r3dis-s3cret-0d9a"
ADMIN: Final = "adm1n-s3cret-e410"
WRONG: Final = "wr0ng-s3cret-5c33"
LINE: Final = re.search(r"ACL SETUSER kindred (on >PASSWORD .*\n.*)\n\n", PAGE.read_text(encoding="utf-8"))


@dataclass(frozen=True, slots=True)
class Guarded:
    """A Redis behind TLS whose default user may do nothing."""

    front: TlsFront
    admin: Any

    def url(self, password: str = PASSWORD, ca: Path | None = None, host: str = "127.0.0.1") -> str:
        return f"rediss://kindred:{password}@{host}:{self.front.port}/0?ssl_ca_certs={ca or self.front.ca}"

    def allow(self, *rules: str) -> None:
        """The user `kindred` as on the page, and then these rules."""
        assert LINE is not None
        listed = LINE[1].replace("PASSWORD", PASSWORD).split()
        self.admin.execute_command("ACL", "SETUSER", "kindred", "reset", *listed, *rules)

    def refused(self) -> list[str]:
        """What any user was not allowed to do."""
        return [str(entry["object"]) for entry in self.admin.acl_log()]


@pytest.fixture(params=["embedded", "redis8"])
def guarded(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Guarded]:
    kind: Kind = request.param
    with redis_server(kind, tmp_path / kind) as server, tls_front(tmp_path, server.port) as front:
        with redis.Redis.from_url(server.url) as first:
            first.execute_command("ACL", "SETUSER", "admin", "on", f">{ADMIN}", "~*", "&*", "+@all")
        url = server.url.replace("redis://", f"redis://admin:{ADMIN}@")
        with redis.Redis.from_url(url, decode_responses=True) as admin:
            admin.execute_command("ACL", "SETUSER", "default", "off")
            found = Guarded(front, admin)
            found.allow()
            yield found


def connect(url: str) -> RedisStore:
    return RedisStore.connect(url, namespace="", space="5bace0", shards=2, user_ttl_ms=None)


def test_a_worker_and_the_commands_need_no_right_that_the_page_does_not_list(
    guarded: Guarded, lasting_broker: BrokerServer, tmp_path: Path
) -> None:
    namespace = f"acl-{guarded.front.port}"
    access = KafkaAccess(lasting_broker.address)
    broker.create_topics(access, namespace, 1)
    settings = {
        "KINDRED_NAMESPACE": namespace,
        "KINDRED_GROUP": namespace,
        "KINDRED_KAFKA_BOOTSTRAP": lasting_broker.address,
        "KINDRED_REDIS_URL": guarded.url(),
        "KINDRED_RELEASES": str(tmp_path / "releases"),
        "KINDRED_ENCODER": "dummy",
        "KINDRED_REFRESH_SECONDS": "0.2",
    }
    target = Target(access, guarded.url(), namespace, namespace, ReleasePlace(tmp_path / "releases"))
    worker = WorkerProcess("worker", tmp_path, settings)
    try:
        for round_ in range(2):  # the second worker reads a snapshot of what the first one wrote
            worker.start()
            with broker.producer(access) as producer:
                for user, value in (event("ann", "lambic", item_id="i1", labels=["beer"]), ("bob", None)):
                    producer.send(topic_name(USER_TEXT, namespace), key=user.encode(), value=value).get(10)
            known = round_ + 1
            wait_for(lambda: _events(target) == known, lambda: worker.said[-2000:], 60)  # noqa: B023 - called at once
            worker.signal(signal.SIGTERM)
            assert worker.exit_code() == 0
        leave_note(target, "accept:0", "1")
    finally:
        worker.kill()
    assert guarded.refused() == []
    assert PASSWORD not in worker.said


def _events(target: Target) -> int:
    try:
        return read_user(target, "ann", b"").events
    except NotFound:
        return 0


@pytest.mark.parametrize(
    "command", [["FLUSHALL"], ["KEYS", "*"], ["CONFIG", "SET", "maxmemory", "1"], ["GET", "other"]]
)
def test_the_user_of_the_page_may_do_nothing_else(guarded: Guarded, command: list[str]) -> None:
    with redis.Redis.from_url(guarded.url()) as client, pytest.raises(redis.exceptions.NoPermissionError):
        client.execute_command(*command)


def _use(url: str) -> None:
    store = connect(url)
    try:
        store.identify("topic", frozenset())
        store.watermarks()
        store.load([b"u" * 16])
    finally:
        store.close()


@pytest.mark.parametrize("rule", ["-@read", "-@write", "-evalsha", "-script|load", "-multi", "resetkeys", "off"])
def test_without_a_part_of_the_line_the_store_says_what_to_do(guarded: Guarded, rule: str) -> None:
    guarded.allow(rule)
    with pytest.raises(StoreRefused, match=r"docs/security\.md") as caught:
        _use(guarded.url())
    assert f"127.0.0.1:{guarded.front.port}" in str(caught.value)
    assert PASSWORD not in str(caught.value)


def test_without_config_get_it_works_with_a_warning(guarded: Guarded, caplog: pytest.LogCaptureFixture) -> None:
    guarded.allow("-config|get")
    connect(guarded.url()).close()
    assert "noeviction" in caplog.text


def test_a_wrong_password_is_refused_and_not_told(guarded: Guarded) -> None:
    with pytest.raises(StoreRefused, match="check user and password") as caught:
        connect(guarded.url(password=WRONG))
    assert WRONG not in str(caught.value)


@pytest.mark.parametrize("what", ["authority", "name"])
def test_a_certificate_that_does_not_fit_is_refused(guarded: Guarded, what: str) -> None:
    url = guarded.url(ca=guarded.front.other_ca) if what == "authority" else guarded.url(host="localhost")
    with pytest.raises(StoreRefused, match=r"CERTIFICATE_VERIFY_FAILED.*ssl_ca_certs") as caught:
        connect(url)
    assert PASSWORD not in str(caught.value)


def test_a_worker_that_is_not_let_in_ends_with_the_code_for_it(
    guarded: Guarded, lasting_broker: BrokerServer, tmp_path: Path
) -> None:
    namespace = f"out-{guarded.front.port}"
    broker.create_topics(KafkaAccess(lasting_broker.address), namespace, 1)
    settings = {
        "KINDRED_NAMESPACE": namespace,
        "KINDRED_KAFKA_BOOTSTRAP": lasting_broker.address,
        "KINDRED_REDIS_URL": guarded.url(password=WRONG),
        "KINDRED_RELEASES": str(tmp_path / "releases"),
        "KINDRED_ENCODER": "dummy",
    }
    worker = WorkerProcess("worker", tmp_path, settings)
    worker.start()
    try:
        assert worker.exit_code() == WrongStore.exit_code
    finally:
        worker.kill()
    assert "docs/security.md" in worker.said.splitlines()[-1]
    assert WRONG not in worker.said
