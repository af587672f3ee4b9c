"""A load that goes on while a test breaks things: one thread that sends at a steady rate."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from kafka import KafkaProducer
from kafka.errors import KafkaError

from schemas.topics import USER_TEXT, topic_name
from tests.fault.gate import FREE
from tests.fault.harness import Stack
from tests.fault.load import Load, Sending

PIECE: Final = 10
PER_SECOND: Final = 150


class _Feed:
    def __init__(self, stack: Stack, load: Load, per_second: float) -> None:
        self._stack = stack
        self._load = load
        self._pause = PIECE / per_second
        self._topic = topic_name(USER_TEXT, stack.namespace)
        self._stopping = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="feed", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Returns when the broker has all that was sent."""
        self._stopping.set()
        self._thread.join()
        if self._failure is not None:
            raise self._failure

    def _run(self) -> None:
        # Of its own: a test that kills the broker closes the stack's clients first.
        address = self._stack.broker.address
        producer = KafkaProducer(bootstrap_servers=address, client_id=FREE, linger_ms=2, retry_backoff_ms=50)
        try:
            while not self._stopping.wait(self._pause):
                self._send(producer, self._load.take(PIECE))
        except BaseException as error:
            self._failure = error
        finally:
            producer.close()

    def _send(self, producer: Any, sendings: list[Sending]) -> None:
        """Until the broker has them: what failed is sent again. If it was written all the same, the log has it twice,
        and what is expected is computed from the log."""
        left = sendings
        while left:
            again = []
            futures = [(each, self._hand_over(producer, each)) for each in left]
            for each, future in futures:
                try:
                    sent = future.get(timeout=120)
                    self._stack.ends[sent.partition] = max(self._stack.ends[sent.partition], sent.offset + 1)
                except KafkaError:
                    again.append(each)
            left = again

    def _hand_over(self, producer: Any, each: Sending) -> Any:
        return producer.send(
            self._topic,
            key=each.key,
            value=each.value,
            partition=each.partition,
            timestamp_ms=each.timestamp_ms,
            headers=each.headers,
        )


@contextmanager
def feeding(stack: Stack, load: Load, per_second: float = PER_SECOND) -> Iterator[None]:
    """About so many records of the load a second until the block ends; nothing else is to be produced meanwhile."""
    feed = _Feed(stack, load, per_second)
    feed.start()
    try:
        yield
    finally:
        feed.stop()
