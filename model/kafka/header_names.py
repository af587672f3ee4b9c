"""Reading past names of headers that are not UTF-8.

Kafka's protocol calls a header's name a string, but brokers do not look and some clients let any bytes through.
kafka-python 3.0 raises on such a record once and then spins in poll() for ever: one record would stop a worker. Here
the bytes that cannot be read become question marks; the record itself is as good as any other. Knows nothing of topics
or of what headers mean.
"""

from __future__ import annotations

from typing import Any

from kafka.record import memory_records
from kafka.record.default_records import DefaultRecordBatch
from kafka.record.util import decode_varint


class TolerantBatch(DefaultRecordBatch):  # type: ignore[misc]
    """The client's parser, with a second try for a record whose header names cannot be read."""

    __slots__ = ()

    def _read_msg(self) -> Any:
        try:
            return super()._read_msg()
        except UnicodeDecodeError:
            mend_header_names(self._buffer, self._pos)
            return super()._read_msg()


def tolerate() -> None:
    """From now on every consumer of this process reads past such names. May be called again."""
    memory_records.DefaultRecordBatch = TolerantBatch


def mend_header_names(buffer: bytearray, start: int) -> None:
    """In the record that begins at `start` (Kafka's record format 2), put "?" for the bytes of header names that are
    not UTF-8. Lengths stay as they are."""
    at = start
    for _ in ("length", "attributes", "timestamp", "offset"):
        _, at = decode_varint(buffer, at)
    for _ in ("key", "value"):
        at = _skip(buffer, at)
    count, at = decode_varint(buffer, at)
    for _ in range(count):
        length, at = decode_varint(buffer, at)
        buffer[at : at + length] = readable(bytes(buffer[at : at + length]))
        at = _skip(buffer, at + length)


def readable(name: bytes) -> bytes:
    """The same number of bytes, all of them UTF-8."""
    while True:
        try:
            name.decode()
        except UnicodeDecodeError as error:
            name = name[: error.start] + b"?" * (error.end - error.start) + name[error.end :]
        else:
            return name


def _skip(buffer: bytearray, at: int) -> int:
    """The place behind a nullable byte string."""
    length, at = decode_varint(buffer, at)
    return int(at + max(0, length))
