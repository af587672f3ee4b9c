"""The same with the real encoder, whose vectors differ a little from batch to batch."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from model.encoder.load import load_encoder
from tests.fault.conftest import MakeStack
from tests.fault.counts import REAL_ENCODER_KILLS, deadline
from tests.fault.harness import IN_SLOTS, PARTITIONS
from tests.fault.load import Load
from tests.fault.tally import Tally

pytestmark = [
    pytest.mark.apache,
    pytest.mark.redis8,
    pytest.mark.encoder,
    pytest.mark.timeout(deadline(REAL_ENCODER_KILLS, 90)),
]

STEPS = (6, 5, 7, 8, 4, 3, 2, 1)


def test_a_worker_with_the_real_encoder_that_is_killed_loses_nothing_and_doubles_nothing(
    make_stack: MakeStack, number: int, tally: Tally, tmp_path: Path
) -> None:
    stack = make_stack(settings={"KINDRED_ENCODER": "minilm", "KINDRED_BACKEND": "torch", "KINDRED_DEVICE": "cpu"})
    load = Load(number, partitions=PARTITIONS, users=40)
    row = tally("the real encoder: SIGKILL after each step in turn")
    victim = stack.worker(fail_point=f"{STEPS[0]}:5", static_membership=IN_SLOTS)
    for following in (*STEPS[1:REAL_ENCODER_KILLS], None):
        stack.produce(load.take(160))
        assert victim.exit_code(120) == -signal.SIGKILL
        row.happened()
        stack.restart(victim, fail_point=None if following is None else f"{following}:5")
    stack.wait_done()

    row.audit(stack, load_encoder("minilm", cache=tmp_path / "cache", device="cpu", backend="torch"))
