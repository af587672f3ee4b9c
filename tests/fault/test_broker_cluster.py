"""Three brokers that keep every record three times: one is gone for a while, one hands over what it leads."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from kafka import OffsetSpec, TopicPartition
from kafka.errors import KafkaError

from schemas.topics import USER_TEXT, topic_name
from tests.broker_servers import Cluster, apache_cluster
from tests.fault.counts import NODE_AWAY_S, NODE_KILLS, deadline
from tests.fault.feed import feeding
from tests.fault.harness import PARTITIONS, Stack
from tests.fault.load import Load
from tests.fault.processes import past, wait_for
from tests.fault.tally import Tally
from tests.redis_servers import redis_server

pytestmark = [
    pytest.mark.apache,
    pytest.mark.redis8,
    pytest.mark.needs("keeps_log"),
    pytest.mark.timeout(deadline(NODE_KILLS, NODE_AWAY_S + 60)),
]

PREFERRED = 0
"""The kind of election that gives every partition back to the first of its copies."""
FOLLOWERS = (1, 2)
"""The nodes that are stopped; the first one stays, the stack looks after it."""


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with apache_cluster(tmp_path) as found:
        yield found


@pytest.fixture
def stack(cluster: Cluster, tmp_path: Path) -> Iterator[Stack]:
    whole = replace(cluster.nodes[0], address=cluster.address)
    with redis_server("redis8", tmp_path / "redis") as server, Stack(tmp_path, server, whole, copies=3) as found:
        yield found


def test_one_of_three_brokers_gone_costs_nothing(cluster: Cluster, stack: Stack, number: int, tally: Tally) -> None:
    load = Load(number, partitions=PARTITIONS)
    row = tally("one of three brokers killed, gone for a while")
    workers = [stack.worker(), stack.worker()]
    with feeding(stack, load):
        for turn in range(NODE_KILLS):
            stack.wait_committed(sum(stack.committed().values()) + 200)
            node = cluster.nodes[FOLLOWERS[turn % 2]]
            marks, killed = stack.committed(), time.monotonic()
            stack.close_clients()  # those that hold on to the node that dies would not find the others
            node.kill()
            row.happened()
            row.recovered(stack, marks, killed)
            back = killed + NODE_AWAY_S
            wait_for(partial(past, back), "the time is over", NODE_AWAY_S + 5)
            node.start()
            stack.close_clients()  # a client asks the controller that it once heard of, which may be another by now
            wait_for(lambda: _in_sync(stack), "all copies are up to date", 60)
    stack.wait_done()

    row.audit(stack)
    assert all(worker.alive for worker in workers)


def test_a_leader_that_moves_costs_nothing(cluster: Cluster, stack: Stack, number: int, tally: Tally) -> None:
    load = Load(number, partitions=PARTITIONS)
    row = tally("leaders move: a broker ends in order and comes back")
    stack.worker()
    stack.worker()
    with feeding(stack, load):
        for turn in range(NODE_KILLS):
            stack.wait_committed(sum(stack.committed().values()) + 200)
            node = cluster.nodes[FOLLOWERS[turn % 2]]
            marks, stopped = stack.committed(), time.monotonic()
            stack.close_clients()
            node.stop()
            row.happened()
            row.recovered(stack, marks, stopped)
            node.start()
            stack.close_clients()  # a client asks the controller that it once heard of, which may be another by now
            wait_for(lambda: _in_sync(stack), "all copies are up to date", 60)
            stack.admin.elect_leaders(PREFERRED, raise_errors=False)
    stack.wait_done()
    wait_for(lambda: _tell_ends(stack), "new leaders tell where the log ends")

    row.audit(stack)


def _in_sync(stack: Stack) -> bool:
    found: list[Any] = stack.admin.describe_topics([topic_name(USER_TEXT, stack.namespace)])
    return all(len(each["isr_nodes"]) == 3 for each in found[0]["partitions"])


def _tell_ends(stack: Stack) -> bool:
    """A leader that was just elected does not, until the others have followed it."""
    topic = topic_name(USER_TEXT, stack.namespace)
    try:
        stack.admin.list_partition_offsets({TopicPartition(topic, number): OffsetSpec.LATEST for number in stack.ends})
    except KafkaError:
        return False
    return True
