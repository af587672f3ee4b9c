"""Settings of the worker's unit tests."""

from __future__ import annotations

import pytest

import worker.loop


@pytest.fixture(autouse=True)
def _quick_chores(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a worker does once a second, tests need not wait for."""
    monkeypatch.setattr(worker.loop, "_CHORES", 0.02)
