"""State belongs to one log: a worker that finds another one stops, and says what to do."""

from __future__ import annotations

import pytest

from tests.fault.harness import PARTITIONS, Stack
from tests.fault.load import Load
from tests.fault.tally import Tally
from worker.errors import WrongLog

pytestmark = [pytest.mark.embedded, pytest.mark.redis8]


def test_a_worker_stops_when_its_log_was_made_anew_and_its_remedy_helps(
    stack: Stack, number: int, tally: Tally
) -> None:
    load = Load(number, partitions=PARTITIONS)
    row = tally("topic deleted and made anew")
    stack.produce(load.take(300))
    worker = stack.worker()
    stack.wait_done()
    stack.lose_log()
    row.happened()
    stack.produce(load.take(100))

    assert worker.exit_code(60) == WrongLog.exit_code
    assert "with an empty Redis database and a new consumer group (KINDRED_REDIS_URL, KINDRED_GROUP)" in worker.said
    assert not any(stack.committed().values()), "it committed into a log that is not its own"

    with stack.redis_client() as client:
        client.flushall()
    stack.group += "-anew"
    stack.worker()
    stack.wait_done()
    row.audit(stack, undisturbed=True)


def test_a_worker_of_another_log_does_not_start_on_this_redis(stack: Stack, number: int) -> None:
    load = Load(number, partitions=PARTITIONS)
    stack.produce(load.take(300))
    worker = stack.worker()
    stack.wait_done()
    worker.kill()
    stack.lose_log()
    stack.produce(load.take(100))
    stranger = stack.worker()

    assert stranger.exit_code() == WrongLog.exit_code
    assert "use the Redis that belongs to this Kafka" in stranger.said
    assert not any(stack.committed().values())
