"""Headers of a record that Kindred reads or passes on. Knows nothing of values, and nothing of dead letters."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from schemas.errors import BadRecord, Reason

Headers = Sequence[tuple[str, bytes | None]]
"""As Kafka has them: names may repeat, values may be null."""

SCHEMA: Final = "schema"
"""Name and version of a value's schema, `user-text/1`; optional on input, absent stands for the newest known."""

SCHEMA_VERSION: Final = 1
"""Newest version of every message; older ones than this are read too, newer ones are not."""

EVENT_ID: Final = "kindred-event-id"
"""The event id of a `user-text` record whose value gives none: a record that is sent again keeps its identity so."""

TRACE: Final = frozenset({"traceparent", "tracestate", "baggage", "b3"})
"""Trace headers (W3C Trace Context and Baggage, B3) of an event that go on to its recommendation."""

MAX_TRACE_BYTES: Final = 8192
"""Of all trace headers that are passed on: what W3C Baggage asks everyone to carry. They must not make a recommendation
larger than the broker takes."""

_SCHEMA_VALUE: Final = re.compile(rb"([a-z][a-z0-9-]{0,63})/([1-9][0-9]{0,5})")


def last(headers: Headers, name: str) -> bytes | None:
    """Value of the last header of that name, as Kafka's own clients read it; None when absent or null."""
    return next((value for key, value in reversed(headers) if key == name), None)


def schema_header(schema: str) -> tuple[str, bytes]:
    """The header that a value of this schema is sent with."""
    return SCHEMA, f"{schema}/{SCHEMA_VERSION}".encode()


def check_schema(headers: Headers, schema: str) -> None:
    """Raises BadRecord (unknown_schema) where a schema header names another schema, a newer version, or neither."""
    value = last(headers, SCHEMA)
    if value is None:
        return
    match = _SCHEMA_VALUE.fullmatch(value)
    if match is None:
        raise BadRecord(
            Reason.UNKNOWN_SCHEMA, f"schema header: must be NAME/VERSION, such as {schema}/{SCHEMA_VERSION}"
        )
    if match[1] != schema.encode():
        raise BadRecord(Reason.UNKNOWN_SCHEMA, f"schema header: must name {schema}")
    if int(match[2]) > SCHEMA_VERSION:
        raise BadRecord(
            Reason.UNKNOWN_SCHEMA, f"schema header: {schema} version {int(match[2])} is newer than {SCHEMA_VERSION}"
        )


def trace_headers(headers: Headers) -> list[tuple[str, bytes | None]]:
    """The trace headers among these, in their order, as far as they fit into MAX_TRACE_BYTES."""
    passed, size = [], 0
    for name, value in headers:
        if name.lower() in TRACE:
            size += len(name) + len(value or b"")
            if size > MAX_TRACE_BYTES:
                break
            passed.append((name, value))
    return passed
