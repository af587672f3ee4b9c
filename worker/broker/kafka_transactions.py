"""Transactions on Kafka: outputs and offsets that become visible together, or never.

Of kafka-python 3.0.12: a transaction takes 66 ms with its default pause between retries, 10 ms with 5 ms; a producer
that has failed once may stay in a state from which it does not recover, so that a fresh one takes its place. Its first
request, init_transactions, aborts what the transactional id has left open and fences whoever still uses it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from kafka import KafkaProducer, OffsetAndMetadata, TopicPartition
from kafka.errors import CommitFailedError, KafkaError, MessageSizeTooLargeError

from model.kafka.client import asked, translated
from schemas.access import KafkaAccess
from worker.broker.base import CommitRefused, Committed, OutRecord, RecordTooLarge, Undecided
from worker.broker.kafka_publisher import close_producer, producer_options, sendable

RETRY_MS: Final = 5
PUBLISH_S: Final = 30.0
"""For acknowledgements; then the transaction is aborted and done again."""


class KafkaTransactions:
    """One producer with a transactional id; belongs to one thread. topic: whose offsets are committed."""

    def __init__(
        self,
        *,
        access: KafkaAccess,
        client_id: str,
        max_record_bytes: int,
        transactional_id: str,
        timeout_ms: int,
        topic: str,
    ) -> None:
        self._make = lambda: KafkaProducer(
            **access.arguments(),
            **producer_options(client_id, max_record_bytes),
            transactional_id=transactional_id,
            transaction_timeout_ms=timeout_ms,
            retry_backoff_ms=RETRY_MS,
        )
        self._topic = topic
        self._producer: Any = None

    def open(self) -> None:
        """Make a producer if there is none; from then on nobody else writes under this transactional id."""
        if self._producer is None:
            producer = asked(self._make, "producer")
            try:
                asked(producer.init_transactions, "begin transactions")
            except BaseException:
                close_producer(producer)
                raise
            self._producer = producer

    def publish(self, records: Sequence[OutRecord]) -> None:
        """Begin a transaction and write. Raises BrokerUnavailable and RecordTooLarge; it is aborted then."""
        self.open()
        deadline = time.monotonic() + PUBLISH_S
        try:
            self._producer.begin_transaction()
            sent = [self._producer.send(**sendable(record)) for record in records]
            for future in sent:
                future.get(timeout=max(0.001, deadline - time.monotonic()))
        except MessageSizeTooLargeError as error:
            self.abort()
            raise RecordTooLarge(str(error)) from error
        except KafkaError as error:
            self.close()
            raise translated(error, "publish") from error

    def commit(self, offsets: Mapping[int, Committed], membership: object) -> None:
        """Raises CommitRefused and BrokerUnavailable (it is aborted then), Undecided."""
        marks = {
            TopicPartition(self._topic, partition): OffsetAndMetadata(found.offset, found.metadata or "", -1)
            for partition, found in offsets.items()
        }
        try:
            self._producer.send_offsets_to_transaction(marks, membership)
        except CommitFailedError as error:
            self.abort()
            raise CommitRefused(str(error), retry=True) from error
        except KafkaError as error:
            self.close()
            raise translated(error, "offsets") from error
        try:
            self._producer.commit_transaction()
        except KafkaError as error:
            self.close()
            raise Undecided(f"{type(error).__name__}: {error}") from error

    def abort(self) -> None:
        """Where that fails, the next producer does it."""
        try:
            self._producer.abort_transaction()
        except KafkaError:
            self.close()

    def close(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            with suppress(KafkaError):
                close_producer(producer)
