"""Records whose header names are not UTF-8, in Kafka's own bytes."""

from __future__ import annotations

import pytest
from kafka.record.memory_records import MemoryRecords, MemoryRecordsBuilder

from model.kafka.header_names import TolerantBatch, readable, tolerate


def written(names: list[bytes], compression: int = 0) -> bytes:
    """A batch of three records; the middle one has headers of these names."""

    class Raw(str):
        """A name that the client writes as it is."""

        raw: bytes

        def encode(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
            return self.raw

    headers = []
    for number, name in enumerate(names):
        made = Raw(number)
        made.raw = name
        headers.append((made, b"value" if number else None))
    builder = MemoryRecordsBuilder(2, compression, 1 << 16)
    builder.append(1, b"a", b"first", [("plain", b"1")])
    builder.append(2, b"b", b"\xff\xfe", headers)
    builder.append(3, None, None, [])
    builder.close()
    return bytes(builder.buffer())


@pytest.mark.parametrize("compression", [0, 3], ids=["plain", "lz4"])
def test_a_record_with_an_unreadable_name_is_read_and_so_are_those_around_it(compression: int) -> None:
    tolerate()
    batch = MemoryRecords(written([b"\xff\xfebad", b"gr\xc3\xbcn", b"half\xe4\xb8"], compression)).next_batch()
    assert isinstance(batch, TolerantBatch)
    first, middle, last = batch
    assert (first.value, first.headers) == (b"first", [("plain", b"1")])
    assert (middle.key, middle.value) == (b"b", b"\xff\xfe")
    assert middle.headers == [("??bad", None), ("grün", b"value"), ("half??", b"value")]
    assert (last.key, last.value, last.headers) == (None, None, [])


@pytest.mark.parametrize("name", [b"", b"plain", "grün".encode(), "漢字".encode()])
def test_a_readable_name_stays_as_it_is(name: bytes) -> None:
    assert readable(name) == name


@pytest.mark.parametrize("name", [b"\xff", b"\xe4\xb8", b"a\xffb\xfec", bytes(range(128, 256))])
def test_an_unreadable_name_keeps_its_length(name: bytes) -> None:
    assert len(readable(name)) == len(name)
    readable(name).decode()
