"""The ONNX reader, on files that are written here field by field."""

from __future__ import annotations

import numpy as np
import pytest

from model.errors import ModelImportError
from model.onnx import read_graph
from tests.onnx_file import field, graph_file, node, number, tensor


def test_weights_and_nodes_are_read() -> None:
    weight = np.arange(6, dtype=np.float32).reshape(2, 3)
    graph = read_graph(graph_file([node("/a/MatMul", "MatMul", "x", "w")], [tensor("w", weight)]))
    assert [(found.name, found.kind, found.inputs) for found in graph.nodes] == [("/a/MatMul", "MatMul", ("x", "w"))]
    assert (graph.weights["w"] == weight).all()


def test_fields_that_are_not_needed_are_stepped_over() -> None:
    unknown = number(99, 2**63) + bytes([8 << 3 | 1]) + bytes(8) + bytes([9 << 3 | 5]) + bytes(4) + field(10, b"skip")
    weight = np.ones(3, np.float32)
    graph = read_graph(unknown + graph_file([], [tensor("w", weight) + number(99, 300)]) + unknown)
    assert (graph.weights["w"] == weight).all()


def test_tensors_of_other_types_are_left_out() -> None:
    integers = field(8, b"i") + number(1, 1) + number(2, 7) + field(9, bytes(8))
    assert read_graph(graph_file([], [integers])).weights == {}


def test_shapes_in_packed_form_and_floats_outside_raw_data_are_read() -> None:
    packed = field(8, b"w") + field(1, bytes([2, 1])) + number(2, 1) + field(4, np.ones(2, "<f4").tobytes())
    assert read_graph(graph_file([], [packed])).weights["w"].shape == (2, 1)


@pytest.mark.parametrize("size", range(1, 60, 7))
def test_a_file_that_was_cut_off_is_refused(size: int) -> None:
    data = graph_file([node("/a/MatMul", "MatMul", "x", "w")], [tensor("w", np.ones((2, 2), np.float32))])
    with pytest.raises(ModelImportError, match="ONNX file"):
        read_graph(data[:-size])


@pytest.mark.parametrize("data", [b"", b"\xff" * 40, b"PK\x03\x04" * 9], ids=["empty", "ones", "zip"])
def test_bytes_that_are_no_onnx_file_are_refused(data: bytes) -> None:
    with pytest.raises(ModelImportError, match="ONNX file"):
        read_graph(data)


def test_a_tensor_whose_bytes_do_not_fill_its_shape_is_refused() -> None:
    short = field(8, b"w") + number(1, 5) + number(2, 1) + field(9, bytes(4))
    with pytest.raises(ModelImportError, match="w of shape"):
        read_graph(graph_file([], [short]))
