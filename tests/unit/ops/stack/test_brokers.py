from __future__ import annotations

from pathlib import Path

from ops.stack import brokers


def test_redis_belongs_to_the_log_that_it_was_marked_with_and_to_no_other(tmp_path: Path) -> None:
    assert not brokers.belongs(tmp_path, "a log")
    brokers.mark(tmp_path, "a log")
    assert brokers.belongs(tmp_path, "a log")
    assert not brokers.belongs(tmp_path, "another")


def test_redis_never_belongs_to_a_log_that_is_another_after_every_start(tmp_path: Path) -> None:
    brokers.mark(tmp_path, brokers.EmbeddedBroker(1).prepare())
    assert not brokers.belongs(tmp_path, brokers.EmbeddedBroker(1).prepare())
