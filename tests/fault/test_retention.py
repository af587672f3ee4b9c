"""Retention shortens the log below what Redis has seen: a loss only where Redis needs what is gone, and it is said."""

from __future__ import annotations

import pytest
from kafka import TopicPartition

from schemas.topics import USER_TEXT, topic_name
from tests.fault.harness import PARTITIONS, Stack
from tests.fault.load import Load
from tests.fault.processes import wait_for
from tests.fault.tally import Tally

pytestmark = [pytest.mark.apache, pytest.mark.redis8, pytest.mark.needs("keeps_log")]


def test_a_log_that_is_shortened_below_the_watermarks_costs_nothing_while_redis_holds_it(
    stack: Stack, number: int, tally: Tally
) -> None:
    load = Load(number, partitions=PARTITIONS)
    row = tally("log shortened by retention below the watermarks")
    stack.produce(load.take(800))
    worker = stack.worker()
    stack.wait_done()
    row.audit(stack)
    _shorten(stack, stack.ends)
    row.happened()
    stack.produce(load.take(300))
    stack.wait_done()
    worker.kill()
    heir = stack.worker()
    stack.produce(load.take(300))
    stack.wait_done()

    assert heir.metric("kindred_events_unrecoverable_total") == 0
    assert "healing" not in heir.said
    row.audit(stack, not_checked=True)


def test_events_that_redis_lost_and_the_log_no_longer_has_are_counted_and_said(
    stack: Stack, number: int, tally: Tally
) -> None:
    load = Load(number, partitions=PARTITIONS)
    row = tally("Redis emptied and the log shortened: said to be unrecoverable")
    stack.produce(load.take(800))
    worker = stack.worker()
    stack.wait_done()
    gone = {partition: end // 2 for partition, end in stack.ends.items()}
    _shorten(stack, gone)
    with stack.redis_client() as client:
        client.flushall()
    row.happened()
    wait_for(
        lambda: worker.metric("kindred_events_unrecoverable_total") == sum(gone.values()),
        lambda: f"{sum(gone.values())} events are said to be lost:\n{worker.said[-2000:]}",
    )
    assert "no longer in the log" in worker.said
    stack.produce(load.take(300))
    stack.wait_done()

    row.audit(stack, not_checked=True)


def _shorten(stack: Stack, begins: dict[int, int]) -> None:
    """What retention does, at once: the log begins there."""
    topic = topic_name(USER_TEXT, stack.namespace)
    stack.admin.delete_records({TopicPartition(topic, partition): begin for partition, begin in begins.items()})
