"""The weights in an ONNX file, without the onnx package: enough of the protobuf wire format to list a graph's
initializers and the inputs of its nodes. Knows nothing of what the numbers mean.

Format: https://protobuf.dev/programming-guides/encoding/ and onnx.proto (field numbers below).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from model.errors import ModelImportError

_MODEL_GRAPH: Final = 7
_GRAPH_NODE, _GRAPH_INITIALIZER = 1, 5
_NODE_INPUT, _NODE_NAME, _NODE_TYPE = 1, 3, 4
_TENSOR_DIMS, _TENSOR_TYPE, _TENSOR_FLOATS, _TENSOR_NAME, _TENSOR_RAW = 1, 2, 4, 8, 9
_FLOAT: Final = 1
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


@dataclass(frozen=True, slots=True)
class Node:
    """An operation of the graph: its name, its kind (`MatMul`), and the names of its inputs in order."""

    name: str
    kind: str
    inputs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Graph:
    """nodes in the file's order; weights: name → array, those of type float32 only."""

    nodes: tuple[Node, ...]
    weights: dict[str, NDArray[np.float32]]


def read_graph(data: bytes) -> Graph:
    """The graph of an ONNX model. Raises ModelImportError for bytes that are none, or were cut off."""
    try:
        graph = next((value for field, value in _bytes_fields(memoryview(data)) if field == _MODEL_GRAPH), None)
        if graph is None:
            raise ModelImportError("the ONNX file holds no graph; fetch it again")
        nodes, weights = [], {}
        for field, value in _bytes_fields(graph):
            if field == _GRAPH_NODE:
                nodes.append(_node(value))
            elif field == _GRAPH_INITIALIZER and (tensor := _tensor(value)) is not None:
                weights[tensor[0]] = tensor[1]
    except (IndexError, ValueError) as error:
        raise ModelImportError(f"the ONNX file is damaged ({error}); fetch it again") from error
    return Graph(nodes=tuple(nodes), weights=weights)


def _node(data: memoryview) -> Node:
    name = kind = ""
    inputs = []
    for field, value in _bytes_fields(data):
        if field == _NODE_INPUT:
            inputs.append(str(value, "utf-8"))
        elif field == _NODE_NAME:
            name = str(value, "utf-8")
        elif field == _NODE_TYPE:
            kind = str(value, "utf-8")
    return Node(name=name, kind=kind, inputs=tuple(inputs))


def _tensor(data: memoryview) -> tuple[str, NDArray[np.float32]] | None:
    name, kind, shape = "", 0, list[int]()
    content: memoryview = memoryview(b"")
    for field, value in _fields(data):
        if field == _TENSOR_DIMS:
            shape += [value] if isinstance(value, int) else _varints(value)
        elif field == _TENSOR_TYPE and isinstance(value, int):
            kind = value
        elif field == _TENSOR_NAME and not isinstance(value, int):
            name = str(value, "utf-8")
        elif field in (_TENSOR_RAW, _TENSOR_FLOATS) and not isinstance(value, int):
            content = value
    if kind != _FLOAT:
        return None
    if len(content) != 4 * math.prod(shape):
        raise ValueError(f"{name} of shape {shape} has {len(content)} bytes")
    return name, np.frombuffer(content, "<f4").reshape(shape)


def _bytes_fields(data: memoryview) -> Iterator[tuple[int, memoryview]]:
    return ((field, value) for field, value in _fields(data) if not isinstance(value, int))


def _fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """(field number, varint or bytes) of a message, in order; numbers of fixed width are stepped over."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        field, wire = key >> 3, key & 7
        if wire == _VARINT:
            number, at = _varint(data, at)
            yield field, number
        elif wire == _BYTES:
            size, at = _varint(data, at)
            if at + size > len(data):
                raise ValueError(f"a field ends {at + size - len(data)} bytes behind its message")
            yield field, data[at : at + size]
            at += size
        elif wire in (_FIXED32, _FIXED64):
            at += 4 if wire == _FIXED32 else 8
        else:
            raise ValueError(f"wire type {wire}")


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    number = 0
    for shift in range(0, 70, 7):
        byte = data[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, at
    raise ValueError("a number of more than ten bytes")


def _varints(data: memoryview) -> list[int]:
    numbers, at = [], 0
    while at < len(data):
        number, at = _varint(data, at)
        numbers.append(number)
    return numbers
