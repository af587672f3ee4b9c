"""The supervisor with the real broker and Redis, and tiny workers."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from ops import broker
from ops.errors import DataDirInUse, PortInUse
from ops.stack import endpoints, ports, processes
from ops.stack.plan import StackPlan
from ops.stack.supervisor import Supervisor
from schemas.access import KafkaAccess
from tests.unit.ops.stack.running import RunningStack, fake_plan, runs, supervised, wait_until

pytestmark = pytest.mark.embedded


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[RunningStack]:
    """Two ready workers."""
    with supervised(fake_plan(tmp_path / "data", workers=2)) as running:
        assert "ready" in running.first_word(), running.said()
        yield running


def test_a_ready_stack_has_topics_and_endpoints_that_answer(stack: RunningStack) -> None:
    found = stack.endpoints()
    with broker.admin(KafkaAccess(found.kafka)) as admin:
        assert {"user-text", "recommendations", "user-text.dlq", "items"} <= set(admin.list_topics())
    with redis.Redis.from_url(found.redis) as client:
        assert client.config_get("maxmemory-policy")["maxmemory-policy"] == "noeviction"
        assert client.config_get("appendonly")["appendonly"] == "yes"
    assert len(found.metrics) == 2
    assert all(url.startswith("http://127.0.0.1:") and url.endswith("/metrics") for url in found.metrics)
    assert {"worker-0", "worker-1", "broker", "redis"} <= set(found.pids)
    assert all(runs(pid) for pid in found.pids.values())


def test_a_killed_worker_is_started_again_and_the_endpoints_stay_true(stack: RunningStack) -> None:
    before = stack.endpoints()
    old = stack.kill("worker-0")
    wait_until(lambda: stack.restarted("worker-0", old), "worker-0 restarted", seconds=8.0)
    after = stack.endpoints()
    assert after.metrics == before.metrics
    assert after.pids["worker-1"] == before.pids["worker-1"]
    assert "worker-0 was killed by SIGKILL; starting it again" in stack.said()


def test_a_killed_redis_comes_back_with_its_data(stack: RunningStack) -> None:
    with redis.Redis.from_url(stack.endpoints().redis) as client:
        client.set("kept", "1")
        client.execute_command("WAITAOF", 1, 0, 5000)
    old = stack.kill("redis")
    wait_until(lambda: stack.restarted("redis", old), "redis restarted", seconds=8.0)
    with redis.Redis.from_url(stack.endpoints().redis) as client:
        wait_until(lambda: _answers(client), "redis answers")
        assert client.get("kept") == b"1"


def _answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.RedisError:
        return False


def test_a_killed_broker_comes_back_only_with_an_emptied_redis_and_new_workers(stack: RunningStack) -> None:
    with redis.Redis.from_url(stack.endpoints().redis) as client:
        client.set("of-the-old-log", "1")
        workers = [stack.pid("worker-0"), stack.pid("worker-1")]
        old = stack.kill("broker")
        wait_until(lambda: stack.restarted("broker", old), "broker restarted", seconds=8.0)
        wait_until(lambda: stack.restarted("worker-0", workers[0]), "worker-0 restarted")
        wait_until(lambda: stack.restarted("worker-1", workers[1]), "worker-1 restarted")
        assert client.dbsize() == 0
    assert not any(runs(pid) for pid in workers)
    with broker.admin(KafkaAccess(stack.endpoints().kafka)) as admin:
        assert "user-text" in admin.list_topics()
    assert "The broker forgets on exit" in stack.said()


def test_sigterm_drains_the_workers_and_leaves_nothing(stack: RunningStack) -> None:
    pids = stack.all_pids()
    stack.process.send_signal(signal.SIGTERM)
    assert stack.process.wait(30) == 0
    assert not any(runs(pid) for pid in pids)
    assert "drained" in (stack.plan.data_dir / "logs" / "worker-0.log").read_text()
    assert endpoints.read(stack.plan.data_dir) is None


def test_a_killed_supervisor_takes_the_whole_stack_with_it(stack: RunningStack) -> None:
    pids = stack.all_pids()
    stack.process.kill()
    stack.process.wait(10)
    wait_until(lambda: not any(runs(pid) for pid in pids), "every process ended")
    wait_until(lambda: endpoints.read(stack.plan.data_dir) is None, "endpoints.json removed")


def test_down_ends_what_a_killed_supervisor_and_a_killed_watchdog_left(stack: RunningStack) -> None:
    records = {record.name: record for record in processes.read(stack.plan.data_dir)}
    os.kill(records[processes.WATCHDOG].pid, signal.SIGSTOP)
    stack.process.kill()
    stack.process.wait(10)
    os.kill(records[processes.WATCHDOG].pid, signal.SIGKILL)
    ended = processes.down(stack.plan.data_dir)
    assert {"worker-0", "worker-1", "broker", "redis"} <= set(ended)
    assert not any(runs(record.pid) for record in records.values())


def test_a_killed_watchdog_is_replaced(stack: RunningStack) -> None:
    def watchdog() -> int:
        return next((r.pid for r in processes.read(stack.plan.data_dir) if r.name == processes.WATCHDOG), 0)

    old = watchdog()
    os.kill(old, signal.SIGKILL)
    wait_until(lambda: watchdog() not in (0, old), "another watchdog")
    stack.process.kill()
    stack.process.wait(10)
    wait_until(lambda: endpoints.read(stack.plan.data_dir) is None, "ended by the new watchdog")


def test_a_data_dir_in_use_is_refused_and_the_running_stack_is_left_alone(stack: RunningStack) -> None:
    with pytest.raises(DataDirInUse, match="belongs to a stack that is running") as caught:
        Supervisor(fake_plan(stack.plan.data_dir), lambda _: None).run(lambda _: None)
    assert "kindred down" in caught.value.remedy
    assert all(runs(pid) for pid in stack.endpoints().pids.values())


def test_what_an_earlier_run_left_in_redis_is_emptied(tmp_path: Path) -> None:
    plan = fake_plan(tmp_path / "data")
    with supervised(plan) as first:
        assert "ready" in first.first_word()
        with redis.Redis.from_url(first.endpoints().redis) as client:
            client.set("of-the-old-log", "1")
            client.execute_command("WAITAOF", 1, 0, 5000)
    with supervised(plan) as second:
        assert "ready" in second.first_word()
        with redis.Redis.from_url(second.endpoints().redis) as client:
            assert client.dbsize() == 0
        assert "was emptied" in second.said()


def test_a_worker_whose_exit_code_asks_for_the_operator_ends_the_start_with_its_remedy(tmp_path: Path) -> None:
    with supervised(fake_plan(tmp_path / "data"), FAKE_EXIT="69") as stack:
        text, remedy = stack.first_word()["failed"]
        assert "exit code 69" in text
        assert "create it anew without compaction" in remedy
        assert stack.process.wait(30) == 1
        assert stack.all_pids() == []


def test_a_worker_that_keeps_dying_ends_the_start_with_the_end_of_its_log(tmp_path: Path) -> None:
    with supervised(fake_plan(tmp_path / "data"), FAKE_EXIT="1") as stack:
        text, remedy = stack.first_word()["failed"]
        assert "3 times before the stack was ready" in text
        assert "first line" in remedy


def test_a_worker_that_never_gets_ready_ends_the_start_and_says_why(tmp_path: Path) -> None:
    with supervised(fake_plan(tmp_path / "data", start_seconds=1.0), FAKE_NEVER_READY="1") as stack:
        text, _ = stack.first_word()["failed"]
        assert "not ready within 1 s: loading: the model is still loading" in text
        assert stack.process.wait(30) == 1
        assert endpoints.read(stack.plan.data_dir) is None


def test_a_port_in_use_is_refused_before_anything_starts(tmp_path: Path) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        plan = StackPlan(tmp_path / "data", redis_port=port, worker_command=(sys.executable, "-c", ""))
        with pytest.raises(PortInUse, match=f"Port {port} .* Redis port, is in use"):
            Supervisor(plan, lambda _: None)


def test_ports_that_were_asked_for_are_taken(tmp_path: Path) -> None:
    taken: set[int] = set()
    kafka, metrics = ports.claim(0, "Kafka", taken), ports.claim(0, "metrics", taken)
    plan = StackPlan(
        tmp_path, kafka_port=kafka, metrics_port=metrics, worker_command=fake_plan(tmp_path).worker_command
    )
    with supervised(plan) as stack:
        assert "ready" in stack.first_word()
        assert stack.endpoints().kafka == f"127.0.0.1:{kafka}"
        assert stack.endpoints().metrics == (f"http://127.0.0.1:{metrics}/metrics",)
