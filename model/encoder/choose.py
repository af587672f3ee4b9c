"""Which backend and precision serve an encoder on this machine's CPU: measured once, remembered in the cache directory.

The fastest candidate whose vectors stay at cosine ≥ .999 to fp32. Knows candidates by name; how they are built is the
caller's business.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final, Literal

from filelock import FileLock

from model.encoder.base import Encoder, Vectors
from model.errors import EncoderUnusable
from model.hardware import machine_id

MIN_COSINE: Final = 0.999
_ROUNDS: Final = 2
"""The best of two: the first one also pays for what is made on first use."""
_SAMPLE: Final = (
    "Which telescope would you take to a dark place in the mountains, and what can be seen with it in winter? ",
    "我周末想在家里自己做面包，应该买什么样的面粉和烤箱？",
    "Ich suche ein gutes Buch über die Geschichte der Eisenbahn. ",
    "How do I prove that this series converges; is there an easier test than the ratio test? ",
)
_LENGTHS: Final = (1, 2, 3, 5, 8, 12)

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A way to run an encoder on the CPU."""

    backend: Literal["openvino", "torch"]
    precision: Literal["bf16", "fp32"]

    def __str__(self) -> str:
        return f"{self.backend}-{self.precision}"


Build = Callable[[Candidate], Encoder]


def candidates(backend: str, *, bf16: bool, openvino: bool) -> tuple[Candidate, ...]:
    """What may be tried for `torch`, `openvino` or `auto`, an fp32 one last: it is what the others are held to.

    bf16: whether the CPU has it; where it has not, bf16 is emulated and slower. openvino: whether it is installed.
    """
    precisions: tuple[Literal["bf16", "fp32"], ...] = ("bf16", "fp32") if bf16 else ("fp32",)
    torch = tuple(Candidate("torch", precision) for precision in precisions)
    if backend == "torch" or (backend == "auto" and not openvino):
        return torch
    own = tuple(Candidate("openvino", precision) for precision in precisions)
    return own if backend == "openvino" else (own[0], *torch)


def choose(possible: Sequence[Candidate], build: Build, *, space: str, threads: int, cache: Path) -> Encoder:
    """The encoder of the fastest candidate, built.

    Measured once for a space, a machine, its threads and library versions (20 s); several processes that start together
    wait for the one that measures.
    """
    if len(possible) == 1:
        return build(possible[0])
    path = cache / "backends.json"
    key = " | ".join([space, machine_id(), f"{threads} threads", *_versions(), *map(str, possible)])
    cache.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{path}.lock"):
        names = {str(candidate): candidate for candidate in possible}
        known = names.get(str(_remembered(path).get(key, {}).get("chosen")))
        if known is None:
            return _measure(possible, build, path, key)
    return build(known)


def _measure(possible: Sequence[Candidate], build: Build, path: Path, key: str) -> Encoder:
    texts = [(sentence * length).strip() for length in _LENGTHS for sentence in _SAMPLE]
    reference: Vectors | None = None
    seconds: dict[str, float] = {}
    cosines: dict[str, float] = {}
    best: tuple[float, Candidate, Encoder] | None = None
    for candidate in reversed(possible):
        encoder = build(candidate)
        took, vectors = _time(encoder, texts)
        reference = vectors if reference is None else reference
        cosine = float((vectors * reference).sum(axis=1).min())
        seconds[str(candidate)], cosines[str(candidate)] = round(took, 4), round(cosine, 6)
        if cosine >= MIN_COSINE and (best is None or took < best[0]):
            best = (took, candidate, encoder)
    if best is None:
        raise EncoderUnusable("the encoder gives no vectors (NaN or zeros), in fp32 either; its weights are damaged")
    chosen = str(best[1])
    _log.info("encoder backend %s chosen: seconds %s, least cosine %s", chosen, seconds, cosines)
    remembered = _remembered(path) | {key: {"chosen": chosen, "seconds": seconds, "cosine": cosines}}
    aside = path.with_suffix(f".{os.getpid()}")
    aside.write_text(json.dumps(remembered, indent=1))
    aside.replace(path)
    return best[2]


def _time(encoder: Encoder, texts: Sequence[str]) -> tuple[float, Vectors]:
    tokens = encoder.tokenise(texts)
    took = []
    for _ in range(_ROUNDS):
        start = time.perf_counter()
        vectors = encoder.encode(tokens)
        took.append(time.perf_counter() - start)
    return min(took), vectors


def _remembered(path: Path) -> dict[str, Any]:
    """What was measured before; nothing where the file is missing or broken, as it can be measured again."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return {key: value for key, value in found.items() if isinstance(value, dict)} if isinstance(found, dict) else {}


def _versions() -> list[str]:
    found = []
    for package in ("openvino", "torch", "transformers"):
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            found.append(f"no {package}")
    return found
