from __future__ import annotations

import logging
import re
import socket
import threading
from collections.abc import Callable
from contextlib import nullcontext
from http.client import HTTPConnection
from pathlib import Path

import pytest

from model.errors import ReleasesUnreachable
from model.kafka.base import BrokerRefused, BrokerUnavailable
from schemas.settings import ReleasePlace
from tests.refits import run
from trainer.__main__ import main
from trainer.errors import TooLittleData, TurnLost, WindowUnusable, WrongTopic
from trainer.follow import Figures
from trainer.publish import PAGE, report_directory
from trainer.recipe import Refit
from trainer.settings import TrainerSettings

Tell = Callable[[int, int, int], None]
Stop = Callable[[], bool]


@pytest.fixture(autouse=True)
def no_handlers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainer.__main__.signal.signal", lambda *_: None)


@pytest.fixture(autouse=True)
def nobody_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainer.__main__.following", lambda *_: nullcontext(lambda: Figures({}, None, 7_000)))


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (TooLittleData("too few"), 10),
        (WrongTopic("no topic"), 69),
        (WindowUnusable("no room"), 73),
        (BrokerUnavailable("away"), 3),
        (BrokerRefused("not you"), 71),
        (ReleasesUnreachable("away"), 3),
        (TurnLost("another one"), 4),
        (ValueError("a bug"), 1),
    ],
)
def test_every_failure_of_a_single_run_has_its_exit_code_and_says_why(
    error: Exception, code: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def run_once(_settings: TrainerSettings, _tell: Tell, _stop: Stop) -> Refit:
        raise error

    monkeypatch.setattr("trainer.__main__.run_once", run_once)
    assert main(["--once"]) == code
    assert str(error) in caplog.text


def test_a_single_run_says_its_verdict_and_where_its_report_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    done = run(tmp_path).done
    monkeypatch.setattr("trainer.__main__.run_once", lambda _settings, _tell, _stop: done)
    monkeypatch.setenv("KINDRED_RELEASES", str(tmp_path / "releases"))
    assert main(["--once"]) == 0
    said = capsys.readouterr().out
    page = report_directory(ReleasePlace(tmp_path / "releases"), done.whole.manifest.name) / PAGE
    assert "is accepted" in said
    assert str(page) in said
    assert page.is_file()


def test_a_service_is_watched_on_the_port_that_it_logs_and_ends_with_0_when_it_is_told_to(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    stop = threading.Event()
    told: list[int] = []

    def refit_due(_settings: TrainerSettings, new: Callable[[int], None], _stop: Stop) -> str | None:
        new(7)
        (address,) = re.findall(r"metrics on http://(\S+)/metrics", caplog.text)
        connection = HTTPConnection(address, timeout=10)
        for path in ("metrics", "readyz"):
            connection.request("GET", f"/{path}")
            answer = connection.getresponse()
            told.append(answer.status)
            if path == "metrics":
                assert b"kindred_trainer_new_events 7.0" in answer.read()
        connection.close()
        stop.set()
        return None

    caplog.set_level(logging.INFO)
    monkeypatch.setattr("trainer.__main__.refit_due", refit_due)
    assert main([], stop) == 0
    assert told == [200, 200]


def test_a_port_in_use_is_a_wrong_setting(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        monkeypatch.setenv("KINDRED_TRAINER_METRICS_PORT", str(taken.getsockname()[1]))
        assert main([]) == 65
    assert "KINDRED_TRAINER_METRICS_PORT" in caplog.text


def test_a_wrong_setting_or_option_is_told_before_anything_begins(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert main(["--twice"]) == 65
    assert "--once" in caplog.text
    monkeypatch.setenv("KINDRED_FIT", "blend,crystal")
    assert main(["--once"]) == 65
    assert "crystal" in caplog.text
