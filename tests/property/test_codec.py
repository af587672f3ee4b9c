"""Codecs: what was encoded is decoded; whatever the bytes, a decoder gives a record or a reason and nothing else."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import uuid5

from hypothesis import example, given
from hypothesis import strategies as st

from schemas.codec import (
    Tombstone,
    decode_item,
    decode_recommendation,
    decode_release_announcement,
    decode_user_interests,
    decode_user_text,
    encode,
)
from schemas.dead_letter import dead_letter, read_dead_letter
from schemas.errors import BadRecord, Reason
from schemas.headers import Headers
from schemas.item import Item
from schemas.limits import EARLIEST, MAX_AHEAD_MS
from schemas.recommendation import NAMESPACE, recommendation_id
from schemas.user_text import Event, UserText
from worker.broker.base import Record

NOW = datetime(2026, 1, 1, tzinfo=UTC)
NOW_MS = int(NOW.timestamp()) * 1_000

STRINGS = st.text(st.characters(exclude_categories=["Cs"]))
IDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=64)  # 4 bytes a character at most
ZONES = st.integers(-23 * 60, 23 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
TIMES = st.datetimes(
    min_value=EARLIEST.replace(tzinfo=None) + timedelta(days=1),
    max_value=NOW.replace(tzinfo=None) - timedelta(days=1),
    timezones=ZONES,
)
USER_TEXTS = st.builds(
    UserText,
    user_id=IDS,
    text=STRINGS,
    event_id=st.none() | IDS,
    occurred_at=st.none() | TIMES,
    item_id=st.none() | IDS,
    item_title=st.none() | STRINGS,
    labels=st.lists(IDS, max_size=64).map(tuple),
    weight=st.floats(0, 1e6),
    lang=st.none() | st.text("abcdefg-", max_size=35),
)
ITEMS = st.builds(
    Item,
    item_id=IDS,
    title=STRINGS,
    text=st.none() | STRINGS,
    labels=st.lists(IDS, max_size=64).map(tuple),
    available=st.booleans(),
    expires_at=st.none() | TIMES,
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | STRINGS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(STRINGS, inner, max_size=4),
    max_leaves=8,
)
FIELDS = st.sampled_from(list(UserText.model_fields))
HEADERS = st.lists(st.tuples(st.sampled_from(["schema", "kindred-event-id", "x"]), st.none() | st.binary(max_size=20)))
KEYS = st.none() | st.binary(max_size=300) | IDS.map(str.encode)


@given(USER_TEXTS)
def test_a_user_text_comes_back_with_its_defaults_filled_in(message: UserText) -> None:
    event = decode_user_text(encode(message), message.user_id.encode(), NOW_MS)
    assert isinstance(event, Event)
    for field in ("user_id", "text", "event_id", "item_id", "item_title", "labels", "weight", "lang"):
        assert getattr(event, field) == getattr(message, field)
    if message.occurred_at is None:
        assert event.occurred_ms == NOW_MS
    else:
        since = message.occurred_at - datetime(1970, 1, 1, tzinfo=UTC)
        assert event.occurred_ms == since // timedelta(milliseconds=1)


@given(ITEMS)
def test_an_item_comes_back_as_it_was(item: Item) -> None:
    assert decode_item(encode(item), item.item_id.encode()) == item


@given(
    st.none() | st.binary() | JSON.map(lambda value: json.dumps(value).encode()), KEYS, st.integers(-1, 2**62), HEADERS
)
@example(b"null", None, 0, [])
def test_whatever_the_bytes_a_decoder_gives_a_record_or_a_reason(
    value: bytes | None, key: bytes | None, timestamp: int, headers: Headers
) -> None:
    try:
        assert isinstance(decode_user_text(value, key, timestamp, headers), Event | Tombstone)
    except BadRecord as bad:
        assert bad.reason in Reason  # noqa: PT017
    for decode in (decode_item, decode_recommendation, decode_release_announcement, decode_user_interests):
        try:
            decode(value, key, headers)
        except BadRecord as bad:
            assert bad.reason in Reason  # noqa: PT017


@given(st.dictionaries(FIELDS, JSON), st.integers(0, 2**62))
def test_whatever_stands_in_a_field_an_event_keeps_the_rules(fields: dict[str, Any], timestamp: int) -> None:
    value = json.dumps({"user_id": "ada", "text": "hello", **fields}).encode()
    try:
        event = decode_user_text(value, b"ada", timestamp)
    except BadRecord:
        return
    assert isinstance(event, Event)
    assert event.user_id == "ada"
    assert 0 <= event.weight <= 1e6
    assert event.occurred_ms <= timestamp + MAX_AHEAD_MS
    assert len(event.labels) <= 64
    assert all(event.labels)


@given(USER_TEXTS, st.data())
def test_a_record_that_was_cut_off_is_not_json(message: UserText, data: st.DataObject) -> None:
    whole = encode(message)
    cut = whole[: data.draw(st.integers(0, len(whole) - 1))]
    try:
        decode_user_text(cut, message.user_id.encode(), NOW_MS)
    except BadRecord as bad:
        assert bad.reason in (Reason.NOT_JSON, Reason.NOT_UTF8)  # noqa: PT017
    else:
        raise AssertionError("a cut record was taken for a whole one")


@given(st.none() | st.binary(max_size=3_000), KEYS, HEADERS, st.text(max_size=2_000), st.integers(1_500, 9_000))
def test_a_dead_letter_is_read_back_whole_or_says_what_was_left_out(
    value: bytes | None, key: bytes | None, headers: list[tuple[str, bytes]], worker: str, max_bytes: int
) -> None:
    worker = worker.encode(errors="ignore").decode()[:64]
    record = Record("user-text", 3, 1842, NOW_MS, key, value, headers)
    raw = dead_letter(record, Reason.NOT_JSON, "value: cut off", worker, max_bytes)
    read = read_dead_letter(raw.headers, raw.key, raw.value)
    assert (read.topic, read.partition, read.offset, read.timestamp) == ("user-text", 3, 1842, NOW_MS)
    assert (read.reason, read.detail, read.worker) == ("not_json", "value: cut off", worker)
    assert read.value == (None if "value" in read.left_out else value)
    assert read.key == (None if "key" in read.left_out else key)
    assert list(read.headers) == ([] if "headers" in read.left_out else headers)
    sent = len(raw.key or b"") + len(raw.value or b"") + sum(len(n.encode()) + len(v or b"") for n, v in raw.headers)
    assert sent <= max_bytes


@given(IDS, st.sampled_from(["user-text", "shop.user-text"]), st.integers(0, 2**31), st.integers(0, 2**63 - 1))
def test_a_recommendation_id_is_the_uuid5_of_its_event(user: str, topic: str, partition: int, offset: int) -> None:
    name = f"{topic}/{partition}/{offset}/{user}"
    assert recommendation_id(user, topic, partition, offset) == str(uuid5(NAMESPACE, name))
