from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ops.cli.app import app
from trainer.settings import TrainerSettings


def test_a_trainer_is_told_its_options_as_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[tuple[Sequence[str], Mapping[str, str]]] = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KINDRED_KAFKA_BOOTSTRAP", "there:9092")
    monkeypatch.setattr("os.execve", lambda _path, command, environment: started.append((command, environment)))
    done = CliRunner().invoke(app, ["trainer", "--fit", "blend", "--hours", "0.5", "--events", "200"])
    assert done.exit_code == 0, done.output
    ((command, environment),) = started
    assert list(command[1:]) == ["-m", "trainer"]
    for name, value in environment.items():
        monkeypatch.setitem(os.environ, name, value)
    settings = TrainerSettings()
    assert (settings.fit, settings.refit_hours, settings.refit_events) == ("blend", 0.5, 200)
    assert settings.kafka().bootstrap == "there:9092"
