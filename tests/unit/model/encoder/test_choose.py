"""The choice of a backend: the fastest that is close to fp32, measured once."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from model.encoder.base import Encoder, Tokens, Vectors
from model.encoder.choose import Candidate, candidates, choose
from model.encoder.dummy import DummyEncoder
from model.errors import EncoderUnusable

OPENVINO, TORCH_BF16, TORCH = Candidate("openvino", "bf16"), Candidate("torch", "bf16"), Candidate("torch", "fp32")
ALL = (OPENVINO, TORCH_BF16, TORCH)


class _Timed(DummyEncoder):
    """The dummy, with a price for encoding and a fault in its vectors."""

    def __init__(self, name: str, spin: float, fault: float) -> None:
        super().__init__()
        self.backend, self._spin, self._fault = name, spin, fault

    def encode(self, tokens: Tokens) -> Vectors:
        end = time.perf_counter() + self._spin
        for _ in itertools.takewhile(lambda _: time.perf_counter() < end, itertools.count()):
            pass
        vectors = super().encode(tokens)
        vectors[0] += np.float32(self._fault)
        return vectors


def _builder(built: list[str], *, spin: dict[str, float], fault: dict[str, float]) -> Callable[[Candidate], Encoder]:
    def build(candidate: Candidate) -> Encoder:
        built.append(str(candidate))
        return _Timed(str(candidate), spin.get(str(candidate), 0.0), fault.get(str(candidate), 0.0))

    return build


def _choose(
    cache: Path, *, possible: Sequence[Candidate] = ALL, built: list[str] | None = None, space: str = "s",
    threads: int = 2, spin: dict[str, float] | None = None, fault: dict[str, float] | None = None,
) -> str:  # fmt: skip
    spin = {"openvino-bf16": 0.0, "torch-bf16": 0.02, "torch-fp32": 0.05} if spin is None else spin
    build = _builder([] if built is None else built, spin=spin, fault=fault or {})
    return choose(possible, build, space=space, threads=threads, cache=cache).backend


def test_the_fastest_one_is_chosen(tmp_path: Path) -> None:
    assert _choose(tmp_path / "a") == "openvino-bf16"
    assert _choose(tmp_path / "b", spin={"openvino-bf16": 0.05, "torch-fp32": 0.05}) == "torch-bf16"


@pytest.mark.parametrize("fault", [0.3, float("nan")])
def test_a_fast_one_that_is_wrong_is_not_chosen(tmp_path: Path, fault: float) -> None:
    assert _choose(tmp_path, fault={"openvino-bf16": fault}) == "torch-bf16"


def test_damaged_weights_are_no_choice(tmp_path: Path) -> None:
    with pytest.raises(EncoderUnusable, match="damaged"):
        _choose(tmp_path, fault={str(candidate): float("nan") for candidate in ALL})


def test_it_is_measured_once_for_a_space_and_a_number_of_threads(tmp_path: Path) -> None:
    _choose(tmp_path)
    for change, measured in (({}, False), ({"space": "t"}, True), ({"threads": 1}, True), ({"space": "t"}, False)):
        built: list[str] = []
        _choose(tmp_path, built=built, **change)
        assert (len(built) == len(ALL)) is measured, change


def test_processes_that_start_together_wait_for_the_one_that_measures(tmp_path: Path) -> None:
    built: list[str] = []
    with ThreadPoolExecutor(3) as pool:
        chosen = list(pool.map(lambda _: _choose(tmp_path, built=built), range(3)))
    assert chosen == ["openvino-bf16"] * 3
    assert len(built) == len(ALL) + 2


@pytest.mark.parametrize("content", ["", "{", "[]", '{"a": 1}', "\x00"])
def test_a_broken_memory_is_measured_again(tmp_path: Path, content: str) -> None:
    (tmp_path / "backends.json").write_text(content)
    assert _choose(tmp_path) == "openvino-bf16"


def test_a_single_candidate_is_not_measured(tmp_path: Path) -> None:
    built: list[str] = []
    assert _choose(tmp_path, possible=[TORCH], built=built) == "torch-fp32"
    assert built == ["torch-fp32"]


def test_candidates_follow_the_hardware_and_what_is_installed() -> None:
    assert candidates("auto", bf16=True, openvino=True) == ALL
    assert candidates("auto", bf16=True, openvino=False) == (TORCH_BF16, TORCH)
    assert candidates("auto", bf16=False, openvino=True) == (Candidate("openvino", "fp32"), TORCH)
    assert candidates("torch", bf16=False, openvino=True) == (TORCH,)
    assert candidates("openvino", bf16=True, openvino=True) == (OPENVINO, Candidate("openvino", "fp32"))
