"""Texts to token ids: cut, counted, empty where nothing is left."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from model.errors import EncoderUnusable
from model.tokenise import CHARACTERS_PER_TOKEN, Tokeniser
from tests.tiny_encoder import write_tiny_encoder


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_encoder(tmp_path_factory.mktemp("tiny") / "encoder") / "tokenizer.json"


def test_a_text_becomes_its_words_between_the_special_tokens(tokenizer: Path) -> None:
    tokens = Tokeniser(tokenizer, max_tokens=16)(["the bread", "面包"])
    assert [row.tolist() for row in tokens.ids] == [[2, 4, 6, 3], [2, 23, 24, 3]]
    assert all(row.dtype == np.int32 for row in tokens.ids)


def test_a_text_without_tokens_is_empty(tokenizer: Path) -> None:
    tokens = Tokeniser(tokenizer, max_tokens=16)(["", " ", "\u200b", "the"])
    assert tokens.lengths().tolist() == [0, 0, 0, 3]


def test_unknown_words_are_counted(tokenizer: Path) -> None:
    assert Tokeniser(tokenizer, max_tokens=16)(["the zebra", "bread", "quagga zebra"]).unknown == 3


def test_a_long_text_is_cut_with_its_special_tokens_kept(tokenizer: Path) -> None:
    (row,) = Tokeniser(tokenizer, max_tokens=8)(["bread " * 1000]).ids
    assert row.tolist() == [2, *[6] * 6, 3]


def test_what_stands_behind_the_last_character_read_changes_nothing(tokenizer: Path) -> None:
    tokenise, start = Tokeniser(tokenizer, max_tokens=8), "the " + "x" * (8 * CHARACTERS_PER_TOKEN)
    assert tokenise([start + " bread"]).ids[0].tolist() == tokenise([start]).ids[0].tolist()


def test_a_lower_case_vocabulary_knows_words_with_capitals(tokenizer: Path) -> None:
    assert Tokeniser(tokenizer, max_tokens=8)(["The BREAD"]).unknown == 2
    assert Tokeniser(tokenizer, max_tokens=8, lowercase=True)(["The BREAD"]).unknown == 0


def test_no_text_gives_no_tokens(tokenizer: Path) -> None:
    assert Tokeniser(tokenizer, max_tokens=8)([]).lengths().shape == (0,)


def test_a_file_that_is_no_tokenizer_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(EncoderUnusable, match=r"tokenizer\.json"):
        Tokeniser(tmp_path / "tokenizer.json", max_tokens=8)
