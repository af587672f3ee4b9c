"""Kafka as the commands use it: an admin client, a producer, readers without a group, topics.

Connecting gives up after seconds instead of kafka-python's half minute, and what fails is an OpsError with a remedy.
Readers are assigned partitions and never join a consumer group: a first join takes seconds, and a command has nothing
to commit.
"""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import kafka
import kafka.errors
from kafka.admin import OffsetSpec, OffsetTimestamp
from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_fixed

from model.kafka.client import making_no_topics, translated
from ops.errors import NoAnswer, NotAllowed, OpsError, Unreachable
from schemas.access import KafkaAccess
from schemas.topics import TOPICS, Topic, topic_name
from worker.broker.base import BrokerRefused, BrokerUnavailable
from worker.broker.kafka_rights import NOT_ALLOWED, check_tls

CONNECT_MS: Final = 5_000
BOOTSTRAP_MS: Final = (3_000, 6_000, 12_000)
"""For a broker that listens, a login included. A refused login is told only once the time is over; the first login of a
busy broker takes seconds."""
REQUEST_MS: Final = 10_000
LINGER_MS: Final = 5

REMEDY: Final = (
    "Is the stack running (`kindred up`), and is the address right (--data-dir, KINDRED_KAFKA_BOOTSTRAP)? "
    "`kindred doctor` checks it."
)

# Its warnings of every failed connection would bury the one error that a command prints.
logging.getLogger("kafka").setLevel(logging.CRITICAL)


@contextmanager
def reachable(access: KafkaAccess) -> Iterator[None]:
    """Turns what kafka-python raises inside into Unreachable or NotAllowed; so at once where no broker listens."""
    if not any(_listens(address) for address in access.bootstrap.split(",")):
        raise Unreachable(f"Nothing answers at {access.bootstrap}, the address of Kafka.", REMEDY)
    try:
        check_tls(access)
        yield
    except (BrokerRefused, BrokerUnavailable) as error:
        raise _as_ours(access, error) from error
    except kafka.errors.KafkaError as error:
        raise _as_ours(access, translated(error, "command")) from error


def _as_ours(access: KafkaAccess, error: Exception) -> OpsError:
    if isinstance(error, BrokerRefused):
        return NotAllowed(f"{error}.")
    return Unreachable(
        f"Kafka at {access.bootstrap} did not do what was asked: {error}.",
        f"{REMEDY} Does it speak {access.protocol} there (KINDRED_KAFKA_SECURITY)?",
    )


def _listens(address: str) -> bool:
    """kafka-python would go on trying for as long as its timeout allows, and leaves a socket open then."""
    host, _, port = address.strip().rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_MS / 1000).close()
    except (OSError, ValueError, OverflowError):
        return False
    return True


def _connected(connect: Callable[[int], Any]) -> Any:
    """A client; connect is given milliseconds for it. Raises BrokerRefused, KafkaError."""
    *first, last = BOOTSTRAP_MS
    for milliseconds in first:
        try:
            return connect(milliseconds)
        except kafka.errors.KafkaTimeoutError as error:
            if isinstance(refused := translated(error, "connect"), BrokerRefused):
                raise refused from error
    return connect(last)


@contextmanager
def admin(access: KafkaAccess) -> Iterator[Any]:
    """A KafkaAdminClient. Raises Unreachable, also for Kafka errors of the block."""
    with reachable(access):
        client = _connected(
            lambda most: kafka.KafkaAdminClient(
                **access.arguments(), bootstrap_timeout_ms=most, request_timeout_ms=REQUEST_MS
            )
        )
        try:
            yield client
        finally:
            client.close()


@contextmanager
def producer(access: KafkaAccess, *, linger_ms: int = LINGER_MS) -> Iterator[Any]:
    """An idempotent KafkaProducer with acks=all. Raises Unreachable, also for Kafka errors of the block."""
    with reachable(access):
        client = _connected(
            lambda most: kafka.KafkaProducer(
                **access.arguments(),
                bootstrap_timeout_ms=most,
                kafka_client=making_no_topics,
                max_block_ms=REQUEST_MS,
                linger_ms=linger_ms,
                compression_type="lz4" if linger_ms else None,
            )
        )
        try:
            yield client
        finally:
            client.close(timeout=5)


@contextmanager
def reader(access: KafkaAccess) -> Iterator[Any]:
    """A KafkaConsumer without a group that reads committed records; the caller assigns and seeks."""
    with reachable(access):
        client = _connected(
            lambda most: kafka.KafkaConsumer(
                **access.arguments(),
                bootstrap_timeout_ms=most,
                request_timeout_ms=REQUEST_MS,
                group_id=None,
                kafka_client=making_no_topics,
                enable_auto_commit=False,
                isolation_level="read_committed",
                fetch_max_wait_ms=100,
            )
        )
        try:
            yield client
        finally:
            client.close()


def partitions(client: Any, topic: str) -> list[kafka.TopicPartition]:
    """All partitions of a topic by an admin client; empty where the topic does not exist.

    Raises TopicAuthorizationFailedError for one that this user may not see.
    """
    (described,) = client.describe_topics([topic])
    if described["error_code"] == NOT_ALLOWED:
        raise kafka.errors.TopicAuthorizationFailedError(topic)
    return sorted(kafka.TopicPartition(topic, part["partition_index"]) for part in described["partitions"])


def latest(client: Any, parts: Iterable[kafka.TopicPartition]) -> dict[kafka.TopicPartition, int]:
    """Partition → its end as the broker tells it, by an admin client.

    Never after the true end; the embedded broker names the offset after the *first* record of the last batch.
    """
    return _offsets(client, parts, OffsetSpec.LATEST)


def ends(client: Any, consumer: Any, parts: Iterable[kafka.TopicPartition]) -> dict[kafka.TopicPartition, int]:
    """Partition → offset of the next record to be written, by an admin client and a reader, which is left assigned.

    Asks for the last batch of each partition, since only an answer that carries records tells the true end on every
    broker (see `latest`).
    """
    told = latest(client, parts)
    begin = beginnings(client, told)
    unread = {part for part in told if told[part] > begin[part]}
    consumer.assign(sorted(unread))
    for part in unread:
        consumer.seek(part, told[part] - 1)
    deadline = time.monotonic() + REQUEST_MS / 1000
    while unread and time.monotonic() < deadline:
        consumer.poll(timeout_ms=100)
        for part in [part for part in unread if consumer.position(part) >= told[part]]:
            unread.remove(part)
            told[part] = max(told[part], consumer.highwater(part) or 0)
    return told


def beginnings(client: Any, parts: Iterable[kafka.TopicPartition]) -> dict[kafka.TopicPartition, int]:
    """Partition → offset of the first record that is still there, by an admin client."""
    return _offsets(client, parts, OffsetSpec.EARLIEST)


def at_time(
    client: Any, parts: Iterable[kafka.TopicPartition], timestamp_ms: int
) -> dict[kafka.TopicPartition, int | None]:
    """Partition → first offset whose record is not older, None where there is none, by an admin client."""
    found = _offsets(client, parts, OffsetTimestamp(timestamp_ms))
    return {part: None if offset < 0 else offset for part, offset in found.items()}


def _offsets(client: Any, parts: Iterable[kafka.TopicPartition], spec: Any) -> dict[kafka.TopicPartition, int]:
    asked = dict.fromkeys(parts, spec)
    if not asked:
        return {}
    again = Retrying(
        # A moved leader cannot tell its end for a moment, which says nothing of the broker's health.
        retry=retry_if_exception(lambda error: isinstance(error, kafka.errors.RetriableError)),
        stop=stop_after_delay(REQUEST_MS / 1000),
        wait=wait_fixed(0.2),
        reraise=True,
    )
    return {part: found.offset for part, found in again(client.list_partition_offsets, asked).items()}


def committed(client: Any, group: str, parts: Iterable[kafka.TopicPartition]) -> dict[kafka.TopicPartition, int | None]:
    """Partition → offset that the group committed, None for none."""
    found = client.list_group_offsets({group: list(parts)})[group]
    return {part: None if value.offset < 0 else value.offset for part, value in found.items()}


def read_between(
    access: KafkaAccess,
    starts: Mapping[kafka.TopicPartition, int],
    stops: Mapping[kafka.TopicPartition, int],
    seconds: float = 60.0,
) -> Iterator[Any]:
    """Every record from a partition's start up to, not including, its stop. Raises NoAnswer when for so many seconds
    none comes, Unreachable."""
    unread = {part for part, stop in stops.items() if starts[part] < stop}
    if not unread:
        return
    deadline = time.monotonic() + seconds
    with reader(access) as client:
        client.assign(sorted(unread))
        for part in unread:
            client.seek(part, starts[part])
        while unread:
            if time.monotonic() > deadline:
                topics = ", ".join(sorted({part.topic for part in unread}))
                raise NoAnswer(f"For {seconds:.0f} s nothing more came of {topics}.", "Try again.")
            for part, records in client.poll(timeout_ms=200).items():
                yield from (record for record in records if record.offset < stops[part])
                deadline = time.monotonic() + seconds
            # By position, not by the last record: a transaction's marker takes an offset that no record has.
            unread = {part for part in unread if client.position(part) < stops[part]}


def read_all(access: KafkaAccess, topic: str) -> Iterator[Any]:
    """Every record of a topic up to its ends as they are now; nothing where it does not exist."""
    with admin(access) as client, reader(access) as consumer:
        parts = partitions(client, topic)
        stops, starts = ends(client, consumer, parts), beginnings(client, parts)
    yield from read_between(access, starts, stops)


def create_topics(
    access: KafkaAccess, namespace: str, partition_count: int | None = None
) -> list[tuple[Topic, str, bool]]:
    """Create the topics that are missing; returns (topic, its name, whether it was created just now) of all."""
    with admin(access) as client:
        names = {topic_name(topic, namespace): topic for topic in TOPICS}
        there = set(client.list_topics())
        missing = {
            name: {
                "num_partitions": partition_count if partition_count and topic.partitions > 1 else topic.partitions,
                "replication_factor": -1,
                "configs": dict(topic.config),
            }
            for name, topic in names.items()
            if name not in there
        }
        if missing:
            try:
                client.create_topics(missing, wait_for_metadata=True)
            except kafka.errors.TopicAlreadyExistsError:
                # Somebody else creates them at the same time: what counts is that all of them are there.
                client.wait_for_topics(list(missing))
        return [(topic, name, name in missing) for name, topic in names.items()]
