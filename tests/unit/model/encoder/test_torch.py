"""The torch backend: right with padding and without, in fp32 and bf16."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from model.encoder.base import Vectors
from model.encoder.files import EncoderFiles, read_files
from model.encoder.torch import TorchEncoder
from model.errors import EncoderUnusable
from tests.tiny_encoder import write_tiny_encoder
from tests.unit.model.encoder.conftest import TEXTS


def _one_by_one(files: EncoderFiles) -> Vectors:
    """Each text alone, through transformers, pooled as sentence-transformers pools: nothing of ours but the tokens."""
    from transformers import BertModel

    model = BertModel.from_pretrained(files.directory, add_pooling_layer=False).eval()
    rows = []
    for ids in TorchEncoder(files, name="tiny").tokenise(TEXTS).ids:
        if not len(ids):
            rows.append(np.zeros(files.dimension, np.float32))
            continue
        with torch.no_grad():
            hidden = model(input_ids=torch.from_numpy(ids.astype(np.int64))[None]).last_hidden_state[0].numpy()
        pooled = hidden.mean(axis=0) if files.pooling == "mean" else hidden[0]
        rows.append(pooled / np.linalg.norm(pooled))
    return np.array(rows, np.float32)


@pytest.mark.parametrize("packed", [False, True], ids=["padded", "packed"])
@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_a_batch_gives_what_each_text_alone_gives(tiny: Path, tiny_cls: Path, pooling: str, packed: bool) -> None:
    files = read_files(tiny if pooling == "mean" else tiny_cls)
    encoder = TorchEncoder(files, name="tiny", packed=packed)
    assert np.allclose(encoder.encode(encoder.tokenise(TEXTS)), _one_by_one(files), atol=1e-5)


def test_without_padding_no_token_is_computed_in_vain(tiny: Path) -> None:
    padded, packed = (TorchEncoder(read_files(tiny), name="tiny", packed=way) for way in (False, True))
    for encoder in (padded, packed):
        encoder.encode(encoder.tokenise(TEXTS))
    assert packed.counters.padded_tokens == packed.counters.tokens == padded.counters.tokens
    assert padded.counters.padded_tokens > padded.counters.tokens


@pytest.mark.parametrize("packed", [False, True], ids=["padded", "packed"])
def test_bf16_stays_close_to_fp32(tiny: Path, packed: bool) -> None:
    full, half = (
        TorchEncoder(read_files(tiny), name="tiny", precision=precision, packed=packed)
        for precision in ("fp32", "bf16")
    )
    tokens = full.tokenise([text for text in TEXTS if text])
    assert (full.encode(tokens) * half.encode(tokens)).sum(axis=1).min() > 0.995
    assert half.backend == "torch-cpu-bf16"


def test_no_texts_and_texts_without_tokens_are_no_special_case(tiny: Path) -> None:
    encoder = TorchEncoder(read_files(tiny), name="tiny")
    assert encoder.encode(encoder.tokenise([])).shape == (0, 32)
    assert not encoder.encode(encoder.tokenise(["", " "])).any()


def test_weights_of_another_model_are_refused(tmp_path: Path) -> None:
    directory = write_tiny_encoder(tmp_path / "encoder")
    tensors = load_file(directory / "model.safetensors")
    del tensors["encoder.layer.1.output.dense.weight"]
    save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(EncoderUnusable, match=r"lack 1 tensors.*layer\.1\.output\.dense\.weight"):
        TorchEncoder(read_files(directory), name="tiny")
