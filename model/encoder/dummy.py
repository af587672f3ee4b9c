"""A deterministic encoder of hashed words, for tests, for benchmarks of everything but encoding, and for trying out.

Similar texts get similar vectors because they share words; that is all it knows of meaning. Needs numpy only: a worker
with it starts without torch, and its vectors are the same bits on every machine and in every batch.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from model.encoder.base import EncoderCounters, Tokens, Vectors
from model.space import space_id

MAX_WORDS: Final = 32
_CJK: Final = "\u3040-\u30ff\u3400-\u9fff\uac00-\ud7a3"
_PIECE: Final = re.compile(rf"[{_CJK}]{{1,{MAX_WORDS + 1}}}|[^\W{_CJK}]+")


class DummyEncoder:
    """Feature hashing (Weinberger et al. 2009) of the first 32 words, or of character pairs in Chinese, Japanese and
    Korean: word → one dimension and a sign. At most 10 µs a text in batches of 256."""

    def __init__(self, dimension: int = 64) -> None:
        self.name = "dummy" if dimension == 64 else f"dummy-{dimension}"
        self.dimension = dimension
        self.max_tokens = MAX_WORDS
        self.backend = "dummy"
        self.counters = EncoderCounters()
        self.space = space_id(
            weights={},
            tokenizer="first words, crc32",
            config={"model_type": "dummy", "version": 1},
            pooling="sum",
            dimension=dimension,
            max_tokens=MAX_WORDS,
        )

    def tokenise(self, texts: Sequence[str]) -> Tokens:
        """Words → crc32 as int32. Nothing is unknown to a hash."""
        words = [_words(text) for text in texts]
        ids = np.array([crc32(word) for row in words for word in row], np.uint32).view(np.int32)
        ends = np.cumsum([len(row) for row in words]).tolist()
        return Tokens(ids=[ids[end - len(row) : end] for row, end in zip(words, ends, strict=True)])

    def encode(self, tokens: Tokens) -> Vectors:
        """(N, D): counts of hashed words, scaled to length 1."""
        count, dimension = len(tokens.ids), self.dimension
        lengths = tokens.lengths()
        hashes = np.concatenate([*tokens.ids, np.empty(0, np.int32)]).view(np.uint32)
        cells = np.repeat(np.arange(count, dtype=np.int64) * dimension, lengths) + hashes % np.uint32(dimension)
        signs = np.where(hashes >> np.uint32(31), 1.0, -1.0)
        sums = np.bincount(cells, signs, count * dimension).astype(np.float64).reshape(count, dimension)
        cancelled = np.flatnonzero((lengths > 0) & ~sums.any(axis=1)).tolist()
        for row in cancelled:  # words of opposite sign in one dimension: the first one decides
            sums[row, int(np.uint32(tokens.ids[row][:1].view(np.uint32)[0])) % dimension] = 1.0
        norms = np.sqrt((sums * sums).sum(axis=1, keepdims=True))
        self.counters.tokens += len(hashes)
        self.counters.padded_tokens += len(hashes)
        scaled: NDArray[np.float64] = np.divide(sums, norms, out=np.zeros_like(sums), where=norms > 0)
        return scaled.astype(np.float32)


def _words(text: str) -> list[bytes]:
    if text.isascii():
        return text.lower().encode().split(None, MAX_WORDS)[:MAX_WORDS]
    words: list[str] = []
    for piece in _PIECE.finditer(text.lower()):
        run = piece[0]
        words += [run[i : i + 2] for i in range(max(len(run) - 1, 1))] if run[0] >= "\u3040" else [run]
        if len(words) >= MAX_WORDS:
            break
    return [word.encode("utf-8", "surrogatepass") for word in words[:MAX_WORDS]]
