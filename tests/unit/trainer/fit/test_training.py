from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.unit.trainer.fit.writers import torchrun
from trainer.fit.errors import CheckpointsDiffer
from trainer.fit.training import (
    CHECKPOINT,
    Place,
    check_agreement,
    fingerprint,
    joined,
    optimizer_tensors,
    out_of_patience,
    read_checkpoint,
    repeatable,
    restore_optimizer,
    write_checkpoint,
)

CPU = torch.device("cpu")


@pytest.fixture
def group_of_one(tmp_path: Path) -> Iterator[None]:
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


def test_a_checkpoint_is_read_as_it_was_written(tmp_path: Path) -> None:
    weights = torch.arange(6.0).reshape(2, 3).T  # not contiguous
    write_checkpoint(tmp_path / "new", "a", {"weights": weights}, {"epochs": [1, 0.1]})
    found = read_checkpoint(tmp_path / "new", "a")
    assert found is not None
    assert torch.equal(found[0]["weights"], weights)
    assert found[1] == {"epochs": [1, 0.1]}
    assert [file.name for file in (tmp_path / "new").iterdir()] == [CHECKPOINT]


def test_another_fits_checkpoint_a_damaged_one_and_none_are_no_checkpoint(tmp_path: Path) -> None:
    assert read_checkpoint(tmp_path, "a") is None
    write_checkpoint(tmp_path, "a", {"weights": torch.ones(3)}, {})
    assert read_checkpoint(tmp_path, "b") is None
    (tmp_path / CHECKPOINT).write_bytes(b"no tensors")
    assert read_checkpoint(tmp_path, "a") is None


def test_a_write_that_fails_leaves_the_checkpoint_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_checkpoint(tmp_path, "a", {"weights": torch.ones(3)}, 1)

    def full(_: int) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="disk full"):
        write_checkpoint(tmp_path, "a", {"weights": torch.zeros(3)}, 2)
    found = read_checkpoint(tmp_path, "a")
    assert found is not None
    assert found[1] == 1


def test_a_fingerprint_tells_settings_values_types_and_order_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = np.arange(12, dtype=np.int32).reshape(6, 2)
    hashes = {
        fingerprint({"rate": 1}, [rows]),
        fingerprint({"rate": 2}, [rows]),
        fingerprint({"rate": 1}, [rows[::-1]]),
        fingerprint({"rate": 1}, [rows.astype(np.int64)]),
        fingerprint({"rate": 1}, [rows.reshape(4, 3)]),
    }
    assert len(hashes) == 5
    whole = fingerprint({}, [rows])
    monkeypatch.setattr("trainer.fit.training._HASHED_AT_ONCE", 2)
    assert fingerprint({}, [rows]) == whole


def test_an_optimizer_goes_on_as_if_it_had_not_been_stopped() -> None:
    def step(weights: torch.nn.Parameter, optimizer: torch.optim.Optimizer) -> None:
        weights.grad = weights.detach() * 2 + 1
        optimizer.step()

    weights = torch.nn.Parameter(torch.ones(3))
    optimizer = torch.optim.AdamW([weights])
    step(weights, optimizer)
    copy = torch.nn.Parameter(weights.detach().clone())
    other = torch.optim.AdamW([copy])
    restore_optimizer(other, {name: value.clone() for name, value in optimizer_tensors(optimizer).items()})
    step(weights, optimizer)
    step(copy, other)
    assert torch.equal(weights, copy)


def test_the_same_seed_draws_the_same_and_settings_come_back_also_after_an_error() -> None:
    before = torch.random.get_rng_state()
    drawn: list[torch.Tensor] = []

    def fails() -> None:
        with repeatable(3, CPU):
            drawn.append(torch.rand(4))
            assert torch.are_deterministic_algorithms_enabled()
            raise KeyError

    for _ in range(2):
        with pytest.raises(KeyError):
            fails()
    assert torch.equal(*drawn)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert not torch.are_deterministic_algorithms_enabled()


def test_a_determinism_that_was_asked_for_before_stays() -> None:
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        with repeatable(0, CPU):
            pass
        assert torch.is_deterministic_algorithms_warn_only_enabled()
    finally:
        torch.use_deterministic_algorithms(False)


def test_a_process_alone_is_the_first_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    with joined("cpu") as place:
        assert place == Place(0, 1, CPU)
        assert place.agreed([0.5, 2]) == [0.5, 2]


@pytest.mark.parametrize(("device", "found"), [("auto", "cuda:2"), ("cuda", "cuda:2"), ("cuda:1", "cuda:1")])
def test_each_process_takes_its_own_gpu_where_none_is_named(
    device: str, found: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 4)
    monkeypatch.setenv("LOCAL_RANK", "6")
    with joined(device, alone=True) as place:
        assert place.device == torch.device(found)


def test_shares_make_up_the_batch() -> None:
    batch = np.arange(11)
    shares = [Place(rank, 3, CPU).share(batch) for rank in range(3)]
    assert np.concatenate(shares).tolist() == batch.tolist()
    assert {len(share) for share in shares} == {3, 4}


@pytest.mark.usefixtures("group_of_one")
def test_a_process_that_would_go_on_from_another_epoch_than_the_first_is_told_so() -> None:
    check_agreement(Place(0, 2, CPU), 3)
    with pytest.raises(CheckpointsDiffer, match="process 1 would go on from epoch 3, the first one from 0"):
        check_agreement(Place(1, 2, CPU), 3)


def test_patience_counts_from_the_best_epoch() -> None:
    assert [out_of_patience(3, epoch, 2) for epoch in (3, 4, 5)] == [False, False, True]


def test_processes_of_torchrun_join_as_often_as_there_are_fits() -> None:
    done = torchrun("group_ranks")
    assert done.returncode == 0, done.stderr[-2000:]
