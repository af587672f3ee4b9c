"""Sending records with a bound on what is in flight: kafka-python's producer has none of its own."""

from __future__ import annotations

import threading
from typing import Any, Final

from kafka.errors import KafkaError

from model.kafka.client import translated
from ops.errors import NotAllowed, Unreachable
from worker.broker.base import BrokerRefused

MAX_RECORDS: Final = 5_000
MAX_BYTES: Final = 32 * 2**20

STALLED_SECONDS: Final = 130.0
"""Longer than the producer's own delivery timeout (120 s): by then every record was acknowledged or has failed."""


class Feed:
    """Sends through a KafkaProducer; `send` waits while too much is unacknowledged. For one sending thread."""

    def __init__(self, producer: Any, topic: str) -> None:
        self._producer = producer
        self._topic = topic
        self._changed = threading.Condition()
        self._records = 0
        self._bytes = 0
        self._error: BaseException | None = None
        self.acknowledged = 0

    def send(self, key: bytes, value: bytes | None, headers: list[tuple[str, bytes]] | None = None) -> None:
        """Raises Unreachable, NotAllowed as soon as any earlier record has failed for good."""
        size = len(key) + len(value or b"")
        with self._changed:
            room = self._changed.wait_for(self._has_room, STALLED_SECONDS)
            self._check(room)
            self._records += 1
            self._bytes += size
        future = self._producer.send(self._topic, value=value, key=key, headers=headers or [])
        future.add_callback(self._done, size)
        future.add_errback(self._failed)

    def finish(self) -> None:
        """Wait until every record is acknowledged. Raises Unreachable, NotAllowed."""
        self._producer.flush(timeout=STALLED_SECONDS)
        with self._changed:
            done = self._changed.wait_for(lambda: self._records == 0 or self._error is not None, STALLED_SECONDS)
            self._check(done)

    def _has_room(self) -> bool:
        return self._error is not None or (self._records < MAX_RECORDS and self._bytes < MAX_BYTES)

    def _check(self, in_time: bool) -> None:
        if self._error is not None or not in_time:
            if isinstance(self._error, KafkaError):
                refused = translated(self._error, f"sending to {self._topic}")
                if isinstance(refused, BrokerRefused):
                    raise NotAllowed(f"{refused}. {self.acknowledged} records were acknowledged.")
            name = type(self._error).__name__ if self._error is not None else "no acknowledgement"
            raise Unreachable(
                f"Sending to {self._topic} stopped: {name}. {self.acknowledged} records were acknowledged.",
                "`kindred doctor` checks the broker.",
            )

    def _done(self, size: int, _metadata: Any) -> None:
        with self._changed:
            self._records -= 1
            self._bytes -= size
            self.acknowledged += 1
            self._changed.notify_all()

    def _failed(self, error: BaseException) -> None:
        with self._changed:
            self._error = self._error or error
            self._changed.notify_all()
