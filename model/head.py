"""Interest(x) = f(NN(x)): what stands between the encoder's vector and the interest vector, and the file it lies in.

The built-in releases have the identity; a learned head is a residual MLP in float32. Knows nothing of how it was
learned, and of a release only its manifest's entry.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from model.encoder.base import Vectors
from model.errors import Refusal, ReleaseRefused
from model.manifest import AGAIN
from schemas.release import HeadEntry

Head = Callable[[Vectors], Vectors]
"""(N, D) unit vectors in the space → (N, D) interest vectors, rows of zeros to rows of zeros."""
Weights = NDArray[np.float32]

_ROWS: Final = 4096
"""Computed at once: all donors together would need H numbers each, more than the index itself."""


def identity(vectors: Vectors) -> Vectors:
    """The vectors themselves."""
    return vectors


@dataclass(frozen=True, slots=True)
class HeadWeights:
    """A learned head, D → H → D. labels_…: None where it was trained without labels, else of L labels, in the order of
    Manifest.labels."""

    up_weight: Weights  # (H, D)
    up_bias: Weights  # (H,)
    down_weight: Weights  # (D, H)
    down_bias: Weights  # (D,)
    labels_weight: Weights | None = None  # (L, D)
    labels_bias: Weights | None = None  # (L,)

    def tensors(self) -> dict[str, Weights]:
        """By their names in the file, such as `up.weight`."""
        named = {
            "up.weight": self.up_weight,
            "up.bias": self.up_bias,
            "down.weight": self.down_weight,
            "down.bias": self.down_bias,
            "labels.weight": self.labels_weight,
            "labels.bias": self.labels_bias,
        }
        return {name: values for name, values in named.items() if values is not None}


def interest(weights: HeadWeights, vectors: Vectors) -> Vectors:
    """(N, D) → (N, D): unit(x + relu(x U^T + u) W^T + w), rows of zeros to rows of zeros."""
    found = np.empty(vectors.shape, np.float32)
    for start in range(0, len(vectors), _ROWS):
        x = vectors[start : start + _ROWS].astype(np.float32, copy=False)
        hidden = np.maximum(x @ weights.up_weight.T + weights.up_bias, 0)
        moved = x + hidden @ weights.down_weight.T + weights.down_bias
        lengths = np.linalg.norm(moved, axis=1, keepdims=True)
        told = x.any(axis=1, keepdims=True) & (lengths > 0)
        found[start : start + _ROWS] = np.divide(moved, lengths, out=np.zeros_like(moved), where=told)
    return found


def label_logits(weights: HeadWeights, interests: Vectors) -> NDArray[np.float32] | None:
    """(N, D) interest vectors → (N, L), softmax and sigmoid not yet taken; None for a head without labels."""
    if weights.labels_weight is None or weights.labels_bias is None:
        return None
    logits: NDArray[np.float32] = interests @ weights.labels_weight.T + weights.labels_bias
    return logits


def read_head(file: Path, entry: HeadEntry, *, dimension: int, labels: int) -> HeadWeights:
    """The head of a release with an encoder of D = dimension and L = labels.

    Raises ReleaseRefused: names, shapes or types other than those of `entry` and of a head of this D and L, or a value
    that is no finite number.
    """
    try:
        with safe_open(file, "numpy") as opened:
            slices = {name: opened.get_slice(name) for name in opened.keys()}  # noqa: SIM118 (it is no dict)
            found = {name: tuple(piece.get_shape()) for name, piece in slices.items()}
            _check_shapes(found, entry.shapes, dimension, labels)
            if wrong := sorted(name for name, piece in slices.items() if piece.get_dtype() != "F32"):
                raise ReleaseRefused(Refusal.SHAPE, f"{', '.join(wrong)} of the head is not float32", AGAIN)
            tensors: dict[str, Weights] = {name: opened.get_tensor(name) for name in found}
    except (SafetensorError, OSError) as error:
        raise ReleaseRefused(Refusal.NOT_SAFETENSORS, f"{file} cannot be read ({error})", AGAIN) from error
    if wrong := sorted(name for name, values in tensors.items() if not np.isfinite(values).all()):
        raise ReleaseRefused(Refusal.HEAD, f"{', '.join(wrong)} of the head has values that are no numbers", AGAIN)
    return HeadWeights(**{name.replace(".", "_"): values for name, values in tensors.items()})


def _check_shapes(
    found: Mapping[str, tuple[int, ...]], told: Mapping[str, tuple[int, ...]], dimension: int, labels: int
) -> None:
    (hidden, *_) = found.get("up.weight") or (0,)
    wanted = {
        "up.weight": (hidden, dimension),
        "up.bias": (hidden,),
        "down.weight": (dimension, hidden),
        "down.bias": (dimension,),
    }
    if labels:
        wanted |= {"labels.weight": (labels, dimension), "labels.bias": (labels,)}
    for named, by in ((told, "the manifest says"), (wanted, f"{dimension} dimensions and {labels} labels ask for")):
        # What is missing or too much first: of it H may have been taken.
        for name in sorted({*found, *named}, key=lambda name: (name in found and name in named, name)):
            if found.get(name) != named.get(name):
                raise ReleaseRefused(
                    Refusal.SHAPE, f"{name} of the head is {found.get(name)}, {by} {named.get(name)}", AGAIN
                )
