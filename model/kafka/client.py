"""What every use of kafka-python here shares: its errors as ours, and polling that never gets stuck."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar

from kafka.errors import (
    AuthorizationError,
    FencedInstanceIdError,
    GroupAuthorizationFailedError,
    KafkaError,
    KafkaTimeoutError,
    SaslAuthenticationFailedError,
    TopicAuthorizationFailedError,
    TransactionalIdAuthorizationFailedError,
    UnknownTopicOrPartitionError,
    UnsupportedSaslMechanismError,
)
from kafka.net.compat import KafkaNetClient

from model.kafka.base import BrokerRefused, BrokerUnavailable, SlotTaken
from model.kafka.logins import refused_login

T = TypeVar("T")

CALL_TIMEOUT_MS: Final = 10_000
"""Of one request about offsets; the caller repeats it for as long as the broker is away."""

SAID: Final = 300
"""Characters of Kafka's own words: a refused request may be repeated in them as a whole."""

_RIGHTS: Final = {
    TopicAuthorizationFailedError: "the rights on a topic",
    GroupAuthorizationFailedError: "READ on the consumer group",
    TransactionalIdAuthorizationFailedError: "WRITE and DESCRIBE on the transactional id",
}


def making_no_topics(*arguments: Any, **options: Any) -> Any:
    """`kafka_client` of consumers and producers: asking for a topic that is gone does not make it, as Kafka's defaults
    would, with a number of partitions that nobody chose. (3.0.12 does not hand its own option for that on.)"""
    client = KafkaNetClient(*arguments, **options)
    client.cluster.config["allow_auto_create_topics"] = False
    return client


def translated(error: KafkaError, what: str) -> Exception:
    """What a call's failure means to whoever made it; what: the call, in a word or two."""
    if isinstance(error, KafkaTimeoutError):
        error = refused_login() or error
    said = f"{what}: {type(error).__name__}: {error}"[:SAID]
    if isinstance(error, SaslAuthenticationFailedError | UnsupportedSaslMechanismError):
        return BrokerRefused(
            f"Kafka refuses the login ({said}): check KINDRED_KAFKA_USER, KINDRED_KAFKA_PASSWORD, KINDRED_KAFKA_SASL"
        )
    if isinstance(error, AuthorizationError):
        right = _RIGHTS.get(type(error), "a right on the cluster")
        return BrokerRefused(
            f"Kafka refuses this user {right} ({said}): docs/security.md lists the ACLs a worker needs"
        )
    if isinstance(error, FencedInstanceIdError):
        return SlotTaken(slot_taken(said))
    return BrokerUnavailable(said)


def slot_taken(said: str) -> str:
    return (
        f"another worker has joined the group in this one's slot ({said}): no two workers of a group may have the same "
        "KINDRED_NAME"
    )


def asked(call: Callable[[], T], what: str) -> T:
    """Raises BrokerUnavailable, BrokerRefused, SlotTaken."""
    try:
        return call()
    except KafkaError as error:
        raise translated(error, what) from error


def partitions_of(consumer: Any, topic: str) -> list[int]:
    """All partitions of a topic, in order; empty where it does not exist, which kafka-python now gives and now raises.

    Raises BrokerUnavailable, BrokerRefused.
    """
    try:
        return sorted(consumer.partitions_for_topic(topic) or ())
    except UnknownTopicOrPartitionError:
        return []
    except KafkaError as error:
        raise translated(error, "partitions") from error


class _Joining:
    """A join that nobody has seen the end of, whether it has ended or not (what kafka-python's wait_for() needs)."""

    is_done = False

    def __init__(self, task: Any) -> None:
        self.add_callback = task.add_callback
        self.add_errback = task.add_errback


def keep_joining(coordinator: Any) -> None:
    """Before each poll(). With 3.0.12 a poll that ends before a join does may forget it, in two ways: what changed
    metadata began is not gone on with, so that the member stands between two generations for good, without heartbeats
    and without a partition; and what ended between two polls is begun again instead of taken, so that a member that
    polls without waiting joins for minutes on end, and may commit nothing meanwhile."""
    with coordinator._lock:
        if coordinator.rejoining:
            coordinator.rejoin_needed = True
        task = coordinator._join_task
        if task is not None and not isinstance(task, _Joining):
            coordinator._join_task = _Joining(task)


def polled(consumer: Any, timeout_s: float, max_records: int) -> Any:
    """Raises BrokerUnavailable, BrokerRefused, SlotTaken."""
    if not consumer._fetcher._next_partition_records:
        # With 3.0.12 a partition that was paused with records at hand is read again only once nothing is in line, and a
        # partition that has been read to its end stays in line: alone paused and resumed, it would never be read again.
        consumer._fetcher._next_partition_records = None
    try:
        return consumer.poll(timeout_ms=int(timeout_s * 1000), max_records=max_records)
    except KafkaError as error:
        # What could not be parsed is kept and, with 3.0.12, the next poll() would turn round it for ever.
        consumer._fetcher._next_partition_records = None
        raise translated(error, "poll") from error
