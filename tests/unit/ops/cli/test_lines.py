from __future__ import annotations

import json

import pytest

from ops.cli.lines import BadLine, Line, parse_mapping, read_lines, tombstone
from ops.errors import BadInput
from schemas.topics import ITEMS, USER_TEXT

NOW_MS = 1_700_000_000_000


def read(*lines: bytes, fields: tuple[str, ...] = ()) -> list[Line | BadLine]:
    return list(read_lines(lines, USER_TEXT, parse_mapping(fields, USER_TEXT), lambda: NOW_MS))


def why(line: bytes, *fields: str) -> str:
    (found,) = read(line, fields=fields)
    assert isinstance(found, BadLine)
    return found.why


def test_a_line_that_needs_no_mapping_goes_out_as_it_came() -> None:
    raw = b'{"user_id": "u", "text": "a", "more": 1}'
    assert read(raw + b"\n") == [Line(1, b"u", raw)]


def test_a_mapped_field_gets_the_name_that_the_topic_knows() -> None:
    raw = b'{"user": "u", "text": "a", "ts": "2020-01-01T00:00:00Z"}'
    (line,) = read(raw, fields=("occurred_at=ts", "user_id=user"))
    assert isinstance(line, Line)
    assert line.key == b"u"
    assert json.loads(line.value or b"") == {"user_id": "u", "text": "a", "occurred_at": "2020-01-01T00:00:00Z"}


def test_two_fields_can_be_swapped() -> None:
    (line,) = read(b'{"user_id": "a", "text": "b"}', fields=("user_id=text", "text=user_id"))
    assert isinstance(line, Line)
    assert json.loads(line.value or b"") == {"user_id": "b", "text": "a"}


def test_blank_lines_are_skipped_and_numbers_count_them() -> None:
    assert [line.number for line in read(b"\n", b'{"user_id": "u", "text": "a"}\n', b"  \n", b"x")] == [2, 4]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"{", "is not JSON"),
        (b"[]", "must be a JSON object"),
        (b'{"text": "a"}', "user_id: must be a string"),
        (b'{"user_id": "u"}', "text: is required"),
        (b'{"user_id": "", "text": "a"}', "user_id: is empty"),
        (b'{"user_id": "u", "text": "a", "occurred_at": "2020-01-01T00:00:00"}', "zone"),
        (b'{"user_id": "u", "text": "a", "occurred_at": "1980-01-01T00:00:00Z"}', "before 1990"),
        (b'{"user_id": "u", "text": "\xff"}', "is not UTF-8"),
        (b'{"user_id": "u", "text": ' + b"[" * 100_000, "nested too deeply"),
        (b'{"user_id": "\\ud800", "text": "a"}', "surrogates not allowed"),
    ],
)
def test_a_bad_line_names_the_field_and_the_rule(line: bytes, reason: str) -> None:
    assert reason in why(line)


def test_a_bad_line_never_shows_its_text() -> None:
    assert "secret" not in why(b'{"user_id": "", "text": "secret"}')


def test_a_source_field_that_is_missing_is_a_bad_line() -> None:
    assert "ts: is missing" in why(b'{"user_id": "u", "text": "a"}', "occurred_at=ts")


@pytest.mark.parametrize(
    ("pair", "reason"),
    [("ts", "no mapping"), ("=ts", "no mapping"), ("text=", "no mapping"), ("nope=ts", "no field nope")],
)
def test_a_mapping_that_makes_no_sense_is_refused(pair: str, reason: str) -> None:
    with pytest.raises(BadInput, match=reason):
        parse_mapping([pair], USER_TEXT)


def test_a_field_is_mapped_once() -> None:
    with pytest.raises(BadInput, match="twice"):
        parse_mapping(["text=a", "text=b"], USER_TEXT)


def test_items_are_checked_by_their_own_rules_and_keyed_by_item() -> None:
    good, bad = b'{"item_id": "i", "title": "t"}', b'{"item_id": "i"}'
    found = list(read_lines([good, bad], ITEMS, {}, lambda: NOW_MS))
    assert found == [Line(1, b"i", good), BadLine(2, "title: is required")]


def test_a_tombstone_has_a_key_and_no_value() -> None:
    assert tombstone("u") == Line(1, b"u", None)
    with pytest.raises(BadInput, match="cannot be a user_id"):
        tombstone("")
