"""The identity of a space: two encoders with the same one give the same vectors for the same text, up to rounding.

Backend and precision are not part of it (they are held to cosine ≥ .999); all that decides which vector is meant is.
Knows nothing of how files are found or of what the vectors are used for.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from model.clean import CLEANING_VERSION

_FORMAT: Final = 1
_IRRELEVANT: Final = frozenset(
    {"_name_or_path", "transformers_version", "torch_dtype", "dtype", "use_cache", "gradient_checkpointing"}
)
"""Keys of a config.json that say where the weights came from or how they are trained: no vector depends on them."""


def file_sha256(path: Path) -> str:
    """Hex sha256 of a file's bytes (about 1 GB/s)."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def space_id(
    *,
    weights: Mapping[str, str],
    tokenizer: str,
    config: Mapping[str, object],
    pooling: str,
    dimension: int,
    max_tokens: int,
    lowercase: bool = False,
    cleaning: int = CLEANING_VERSION,
) -> str:
    """16 hex digits over everything that changes a vector.

    weights: file name → sha256. tokenizer: sha256 of its file, or the name of a built-in one. config: the
    architecture's settings, as in config.json.
    """
    identity = {
        "format": _FORMAT,
        "weights": sorted(weights.values()),
        "tokenizer": tokenizer,
        "config": {key: value for key, value in config.items() if key not in _IRRELEVANT},
        "pooling": pooling,
        "dimension": dimension,
        "max_tokens": max_tokens,
        "lowercase": lowercase,
        "cleaning": cleaning,
    }
    return hashlib.blake2b(json.dumps(identity, sort_keys=True).encode(), digest_size=8).hexdigest()
