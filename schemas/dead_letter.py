"""A dead letter: a bad record as it came, with headers that say why, from where and who could not read it.

The added headers come after the record's own, `kindred-reason` first; from the last `kindred-reason` on they are ours,
so that a record which carries such headers itself (a dead letter that was sent back by hand) is still read back right.
The identity of a dead letter is (topic, partition, offset) of the bad record. Knows nothing of why a record is bad.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Final, NamedTuple, Protocol

from schemas.errors import DeadLetterError
from schemas.headers import EVENT_ID, Headers, last
from schemas.user_text import default_event_id

REASON: Final = "kindred-reason"
DETAIL: Final = "kindred-detail"
TOPIC: Final = "kindred-topic"
PARTITION: Final = "kindred-partition"
OFFSET: Final = "kindred-offset"
TIMESTAMP: Final = "kindred-timestamp"
WORKER: Final = "kindred-worker"
LEFT_OUT: Final = "kindred-left-out-"
"""`kindred-left-out-value` (`-headers`, `-key`): "SIZE sha256:HEX" of what was too large to be carried."""

_OVERHEAD: Final = 128
"""What Kafka adds to a record and its batch: 61 bytes of batch header, at most 41 of lengths and deltas; rounded up."""
_HEADER_OVERHEAD: Final = 10
_DETAIL_CHARACTERS: Final = 1000


class RawRecord(NamedTuple):
    """What a producer sends, but for the topic."""

    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]]


class Received(Protocol):
    """A record as the log has it. timestamp: milliseconds since 1970."""

    @property
    def topic(self) -> str: ...
    @property
    def partition(self) -> int: ...
    @property
    def offset(self) -> int: ...
    @property
    def timestamp(self) -> int: ...
    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def headers(self) -> Headers: ...


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A dead letter read back: the original record, and what was said of it.

    left_out: part ("value", "headers", "key") → "SIZE sha256:HEX" of what was too large; that part is None or empty
    here and lies, as long as the log has it, at topic, partition and offset.
    """

    reason: str
    detail: str
    topic: str
    partition: int
    offset: int
    timestamp: int
    worker: str
    key: bytes | None
    value: bytes | None
    headers: Headers
    left_out: Mapping[str, str]


def dead_letter(record: Received, reason: str, detail: str, worker: str, max_bytes: int) -> RawRecord:
    """The dead letter of a bad record; the same record gives the same bytes.

    Where the whole would be larger than max_bytes (what the broker takes), the value, then the record's own headers,
    then its key are left out, as many as it needs, and a header gives the size and hash of each.
    """
    key, value, headers = record.key, record.value, list(record.headers)
    added: list[tuple[str, bytes | None]] = [
        (REASON, reason.encode()),
        (DETAIL, detail[:_DETAIL_CHARACTERS].encode()),
        (TOPIC, record.topic.encode()),
        (PARTITION, str(record.partition).encode()),
        (OFFSET, str(record.offset).encode()),
        (TIMESTAMP, str(record.timestamp).encode()),
        (WORKER, worker.encode()),
    ]
    if value is not None and _size(key, value, headers + added) > max_bytes:
        added.append((f"{LEFT_OUT}value", _fingerprint(value)))
        value = None
    if headers and _size(key, value, headers + added) > max_bytes:
        whole = b"".join(name.encode() + b"\0" + (content or b"") + b"\0" for name, content in headers)
        added.append((f"{LEFT_OUT}headers", _fingerprint(whole)))
        headers = []
    if key is not None and _size(key, value, headers + added) > max_bytes:
        added.append((f"{LEFT_OUT}key", _fingerprint(key)))
        key = None
    return RawRecord(key, value, headers + added)


def read_dead_letter(headers: Headers, key: bytes | None, value: bytes | None) -> DeadLetter:
    """A record of the dead letter topic, read back. Raises DeadLetterError where it is none."""
    names = [name for name, _ in headers]
    if REASON not in names:
        raise DeadLetterError(f"no dead letter: the header {REASON} is missing; some other program wrote this record")
    first = len(names) - 1 - names[::-1].index(REASON)
    added = headers[first:]
    try:
        return DeadLetter(
            reason=_text(added, REASON),
            detail=_text(added, DETAIL),
            topic=_text(added, TOPIC),
            partition=int(_text(added, PARTITION)),
            offset=int(_text(added, OFFSET)),
            timestamp=int(_text(added, TIMESTAMP)),
            worker=_text(added, WORKER),
            key=key,
            value=value,
            headers=headers[:first],
            left_out={
                name.removeprefix(LEFT_OUT): (content or b"").decode()
                for name, content in added
                if name.startswith(LEFT_OUT)
            },
        )
    except ValueError as error:  # UnicodeDecodeError is one too
        raise DeadLetterError(
            "no dead letter: its headers are damaged; some other program wrote this record"
        ) from error


def redriven(letter: DeadLetter) -> RawRecord:
    """The original record, to be sent to its topic again with `timestamp` as its own.

    Its event id, where the value gives none, is what it would have been at first: sending it twice counts once. Raises
    DeadLetterError where a part of the record was left out.
    """
    if letter.left_out:
        raise DeadLetterError(
            f"{letter.topic}-{letter.partition}-{letter.offset} cannot be sent again: its "
            f"{' and '.join(letter.left_out)} did not fit into the dead letter; read the original from the log"
        )
    headers = [header for header in letter.headers if header[0] != EVENT_ID]
    own = last(letter.headers, EVENT_ID)
    identity = own or default_event_id(letter.topic, letter.partition, letter.offset).encode()
    return RawRecord(letter.key, letter.value, [*headers, (EVENT_ID, identity)])


def _fingerprint(data: bytes) -> bytes:
    return f"{len(data)} sha256:{sha256(data).hexdigest()}".encode()


def _size(key: bytes | None, value: bytes | None, headers: Headers) -> int:
    """Upper bound of the bytes that the broker counts, before compression."""
    content = sum(len(name.encode()) + len(data or b"") + _HEADER_OVERHEAD for name, data in headers)
    return _OVERHEAD + len(key or b"") + len(value or b"") + content


def _text(headers: Headers, name: str) -> str:
    content = last(headers, name)
    if content is None:
        raise ValueError(name)
    return content.decode()
