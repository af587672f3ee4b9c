from __future__ import annotations

from hashlib import sha256
from typing import NamedTuple

import pytest

from schemas.codec import decode_user_text
from schemas.dead_letter import RawRecord, dead_letter, read_dead_letter, redriven
from schemas.errors import DeadLetterError, Reason
from schemas.headers import Headers
from schemas.user_text import Event

MEGABYTE = 1_000_000


class Record(NamedTuple):
    topic: str = "user-text"
    partition: int = 3
    offset: int = 1842
    timestamp: int = 1_767_268_800_000
    key: bytes | None = b"ada"
    value: bytes | None = b"\xff\x00 not a record"
    headers: Headers = (("traceparent", b"00-1"), ("x", None))


def letter(record: Record, max_bytes: int = MEGABYTE) -> RawRecord:
    return dead_letter(record, Reason.NOT_UTF8, "value: byte 0 is not UTF-8", "worker-0", max_bytes)


def size(raw: RawRecord) -> int:
    return len(raw.key or b"") + len(raw.value or b"") + sum(len(k) + len(v or b"") for k, v in raw.headers)


def test_a_dead_letter_carries_the_record_and_says_why() -> None:
    record = Record()
    read = read_dead_letter(letter(record).headers, letter(record).key, letter(record).value)
    assert (read.key, read.value, tuple(read.headers)) == (record.key, record.value, record.headers)
    assert (read.topic, read.partition, read.offset, read.timestamp) == record[:4]
    assert (read.reason, read.detail, read.worker) == ("not_utf8", "value: byte 0 is not UTF-8", "worker-0")
    assert read.left_out == {}


def test_the_same_record_gives_the_same_bytes() -> None:
    assert letter(Record()) == letter(Record())


@pytest.mark.parametrize("record", [Record(key=None), Record(value=None), Record(value=b"", key=b"", headers=())])
def test_null_and_empty_stay_what_they_were(record: Record) -> None:
    raw = letter(record)
    read = read_dead_letter(raw.headers, raw.key, raw.value)
    assert (read.key, read.value, tuple(read.headers)) == (record.key, record.value, tuple(record.headers))


def test_a_dead_letter_that_was_sent_back_by_hand_and_failed_again_keeps_both_stories() -> None:
    first = letter(Record())
    again = letter(Record(offset=2000, headers=first.headers))
    read = read_dead_letter(again.headers, again.key, again.value)
    assert read.offset == 2000
    assert list(read.headers) == first.headers


def test_a_value_that_does_not_fit_is_left_out_with_size_and_hash() -> None:
    value = b"x" * 5_000
    raw = letter(Record(value=value), max_bytes=2_000)
    assert size(raw) < 2_000
    read = read_dead_letter(raw.headers, raw.key, raw.value)
    assert read.left_out == {"value": f"5000 sha256:{sha256(value).hexdigest()}"}
    assert (read.value, read.key, tuple(read.headers)) == (None, b"ada", Record().headers)


def test_headers_and_key_that_do_not_fit_are_left_out_too() -> None:
    record = Record(key=b"k" * 5_000, value=b"v" * 5_000, headers=[("h", b"h" * 5_000)])
    raw = letter(record, max_bytes=2_000)
    assert size(raw) < 2_000
    read = read_dead_letter(raw.headers, raw.key, raw.value)
    assert (read.key, read.value, list(read.headers)) == (None, None, [])
    assert set(read.left_out) == {"value", "headers", "key"}
    assert (read.topic, read.partition, read.offset) == ("user-text", 3, 1842)


def test_only_what_is_too_large_is_left_out() -> None:
    raw = letter(Record(value=b"small", headers=[("h", b"h" * 5_000)]), max_bytes=3_000)
    assert "headers" in read_dead_letter(raw.headers, raw.key, raw.value).left_out
    assert raw.key == b"ada"


@pytest.mark.parametrize("headers", [[], [("kindred-reason", b"not_utf8")], [("kindred-reason", None)]])
def test_a_record_of_another_program_is_no_dead_letter(headers: list[tuple[str, bytes | None]]) -> None:
    with pytest.raises(DeadLetterError, match="some other program"):
        read_dead_letter(headers, b"ada", b"hello")


def test_a_record_that_is_sent_again_twice_counts_once() -> None:
    raw = letter(Record(value=b'{"user_id": "ada", "text": "hello"}', headers=[("traceparent", b"00-1")]))
    again = redriven(read_dead_letter(raw.headers, raw.key, raw.value))
    assert again.headers[0] == ("traceparent", b"00-1")
    event = decode_user_text(again.value, again.key, 1_767_268_800_000, again.headers)
    assert isinstance(event, Event)
    assert event.event_id == "user-text-3-1842"


def test_a_record_that_failed_after_it_was_sent_again_keeps_its_first_identity() -> None:
    raw = letter(Record())
    again = redriven(read_dead_letter(raw.headers, raw.key, raw.value))
    raw = letter(Record(offset=2000, headers=again.headers))
    assert redriven(read_dead_letter(raw.headers, raw.key, raw.value)) == again


def test_a_record_whose_value_was_left_out_cannot_be_sent_again() -> None:
    raw = letter(Record(value=b"x" * 5_000), max_bytes=2_000)
    with pytest.raises(DeadLetterError, match="user-text-3-1842 cannot be sent again: its value did not fit"):
        redriven(read_dead_letter(raw.headers, raw.key, raw.value))
