"""Publishing to Kafka: an idempotent producer that is made anew when it can no longer be trusted."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from kafka import KafkaProducer
from kafka.errors import KafkaError, KafkaTimeoutError, MessageSizeTooLargeError

from model.kafka.client import CALL_TIMEOUT_MS, asked, making_no_topics, translated
from schemas.access import KafkaAccess
from worker.broker.base import OutRecord, RecordTooLarge


def sendable(record: OutRecord) -> dict[str, Any]:
    """kafka-python sends no null header and no record of two nulls, both of which a dead letter may hold: they go out
    as empty bytes."""
    value = b"" if record.key is None and record.value is None else record.value
    headers = [(name, b"" if content is None else content) for name, content in record.headers]
    return {"topic": record.topic, "key": record.key, "value": value, "headers": headers}


def producer_options(client_id: str, max_record_bytes: int) -> dict[str, Any]:
    """What every producer of a worker is made with, beside the way to Kafka. Idempotence and acks=all are the client's
    defaults."""
    return {
        "client_id": client_id,
        "kafka_client": making_no_topics,
        "linger_ms": 2,
        "batch_size": 128 * 1024,
        "max_request_size": max_record_bytes + 64 * 1024,
        "max_block_ms": CALL_TIMEOUT_MS,
        "bootstrap_timeout_ms": CALL_TIMEOUT_MS,
        "compression_type": "lz4",
    }


def close_producer(producer: Any) -> None:
    """Without waiting for what it could not send."""
    try:
        producer.close(timeout=1)
    except KafkaTimeoutError:
        # With records that it could not send, 3.0.12 raises before it comes to force its sender to end.
        producer._sender.force_close()
        with suppress(KafkaError):
            producer.close(timeout=1)


class KafkaSent:
    """Records handed to the producer together. on_failure is called once the producer should not be trusted further."""

    def __init__(self, futures: Sequence[Any], on_failure: Callable[[], None]) -> None:
        self._futures = futures
        self._on_failure = on_failure

    def wait(self, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        for future in self._futures:
            try:
                future.get(timeout=max(0.001, deadline - time.monotonic()))
            except MessageSizeTooLargeError as error:
                raise RecordTooLarge(str(error)) from error
            except KafkaError as error:
                self._on_failure()
                raise translated(error, "publish") from error


class KafkaPublisher:
    """Idempotent producer, acks from all in-sync replicas. After a failure the next send starts a fresh producer: one
    that lost its sequence (a broker that forgot it, a fatal error) would fail for ever; ids make repeats harmless."""

    def __init__(self, *, access: KafkaAccess, client_id: str, max_record_bytes: int) -> None:
        self._make = lambda: KafkaProducer(**access.arguments(), **producer_options(client_id, max_record_bytes))
        self._producer: Any = None
        self._failed: Any = None
        self._lock = threading.Lock()

    def send(self, records: Sequence[OutRecord]) -> KafkaSent:
        """From any thread: one hands over new records, another those of a batch that failed."""
        with self._lock:
            producer = self._trusted()
            try:
                sent = [producer.send(**sendable(record)) for record in records]
            except MessageSizeTooLargeError as error:
                raise RecordTooLarge(str(error)) from error
            except KafkaError as error:
                self._fail(producer)
                raise translated(error, "publish") from error
        return KafkaSent(sent, partial(self._fail, producer))

    def _trusted(self) -> Any:
        if self._producer is None or self._producer is self._failed:
            self.close()
            self._producer = asked(self._make, "producer")
        return self._producer

    def _fail(self, producer: Any) -> None:
        self._failed = producer

    def close(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            close_producer(producer)
