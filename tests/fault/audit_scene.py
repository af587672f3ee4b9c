"""A stack that was killed and healed and is left alone, and the ways to damage what it holds.

Knows nothing of what an audit makes of it.
"""

from __future__ import annotations

import json
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from struct import unpack
from typing import Any, Final

import kafka
import redis

from model.encoder.dummy import DummyEncoder
from ops.audit.findings import Kind
from schemas.state import pack_state, unpack_state
from schemas.topics import DEAD_LETTERS, ITEMS, RECOMMENDATIONS, USER_TEXT, Topic, topic_name
from tests.broker_servers import BrokerServer
from tests.fault.comparison import KEY, assert_equals_reference
from tests.fault.harness import PARTITIONS, Stack
from tests.fault.load import START_MS, Load, Sending, seed
from tests.fault.processes import wait_for
from tests.redis_servers import redis_server
from worker.broker.base import Record
from worker.store.keys import ShardKeys, shard_of_user

SHARDS: Final = 4
SPARE: Final = 1
"""Number of the Redis database that keeps a copy of what is healthy."""


@dataclass(slots=True)
class Scene:
    """A stack without workers.

    log, answers, letters: what its topics held when it was healthy. plain, erased: two of its users. counts: what the
    audit has found so far.
    """

    stack: Stack
    redis: redis.Redis
    producer: Any
    log: list[Record]
    answers: list[Record]
    letters: list[Record]
    plain: str = "somebody"
    erased: str = "gone"
    counts: Counter[Kind] = field(default_factory=Counter)

    # Redis.

    def shard(self, number: int) -> ShardKeys:
        return ShardKeys.of(self.stack.namespace, DummyEncoder().space, number)

    def key(self, user: str) -> bytes:
        return self.shard(shard_of_user(KEY(user), SHARDS)).user + KEY(user).hex().encode()

    def value(self, user: str, part: str) -> bytes:
        found: Any = self.redis.hget(self.key(user).decode(), part)
        assert isinstance(found, bytes)
        return found

    def put(self, key: bytes, name: bytes | str, value: bytes | str) -> None:
        self.redis.hset(key, name, value)

    def change(self, **facts: Any) -> None:
        """Change the state of a user."""
        state = replace(unpack_state(self.value(self.plain, "s")), **facts)
        self.put(self.key(self.plain), "s", pack_state(state))

    def item(self) -> tuple[bytes, bytes]:
        """Key of the aggregates and an item in them that has users."""
        for number in range(SHARDS):
            found: Any = self.redis.hgetall(self.shard(number).aggregates.decode())
            for item, value in found.items():
                if unpack("<dd", value)[1] > 0:
                    return self.shard(number).aggregates, item
        raise AssertionError("no item")

    def restore(self) -> None:
        self.redis.flushdb()
        with redis.Redis(port=self.stack.redis.port, db=SPARE) as spare, spare.pipeline() as copies:
            for key in spare.scan_iter(count=10_000):
                copies.execute_command("COPY", key, key, "DB", 0)
            copies.execute()

    # Topics.

    def send(self, topic: Topic, key: bytes | None, value: bytes | None, headers: Any = (), partition: int = 0) -> None:
        name = topic_name(topic, self.stack.namespace)
        self.producer.send(
            name, key=key, value=value, headers=list(headers), partition=partition, timestamp_ms=START_MS
        ).get(30)

    def forge(self, headers: Any = (), key: bytes | None = None, **changes: Any) -> None:
        """An answer of a user's, published once more with changes."""
        real = self.real
        said = json.loads(real.value or b"") | changes
        self.send(RECOMMENDATIONS, key or real.key, json.dumps(said).encode(), [*real.headers, *headers])

    @property
    def real(self) -> Record:
        """An answer to `plain` that has items."""
        return next(
            record
            for record in self.answers
            if record.key == self.plain.encode() and len(json.loads(record.value or b"")["items"]) > 1
        )

    def said(self) -> Any:
        return json.loads(self.real.value or b"")

    def recommend(self, item_id: str, part: str = "popularity") -> None:
        """Put an item before the others of an answer."""
        reason = {"part": part, "share": 1.0, "count": 1, "phrases": [], "text": "because"}
        first = {"item_id": item_id, "title": "x", "score": 1.0, "reasons": [reason]}
        self.forge(items=[first, *self.said()["items"]])

    def letter(self, **changes: bytes | None) -> None:
        """A dead letter, published once more with changes of its key, its value or a header."""
        real = self.letters[0]
        headers = [(name, changes.pop(name.replace("-", "_"), value)) for name, value in real.headers]
        value = changes.pop("value", real.value)
        self.send(DEAD_LETTERS, changes.pop("key", real.key), value, headers)
        assert not changes

    def commit_unread(self, sending: Sending) -> None:
        """As if a worker had committed a record without having applied it."""
        self.stack.produce([sending])
        place = kafka.TopicPartition(topic_name(USER_TEXT, self.stack.namespace), sending.partition)
        consumer = kafka.KafkaConsumer(
            bootstrap_servers=self.stack.broker.address, group_id=self.stack.group, enable_auto_commit=False
        )
        try:
            consumer.assign([place])
            consumer.commit({place: kafka.OffsetAndMetadata(self.stack.ends[sending.partition], "", -1)})
        finally:
            consumer.close()


@contextmanager
def healthy(directory: Path, broker: BrokerServer) -> Iterator[Scene]:
    """A scene whose log has all that real producers send; a worker was killed and Redis emptied on the way."""
    with redis_server("redis8", directory / "redis") as server, Stack(directory, server, broker) as stack:
        producer = kafka.KafkaProducer(bootstrap_servers=stack.broker.address)
        with stack.redis_client() as client:
            made = Scene(stack, client, producer, [], [], [])
            load = Load(seed(), partitions=PARTITIONS, users=80)
            _list_items(made)
            stack.produce(load.take(500) + _plain(made.plain))
            victim = stack.worker(fail_point="6:10")
            assert victim.exit_code(60) == -signal.SIGKILL
            worker = stack.worker()
            stack.wait_committed(300)
            client.flushall()
            stack.produce([*load.take(100), *load.bad(2, 1), *load.of_users("gone"), load.tombstone("gone")])
            stack.wait_done()
            wait_for(worker.ready, "the worker has healed", 60)
            assert_equals_reference(stack)
            worker.signal(signal.SIGTERM)
            assert worker.exit_code() == 0
            made.log, made.answers = stack.records(USER_TEXT), stack.records(RECOMMENDATIONS)
            made.letters = stack.records(DEAD_LETTERS)
            for key in client.scan_iter(count=10_000):
                client.copy(key, key, destination_db=SPARE)
            yield made
        producer.close()


def _plain(user: str) -> list[Sending]:
    """Events of a user who stays in one partition and does nothing odd."""
    events = [
        {
            "user_id": user,
            "text": f"chess and bread {n}",
            "item_id": f"item-{n}",
            "labels": ["chess"],
            "event_id": str(n),
        }
        for n in range(8)
    ]
    return [Sending(2, user.encode(), json.dumps(event).encode(), START_MS) for event in events]


def _list_items(scene: Scene) -> None:
    listed: dict[str, dict[str, Any]] = {f"item-{number}": {} for number in range(60)}
    listed |= {"withdrawn": {"available": False}, "expired": {"expires_at": "2026-02-01T00:00:00Z"}, "nobody's": {}}
    for item, more in listed.items():
        value = {"item_id": item, "title": item} | more
        scene.send(ITEMS, item.encode(), json.dumps(value).encode())
