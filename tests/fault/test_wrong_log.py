"""State belongs to one log: a worker that finds another one stops, and says what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fault.harness import PARTITIONS, Stack
from tests.fault.load import Load
from worker.errors import WrongLog

pytestmark = [pytest.mark.embedded, pytest.mark.redis8]


def test_a_worker_stops_when_the_broker_came_back_empty(stack: Stack, number: int) -> None:
    load = Load(number, partitions=PARTITIONS)
    stack.produce(load.take(300))
    worker = stack.worker()
    stack.wait_done()
    stack.kill_broker()
    stack.start_broker()
    stack.produce(load.take(100))

    assert worker.exit_code(60) == WrongLog.exit_code
    assert "with an empty Redis database and a new consumer group (KINDRED_REDIS_URL, KINDRED_GROUP)" in worker.said
    assert not any(stack.committed().values()), "it committed into a log that is not its own"


def test_a_worker_of_another_log_does_not_start_on_this_redis(stack: Stack, number: int, tmp_path: Path) -> None:
    load = Load(number, partitions=PARTITIONS)
    stack.produce(load.take(300))
    stack.worker()
    stack.wait_done()
    (tmp_path / "other").mkdir()
    with Stack(tmp_path / "other", stack.redis) as other:
        other.produce(load.take(100))
        stranger = other.worker()

        assert stranger.exit_code() == WrongLog.exit_code
        assert "use the Redis that belongs to this Kafka" in stranger.said
        assert not any(other.committed().values())
