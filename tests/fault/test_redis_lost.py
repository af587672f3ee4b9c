"""Redis loses everything, one shard, or its last seconds, in the middle, under load: the log brings it back."""

from __future__ import annotations

import pytest

from tests.fault.comparison import assert_equals_reference
from tests.fault.conftest import MakeStack
from tests.fault.harness import PARTITIONS, Stack
from tests.fault.load import Load
from tests.fault.shards import EVERYTHING, ONE_SHARD, Copy

pytestmark = [pytest.mark.embedded, pytest.mark.redis8]


def test_an_emptied_redis_is_healed_from_the_log_under_load(stack: Stack, number: int) -> None:
    load = Load(number, partitions=PARTITIONS)
    stack.produce(load.take(2000))
    workers = [stack.worker(), stack.worker()]
    stack.wait_committed(500)
    with stack.redis_client() as client:
        client.flushall()
    stack.produce(load.take(1000))
    stack.wait_done()

    assert_equals_reference(stack)
    assert sum(worker.metric("kindred_events_in_total") for worker in workers) > 3000, "nothing was replayed"


@pytest.mark.parametrize("what", [ONE_SHARD, EVERYTHING], ids=["one-shard", "everything"])
def test_a_redis_that_comes_back_with_older_data_is_healed_under_load(stack: Stack, number: int, what: str) -> None:
    load = Load(number, partitions=PARTITIONS)
    stack.produce(load.take(600))
    worker = stack.worker()
    stack.wait_committed(300)
    with stack.redis_client() as client:
        older = Copy.of(client, what)
        stack.produce(load.take(1500))
        stack.wait_committed(1200)
        older.put_back(client)
    stack.produce(load.take(500))
    stack.wait_done()

    assert_equals_reference(stack)
    assert worker.metric("kindred_events_in_total") > 2600, "nothing was replayed"


@pytest.mark.parametrize(
    "kept",
    [
        pytest.param((), id="kept-nothing"),
        pytest.param(("--save", "", "--appendonly", "yes", "--appendfsync", "everysec"), id="kept-its-file"),
    ],
)
def test_a_redis_that_was_killed_and_comes_back_loses_nothing(
    make_stack: MakeStack, number: int, kept: tuple[str, ...]
) -> None:
    stack = make_stack(redis=kept)
    load = Load(number, partitions=PARTITIONS)
    stack.produce(load.take(1500))
    stack.worker()
    stack.wait_committed(500)
    stack.redis.kill()
    stack.produce(load.take(500))
    stack.redis.start()
    stack.wait_done()

    assert_equals_reference(stack)


def test_redis_emptied_while_no_worker_runs_is_healed_by_the_next_one(stack: Stack, number: int) -> None:
    load = Load(number, partitions=PARTITIONS)
    stack.produce(load.take(1000))
    stack.worker(fail_point="6:30").exit_code(60)
    with stack.redis_client() as client:
        client.flushall()
    stack.worker()
    stack.wait_done()

    assert_equals_reference(stack)
