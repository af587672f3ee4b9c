"""The supervisor with Apache Kafka: what a broker that keeps its log is spared, with tiny workers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import redis

from ops import broker
from ops.stack import ports
from ops.stack.plan import StackPlan
from schemas.access import KafkaAccess
from schemas.topics import USER_TEXT
from tests.unit.ops.stack.running import RunningStack, fake_plan, runs, supervised, wait_until

pytestmark = [pytest.mark.embedded, pytest.mark.apache]


@pytest.fixture
def plan(apache_libs: Path, tmp_path: Path) -> StackPlan:
    return replace(fake_plan(tmp_path / "data", workers=2), kafka_libs=apache_libs)


@pytest.fixture
def stack(plan: StackPlan) -> Iterator[RunningStack]:
    with supervised(plan) as running:
        assert "ready" in running.first_word(), running.said()
        yield running


def test_a_killed_broker_comes_back_with_its_log_and_nothing_else_is_touched(stack: RunningStack) -> None:
    before = stack.endpoints()
    _write(stack)
    with redis.Redis.from_url(before.redis) as client:
        client.set("of-this-log", "1")
        old = stack.kill("broker")
        wait_until(lambda: stack.restarted("broker", old), "broker restarted")
        wait_until(lambda: ports.answers(int(before.kafka.rpartition(":")[2])), "broker answers where it was")
        assert client.get("of-this-log") == b"1"
    assert _count(stack) == 1
    assert stack.endpoints().pids == before.pids | {"broker": stack.pid("broker")}


def test_log_and_redis_are_there_again_in_the_next_run(plan: StackPlan) -> None:
    with supervised(plan) as first:
        assert "ready" in first.first_word(), first.said()
        _write(first)
        _remember(first)
    with supervised(plan) as second:
        assert "ready" in second.first_word(), second.said()
        assert _count(second) == 1
        assert _remembered(second)


def test_redis_is_emptied_after_a_run_with_another_log(plan: StackPlan) -> None:
    with supervised(plan) as first:
        assert "ready" in first.first_word(), first.said()
    with supervised(replace(plan, kafka_libs=None)) as embedded:
        assert "ready" in embedded.first_word(), embedded.said()
        _remember(embedded)
    with supervised(plan) as second:
        assert "ready" in second.first_word(), second.said()
        assert not _remembered(second)
        assert "belonged to a log that is gone, and was emptied" in second.said()


def test_everything_ends_with_a_killed_supervisor(stack: RunningStack) -> None:
    pids = stack.all_pids()
    stack.process.kill()
    stack.process.wait(10)
    wait_until(lambda: not any(runs(pid) for pid in pids), "every process ended")


def _write(stack: RunningStack) -> None:
    with broker.producer(KafkaAccess(stack.endpoints().kafka)) as producer:
        producer.send(USER_TEXT.name, key=b"u", value=b"{}").get(10)


def _count(stack: RunningStack) -> int:
    return len(list(broker.read_all(KafkaAccess(stack.endpoints().kafka), USER_TEXT.name)))


def _remember(stack: RunningStack) -> None:
    with redis.Redis.from_url(stack.endpoints().redis) as client:
        client.set("kept", "1")
        client.execute_command("WAITAOF", 1, 0, 5000)


def _remembered(stack: RunningStack) -> bool:
    with redis.Redis.from_url(stack.endpoints().redis) as client:
        return bool(client.exists("kept"))
