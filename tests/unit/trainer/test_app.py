"""What the composition root makes of settings; what it puts together runs in tests/e2e."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

import pytest

from model.encoder.files import read_files
from model.release import load_release, write_builtin
from model.transfer_weights import TransferWeights
from tests.builders import eventually
from tests.tiny_encoder import write_tiny_encoder
from tests.unit.trainer.test_recipe import NOW
from trainer.app import _alone, _failing, adapting_of
from trainer.errors import Stopped, WindowUnusable
from trainer.settings import TrainerSettings


def test_a_second_trainer_of_a_directory_waits_for_the_first_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    entered = threading.Event()

    def second() -> None:
        with _alone(tmp_path, lambda: False):
            entered.set()

    thread = threading.Thread(target=second, daemon=True)
    with _alone(tmp_path, lambda: False):
        thread.start()
        eventually(lambda: f"another trainer is at work in {tmp_path}" in caplog.text, "it says so")
        assert not entered.is_set()
    eventually(entered.is_set, "its turn comes")
    thread.join()


def test_who_is_told_to_stop_waits_no_longer_for_a_directory(tmp_path: Path) -> None:
    with _alone(tmp_path, lambda: False), pytest.raises(Stopped), _alone(tmp_path, lambda: True):
        raise AssertionError("it went on")


def test_a_directory_that_cannot_be_made_is_told_with_a_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(WindowUnusable, match="KINDRED_TRAINER_DIRECTORY"), _alone(tmp_path / "file", lambda: False):
        raise AssertionError("it went on")


def test_a_fail_point_ends_the_process_when_its_step_tells_for_the_given_time(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[int] = []
    killed: list[int] = []
    monkeypatch.setattr("trainer.app.os.kill", lambda _pid, _number: killed.append(len(told)))
    tell = _failing("3:2", lambda step, _done, _of: told.append(step))
    for step in (1, 3, 2, 3, 3):
        tell(step, 0, 1)
    assert told == [1, 3, 2, 3, 3]
    assert killed == [4]


@pytest.mark.parametrize(
    ("fit", "pretrain", "encoder"),
    [("blend,head", False, False), ("pretrain,blend", True, False), ("pretrain,encoder", True, True)],
)
def test_the_encoder_is_adapted_only_where_fit_names_it_and_within_the_time_box(
    tmp_path: Path, fit: str, pretrain: bool, encoder: bool
) -> None:
    tiny = write_tiny_encoder(tmp_path / "tiny")
    settings = TrainerSettings(fit=fit, fit_minutes=7, cache=tmp_path, device="cpu")
    path = write_builtin(
        tmp_path / "releases", str(tiny), TransferWeights.default().to_dict(), now=NOW, cache=tmp_path, backend="torch"
    )
    release = load_release(path, cache=tmp_path, device="cpu", backend="torch")
    found = adapting_of(settings, release)
    assert (found is not None) == (pretrain or encoder)
    if found is not None:
        assert found.files is not None
        assert found.files.space == read_files(tiny).space
        assert found.load(tiny).space == release.encoder.space
        assert [part is not None for part in (found.pretrain, found.encoder)] == [pretrain, encoder]
        assert all(part.pace.minutes == 7 for part in (found.pretrain, found.encoder) if part is not None)
