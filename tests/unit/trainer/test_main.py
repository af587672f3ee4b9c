from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from model.errors import ReleasesUnreachable
from model.kafka.base import BrokerRefused, BrokerUnavailable
from trainer.__main__ import main
from trainer.errors import TooLittleData, WindowUnusable, WrongTopic
from trainer.recipe import Refit
from trainer.settings import TrainerSettings

Tell = Callable[[int, int, int], None]


@pytest.fixture(autouse=True)
def no_handlers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainer.__main__.signal.signal", lambda *_: None)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (TooLittleData("too few"), 10),
        (WrongTopic("no topic"), 69),
        (WindowUnusable("no room"), 73),
        (BrokerUnavailable("away"), 3),
        (BrokerRefused("not you"), 71),
        (ReleasesUnreachable("away"), 3),
        (ValueError("a bug"), 1),
    ],
)
def test_every_failure_of_a_single_run_has_its_exit_code_and_says_why(
    error: Exception, code: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def run_once(_settings: TrainerSettings, _tell: Tell) -> Refit:
        raise error

    monkeypatch.setattr("trainer.__main__.run_once", run_once)
    assert main(["--once"]) == code
    assert str(error) in caplog.text


def test_a_service_with_too_little_data_waits_for_more(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It must not end: whoever supervises it would start it again and again."""
    stop, runs = threading.Event(), [0]

    def run_once(_settings: TrainerSettings, _tell: Tell) -> Refit:
        runs[0] += 1
        if runs[0] == 2:
            stop.set()
        raise TooLittleData("too few users")

    monkeypatch.setattr("trainer.__main__.run_once", run_once)
    monkeypatch.setenv("KINDRED_REFIT_HOURS", "1e-6")
    assert main([], stop) == 0
    assert runs == [2]
    assert "too few users; looked at again" in caplog.text


def test_a_wrong_setting_or_option_is_told_before_anything_begins(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert main(["--twice"]) == 65
    assert "--once" in caplog.text
    monkeypatch.setenv("KINDRED_FIT", "blend,crystal")
    assert main(["--once"]) == 65
    assert "crystal" in caplog.text
