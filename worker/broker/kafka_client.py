"""What every use of kafka-python here shares: its errors as ours, and polling that never gets stuck."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar

from kafka.errors import FencedInstanceIdError, KafkaError

from worker.broker.base import BrokerUnavailable, SlotTaken

T = TypeVar("T")

CALL_TIMEOUT_MS: Final = 10_000
"""Of one request about offsets; the caller repeats it for as long as the broker is away."""


def asked(call: Callable[[], T], what: str) -> T:
    try:
        return call()
    except KafkaError as error:
        raise BrokerUnavailable(f"{what}: {type(error).__name__}: {error}") from error


def polled(consumer: Any, timeout_s: float, max_records: int) -> Any:
    if not consumer._fetcher._next_partition_records:
        # With 3.0.12 a partition that was paused with records at hand is read again only once nothing is in line, and a
        # partition that has been read to its end stays in line: alone paused and resumed, it would never be read again.
        consumer._fetcher._next_partition_records = None
    try:
        return consumer.poll(timeout_ms=int(timeout_s * 1000), max_records=max_records)
    except FencedInstanceIdError as error:
        raise SlotTaken(str(error)) from error
    except KafkaError as error:
        # What could not be parsed is kept and, with 3.0.12, the next poll() would turn round it for ever.
        consumer._fetcher._next_partition_records = None
        raise BrokerUnavailable(f"poll: {type(error).__name__}: {error}") from error
