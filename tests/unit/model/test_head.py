"""The head: a residual MLP that is exactly what its file says, or is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import save_file

from model.errors import Refusal, ReleaseRefused
from model.head import HeadWeights, identity, interest, label_logits, read_head
from schemas.release import HeadEntry

D: Final = 6
H: Final = 4
L: Final = 3
Tensors = dict[str, NDArray[Any]]


def tensors(*, labels: bool = True, seed: int = 1) -> Tensors:
    draw = np.random.default_rng(seed)
    shapes: dict[str, tuple[int, ...]] = {
        "up.weight": (H, D), "up.bias": (H,), "down.weight": (D, H), "down.bias": (D,),
        **({"labels.weight": (L, D), "labels.bias": (L,)} if labels else {}),
    }  # fmt: skip
    return {name: draw.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def head(found: Tensors) -> HeadWeights:
    return HeadWeights(**{name.replace(".", "_"): values for name, values in found.items()})


def units(count: int, seed: int = 2) -> NDArray[np.float32]:
    rows = np.random.default_rng(seed).normal(size=(count, D)).astype(np.float32)
    normed: NDArray[np.float32] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return normed


def test_the_built_in_interest_is_the_vector_itself() -> None:
    vectors = np.eye(3, dtype=np.float32)
    assert identity(vectors) is vectors


def test_interest_is_the_formula_row_by_row() -> None:
    found = tensors()
    for x, row in zip(vectors := units(5), interest(head(found), vectors), strict=True):
        hidden = [max(0.0, sum(w * v for w, v in zip(unit, x, strict=True)) + b)
                  for unit, b in zip(found["up.weight"], found["up.bias"], strict=True)]  # fmt: skip
        moved = np.array([
            x[d] + sum(w * h for w, h in zip(found["down.weight"][d], hidden, strict=True)) + found["down.bias"][d]
            for d in range(D)
        ])  # fmt: skip
        assert np.allclose(row, moved / np.linalg.norm(moved), atol=1e-5)


def test_a_head_that_adds_nothing_is_the_identity() -> None:
    found = tensors()
    found["down.weight"][:] = found["down.bias"][:] = 0
    assert np.allclose(interest(head(found), vectors := units(7)), vectors, atol=1e-6)


def test_rows_of_zeros_stay_rows_of_zeros_beside_others() -> None:
    vectors = units(4)
    vectors[[0, 2]] = 0
    found = interest(head(tensors()), vectors)
    assert np.linalg.norm(found, axis=1) == pytest.approx([0, 1, 0, 1], abs=1e-5)


def test_what_cancels_out_is_a_row_of_zeros_and_no_nan() -> None:
    found = tensors()
    found["up.weight"][:] = found["down.weight"][:] = 0
    found["down.bias"][:] = -units(1)[0]
    assert not interest(head(found), units(1)).any()


def test_many_rows_are_computed_as_few_are() -> None:
    vectors = units(9001)
    assert np.allclose(interest(head(tensors()), vectors)[-1:], interest(head(tensors()), vectors[-1:]), atol=1e-6)


def test_no_rows_and_half_precision_are_fine() -> None:
    weights = head(tensors())
    assert interest(weights, np.empty((0, D), np.float32)).shape == (0, D)
    assert interest(weights, units(2).astype(np.float16)).dtype == np.float32


def test_label_scores_come_from_the_interest() -> None:
    found = tensors()
    logits = label_logits(head(found), interests := units(5))
    assert logits is not None
    assert logits.shape == (5, L)
    assert logits[4, 1] == pytest.approx(float(interests[4] @ found["labels.weight"][1] + found["labels.bias"][1]))
    assert label_logits(head(tensors(labels=False)), interests) is None


def read(path: Path, found: Tensors, *, dimension: int = D, labels: int = L) -> HeadWeights:
    save_file(found, path / "head.safetensors")
    entry = HeadEntry(file="head.safetensors", shapes={name: values.shape for name, values in found.items()})
    return read_head(path / "head.safetensors", entry, dimension=dimension, labels=labels)


@pytest.mark.parametrize("labels", [0, L])
def test_a_head_is_read_as_it_was_written(tmp_path: Path, labels: int) -> None:
    found = tensors(labels=labels > 0)
    again = read(tmp_path, found, labels=labels).tensors()
    assert again.keys() == found.keys()
    assert all(np.array_equal(again[name], values) for name, values in found.items())


def _without(name: str) -> Callable[[Tensors], object]:
    return lambda found: found.pop(name)


def _cut(name: str) -> Callable[[Tensors], object]:
    return lambda found: found.update({name: found[name][:-1].copy()})


def _holding(name: str, value: float) -> Callable[[Tensors], object]:
    return lambda found: found.update({name: np.full_like(found[name], value)})


@pytest.mark.parametrize(
    ("damage", "reason", "named"),
    [
        (_without("up.weight"), Refusal.SHAPE, "up.weight"),
        (_without("up.bias"), Refusal.SHAPE, "up.bias"),
        (_without("labels.bias"), Refusal.SHAPE, "labels.bias"),
        (lambda found: found.update(other=np.ones(1, np.float32)), Refusal.SHAPE, "other"),
        (_cut("up.weight"), Refusal.SHAPE, "down.weight"),
        (_cut("up.bias"), Refusal.SHAPE, "up.bias"),
        (_cut("down.weight"), Refusal.SHAPE, "down.weight"),
        (_cut("labels.weight"), Refusal.SHAPE, "labels.weight"),
        (lambda found: found.update({"up.bias": np.zeros((), np.float32)}), Refusal.SHAPE, "up.bias"),
        (lambda found: found.update({"up.bias": np.zeros(H, np.float64)}), Refusal.SHAPE, "float32"),
        (_holding("down.bias", np.nan), Refusal.HEAD, "down.bias"),
        (_holding("labels.weight", np.inf), Refusal.HEAD, "labels.weight"),
    ],
)
def test_a_head_that_is_not_one_is_refused_and_the_tensor_named(
    tmp_path: Path, damage: Callable[[Tensors], object], reason: Refusal, named: str
) -> None:
    found = tensors()
    damage(found)
    with pytest.raises(ReleaseRefused, match=named) as refused:
        read(tmp_path, found)
    assert refused.value.reason is reason


@pytest.mark.parametrize("wanted", [{"dimension": D + 1}, {"labels": L + 1}, {"labels": 0}])
def test_a_head_of_another_encoder_or_of_other_labels_is_refused(tmp_path: Path, wanted: dict[str, int]) -> None:
    with pytest.raises(ReleaseRefused) as refused:
        read(tmp_path, tensors(), **wanted)
    assert refused.value.reason is Refusal.SHAPE


def test_a_head_of_other_shapes_than_the_manifest_says_is_refused(tmp_path: Path) -> None:
    save_file(tensors(), tmp_path / "head")
    shapes = {name: values.shape for name, values in tensors().items()}
    entry = HeadEntry(file="head", shapes={**shapes, "up.bias": (H, 1)})
    with pytest.raises(ReleaseRefused, match="the manifest says") as refused:
        read_head(tmp_path / "head", entry, dimension=D, labels=L)
    assert refused.value.reason is Refusal.SHAPE


@pytest.mark.parametrize("content", [b"", b"\x80\x04.", (2).to_bytes(8, "little") + b"{}more"])
def test_a_file_that_is_no_safetensors_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "head").write_bytes(content)
    with pytest.raises(ReleaseRefused) as refused:
        read_head(tmp_path / "head", HeadEntry(file="head", shapes={}), dimension=D, labels=L)
    assert refused.value.reason is Refusal.NOT_SAFETENSORS
