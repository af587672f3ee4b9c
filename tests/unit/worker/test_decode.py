"""Records → entries, and when bad ones are too many."""

from __future__ import annotations

import pytest

from schemas.codec import encode
from schemas.state import hash64
from tests.builders import key_of
from worker.broker.base import Record
from worker.decode import Breaker, decode

NOW = 1_780_000_000_000


def record(value: bytes | None, key: bytes | None = b"anna") -> Record:
    return Record("user-text", 3, 17, NOW, key, value)


def test_an_event_carries_what_the_state_needs() -> None:
    value = encode(
        {
            "user_id": "anna",
            "text": "see <b>this</b> https://example.org now",
            "event_id": "e1",
            "occurred_at": "2026-05-01T00:00:00Z",
            "item_id": "boat",
            "labels": ["sea", "wind"],
            "weight": 2.5,
        }
    )
    entry = decode(record(value), key_of)
    assert entry.dead is None
    assert entry.text == "see this now"
    log = entry.log
    assert log is not None
    assert (log.user, log.partition, log.offset, log.timestamp) == (key_of("anna"), 3, 17, NOW)
    assert (log.item, log.labels, log.event_id) == (hash64("boat"), (hash64("sea"), hash64("wind")), hash64("e1"))
    assert (log.weight, log.occurred, log.erases) == (2.5, 1_777_593_600_000, False)


def test_an_event_without_an_id_is_known_by_its_place_only() -> None:
    log = decode(record(encode({"user_id": "anna", "text": "x"})), key_of).log
    assert log is not None
    assert (log.event_id, log.occurred) == (None, NOW)


def test_a_null_value_is_a_tombstone() -> None:
    entry = decode(record(None), key_of)
    assert entry.event is None
    assert entry.log is not None
    assert entry.log.erases
    assert entry.log.user == key_of("anna")


@pytest.mark.parametrize(
    ("value", "reason"),
    [(b"{", "not_json"), (b"\xff", "not_utf8"), (b"[" * 10_000, "nested_too_deep"), (b"{}", "missing_field")],
)
def test_what_cannot_be_read_is_a_dead_letter_with_its_reason(value: bytes, reason: str) -> None:
    entry = decode(record(value), key_of)
    assert entry.log is None
    assert entry.dead is not None
    assert entry.dead.reason == reason


def test_a_text_that_is_empty_after_cleaning_is_no_bad_record() -> None:
    entry = decode(record(encode({"user_id": "anna", "text": "https://example.org \u0000"})), key_of)
    assert (entry.text, entry.dead) == ("", None)
    assert entry.log is not None


def trips(breaker: Breaker, records: str) -> list[int]:
    """Places of the records (x is a bad one) at which it trips."""
    return [place for place, kind in enumerate(records) if breaker.trips(kind == "x")]


def test_so_many_bad_records_in_a_row_trip_it() -> None:
    assert trips(Breaker(in_a_row=3, window=1000, share=0.5), "xx.xx.xxx") == [8]


def test_a_share_of_a_full_window_trips_it_even_though_good_ones_come_between() -> None:
    assert trips(Breaker(in_a_row=100, window=10, share=0.5), "x.x.x.x.x.") == []
    assert trips(Breaker(in_a_row=100, window=10, share=0.5), "x.x.x.x.x.x") == [10]


def test_bad_records_that_have_left_the_window_do_not_count() -> None:
    assert trips(Breaker(in_a_row=100, window=4, share=0.75), "xx......xx..x..x") == []


def test_a_good_record_never_trips_it() -> None:
    breaker = Breaker(in_a_row=2, window=4, share=0.5)
    trips(breaker, "xxxx")
    assert trips(breaker, ".") == []


def test_after_a_reset_counting_begins_anew() -> None:
    breaker = Breaker(in_a_row=3, window=1000, share=0.5)
    trips(breaker, "xx")
    breaker.reset()
    assert trips(breaker, "xx") == []
