"""Vectors of the window's texts, each encoded once a space: what is known already stands in the window's file.

A vector goes with its text when the text's last event is erased; the array that is handed out has no name on the disk
and is gone with the process. Knows no events.
"""

from __future__ import annotations

import tempfile
from collections.abc import Collection
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from model.encoder.base import Encoder
from trainer.read import OnProgress
from trainer.window import Window, among

PIECE: Final = 1_024
"""Texts encoded, and kept, at once: enough for an encoder to sort by length, and little is lost by a kill."""
STORED: Final = np.dtype("<f2")


def vectors_of(
    window: Window,
    text_ids: NDArray[np.int64],
    encoder: Encoder,
    directory: Path,
    on_progress: OnProgress | None = None,
) -> NDArray[np.float16]:
    """(T,) ids of texts (Prepared.text_ids) → (T, D) unit vectors in the encoder's space, rounded to float16; a row of
    zeros for a text with no tokens. An array on the disk: writable, in a file of no name in `directory`.

    After a kill only what was under way is encoded again. Raises ValueError for an id that is not in the window,
    WindowUnusable, and OSError where `directory` takes no more.
    """
    shape = (len(text_ids), encoder.dimension)
    if not len(text_ids):
        return np.empty(shape, STORED)
    # Written and only then mapped: a disk that is full is an error this way, and not a signal that kills.
    with tempfile.TemporaryFile(dir=directory) as file:
        for start in range(0, len(text_ids), PIECE):
            ids = text_ids[start : start + PIECE].tolist()
            known = _known(window, encoder, ids)
            known |= _encode(window, encoder, [number for number in dict.fromkeys(ids) if number not in known])
            file.write(b"".join(known[number].tobytes() for number in ids))
            if on_progress is not None:
                on_progress(start + len(ids), len(text_ids))
        file.flush()
        return np.memmap(file, STORED, "r+", shape=shape)


def keep_spaces(window: Window, spaces: Collection[str]) -> None:
    """Forget the vectors of every other space: an encoder that was not accepted would fill the disk."""
    with window.transaction():
        window.write("DELETE FROM vectors WHERE space NOT IN (SELECT value FROM json_each(?))", [(among(spaces),)])


def _known(window: Window, encoder: Encoder, ids: list[int]) -> dict[int, NDArray[np.float16]]:
    found = window.rows(
        "SELECT text, vector FROM vectors WHERE space = ? AND text IN (SELECT value FROM json_each(?))",
        encoder.space,
        among(ids),
    )
    return {number: np.frombuffer(vector, STORED) for number, vector in found}


def _encode(window: Window, encoder: Encoder, ids: list[int]) -> dict[int, NDArray[np.float16]]:
    if not ids:
        return {}
    vectors = encoder.encode(encoder.tokenise(window.texts(ids))).astype(STORED)
    with window.transaction():
        window.write(
            "INSERT INTO vectors VALUES (?, ?, ?)",
            [(number, encoder.space, vector.tobytes()) for number, vector in zip(ids, vectors, strict=True)],
        )
    return dict(zip(ids, vectors, strict=True))
