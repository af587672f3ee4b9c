"""The network between workers and a service is cut, stalls, and is slow, while everything else works."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest

from ops.stack.ports import HOST, claim
from tests.broker_servers import broker_server
from tests.fault.conftest import MakeStack
from tests.fault.counts import CUTS, deadline
from tests.fault.feed import feeding
from tests.fault.harness import PARTITIONS, Stack
from tests.fault.load import Load
from tests.fault.processes import WorkerProcess, wait_for
from tests.fault.proxy import Proxy
from tests.fault.tally import Row, Tally
from tests.redis_servers import redis_server

pytestmark = [
    pytest.mark.apache,
    pytest.mark.redis8,
    pytest.mark.needs("keeps_log"),
    pytest.mark.timeout(deadline(CUTS, 90)),
]

SLOW_S = 0.05
"""Added to every piece, either way."""
SLOW_PER_SECOND = 40
"""Events, so few that two workers keep up."""

Trouble = Literal["cut", "stalled"]


@pytest.fixture
def network() -> Iterator[Proxy]:
    proxy = Proxy()
    try:
        yield proxy
    finally:
        proxy.close()


@pytest.fixture
def far_kafka(network: Proxy, tmp_path: Path) -> Iterator[Stack]:
    """Workers reach the broker through the network, tests directly: it has a listener for each."""
    inner = claim(0, "second listener", set())
    network.lead_to(inner)
    listeners = {
        "listeners": f"PLAINTEXT://{HOST}:{{port}},FAR://{HOST}:{inner},CONTROLLER://{HOST}:{{controller_port}}",
        "advertised.listeners": f"PLAINTEXT://{HOST}:{{port}},FAR://{network.address}",
        "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,FAR:PLAINTEXT",
    }
    with (
        redis_server("redis8", tmp_path / "redis") as server,
        broker_server(tmp_path, extra=listeners) as broker,
        Stack(tmp_path, server, broker, {"KINDRED_KAFKA_BOOTSTRAP": network.address}) as stack,
    ):
        yield stack


@pytest.fixture
def far_redis(network: Proxy, make_stack: MakeStack) -> Stack:
    stack = make_stack(settings={"KINDRED_REDIS_URL": f"redis://{network.address}/0"})
    network.lead_to(stack.redis.port)
    return stack


@pytest.mark.parametrize("trouble", ["cut", "stalled"])
def test_a_network_to_kafka_that_fails_costs_nothing(
    far_kafka: Stack, network: Proxy, number: int, tally: Tally, trouble: Trouble
) -> None:
    _break_again_and_again(far_kafka, network, number, tally(f"network to Kafka {trouble}"), trouble, "kafka")


@pytest.mark.parametrize("trouble", ["cut", "stalled"])
def test_a_network_to_redis_that_fails_costs_nothing(
    far_redis: Stack, network: Proxy, number: int, tally: Tally, trouble: Trouble
) -> None:
    _break_again_and_again(far_redis, network, number, tally(f"network to Redis {trouble}"), trouble, "redis")


def test_a_slow_network_to_kafka_costs_time_only(far_kafka: Stack, network: Proxy, number: int, tally: Tally) -> None:
    _slow(far_kafka, network, number, tally("network to Kafka slow (50 ms a piece)"))


def test_a_slow_network_to_redis_costs_time_only(far_redis: Stack, network: Proxy, number: int, tally: Tally) -> None:
    _slow(far_redis, network, number, tally("network to Redis slow (50 ms a piece)"))


def _break_again_and_again(stack: Stack, network: Proxy, number: int, row: Row, trouble: Trouble, service: str) -> None:
    load = Load(number, partitions=PARTITIONS)
    workers = [stack.worker(), stack.worker()]
    with feeding(stack, load):
        for _ in range(CUTS):
            stack.wait_committed(sum(stack.committed().values()) + 200)
            (network.cut if trouble == "cut" else network.stall)()
            row.happened()
            wait_for(lambda: any(_misses(worker, service) for worker in workers), f"{service} is away", 60)
            marks = stack.committed()
            network.mend()
            row.recovered(stack, marks, time.monotonic())
    stack.wait_done()

    row.audit(stack)
    assert all(worker.alive for worker in workers)


def _misses(worker: WorkerProcess, service: str) -> bool:
    return worker.metric("kindred_unavailable", service=service) == 1


def _slow(stack: Stack, network: Proxy, number: int, row: Row) -> None:
    load = Load(number, partitions=PARTITIONS)
    stack.worker()
    stack.worker()
    with feeding(stack, load, SLOW_PER_SECOND):
        for _ in range(CUTS):
            stack.wait_committed(sum(stack.committed().values()) + 50)
            network.slow(SLOW_S)
            marks = stack.committed()
            row.happened()
            row.recovered(stack, marks, time.monotonic())
            stack.wait_committed(sum(stack.committed().values()) + 50)
            network.mend()
    stack.wait_done()

    row.audit(stack)
