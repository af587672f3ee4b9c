"""The Encoder protocol: cleaned text → unit vector. Every backend keeps it; nobody else touches a tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]
"""(N, D), each row of length 1; a row of zeros stands for a text with no tokens."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """A tokenised batch of N texts.

    ids: N arrays of token ids, special tokens included; an empty array for an empty text.
    unknown: how many of the tokens (special ones excluded) the vocabulary does not know, over the whole batch.
    """

    ids: Sequence[NDArray[np.int32]]
    unknown: int = 0

    def lengths(self) -> NDArray[np.int32]:
        """(N,) tokens of each text."""
        return np.fromiter((len(row) for row in self.ids), np.int32, len(self.ids))


@dataclass(slots=True)
class EncoderCounters:
    """What encoding cost so far: tokens of the texts, and tokens that were computed (padding included)."""

    tokens: int = 0
    padded_tokens: int = 0


class Encoder(Protocol):
    """Thread use: `tokenise` may run in one thread while `encode` runs in another."""

    name: str
    space: str
    """Hash of all that changes a vector (see model/space.py)."""
    dimension: int
    max_tokens: int
    backend: str
    """'dummy', 'torch-cpu-bf16', 'torch-cuda-bf16', 'openvino-bf16', …, for metrics and logs."""
    counters: EncoderCounters

    def tokenise(self, texts: Sequence[str]) -> Tokens:
        """Cleaned texts → token ids, cut at max_tokens."""
        ...

    def encode(self, tokens: Tokens) -> Vectors:
        """(N, D) float32 unit vectors in the order of the texts; computed in batches sorted by length and closed by
        padded tokens."""
        ...
