"""A model directory as sentence-transformers lays it out → what is needed to run it, or a clear refusal.

Reads JSON and hashes files; loads no weights and imports no framework. Only safetensors are accepted: a directory with
pickled weights beside them is fine, they are never opened.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from model.errors import EncoderUnusable
from model.space import file_sha256, space_id

Pooling = Literal["mean", "cls"]

_CONFIG: Final = "config.json"
_TOKENIZER: Final = "tokenizer.json"
_WEIGHTS: Final = "model.safetensors"
_WEIGHTS_INDEX: Final = "model.safetensors.index.json"
_POOLING: Final = "1_Pooling/config.json"
_MODULES: Final = "modules.json"
_SENTENCE: Final = "sentence_bert_config.json"
_MAX_TOKENS: Final = 512
"""Where a text is cut when the directory does not say."""


@dataclass(frozen=True, slots=True)
class EncoderFiles:
    """A directory that can be run.

    dimension: D of its vectors. max_tokens: special tokens included. padding: the token id that fills rows up.
    checksums: file, relative to the directory → sha256, of everything that changes a vector.
    """

    directory: Path
    config: Mapping[str, Any]
    pooling: Pooling
    dimension: int
    max_tokens: int
    lowercase: bool
    padding: int
    checksums: Mapping[str, str]
    space: str

    @property
    def tokenizer(self) -> Path:
        return self.directory / _TOKENIZER

    @property
    def model_type(self) -> str:
        return str(self.config.get("model_type", ""))


def read_files(directory: Path) -> EncoderFiles:
    """Look a directory over and hash it (0.1 s for 90 MB).

    Raises EncoderUnusable: a missing or broken file, weights that are not safetensors, pooling or modules that this
    version does not run.
    """
    config = _read(directory / _CONFIG)
    weights = _weights(directory)
    if not (directory / _TOKENIZER).is_file():
        raise EncoderUnusable(
            f"{directory} has no {_TOKENIZER}; save the model's fast tokenizer there (AutoTokenizer.save_pretrained)"
        )
    _check_modules(directory)
    pooling = _pooling(directory)
    sentence = _read(directory / _SENTENCE) if (directory / _SENTENCE).is_file() else {}
    max_tokens = _max_tokens(sentence, config)
    lowercase = bool(sentence.get("do_lower_case", False))
    dimension = config.get("hidden_size")
    if not isinstance(dimension, int) or dimension < 1:
        raise EncoderUnusable(
            f"{directory / _CONFIG} has no hidden_size; only encoders in transformers' format can be run"
        )
    relevant = [_CONFIG, _TOKENIZER, *weights]
    relevant += [name for name in (_MODULES, _POOLING, _SENTENCE) if (directory / name).is_file()]
    checksums = {name: file_sha256(directory / name) for name in relevant}
    return EncoderFiles(
        directory=directory,
        config=config,
        pooling=pooling,
        dimension=dimension,
        max_tokens=max_tokens,
        lowercase=lowercase,
        padding=int(config.get("pad_token_id") or 0),
        checksums=checksums,
        space=space_id(
            weights={name: checksums[name] for name in weights if name.endswith(".safetensors")},
            tokenizer=checksums[_TOKENIZER],
            config=config,
            pooling=pooling,
            dimension=dimension,
            max_tokens=max_tokens,
            lowercase=lowercase,
        ),
    )


def write_files(files: EncoderFiles, weights: bytes, directory: Path) -> EncoderFiles:
    """The same encoder with other weights (a safetensors file), in `directory`, whole or not there; what is there
    already goes. Raises EncoderUnusable, and OSError where the disk takes no more."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".encoder.", dir=directory.parent) as work:
        aside = Path(work) / "aside"
        for name in files.checksums:
            if not name.startswith(_WEIGHTS.removesuffix(".safetensors")):
                (aside / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(files.directory / name, aside / name)
        (aside / _WEIGHTS).write_bytes(weights)
        read_files(aside)
        if directory.is_dir():
            directory.rename(Path(work) / "before")
        aside.rename(directory)
    return read_files(directory)


def _weights(directory: Path) -> list[str]:
    if (directory / _WEIGHTS).is_file():
        names = [_WEIGHTS]
    elif (directory / _WEIGHTS_INDEX).is_file():
        shards = sorted(set(map(str, _read(directory / _WEIGHTS_INDEX).get("weight_map", {}).values())))
        for name in shards:
            if Path(name).name != name or not (directory / name).is_file():
                raise EncoderUnusable(f"{directory / _WEIGHTS_INDEX} names {name!r}, which is no file beside it")
        names = [_WEIGHTS_INDEX, *shards]
    else:
        raise EncoderUnusable(
            f"{directory} has no {_WEIGHTS}; other formats are not loaded, save it with safe_serialization=True"
        )
    for name in names:
        if name.endswith(".safetensors"):
            check_safetensors(directory / name)
    return names


def check_safetensors(path: Path) -> None:
    """Raises EncoderUnusable unless the file begins as a safetensors file does: 8 bytes of length, then JSON."""
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        header = file.read(size) if size < min(path.stat().st_size, 100_000_000) else b""
    try:
        tensors = json.loads(header)
    except ValueError:
        tensors = None
    if not isinstance(tensors, dict):
        raise EncoderUnusable(f"{path} is no safetensors file; weights of other formats are not loaded")


def _check_modules(directory: Path) -> None:
    if not (directory / _MODULES).is_file():
        return
    modules = _read(directory / _MODULES, list)
    kinds = [str(module.get("type", "")).rsplit(".", 1)[-1] for module in modules if isinstance(module, dict)]
    if other := set(kinds) - {"Transformer", "Pooling", "Normalize"}:
        raise EncoderUnusable(
            f"{directory / _MODULES} asks for {', '.join(sorted(other))}, which this version does not run"
        )


def _pooling(directory: Path) -> Pooling:
    path = directory / _POOLING
    if not path.is_file():
        return "mean"
    found = _read(path)
    modes = [
        key.removeprefix("pooling_mode_") for key, on in found.items() if key.startswith("pooling_mode_") and on is True
    ]
    if isinstance(found.get("pooling_mode"), str):
        modes = [found["pooling_mode"]]
    if modes in (["mean_tokens"], ["mean"]):
        return "mean"
    if modes in (["cls_token"], ["cls"]):
        return "cls"
    raise EncoderUnusable(f"{path} asks for pooling {modes}; this version has mean and cls")


def _max_tokens(sentence: Mapping[str, Any], config: Mapping[str, Any]) -> int:
    said, positions = sentence.get("max_seq_length"), config.get("max_position_embeddings")
    known = [limit for limit in (said, positions) if isinstance(limit, int) and limit > 2]
    return min(known if said in known else [*known, _MAX_TOKENS])


def _read(path: Path, kind: type = dict) -> Any:
    try:
        found = json.loads(path.read_bytes())
    except OSError as error:
        raise EncoderUnusable(f"{path} cannot be read: {error.strerror}; is this the directory of a model?") from error
    except ValueError as error:
        raise EncoderUnusable(f"{path} is not JSON: {error}") from error
    if not isinstance(found, kind):
        raise EncoderUnusable(f"{path} does not hold a JSON {kind.__name__}")
    return found
