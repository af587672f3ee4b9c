"""What an operator may set."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from pydantic import ValidationError

from worker.settings import WorkerSettings


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> WorkerSettings:
    monkeypatch.chdir(tmp_path_factory.mktemp("empty"))
    return WorkerSettings()


def test_every_setting_has_a_default_and_a_description() -> None:
    for name, field in WorkerSettings.model_fields.items():
        assert not field.is_required(), name
        assert field.description, name


@pytest.mark.parametrize("word", ["earliest", "latest"])
def test_a_group_begins_at_a_word(monkeypatch: pytest.MonkeyPatch, word: str) -> None:
    monkeypatch.setenv("KINDRED_START", word)
    assert WorkerSettings().start == word


def test_a_group_begins_at_a_time_with_a_zone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KINDRED_START", "2026-05-01T00:00:00Z")
    assert WorkerSettings().start == datetime(2026, 5, 1, tzinfo=UTC)


@pytest.mark.parametrize("value", ["2026-05-01T00:00:00", "yesterday"])
def test_a_time_without_a_zone_and_other_words_are_refused(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("KINDRED_START", value)
    with pytest.raises(ValidationError):
        WorkerSettings()


@pytest.mark.parametrize("value", ["9:1", "-1:1", "3", "3:0", "x"])
def test_a_fail_point_is_a_step_and_a_count(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("KINDRED_FAIL_POINT", value)
    with pytest.raises(ValidationError):
        WorkerSettings()


def test_no_secret_is_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KINDRED_USER_KEY_SECRET", "hush-hush")
    monkeypatch.setenv("KINDRED_REDIS_URL", "redis://:hush-hush@localhost/0")
    assert "hush-hush" not in repr(WorkerSettings())


def test_the_drain_of_a_worker_fits_into_what_is_promised(settings: WorkerSettings) -> None:
    assert settings.drain_seconds <= 20
