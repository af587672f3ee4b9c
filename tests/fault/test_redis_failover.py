"""Redis' master dies and a replica takes its place at the same address, without the last writes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

import pytest
import redis

from tests.fault.counts import CUTS, deadline
from tests.fault.feed import feeding
from tests.fault.harness import PARTITIONS, Stack
from tests.fault.load import Load
from tests.fault.processes import wait_for
from tests.fault.proxy import Proxy
from tests.fault.tally import Tally
from tests.redis_servers import RedisServer, redis_server

pytestmark = [pytest.mark.apache, pytest.mark.redis8, pytest.mark.timeout(deadline(CUTS, 30))]

KEEPS_NOTHING: Final = ("--save", "", "--appendonly", "no", "--repl-diskless-sync-delay", "0")


def test_a_replica_that_takes_over_without_the_last_writes_is_healed(
    stack: Stack, number: int, tally: Tally, tmp_path: Path
) -> None:
    load = Load(number, partitions=PARTITIONS)
    row = tally("Redis' master dies, a replica that lags takes over")
    with redis_server("redis8", tmp_path / "replica", *KEEPS_NOTHING) as replica, _networks() as (front, behind):
        front.lead_to(stack.redis.port)
        for _ in range(2):
            stack.worker(redis_url=f"redis://{front.address}/0")
        with feeding(stack, load):
            for _ in range(CUTS):
                master = stack.redis
                _follow(behind, replica, master)
                _go_on(stack)
                behind.stall()
                _go_on(stack)
                master.kill()
                marks, killed = stack.committed(), time.monotonic()
                behind.cut()
                row.happened()
                front.lead_to(replica.port)  # for a moment it still is a replica, and refuses writes
                with redis.Redis.from_url(replica.url) as client:
                    client.replicaof("NO", "ONE")
                stack.redis = replica
                row.recovered(stack, marks, killed)
                master.start()
                replica = master
        stack.wait_done()

        row.audit(stack)


@contextmanager
def _networks() -> Iterator[tuple[Proxy, Proxy]]:
    """Between workers and Redis, and between master and replica."""
    with ExitStack() as ends:
        found = Proxy(), Proxy()
        for each in found:
            ends.callback(each.close)
        yield found


def _follow(network: Proxy, replica: RedisServer, master: RedisServer) -> None:
    """Returns when the replica has all that the master has."""
    network.mend()
    network.lead_to(master.port)
    with redis.Redis.from_url(replica.url) as client:
        client.replicaof(*network.address.split(":"))
        wait_for(lambda: client.info("replication")["master_link_status"] == "up", "the replica follows")


def _go_on(stack: Stack) -> None:
    stack.wait_committed(sum(stack.committed().values()) + 150)
