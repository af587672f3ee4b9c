"""A model's directory: what is read from it, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from model.encoder.files import read_files, write_files
from model.errors import EncoderUnusable
from tests.tiny_encoder import write_json, write_tiny_encoder


def _edit(path: Path, **changes: Any) -> None:
    write_json(path, json.loads(path.read_bytes()) | changes)


def test_pooling_dimension_and_length_come_from_the_models_own_files(tiny: Path, tiny_cls: Path) -> None:
    files = read_files(tiny)
    assert (files.pooling, files.dimension, files.max_tokens, files.lowercase) == ("mean", 32, 48, False)
    assert read_files(tiny_cls).pooling == "cls"
    assert set(files.checksums) == {
        "config.json", "tokenizer.json", "model.safetensors", "modules.json", "1_Pooling/config.json",
        "sentence_bert_config.json",
    }  # fmt: skip


def test_a_copy_of_a_directory_is_of_the_same_space(tmp_path: Path) -> None:
    one, two = (read_files(write_tiny_encoder(tmp_path / name)) for name in ("one", "two"))
    assert one.space == two.space


@pytest.mark.parametrize(
    "change",
    [{"seed": 1}, {"pooling": "cls"}, {"max_tokens": 32}, {"lowercase": True}],
    ids=lambda change: next(iter(change)),
)
def test_a_change_of_the_files_that_changes_vectors_changes_the_space(
    tmp_path: Path, tiny: Path, change: dict[str, Any]
) -> None:
    assert read_files(write_tiny_encoder(tmp_path / "other", **change)).space != read_files(tiny).space


def test_the_newer_way_of_writing_pooling_is_read(tmp_path: Path) -> None:
    directory = write_tiny_encoder(tmp_path / "encoder")
    write_json(directory / "1_Pooling" / "config.json", {"pooling_mode": "cls"})
    assert read_files(directory).pooling == "cls"


def test_a_length_beyond_the_models_positions_is_cut(tmp_path: Path) -> None:
    assert read_files(write_tiny_encoder(tmp_path / "encoder", max_tokens=4096)).max_tokens == 64


def test_a_directory_without_hints_of_sentence_transformers_gets_the_defaults(tmp_path: Path) -> None:
    directory = write_tiny_encoder(tmp_path / "encoder")
    for name in ("modules.json", "1_Pooling/config.json", "sentence_bert_config.json"):
        (directory / name).unlink()
    files = read_files(directory)
    assert (files.pooling, files.max_tokens, files.lowercase) == ("mean", 64, False)


def _pickled(directory: Path) -> None:
    (directory / "model.safetensors").rename(directory / "pytorch_model.bin")


def _renamed_pickle(directory: Path) -> None:
    (directory / "model.safetensors").write_bytes(b"\x80\x04\x95" + bytes(100))


def _shard_outside(directory: Path) -> None:
    (directory / "model.safetensors").unlink()
    write_json(directory / "model.safetensors.index.json", {"weight_map": {"a": "../elsewhere.safetensors"}})


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (_pickled, "no model.safetensors"),
        (_renamed_pickle, "no safetensors file"),
        (_shard_outside, "elsewhere"),
        (lambda directory: (directory / "tokenizer.json").unlink(), "no tokenizer.json"),
        (lambda directory: (directory / "config.json").unlink(), "config.json cannot be read"),
        (lambda directory: (directory / "config.json").write_text("{"), "config.json is not JSON"),
        (lambda directory: (directory / "config.json").write_text("[]"), "does not hold a JSON dict"),
        (lambda directory: _edit(directory / "config.json", hidden_size="big"), "no hidden_size"),
        (lambda directory: write_json(directory / "modules.json", [{"type": "x.models.Dense"}]), "asks for Dense"),
        (lambda directory: write_json(directory / "1_Pooling/config.json", {"pooling_mode": "max"}), "pooling"),
    ],
    ids=[
        "pickle", "renamed pickle", "shard outside", "no tokenizer", "no config", "cut config", "list", "no size",
        "dense", "max pooling",
    ],
)  # fmt: skip
def test_what_cannot_be_run_is_refused_with_the_files_name(
    tmp_path: Path, damage: Callable[[Path], object], said: str
) -> None:
    directory = write_tiny_encoder(tmp_path / "encoder")
    damage(directory)
    with pytest.raises(EncoderUnusable, match=said):
        read_files(directory)


def test_other_weights_make_another_space_and_leave_the_rest_as_it_was(tiny_cls: Path, tmp_path: Path) -> None:
    files = read_files(tiny_cls)
    other = (write_tiny_encoder(tmp_path / "other", seed=1) / "model.safetensors").read_bytes()
    for _ in range(2):  # also where it has been written before
        made = write_files(files, other, tmp_path / "made")
        assert made.space != files.space
        assert (made.pooling, made.max_tokens, set(made.checksums)) == ("cls", 48, set(files.checksums))
        changed = {name for name, sha256 in made.checksums.items() if sha256 != files.checksums[name]}
        assert changed == {"model.safetensors"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["made", "other"]
    same = write_files(files, (tiny_cls / "model.safetensors").read_bytes(), tmp_path / "same")
    assert same.space == files.space


def test_weights_that_are_none_are_not_written(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(EncoderUnusable, match="no safetensors file"):
        write_files(read_files(tiny), b"no tensors", tmp_path / "made")
    assert list(tmp_path.iterdir()) == []
