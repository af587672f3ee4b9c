"""An operator sets the consumer group back, or ahead, with Kafka's own tools: nothing is applied twice, nothing is lost
from the states; what was passed over is not answered."""

from __future__ import annotations

import signal

import pytest
from kafka import OffsetAndMetadata, TopicPartition

from ops.audit.rules import Stretch
from schemas.topics import USER_TEXT, topic_name
from tests.fault.counts import LOSSES, deadline
from tests.fault.harness import PARTITIONS, Stack
from tests.fault.load import Load
from tests.fault.tally import Tally

pytestmark = [pytest.mark.apache, pytest.mark.redis8, pytest.mark.timeout(deadline(LOSSES, 60))]


def test_a_group_that_is_set_back_to_the_beginning_doubles_nothing(stack: Stack, number: int, tally: Tally) -> None:
    load = Load(number, partitions=PARTITIONS)
    row = tally("group set back to the beginning by an operator")
    for _ in range(LOSSES):
        stack.produce(load.take(500))
        worker = stack.worker()
        stack.wait_done()
        _leave(stack)
        _set(stack, dict.fromkeys(range(PARTITIONS), 0))
        row.happened()
        stack.produce(load.take(100))
        worker = stack.worker()
        stack.wait_done()
        before = sum(stack.ends.values())
        assert worker.metric("kindred_events_skipped_total", reason="replayed") > before / 2
        assert worker.metric("kindred_events_applied_total") <= 100
        _leave(stack)

    report = row.audit(stack)
    assert report.checked.repeated_answers, "it was to be read again"


def test_a_group_that_is_set_ahead_still_learns_what_was_passed_over_and_answers_none_of_it(
    stack: Stack, number: int, tally: Tally
) -> None:
    load = Load(number, partitions=PARTITIONS)
    row = tally("group set ahead by an operator")
    passed: list[Stretch] = []
    for _ in range(LOSSES):
        stack.produce(load.take(500))
        stack.worker()
        stack.wait_done()
        _leave(stack)
        before = dict(stack.ends)
        stack.produce(load.take(300))
        _set(stack, stack.ends)
        row.happened()
        passed += [Stretch(partition, start, stack.ends[partition]) for partition, start in before.items()]
        stack.produce(load.take(200))
        worker = stack.worker()
        stack.wait_done()
        assert "healing" in worker.said
        _leave(stack)

    row.audit(stack, unanswered=tuple(passed))


def _leave(stack: Stack) -> None:
    """Kafka lets nobody set the offsets of a group that has members."""
    for worker in stack.workers:
        if worker.alive:
            worker.signal(signal.SIGTERM)
            assert worker.exit_code() == 0


def _set(stack: Stack, offsets: dict[int, int]) -> None:
    """As `kafka-consumer-groups --reset-offsets` does: it leaves no note of Kindred's."""
    topic = topic_name(USER_TEXT, stack.namespace)
    stack.admin.alter_group_offsets(
        stack.group,
        {TopicPartition(topic, partition): OffsetAndMetadata(offset, "", -1) for partition, offset in offsets.items()},
    )
