"""Cleaned texts → token ids with a fast tokenizer (tokenizer.json), in batches. Knows nothing of models or vectors."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from tokenizers import Tokenizer

from model.encoder.base import Tokens
from model.errors import EncoderUnusable

CHARACTERS_PER_TOKEN: Final = 32
"""A text is cut at this many characters a token before it is tokenised: what is behind them could not be read anyway
(English has 4 to 5), and 64 KiB cost as little as 8."""

_EMPTY: Final = np.empty(0, np.int32)


class Tokeniser:
    """Texts → Tokens, cut at `max_tokens`; releases the GIL while it runs, and may run in any thread."""

    def __init__(self, path: Path, *, max_tokens: int, lowercase: bool = False) -> None:
        """Raises EncoderUnusable where `path` is no tokenizer.json that this version of tokenizers reads."""
        try:
            tokenizer: Any = Tokenizer.from_file(str(path))
        except Exception as error:  # tokenizers raises bare Exception for every fault of the file
            raise EncoderUnusable(f"{path} is no tokenizer that can be read: {error}") from error
        tokenizer.no_padding()
        tokenizer.enable_truncation(max_tokens)
        self._tokenizer = tokenizer
        self._lowercase = lowercase
        self._characters = max_tokens * CHARACTERS_PER_TOKEN
        self._special = int(tokenizer.num_special_tokens_to_add(False))
        self._unknown = _unknown_id(tokenizer)

    def __call__(self, texts: Sequence[str]) -> Tokens:
        """(N,) texts → N arrays of ids with special tokens; empty for a text of which no token is left."""
        cut = [text[: self._characters] for text in texts]
        if self._lowercase:
            cut = [text.lower() for text in cut]
        rows = [row.ids for row in self._tokenizer.encode_batch_fast(cut)]
        ids = [np.array(row, np.int32) if len(row) > self._special else _EMPTY for row in rows]
        return Tokens(ids=ids, unknown=sum(row.count(self._unknown) for row in rows))


def _unknown_id(tokenizer: Any) -> int:
    """Id of the token for what the vocabulary does not know; -1 where there is none (byte-level vocabularies)."""
    for token in (getattr(tokenizer.model, "unk_token", None), "<unk>", "[UNK]"):
        if token and (found := tokenizer.token_to_id(token)) is not None:
            return int(found)
    return -1
