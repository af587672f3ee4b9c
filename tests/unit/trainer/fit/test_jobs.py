from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from torch.distributed import DistNetworkError
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from tests.builders import eventually
from tests.unit.trainer.fit.writers import HELD_OUT, PACE, of_both, tiny_files, torchrun, write
from trainer.fit.jobs import Job, fit_together, leading, take_part
from trainer.fit.pretrain import BY_TOKENS, PretrainSettings

ROOT = Path(__file__).parents[4]


class Memory:
    """A store without processes."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}

    def check(self, keys: list[str]) -> bool:
        return all(key in self.values for key in keys)

    def get(self, key: str) -> bytes:
        return self.values[key].encode()


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Memory:
    """Of the second of two processes, in this one. It was handed a job that cannot be read."""
    store = Memory()
    store.values["job/1"] = "{}"
    monkeypatch.setattr("trainer.fit.jobs.torchrun_store", lambda: store)
    monkeypatch.setattr("trainer.fit.jobs.started", lambda: (1, 2))
    monkeypatch.setattr("trainer.fit.jobs.AGREE_S", -1.0)
    return store


def test_both_processes_of_torchrun_fit_what_the_trainer_in_the_first_hands_out(tmp_path: Path) -> None:
    assert torchrun("transformer_ranks", "encoder", tmp_path / "plain").returncode == 0
    of_both(tmp_path / "plain")
    done = torchrun("job_ranks", tmp_path)
    assert json.loads((tmp_path / "ended.json").read_text()) == ["NothingToFit", "DiskFull", "all 56 steps are done"]
    plain, together = (tmp_path / name for name in ("plain/rank-0.safetensors", "together.safetensors"))
    assert plain.read_bytes() == together.read_bytes()
    assert "process 1 of 2: takes part in fits, waits for the trainer in process 0" in done.stderr
    assert done.stderr.count("takes part in a fit: encoder") == 3
    assert done.stderr.count("is given up, as in process 0") == 2
    assert [(tmp_path / f"exit-{rank}").read_text() for rank in (0, 1)] == ["10", "0"]


def test_without_torchrun_a_job_is_fitted_by_this_process(tmp_path: Path) -> None:
    files = tiny_files(tmp_path / "tiny")
    pace = replace(PACE, epochs=1)
    job = Job(PretrainSettings(pace), files, write(files), HELD_OUT, 0, "cpu", tmp_path / "checkpoints")
    told: list[int] = []
    with leading():
        fit = fit_together(job, lambda each: told.append(each.steps))
    assert told == [each.steps for each in fit.rounds]
    assert fit.measured == BY_TOKENS


def test_a_fit_that_process_0_gives_up_too_is_not_the_end_of_the_others(
    store: Memory, caplog: pytest.LogCaptureFixture
) -> None:
    store.values |= {"job/1/given-up": "", "job/2": "end"}
    take_part()
    assert "process 1: fit 1 is given up, as in process 0" in caplog.text


def test_a_fit_that_fails_in_one_of_the_others_alone_ends_it_and_it_says_so(
    store: Memory, caplog: pytest.LogCaptureFixture
) -> None:
    store.values["job/2"] = "end"
    with pytest.raises(KeyError):
        take_part()
    assert "process 1: fit 1 failed here and not in process 0" in caplog.text


def test_who_waits_for_a_trainer_that_is_gone_ends(
    store: Memory, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def gone(_keys: list[str]) -> bool:
        raise DistNetworkError("connection closed")

    monkeypatch.setattr(store, "check", gone)
    take_part()
    assert "the trainer in process 0 is gone" in caplog.text


@pytest.fixture
def other(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], Store]]:
    """The trainer as the second of two processes that were started again, waiting, and the store it waits at."""
    store, _, _ = next(rendezvous("tcp://127.0.0.1:0", 0, 1))
    PrefixStore("kindred/0", store).set("job/1", "what a start before this one was handed")
    log = tmp_path / "log"
    place = {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port)}
    place["TORCHELASTIC_RESTART_COUNT"] = "1"
    with log.open("wb") as told:
        process = subprocess.Popen(
            [sys.executable, "-m", "trainer", "--once"], cwd=ROOT, env=os.environ | place, stderr=told
        )
    try:
        eventually(lambda: "waits for the trainer" in log.read_text(), "it waits", 120)
        yield process, PrefixStore("kindred/1", store)
    finally:
        process.kill()
        process.wait()


def test_who_waits_is_told_the_end_by_the_first(other: tuple[subprocess.Popen[bytes], Store]) -> None:
    process, store = other
    store.set("job/1", "end")
    assert process.wait(60) == 0


def test_who_waits_ends_at_once_when_it_is_told_to(other: tuple[subprocess.Popen[bytes], Store]) -> None:
    process, _ = other
    process.terminate()
    assert process.wait(20) == -signal.SIGTERM
