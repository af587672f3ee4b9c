"""JSON lines → records to produce: field mapping, and the rules of the topic checked before anything is sent."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from ops.errors import BadInput
from schemas.codec import Tombstone, decode_item, decode_user_text, encode
from schemas.errors import BadRecord
from schemas.item import Item
from schemas.topics import ITEMS, USER_TEXT, Topic
from schemas.user_text import UserText

PRODUCIBLE: Final[Mapping[str, tuple[Topic, type[UserText] | type[Item]]]] = {
    USER_TEXT.name: (USER_TEXT, UserText),
    ITEMS.name: (ITEMS, Item),
}


@dataclass(frozen=True, slots=True)
class Line:
    """A record. number: of its line, from 1; value: None asks to forget what the key names."""

    number: int
    key: bytes
    value: bytes | None


@dataclass(frozen=True, slots=True)
class BadLine:
    """why: names the field and the rule, never the text."""

    number: int
    why: str


def parse_mapping(pairs: Sequence[str], topic: Topic) -> dict[str, str]:
    """["occurred_at=ts"] → {"occurred_at": "ts"}: topic's field ← the file's field. Raises BadInput."""
    fields = PRODUCIBLE[topic.name][1].model_fields
    mapping: dict[str, str] = {}
    for pair in pairs:
        target, equals, source = pair.partition("=")
        if not equals or not target or not source:
            raise BadInput(f"--field {pair} is no mapping.", "Write --field TARGET=SOURCE, such as occurred_at=ts.")
        if target not in fields:
            raise BadInput(f"--field {pair}: {topic.name} has no field {target}.", f"It has {', '.join(fields)}.")
        if target in mapping:
            raise BadInput(f"--field {target} was given twice.", "Map each field once.")
        mapping[target] = source
    return mapping


def read_lines(
    lines: Iterable[bytes], topic: Topic, mapping: Mapping[str, str], clock_ms: Callable[[], int]
) -> Iterator[Line | BadLine]:
    """One Line or BadLine for every line that is not blank."""
    for number, raw in enumerate(lines, start=1):
        raw = raw.strip()
        if not raw:
            continue
        try:
            yield _line(number, raw, topic, mapping, clock_ms())
        except (BadRecord, ValueError, RecursionError) as error:
            yield BadLine(number, _why(error))


def _line(number: int, raw: bytes, topic: Topic, mapping: Mapping[str, str], now_ms: int) -> Line:
    record = json.loads(raw)
    if not isinstance(record, dict):
        raise ValueError("must be a JSON object")
    for target, source in mapping.items():
        if source not in record:
            raise ValueError(f"{source}: is missing; --field {target}={source} takes it")
    if mapping:
        moved = {target: record[source] for target, source in mapping.items()}
        record = {name: value for name, value in record.items() if name not in mapping.values()} | moved
    identity = PRODUCIBLE[topic.name][0].key
    key = record.get(identity)
    if not isinstance(key, str):
        raise ValueError(f"{identity}: must be a string")
    line = Line(number, key.encode(), encode(record) if mapping else raw)
    _check(line, topic, now_ms)
    return line


def _check(line: Line, topic: Topic, now_ms: int) -> None:
    """What the worker would make a dead letter of is refused here, where its line is known. Raises BadRecord."""
    if topic is ITEMS:
        decode_item(line.value, line.key)
    else:
        decode_user_text(line.value, line.key, now_ms)


def _why(error: Exception) -> str:
    if isinstance(error, UnicodeDecodeError):
        return "is not UTF-8"
    if isinstance(error, json.JSONDecodeError):
        return f"is not JSON: {error.msg} at column {error.colno}"
    if isinstance(error, RecursionError):
        return "is nested too deeply"
    return error.detail if isinstance(error, BadRecord) else str(error)


def tombstone(user_id: str) -> Line:
    """The record that asks to forget a user. Raises BadInput for an id that no user can have."""
    try:
        key = user_id.encode()
        found: Any = decode_user_text(None, key, 0)
    except (BadRecord, UnicodeEncodeError) as error:
        raise BadInput(f"This cannot be a user_id: {_why(error)}.", "Check the id.") from None
    assert isinstance(found, Tombstone)  # noqa: S101 (a null value decodes to nothing else)
    return Line(1, key, None)
