"""The space changes with everything that changes a vector, and with nothing else."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from model.space import file_sha256, space_id

_BASE: dict[str, Any] = {
    "weights": {"model.safetensors": "aa"},
    "tokenizer": "bb",
    "config": {"hidden_act": "gelu", "num_attention_heads": 4},
    "pooling": "mean",
    "dimension": 8,
    "max_tokens": 16,
    "lowercase": False,
    "cleaning": 1,
}


@pytest.mark.parametrize(
    "change",
    [
        {"weights": {"model.safetensors": "ab"}},
        {"tokenizer": "bc"},
        {"config": {"hidden_act": "relu", "num_attention_heads": 4}},
        {"pooling": "cls"},
        {"dimension": 16},
        {"max_tokens": 32},
        {"lowercase": True},
        {"cleaning": 2},
    ],
    ids=lambda change: next(iter(change)),
)
def test_whatever_changes_a_vector_makes_another_space(change: dict[str, Any]) -> None:
    assert space_id(**{**_BASE, **change}) != space_id(**_BASE)


def test_where_the_weights_came_from_makes_no_other_space() -> None:
    config = {**_BASE["config"], "_name_or_path": "elsewhere", "transformers_version": "9", "torch_dtype": "float16"}
    renamed = {**_BASE, "config": config, "weights": {"other.safetensors": "aa"}}
    assert space_id(**renamed) == space_id(**_BASE)


def test_the_space_is_the_same_on_every_machine_and_day() -> None:
    assert space_id(**_BASE) == "35241dd3182ed350"


def test_a_file_is_known_by_the_sha256_of_its_bytes(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abc" * 100_000)
    assert file_sha256(tmp_path / "file") == hashlib.sha256(b"abc" * 100_000).hexdigest()
