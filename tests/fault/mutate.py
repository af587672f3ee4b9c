"""Valid records made wrong, in all the ways that producers, disks and wires know. Pure, from one random source."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Any, Final

from schemas.headers import EVENT_ID
from tests.fault.load import Sending

STRANGE: Final[tuple[Any, ...]] = (
    None, True, -1, 0, 1e308, -1e-308, 2**64, "", " ", "\x00", "\ud800", "a" * 5000, "0001-01-01T00:00:00Z",
    "9999-12-31T23:59:59Z", [], {}, [[]], ["x"] * 100, [None], {"user_id": "u1"}, "NaN", "🙂" * 300,
)  # fmt: skip
HEADERS: Final = (
    ("schema", b"user-text/99"), ("schema", b"\xff"), (EVENT_ID, b""), (EVENT_ID, b"\xfe\xff"),
    ("traceparent", b"00-x"), ("", b""), ("x" * 300, b"y" * 3000),
)  # fmt: skip
MOST: Final = 4
"""Mutations of one record."""


def mutated(sending: Sending, pick: Random) -> Sending:
    """One to four mutations; a record may come out as it was, or as another valid one."""
    for _ in range(pick.randint(1, MOST)):
        sending = pick.choice(_MUTATIONS)(sending, pick)
    return sending


def _flip(sending: Sending, pick: Random) -> Sending:
    value = bytearray(sending.value or b"{}")
    place = pick.randrange(len(value)) if value else 0
    value[place : place + 1] = bytes([pick.randrange(256)])
    return replace(sending, value=bytes(value))


def _cut(sending: Sending, pick: Random) -> Sending:
    value = sending.value or b""
    start = pick.randint(0, len(value))
    return replace(sending, value=value[:start] + value[pick.randint(start, len(value)) :])


def _insert(sending: Sending, pick: Random) -> Sending:
    value = sending.value or b""
    place = pick.randint(0, len(value))
    junk = pick.choice([b"\x00", b"\xef\xbb\xbf", b"[" * 2000, b'"', b"\\ud800", b"NaN", bytes(range(128, 160)), b"{}"])
    return replace(sending, value=value[:place] + junk + value[place:])


def _field(sending: Sending, pick: Random) -> Sending:
    """Another value, or none, in a field."""
    try:
        fields = json.loads(sending.value or b"{}")
    except (ValueError, RecursionError):
        return sending
    if not isinstance(fields, dict):
        return sending
    name = pick.choice([*fields, "labels", "weight", "item_id", "occurred_at", "event_id", "lang", "unheard_of"])
    if pick.random() < 0.2:
        fields.pop(name, None)
    else:
        fields[name] = pick.choice(STRANGE)
    return replace(sending, value=json.dumps(fields).encode())


def _wrap(sending: Sending, pick: Random) -> Sending:
    value = sending.value or b"null"
    return replace(sending, value=pick.choice([b"[%s]", b'{"user_id": %s}', b"%s%s"]).replace(b"%s", value))


def _key(sending: Sending, pick: Random) -> Sending:
    return replace(sending, key=pick.choice([b"", b"\xff", b"somebody else", sending.key + b" ", b"k" * 2000]))


def _header(sending: Sending, pick: Random) -> Sending:
    return replace(sending, headers=[*sending.headers, pick.choice(HEADERS)])


def _time(sending: Sending, pick: Random) -> Sending:
    return replace(sending, timestamp_ms=pick.choice([0, 1, sending.timestamp_ms - 10**12]))


_MUTATIONS: Final[tuple[Callable[[Sending, Random], Sending], ...]] = (
    _flip, _flip, _cut, _insert, _field, _field, _field, _wrap, _key, _header, _time,
)  # fmt: skip
