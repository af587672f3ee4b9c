"""The consumer group: slots, commits, where it began, and whose it is."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from kafka import KafkaAdminClient
from kafka.admin import ConfigResource
from kafka.errors import KafkaError

from schemas.topics import USER_TEXT, topic_name
from tests.fault.comparison import assert_equals_reference, known
from tests.fault.conftest import MakeStack
from tests.fault.harness import JOIN_S, PARTITIONS, Stack
from tests.fault.load import Load
from tests.fault.processes import WorkerProcess, wait_for
from tests.fault.tally import Tally
from tests.redis_servers import redis_server
from worker.errors import SharedGroup, WrongTopic

pytestmark = [pytest.mark.embedded, pytest.mark.redis8]


@pytest.mark.needs("keeps_slots")
def test_a_killed_worker_that_comes_back_in_its_slot_has_its_partitions_again_and_nobody_else_had_them(
    make_stack: MakeStack, number: int
) -> None:
    # So long that nobody would be given the killed worker's partitions before it is back.
    stack = make_stack(settings={"KINDRED_STATIC_MEMBERSHIP": "true", "KINDRED_SESSION_TIMEOUT_MS": "60000"})
    load = Load(number, partitions=PARTITIONS)
    victim, other = stack.worker(), stack.worker()
    wait_for(lambda: victim.serves and other.serves, "both have partitions", JOIN_S)
    stack.produce(load.take(300))
    stack.wait_done()
    had, others = _holds(victim), _moves(other)
    for _ in range(2):
        stack.produce(load.take(100))
        victim.kill()
        stack.produce(load.take(100))
        stack.restart(victim)
        stack.wait_done(seconds=45)

        assert _holds(victim) == had
    assert _moves(other) == others, "the group was rebalanced"
    assert_equals_reference(stack)


def test_commits_never_go_backwards(stack: Stack, number: int) -> None:
    load = Load(number, partitions=PARTITIONS)
    with _watched_commits(stack) as backwards:
        stack.produce(load.take(600))
        first, second = stack.worker(), stack.worker()
        stack.wait_committed(200)
        first.kill()
        stack.worker()
        stack.produce(load.take(600))
        stack.wait_committed(800)
        with stack.redis_client() as client:
            client.flushall()
        stack.produce(load.take(300))
        stack.wait_done()
        assert second.alive
    assert backwards == []
    assert_equals_reference(stack)


@pytest.mark.needs("keeps_notes")
def test_a_group_that_began_at_the_end_of_the_log_is_healed_from_where_it_began(stack: Stack, number: int) -> None:
    load = Load(number, partitions=PARTITIONS)
    stack.produce(load.of_users(*(f"early-{i}" for i in range(20))))
    worker = stack.worker(start="latest")
    stack.wait_done()  # where it begins is committed before it reads
    assert worker.metric("kindred_events_in_total") == 0
    stack.produce(load.of_users(*(f"late-{i}" for i in range(20))))
    stack.wait_done()
    with stack.redis_client() as client:
        client.flushall()
    wait_for(lambda: worker.metric("kindred_events_in_total") == 40, "what was read since then is replayed", JOIN_S)
    wait_for(worker.ready, "it has healed")

    assert all(known(stack, f"late-{i}") for i in range(20))
    assert not any(known(stack, f"early-{i}") for i in range(20))
    assert worker.metric("kindred_events_unrecoverable_total") == 0


@pytest.mark.needs("keeps_notes")
def test_a_worker_of_a_stack_with_another_redis_leaves_a_group_that_it_joined_by_mistake(
    stack: Stack, number: int, tally: Tally, tmp_path: Path
) -> None:
    load = Load(number, partitions=PARTITIONS)
    row = tally("two stacks in one group: one joins by mistake")
    stack.produce(load.take(300))
    worker = stack.worker()
    stack.wait_done()
    with redis_server("redis8", tmp_path / "other") as other:
        stranger = stack.worker(redis_url=other.url, group=f"{stack.group}-other")
        wait_for(lambda: stranger.metric("kindred_events_in_total") >= 300, "it has a state of its own", JOIN_S)
        stranger.kill()
        stranger = stack.worker(redis_url=other.url)
        assert stranger.exit_code(JOIN_S) == SharedGroup.exit_code
        assert "two stacks share one consumer group. Give each its own KINDRED_GROUP" in stranger.said
        row.happened()
    stack.produce(load.take(300))
    stack.wait_done()

    assert worker.alive
    row.audit(stack)


@pytest.mark.needs("keeps_notes")
def test_of_two_stacks_that_meet_in_a_group_one_stops_and_the_other_has_every_event(
    stack: Stack, number: int, tally: Tally, tmp_path: Path
) -> None:
    load = Load(number, partitions=PARTITIONS)
    row = tally("two stacks in one group: one with an empty Redis")
    stack.produce(load.take(100))
    worker = stack.worker()
    stack.wait_done()
    with redis_server("redis8", tmp_path / "other") as other:
        # An empty Redis could be this stack's own, emptied: it is taken for that, until somebody else commits too.
        newer = stack.worker(redis_url=other.url)
        wait_for(lambda: newer.serves, "it was given partitions", JOIN_S)
        stack.produce(load.take(200))
        assert worker.exit_code(JOIN_S) == SharedGroup.exit_code
        assert "two stacks share one consumer group" in worker.said
        row.happened()
        stack.produce(load.take(100))
        stack.wait_done()
        wait_for(newer.ready, "it has healed what the other stack had read", JOIN_S)

        stack.redis = other
        row.audit(stack)


@pytest.mark.needs("tells_policy")
def test_a_worker_refuses_a_log_that_kafka_would_compact(stack: Stack, number: int) -> None:
    topic = topic_name(USER_TEXT, stack.namespace)
    stack.admin.alter_configs([ConfigResource("topic", topic, configs={"cleanup.policy": "compact"})])
    worker = stack.worker()

    assert worker.exit_code() == WrongTopic.exit_code
    assert f"{topic} is compacted" in worker.said


def _moves(worker: WorkerProcess) -> list[str]:
    """What the group gave it and took from it, as it says in its log."""
    return re.findall(r"partitions (?:assigned|revoked): .*", worker.said)


def _holds(worker: WorkerProcess) -> set[int]:
    """The partitions that it has, by what it says since it was started last."""
    held: set[int] = set()
    for what, numbers in re.findall(
        r"partitions (assigned|revoked): \[(.*)\]", worker.said.rpartition("metrics on")[2]
    ):
        moved = {int(number) for number in re.findall(r"\d+", numbers)}
        held = held | moved if what == "assigned" else held - moved
    return held


@contextmanager
def _watched_commits(stack: Stack) -> Iterator[list[str]]:
    """Collects every commit that is seen to be lower than one before, while the block runs."""
    found: list[str] = []
    stopping = threading.Event()

    def watch() -> None:
        client = KafkaAdminClient(bootstrap_servers=stack.broker.address)
        highest: dict[int, int] = {}
        while not stopping.wait(0.02):
            with suppress(KafkaError):  # the group does not exist yet
                for place, mark in client.list_group_offsets({stack.group: None})[stack.group].items():
                    before = highest.get(place.partition, -1)
                    if mark.offset < before:
                        found.append(f"partition {place.partition}: {mark.offset} after {before}")
                    highest[place.partition] = max(before, mark.offset)
        client.close()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        stopping.set()
        thread.join(30)
