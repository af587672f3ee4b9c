from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from ops.cli import feed
from ops.cli.feed import Feed
from ops.errors import Unreachable


class Producer:
    """Keeps what it was sent until the test acknowledges it."""

    def __init__(self) -> None:
        self.sent: list[tuple[bytes, bytes | None]] = []
        self.waiting: list[Future] = []

    def send(self, topic: str, value: bytes | None, key: bytes, headers: list[tuple[str, bytes]]) -> Future:
        self.sent.append((key, value))
        self.waiting.append(Future())
        return self.waiting[-1]

    def flush(self, timeout: float) -> None:
        for future in self.waiting:
            future.done()
        self.waiting.clear()


class Future:
    def __init__(self) -> None:
        self.callback: Callable[[], Any] = lambda: None
        self.errback: Callable[[BaseException], Any] = lambda error: None

    def add_callback(self, call: Callable[..., Any], *arguments: Any) -> None:
        self.callback = lambda: call(*arguments, None)

    def add_errback(self, call: Callable[..., Any]) -> None:
        self.errback = call

    def done(self) -> None:
        self.callback()


def test_everything_that_was_sent_is_acknowledged_at_the_end() -> None:
    producer = Producer()
    sender = Feed(producer, "t")
    for n in range(10):
        sender.send(b"k", str(n).encode())
    sender.finish()
    assert sender.acknowledged == 10
    assert [value for _, value in producer.sent] == [str(n).encode() for n in range(10)]


def test_sending_waits_while_too_much_is_in_flight(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "MAX_RECORDS", 2)
    producer = Producer()
    sender = Feed(producer, "t")
    sender.send(b"k", b"1")
    sender.send(b"k", b"2")
    third = threading.Thread(target=sender.send, args=(b"k", b"3"))
    third.start()
    third.join(0.1)
    assert third.is_alive()
    assert len(producer.sent) == 2
    producer.waiting[0].done()
    third.join(5)
    assert len(producer.sent) == 3


def test_a_record_that_failed_stops_the_next_one_with_the_count_of_good_ones() -> None:
    producer = Producer()
    sender = Feed(producer, "t")
    sender.send(b"k", b"1")
    sender.send(b"k", b"2")
    producer.waiting[0].done()
    producer.waiting[1].errback(TimeoutError("too late"))
    with pytest.raises(Unreachable, match=r"TimeoutError\. 1 records were acknowledged"):
        sender.send(b"k", b"3")
