from __future__ import annotations

import pytest

from schemas.errors import BadRecord, Reason
from schemas.headers import check_schema, last, schema_header, trace_headers


def test_the_header_we_send_is_one_we_take() -> None:
    assert schema_header("user-text") == ("schema", b"user-text/1")
    check_schema([schema_header("user-text")], "user-text")


@pytest.mark.parametrize("headers", [(), [("schema", None)], [("other", b"x")]])
def test_without_a_schema_header_the_newest_version_is_assumed(headers: list[tuple[str, bytes | None]]) -> None:
    check_schema(headers, "user-text")


@pytest.mark.parametrize(
    "value", [b"user-text/2", b"items/1", b"user-text", b"user-text/0", b"", b"\xff/1", b"user-text/1 "]
)
def test_any_other_schema_is_unknown(value: bytes) -> None:
    with pytest.raises(BadRecord) as caught:
        check_schema([("schema", value)], "user-text")
    assert caught.value.reason == Reason.UNKNOWN_SCHEMA


def test_the_last_of_two_headers_counts() -> None:
    headers = [("schema", b"nonsense"), ("schema", b"user-text/1")]
    assert last(headers, "schema") == b"user-text/1"
    check_schema(headers, "user-text")


def test_only_trace_headers_are_passed_on_in_their_order() -> None:
    headers = [("tracestate", b"s"), ("cookie", b"secret"), ("Traceparent", b"p"), ("b3", None)]
    assert trace_headers(headers) == [("tracestate", b"s"), ("Traceparent", b"p"), ("b3", None)]


def test_trace_headers_that_would_make_a_recommendation_too_large_are_not_passed_on() -> None:
    parent = ("traceparent", b"00-1-1-01")
    assert trace_headers([parent, ("baggage", b"x" * 1_000_000), ("b3", b"1")]) == [parent]
