"""The same with the real encoder, whose vectors differ a little from batch to batch."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from model.encoder.load import load_encoder
from tests.fault.comparison import assert_equals_reference
from tests.fault.conftest import MakeStack
from tests.fault.harness import PARTITIONS
from tests.fault.load import Load

pytestmark = [pytest.mark.embedded, pytest.mark.redis8, pytest.mark.encoder]


def test_a_worker_with_the_real_encoder_that_is_killed_loses_nothing_and_doubles_nothing(
    make_stack: MakeStack, number: int, tmp_path: Path
) -> None:
    stack = make_stack(settings={"KINDRED_ENCODER": "minilm", "KINDRED_BACKEND": "torch", "KINDRED_DEVICE": "cpu"})
    load = Load(number, partitions=PARTITIONS, users=40)
    stack.produce(load.take(120))
    victim = stack.worker(fail_point="6:5")
    assert victim.exit_code(90) == -signal.SIGKILL
    assert sum(stack.committed().values()) < 120
    stack.worker()
    stack.wait_done()

    encoder = load_encoder("minilm", cache=tmp_path / "cache", device="cpu", backend="torch")
    assert_equals_reference(stack, encoder, tolerance=1e-3)
