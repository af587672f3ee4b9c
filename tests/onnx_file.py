"""ONNX files in protobuf's wire format, written by hand: as much as the reader's tests need."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def varint(value: int) -> bytes:
    parts = bytearray()
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*parts, value])


def number(field_number: int, value: int) -> bytes:
    return varint(field_number << 3) + varint(value)


def field(field_number: int, content: bytes) -> bytes:
    return varint(field_number << 3 | 2) + varint(len(content)) + content


def tensor(name: str, weight: NDArray[np.float32]) -> bytes:
    shape = b"".join(number(1, size) for size in weight.shape)
    return shape + number(2, 1) + field(8, name.encode()) + field(9, weight.astype("<f4").tobytes())


def node(name: str, kind: str, *inputs: str) -> bytes:
    return b"".join(field(1, given.encode()) for given in inputs) + field(3, name.encode()) + field(4, kind.encode())


def graph_file(nodes: Sequence[bytes], tensors: Sequence[bytes]) -> bytes:
    graph = b"".join(field(1, part) for part in nodes) + b"".join(field(5, part) for part in tensors)
    return number(1, 8) + field(7, graph)
