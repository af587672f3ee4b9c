from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from schemas.codec import (
    ItemTombstone,
    Tombstone,
    decode_item,
    decode_manifest,
    decode_user_interests,
    decode_user_text,
    encode,
    encode_manifest,
)
from schemas.errors import BadRecord, ManifestError, Reason
from schemas.item import Item
from schemas.limits import EARLIEST_MS, MAX_WEIGHT
from schemas.release import EncoderEntry, Golden, Manifest
from schemas.user_text import Event, UserText

NOON = 1_767_268_800_000  # 2026-01-01T12:00:00Z


def event(timestamp: int = NOON, headers: tuple[tuple[str, bytes | None], ...] = (), **fields: Any) -> Event:
    value = json.dumps({"user_id": "ada", "text": "hello", **fields}).encode()
    decoded = decode_user_text(value, b"ada", timestamp, headers)
    assert isinstance(decoded, Event)
    return decoded


def reason_of(value: bytes | None, key: bytes | None = b"ada", timestamp: int = NOON) -> Reason:
    with pytest.raises(BadRecord) as caught:
        decode_user_text(value, key, timestamp)
    return caught.value.reason


def test_defaults_are_filled_in_from_the_record() -> None:
    assert event() == Event("ada", "hello", None, NOON, None, None, (), 1.0, None)


def test_all_fields_are_read() -> None:
    read = event(
        event_id="e",
        occurred_at="2026-01-01T12:59:58.250+01:00",
        item_id="i",
        item_title="t",
        labels=["a", "b"],
        weight=2,
        lang="en",
    )
    assert read == Event("ada", "hello", "e", NOON - 1_750, "i", "t", ("a", "b"), 2.0, "en")


@pytest.mark.parametrize(
    "text",
    [
        "2026-01-01T11:59:59Z",
        "2026-01-01T11:59:59.000000000Z",
        "2026-01-01t11:59:59z",
        "2026-01-01 19:59:59+08:00",
        "2026-01-01T11:59:59+0000",
    ],
)
def test_the_usual_spellings_of_a_time_mean_the_same(text: str) -> None:
    assert event(occurred_at=text).occurred_ms == NOON - 1_000


def test_milliseconds_are_exact() -> None:
    for millisecond in range(1_000):
        assert event(occurred_at=f"2025-12-31T23:59:59.{millisecond:03}Z").occurred_ms % 1_000 == millisecond


def test_nul_and_control_characters_in_a_text_are_no_reason_to_refuse_it() -> None:
    assert event(text="a\0b\x07").text == "a\0b\x07"


def test_a_tombstone_names_its_user() -> None:
    assert decode_user_text(None, "小明".encode(), NOON) == Tombstone("小明")
    assert decode_user_interests(None, b"ada") == Tombstone("ada")
    assert decode_item(None, b"beer:1") == ItemTombstone("beer:1")


def test_a_tombstone_is_obeyed_whatever_its_headers_and_timestamp_say() -> None:
    assert decode_user_text(None, b"ada", -1, [("schema", b"user-text/99")]) == Tombstone("ada")


def test_an_absurd_weight_counts_as_a_million() -> None:
    assert event(weight=1e300).weight == MAX_WEIGHT


def test_the_event_id_header_stands_in_only_where_the_value_has_none() -> None:
    header: tuple[str, bytes | None] = ("kindred-event-id", b"user-text-3-1842")
    assert event(headers=(header,)).event_id == "user-text-3-1842"
    assert event(headers=(header,), event_id="own").event_id == "own"
    assert event(headers=(("kindred-event-id", None),)).event_id is None


@pytest.mark.parametrize(("content", "reason"), [(b"\xff", Reason.NOT_UTF8), (b"e" * 257, Reason.EVENT_ID_TOO_LONG)])
def test_a_bad_event_id_header_is_a_bad_record(content: bytes, reason: Reason) -> None:
    with pytest.raises(BadRecord) as caught:
        event(headers=(("kindred-event-id", content),))
    assert caught.value.reason == reason


def test_limits_count_bytes_not_characters() -> None:
    assert reason_of(json.dumps({"user_id": "ada", "text": "文" * 21_846}).encode()) == Reason.TEXT_TOO_LONG
    assert event(text="a" * 65_536).text == "a" * 65_536
    assert event(item_id="i" * 256).item_id == "i" * 256


def test_the_records_own_timestamp_bounds_occurred_at() -> None:
    assert event(timestamp=EARLIEST_MS, occurred_at="1990-01-02T00:00:00Z").occurred_ms == EARLIEST_MS + 86_400_000
    with pytest.raises(BadRecord, match="time_in_future"):
        event(timestamp=EARLIEST_MS, occurred_at="1990-01-02T00:00:00.001Z")
    with pytest.raises(BadRecord, match="time_too_old"):
        event(timestamp=-1)


def test_no_error_quotes_what_the_user_wrote() -> None:
    secret = "hunter2"
    bad = [
        {"user_id": secret, "text": "x"},
        {"user_id": "ada", "text": [secret]},
        {"user_id": "ada", "text": "x", "occurred_at": secret},
        {"user_id": "ada", "text": "x", "labels": ["", secret]},
        {"user_id": "ada", "text": "x", "labels": {secret: secret}},
        {"user_id": "ada", "text": "x", "item_id": secret * 99},
        {"user_id": "ada", "text": "x", "weight": secret},
        [secret],
    ]
    values = [json.dumps(value).encode() for value in bad] + [secret.encode(), f'{{"{secret}'.encode()]
    for value in values:
        with pytest.raises(BadRecord) as caught:
            decode_user_text(value, b"ada", NOON, ())
        assert secret not in str(caught.value)
        assert caught.value.__cause__ is None
        assert caught.value.__suppress_context__ or caught.value.__context__ is None


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "labels", ["[" + "7," * 400_000 + "7]", "[" + '"",' * 300_000 + '""]'], ids=["mistyped", "too many"]
)
def test_a_megabyte_of_bad_labels_is_refused_quickly(labels: str) -> None:
    value = b'{"user_id": "ada", "text": "x", "labels": ' + labels.encode() + b"}"
    assert reason_of(value) in (Reason.MISTYPED_FIELD, Reason.TOO_MANY_LABELS)


@pytest.mark.timeout(20)
def test_numbers_of_a_million_digits_do_not_hold_the_worker_up() -> None:
    assert reason_of(b'{"user_id": "ada", "text": "x", "weight": ' + b"9" * 1_000_000 + b"}") == Reason.NOT_JSON


def test_the_same_text_decodes_from_escaped_and_plain_json() -> None:
    fields = {"user_id": "ada", "text": "第一次在家做红烧肉 🍖"}
    plain, escaped = (json.dumps(fields, ensure_ascii=ascii_only).encode() for ascii_only in (False, True))
    assert decode_user_text(plain, b"ada", NOON) == decode_user_text(escaped, b"ada", NOON)


def test_a_message_is_encoded_without_the_fields_it_does_not_have() -> None:
    assert (
        encode(UserText(user_id="ada", text="文")) == '{"user_id":"ada","text":"文","labels":[],"weight":1.0}'.encode()
    )
    expires = datetime(2027, 1, 1, tzinfo=UTC)
    item = Item(item_id="i", title="t", expires_at=expires)
    assert decode_item(encode(item), b"i") == item


def test_a_plain_dict_is_encoded_as_json_any_parser_reads() -> None:
    assert json.loads(encode({"a": float("nan"), "b": [float("inf"), 0.5], "c": None})) == {
        "a": None,
        "b": [None, 0.5],
        "c": None,
    }


def test_a_string_that_utf8_does_not_have_is_not_encoded_and_not_quoted() -> None:
    with pytest.raises(ValueError, match="not valid Unicode") as caught:
        encode({"text": "secret \ud800"})
    assert "secret" not in str(caught.value)


def manifest() -> Manifest:
    return Manifest(
        name="builtin-dummy-1",
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
        space="abc",
        encoder=EncoderEntry(name="dummy", dimension=2, max_tokens=8, pooling="mean", cleaning=1, reference="dummy"),
        transfer={"donors": 1.0},
        golden=(Golden(text="a fixed sentence", vector=(0.6, 0.8)),),
    )


def test_a_manifest_comes_back_as_it_was() -> None:
    assert decode_manifest(encode_manifest(manifest())) == manifest()


def test_a_manifest_of_a_later_format_is_told_from_a_damaged_one() -> None:
    with pytest.raises(ManifestError, match="format 2, this version reads 1; upgrade"):
        decode_manifest(b'{"format": 2, "everything": "else differs"}')


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "not JSON"),
        (b"\xff", "not JSON"),
        (b"[]", "manifest's value is wrong"),
        (b"{}", "manifest's name is wrong"),
        (encode_manifest(manifest()).replace(b'"dimension": 2', b'"dimension": 0'), "encoder.dimension is wrong"),
        (encode_manifest(manifest()).replace(b"0.6", b"NaN"), r"golden\[0\].vector\[0\] is wrong"),
        (encode_manifest(manifest()).replace(b'"checksums": {}', b'"checksums": {"../x": ""}'), "checksums"),
    ],
)
def test_a_damaged_manifest_says_what_is_wrong(content: bytes, text: str) -> None:
    with pytest.raises(ManifestError, match=text):
        decode_manifest(content)


@pytest.mark.parametrize("occurred", ["", ', "occurred_at": "2025-01-01T00:00:00Z"'])
def test_a_timestamp_in_microseconds_is_refused(occurred: str) -> None:
    value = b'{"user_id": "ada", "text": "x"' + occurred.encode() + b"}"
    with pytest.raises(BadRecord) as caught:
        decode_user_text(value, b"ada", 1_767_268_800_000_000)
    assert caught.value.reason == Reason.TIME_IN_FUTURE
