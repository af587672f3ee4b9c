"""The OpenVINO backend: the vectors of torch, and a second start that needs no torch."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from model.encoder.files import read_files
from model.encoder.torch import TorchEncoder
from tests.unit.model.encoder.conftest import TEXTS

pytest.importorskip("openvino", reason="the embedded extra is not installed")

from model.encoder.openvino import OpenVinoEncoder


@pytest.mark.parametrize("pooling", ["mean", "cls"])
@pytest.mark.parametrize("threads", [1, 3])
def test_vectors_are_those_of_torch(tiny: Path, tiny_cls: Path, cache: Path, pooling: str, threads: int) -> None:
    files = read_files(tiny if pooling == "mean" else tiny_cls)
    encoder = OpenVinoEncoder(files, name="tiny", cache=cache, precision="fp32", threads=threads)
    reference = TorchEncoder(files, name="tiny")
    assert np.allclose(encoder.encode(encoder.tokenise(TEXTS)), reference.encode(reference.tokenise(TEXTS)), atol=1e-5)


def test_many_small_batches_at_once_are_never_mixed_up(tiny: Path, cache: Path) -> None:
    encoder = OpenVinoEncoder(read_files(tiny), name="tiny", cache=cache, precision="fp32", threads=3)
    words = ("bread", "proof", "goal", "lens", "hike")
    texts = [f"{words[n % 5]} " * (1 + n % 40) + words[n * 7 % 5] for n in range(600)]
    alone = {text: encoder.encode(encoder.tokenise([text]))[0] for text in dict.fromkeys(texts)}
    with ThreadPoolExecutor(3) as pool:
        for vectors in pool.map(lambda _: encoder.encode(encoder.tokenise(texts)), range(3)):
            assert np.allclose(vectors, [alone[text] for text in texts], atol=1e-5)


def test_padding_and_tokens_are_counted(tiny: Path, cache: Path) -> None:
    encoder = OpenVinoEncoder(read_files(tiny), name="tiny", cache=cache, precision="fp32", threads=1)
    tokens = encoder.tokenise(TEXTS)
    encoder.encode(tokens)
    assert encoder.counters.tokens == tokens.lengths().sum() < encoder.counters.padded_tokens


def test_no_texts_and_texts_without_tokens_are_no_special_case(tiny: Path, cache: Path) -> None:
    encoder = OpenVinoEncoder(read_files(tiny), name="tiny", cache=cache, precision="fp32", threads=2)
    assert encoder.encode(encoder.tokenise([])).shape == (0, 32)
    assert not encoder.encode(encoder.tokenise(["", " "])).any()


def test_a_second_start_needs_no_torch(tiny: Path, cache: Path) -> None:
    OpenVinoEncoder(read_files(tiny), name="tiny", cache=cache, precision="fp32")
    program = (
        "import sys\nfrom pathlib import Path\nfrom model.encoder.load import load_encoder\n"
        "load_encoder(sys.argv[1], device='cpu', backend='openvino', cache=Path(sys.argv[2]))\n"
        "sys.exit('torch' in sys.modules)"
    )
    command = [sys.executable, "-c", program, str(tiny), str(cache)]
    assert subprocess.run(command, check=False, timeout=120).returncode == 0


def test_threads_that_come_first_together_do_not_wait_for_each_other_for_ever(tiny: Path, cache: Path) -> None:
    """The bindings' tables are set up on first use; without a first use by one thread, every second run hangs here."""
    OpenVinoEncoder(read_files(tiny), name="tiny", cache=cache, precision="fp32")
    program = (
        "import sys\nfrom pathlib import Path\nfrom model.encoder.files import read_files\n"
        "from model.encoder.openvino import OpenVinoEncoder\n"
        "sys.setswitchinterval(1e-6)\n"
        "files = read_files(Path(sys.argv[1]))\n"
        "encoder = OpenVinoEncoder(files, name='tiny', cache=Path(sys.argv[2]), precision='fp32', threads=8)\n"
        "encoder.encode(encoder.tokenise(['bread'] * 64))\n"
    )
    for _ in range(4):
        command = [sys.executable, "-c", program, str(tiny), str(cache)]
        assert subprocess.run(command, check=False, timeout=30).returncode == 0
