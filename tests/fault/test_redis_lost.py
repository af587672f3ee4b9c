"""Redis loses everything, one shard, or its last seconds, again and again, under load: the log brings it back."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from tests.fault.comparison import assert_equals_reference
from tests.fault.conftest import MakeStack
from tests.fault.counts import LOSSES, REDIS_KILLS, deadline
from tests.fault.feed import feeding
from tests.fault.harness import PARTITIONS, Stack
from tests.fault.load import Load
from tests.fault.shards import EVERYTHING, ONE_SHARD, Copy
from tests.fault.tally import Row, Tally

pytestmark = [pytest.mark.redis8, pytest.mark.timeout(deadline(REDIS_KILLS + LOSSES, 30))]

NOTHING: Final = ("--save", "", "--appendonly", "no")
FILE: Final = ("--save", "", "--appendonly", "yes", "--appendfsync", "everysec")


@pytest.mark.parametrize(
    "what",
    [
        pytest.param(None, id="flushall", marks=pytest.mark.embedded),
        pytest.param(ONE_SHARD, id="one-shard", marks=pytest.mark.embedded),
        pytest.param(EVERYTHING, id="older-data", marks=pytest.mark.apache),
    ],
)
def test_a_redis_that_falls_back_while_it_runs_is_healed_under_load(
    stack: Stack, number: int, tally: Tally, what: str | None
) -> None:
    load = Load(number, partitions=PARTITIONS)
    names = {None: "FLUSHALL", ONE_SHARD: "one shard of Redis is set back", EVERYTHING: "Redis is set back as a whole"}
    row = tally(names[what])
    workers = [stack.worker(), stack.worker()]
    with feeding(stack, load), stack.redis_client() as client:
        for _ in range(LOSSES):
            _go_on(stack)
            older = None if what is None else Copy.of(client, what)
            _go_on(stack)
            marks, lost = stack.committed(), time.monotonic()
            if older is None:
                client.flushall()
            else:
                older.put_back(client)
            row.happened()
            row.recovered(stack, marks, lost)
        _go_on(stack)
    stack.wait_done()

    row.audit(stack)
    read = sum(worker.metric("kindred_events_in_total") for worker in workers)
    assert read > sum(stack.ends.values()) + 50, "nothing was replayed"


@pytest.mark.apache
@pytest.mark.parametrize(
    ("kept", "name"),
    [
        pytest.param(NOTHING, "without persistence", id="kept-nothing"),
        pytest.param(FILE, "with appendonly everysec", id="kept-its-file"),
    ],
)
def test_a_redis_that_was_killed_and_comes_back_loses_nothing(
    make_stack: MakeStack, number: int, tally: Tally, kept: tuple[str, ...], name: str
) -> None:
    stack = make_stack(redis=kept)
    _kill_again_and_again(stack, number, tally(f"Redis killed and restarted {name}"), lambda: None, lambda: None)


@pytest.mark.apache
def test_a_redis_that_comes_back_from_an_older_snapshot_loses_nothing(
    make_stack: MakeStack, number: int, tally: Tally
) -> None:
    stack = make_stack(redis=NOTHING)

    def snapshot() -> None:
        with stack.redis_client() as client:
            client.save()

    def check() -> None:
        assert (Path(stack.redis.directory) / "dump.rdb").is_file()

    _kill_again_and_again(stack, number, tally("Redis killed and restarted from an older snapshot"), snapshot, check)


def _kill_again_and_again(
    stack: Stack, number: int, row: Row, before: Callable[[], None], down: Callable[[], None]
) -> None:
    """before: done while events keep coming, some time before each kill. down: done while Redis is down."""
    load = Load(number, partitions=PARTITIONS)
    stack.worker()
    stack.worker()
    with feeding(stack, load):
        for _ in range(REDIS_KILLS):
            _go_on(stack)
            before()
            _go_on(stack)
            stack.redis.kill()
            marks, killed = stack.committed(), time.monotonic()
            row.happened()
            down()
            stack.redis.start()
            row.recovered(stack, marks, killed)
        _go_on(stack)
    stack.wait_done()

    row.audit(stack)


def _go_on(stack: Stack) -> None:
    """Some hundred events further: past all that was under way, so that what was lost meanwhile has been noticed."""
    stack.wait_committed(sum(stack.committed().values()) + 150)


@pytest.mark.apache
def test_redis_emptied_while_no_worker_runs_is_healed_by_the_next_one(stack: Stack, number: int) -> None:
    load = Load(number, partitions=PARTITIONS)
    stack.produce(load.take(1000))
    stack.worker(fail_point="6:30").exit_code(60)
    with stack.redis_client() as client:
        client.flushall()
    stack.worker()
    stack.wait_done()

    assert_equals_reference(stack)
