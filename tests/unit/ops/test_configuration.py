"""docs/configuration.md is what the settings say."""

from __future__ import annotations

from ops.configuration import PAGE, page
from schemas.settings import described
from worker.settings import WorkerSettings


def test_the_page_of_settings_is_up_to_date() -> None:
    assert PAGE.read_text() == page(), "run `python -m ops.configuration`"


def test_every_setting_is_described() -> None:
    assert [name for name, *_, text in described(WorkerSettings) if not text] == []


def test_no_secret_has_a_default_that_is_shown() -> None:
    assert "KINDRED_USER_KEY_SECRET` | secret text |  |" in page()
