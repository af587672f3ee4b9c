"""Texts as bags of terms, weighted by how rare a term was until a given time: TF-IDF that knows no later text.

Terms are words, and in Chinese, Japanese and Korean single characters and pairs of neighbours. They are hashed into a
fixed number of columns (Weinberger et al., "Feature Hashing", ICML 2009), so that no vocabulary grows with the texts.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, Final
from zlib import crc32

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, diags_array

COLUMNS: Final = 1 << 20
"""Two of 10,000 terms share a column once in twenty sets."""
READ_CHARACTERS: Final = 4_000
"""Of a text: what it is about stands there, and memory stays bounded."""
_CJK: Final = "\u3040-\u30ff\u3400-\u9fff\uac00-\ud7a3"
_PIECE: Final = re.compile(rf"[{_CJK}]+|[^\W_{_CJK}]+")
_IS_CJK: Final = re.compile(rf"[{_CJK}]")

Matrix = Any
"""A scipy.sparse.csr_array, which has no types."""


def terms(text: str) -> Iterator[str]:
    """Words in lower case; of each run of Chinese, Japanese or Korean its characters and pairs of neighbours."""
    for piece in _PIECE.findall(text[:READ_CHARACTERS].lower()):
        if not _IS_CJK.match(piece):
            yield piece
            continue
        yield from piece
        yield from (piece[at : at + 2] for at in range(len(piece) - 1))


def counted(texts: Iterable[str]) -> Matrix:
    """(T, COLUMNS) sparse: 1 + ln(count) of each term of each text."""
    columns: list[NDArray[np.int32]] = []
    values: list[NDArray[np.float32]] = []
    ends = [0]
    for text in texts:
        counts = Counter(crc32(term.encode()) % COLUMNS for term in terms(text))
        columns.append(np.fromiter(counts.keys(), np.int32, len(counts)))
        values.append(np.fromiter(counts.values(), np.float32, len(counts)))
        ends.append(ends[-1] + len(counts))
    data = 1 + np.log(np.concatenate([np.empty(0, np.float32), *values]))
    return csr_array((data, np.concatenate([np.empty(0, np.int32), *columns]), ends), (len(ends) - 1, COLUMNS))


def weighted(counts: Matrix, known: NDArray[np.integer]) -> Matrix:
    """Rows of length 1 (or empty): the counts times ln((1 + n) / (1 + n with the term)) + 1.

    known: rows of counts, the n texts from which it is told how rare a term is; a text that was written twice is two.
    """
    having = np.bincount(counts[known].indices, minlength=COLUMNS).astype(np.float32)
    rare = np.log((1 + len(known)) / (1 + having)) + 1
    found = counts.copy()
    found.data = found.data * rare[found.indices]
    return unit_rows(found)


def unit_rows(rows: Matrix) -> Matrix:
    """Each row scaled to length 1; a row of zeros stays."""
    length = np.sqrt(np.asarray(rows.multiply(rows).sum(axis=1)).ravel())
    return csr_array(diags_array(1 / np.maximum(length, 1e-9)) @ rows).astype(np.float32)
