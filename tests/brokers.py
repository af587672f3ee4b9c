"""The brokers that the contract is checked on, each with what only a test does to it, and what it cannot do."""

from __future__ import annotations

import gc
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Final, Protocol
from uuid import uuid4

import kafka
from kafka.admin import NewPartitions

from schemas.access import KafkaAccess
from tests.broker_servers import APACHE, Abilities, broker_server
from worker.broker.base import Publisher, Reader, RebalanceListener, Shadow
from worker.broker.kafka import KafkaReader
from worker.broker.kafka_publisher import KafkaPublisher
from worker.broker.kafka_shadow import KafkaShadow
from worker.broker.memory import MemoryBroker, MemoryPublisher, MemoryReader
from worker.broker.memory_shadow import MemoryShadow

START_S: Final = 10.0
MAX_RECORD_BYTES: Final = 100_000
Content = tuple[bytes | None, bytes | None, list[tuple[str, bytes | None]]]
"""Key, value and headers of a record."""
UNREADABLE: Final = b"\xff\xfename"
"""Name of a header, not UTF-8."""


class Backend(Protocol):
    """One broker."""

    abilities: Abilities

    def topic(self, partitions: int = 1, *, compacted: bool = False) -> str:
        """Make a topic of a new name."""

    def add_partitions(self, topic: str, count: int) -> None:
        """From now on the topic has so many."""

    def reader(self, topic: str, listener: RebalanceListener, group: str | None = None) -> Reader:
        """A member to be, of a group of its own if none is given; whoever asks for it closes it."""

    def shadow(self, topic: str, listener: RebalanceListener, group: str) -> Shadow:
        """Of a group; whoever asks for it closes it."""

    def publisher(self) -> Publisher: ...

    def write(self, topic: str, values: Sequence[bytes | None], *, partition: int = 0, start_ms: int = 1000) -> None:
        """Append values; timestamps rise by a second each."""

    def write_unreadable_header(self, topic: str) -> None:
        """Append a record that has a header named UNREADABLE, as far as the broker knows such names."""

    def read(self, topic: str) -> list[Content]:
        """All that stands in a topic of one partition."""

    def go_away(self) -> None:
        """From now on the broker does not answer."""

    def come_back(self, topic: str) -> None:
        """It answers again, at the same place; the topic of one partition is there, what it held may be lost."""


class MemoryBackend:
    abilities = replace(APACHE, keeps_slots=False)

    def __init__(self) -> None:
        self._broker = MemoryBroker({}, MAX_RECORD_BYTES)

    def topic(self, partitions: int = 1, *, compacted: bool = False) -> str:
        name = uuid4().hex
        self._broker.add_topic(name, partitions, compacted=compacted)
        return name

    def add_partitions(self, topic: str, count: int) -> None:
        found = self._broker.topics[topic]
        while len(found.partitions) < count:
            found.partitions.append([])
            found.begin.append(0)
        for group in {member.group for member in self._broker.members if member.topic == topic}:
            self._broker.rebalance(group, topic)

    def reader(self, topic: str, listener: RebalanceListener, group: str | None = None) -> Reader:
        return MemoryReader(self._broker, topic, group or uuid4().hex, listener)

    def shadow(self, topic: str, listener: RebalanceListener, group: str) -> Shadow:
        return MemoryShadow(self._broker, topic, group, listener)

    def publisher(self) -> Publisher:
        return MemoryPublisher(self._broker)

    def write(self, topic: str, values: Sequence[bytes | None], *, partition: int = 0, start_ms: int = 1000) -> None:
        for number, value in enumerate(values):
            self._broker.append(topic, b"key", value, [("name", b"1")], partition, start_ms + 1000 * number)

    def write_unreadable_header(self, topic: str) -> None:
        self._broker.append(topic, b"key", b"odd", [("??name", b"2")], 0)

    def read(self, topic: str) -> list[Content]:
        return [(record.key, record.value, list(record.headers)) for record in self._broker.records(topic)]

    def go_away(self) -> None:
        self._broker.fail_with = "no broker"

    def come_back(self, topic: str) -> None:
        self._broker.fail_with = None


class _RawName(str):
    """A header's name that kafka-python writes as UNREADABLE."""

    def encode(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
        return UNREADABLE


class Server(Protocol):
    """A broker in a process or a container."""

    @property
    def address(self) -> str: ...

    @property
    def abilities(self) -> Abilities: ...

    def start(self) -> None: ...

    def kill(self) -> None: ...


class KafkaBackend:
    """Kafka's protocol, spoken by a broker of its own."""

    def __init__(self, server: Server) -> None:
        self.abilities = server.abilities
        self._server = server
        self._admin = kafka.KafkaAdminClient(bootstrap_servers=server.address)
        self._producer = kafka.KafkaProducer(bootstrap_servers=server.address)

    def topic(self, partitions: int = 1, *, compacted: bool = False) -> str:
        name = uuid4().hex
        configs = {"cleanup.policy": "compact"} if compacted else {}
        settings = {"num_partitions": partitions, "replication_factor": 1, "configs": configs}
        self._admin.create_topics({name: settings}, wait_for_metadata=True)
        return name

    def add_partitions(self, topic: str, count: int) -> None:
        self._admin.create_partitions({topic: NewPartitions(count)})

    def shadow(self, topic: str, listener: RebalanceListener, group: str) -> Shadow:
        return KafkaShadow(self.reader(topic, listener, group), listener)

    def reader(self, topic: str, listener: RebalanceListener, group: str | None = None) -> KafkaReader:
        return KafkaReader(
            access=KafkaAccess(self._server.address),
            topic=topic,
            group=group or uuid4().hex,
            client_id="contract",
            listener=listener,
            session_timeout_ms=10_000,
            drain_seconds=20.0,
        )

    def publisher(self) -> Publisher:
        return KafkaPublisher(
            access=KafkaAccess(self._server.address), client_id="contract", max_record_bytes=MAX_RECORD_BYTES
        )

    def write(self, topic: str, values: Sequence[bytes | None], *, partition: int = 0, start_ms: int = 1000) -> None:
        send = partial(self._producer.send, topic, key=b"key", headers=[("name", b"1")], partition=partition)
        sent = [send(value=value, timestamp_ms=start_ms + 1000 * number) for number, value in enumerate(values)]
        for future in sent:
            future.get(START_S)

    def write_unreadable_header(self, topic: str) -> None:
        headers = [(_RawName("x"), b"2")]
        self._producer.send(topic, key=b"key", value=b"odd", headers=headers, partition=0).get(START_S)

    def read(self, topic: str) -> list[Content]:
        place = kafka.TopicPartition(topic, 0)
        consumer = kafka.KafkaConsumer(bootstrap_servers=self._server.address, auto_offset_reset="earliest")
        consumer.assign([place])
        (end,) = consumer.end_offsets([place]).values()
        found: list[Content] = []
        while len(found) < end:
            records = consumer.poll(100).get(place, [])
            found += [(record.key, record.value, list(record.headers)) for record in records]
        consumer.close()
        return found

    def go_away(self) -> None:
        self._server.kill()

    def come_back(self, topic: str) -> None:
        self._server.start()
        if self.abilities.keeps_log:
            return
        admin = kafka.KafkaAdminClient(bootstrap_servers=self._server.address)
        admin.create_topics({topic: {"num_partitions": 1, "replication_factor": 1}}, wait_for_metadata=True)
        admin.close()

    def close(self) -> None:
        self._producer.close(timeout=1)
        self._admin.close()


@contextmanager
def kafka_backend(directory: Path) -> Iterator[KafkaBackend]:
    """A running broker of the kind that is tested, ended at the end."""
    with broker_server(directory) as server, backend_of(server) as backend:
        yield backend


@contextmanager
def backend_of(server: Server) -> Iterator[KafkaBackend]:
    """On a running broker."""
    log = logging.getLogger("kafka")
    level = log.level
    # kafka-python leaves the sockets of refused connections to the garbage collector, and kept log records hold them.
    log.setLevel(logging.CRITICAL + 1)
    try:
        backend = KafkaBackend(server)
        yield backend
        backend.close()
    finally:
        log.setLevel(level)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            gc.collect()


@dataclass(slots=True)
class Listener:
    """Keeps what it is told. revocation: what `revoked` gives back; done at once if the test does not replace it."""

    told: list[tuple[str, frozenset[int]]] = field(default_factory=list)
    revocation: Callable[[], Future[None]] = field(default=lambda: _done())

    def assigned(self, partitions: frozenset[int]) -> None:
        self.told.append(("assigned", partitions))

    def revoked(self, partitions: frozenset[int]) -> Future[None]:
        self.told.append(("revoked", partitions))
        return self.revocation()

    def lost(self, partitions: frozenset[int]) -> None:
        self.told.append(("lost", partitions))

    def has(self) -> set[int]:
        """What it owns by what it was told."""
        owned: set[int] = set()
        for what, partitions in list(self.told):
            owned = owned | partitions if what == "assigned" else owned - partitions
        return owned


def _done() -> Future[None]:
    future: Future[None] = Future()
    future.set_result(None)
    return future
