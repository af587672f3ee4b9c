"""The thread that follows a topic: from its beginning, past a broker that is away, until it is stopped."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import pytest

from tests.builders import eventually
from worker.broker.base import BrokerUnavailable, Record
from worker.broker.memory import MemoryBroker, MemoryLog
from worker.reading import Reading


class Reader:
    def __init__(self) -> None:
        self.broker = MemoryBroker({"news": 1})
        self.seen: list[bytes | None] = []

    def reading(self) -> Reading:
        return Reading(MemoryLog(self.broker, "news"), "news", self._take, piece=2)

    def _take(self, records: Sequence[Record]) -> None:
        self.seen += [record.value for record in records]
        if b"broken" in self.seen:
            raise RuntimeError("broken")


def test_a_topic_is_complete_once_all_that_stood_in_it_was_taken_and_is_followed_on() -> None:
    reader = Reader()
    for value in (b"1", b"2", b"3"):
        reader.broker.append("news", b"k", value)
    reading = reader.reading()
    reading.start()
    assert reading.complete.wait(10)
    assert reader.seen == [b"1", b"2", b"3"]
    reader.broker.append("news", b"k", b"4")
    eventually(lambda: len(reader.seen) == 4, "what came later is read as well")
    reading.stop()


def test_a_broker_that_is_away_is_told_once_and_asked_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("worker.reading._AGAIN", 0.001)
    reader = Reader()
    asked = []

    class Away(MemoryLog):
        def poll(self, timeout_s: float, max_records: int) -> Sequence[Record]:
            asked.append(1)
            if len(asked) < 5:
                raise BrokerUnavailable("no leader")
            return super().poll(timeout_s, max_records)

    reading = Reading(Away(reader.broker, "news"), "news", reader._take, piece=2)
    reader.broker.append("news", b"k", b"1")
    with caplog.at_level(logging.WARNING):
        reading.start()
        assert reading.complete.wait(10)
    reading.stop()
    assert reader.seen == [b"1"]
    assert [record.getMessage() for record in caplog.records] == [
        "the topic news cannot be read, trying again: no leader"
    ]


def test_what_no_retry_mends_ends_the_reading_and_is_kept_for_whoever_asks() -> None:
    reader = Reader()
    reader.broker.append("news", b"k", b"broken")
    reading = reader.reading()
    reading.check()
    reading.start()
    assert reading.complete.wait(10)
    with pytest.raises(RuntimeError, match="broken"):
        reading.check()
    reading.stop()
