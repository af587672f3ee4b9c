"""kafka-python's errors as ours."""

from __future__ import annotations

import pytest
from kafka.errors import KafkaConnectionError, TopicAuthorizationFailedError, UnknownTopicOrPartitionError

from model.kafka.base import BrokerRefused, BrokerUnavailable
from model.kafka.client import partitions_of


class Consumer:
    """Answers what it is made with, or raises it."""

    def __init__(self, answer: set[int] | Exception | None) -> None:
        self._answer = answer

    def partitions_for_topic(self, _topic: str) -> set[int] | None:
        if isinstance(self._answer, Exception):
            raise self._answer
        return self._answer


@pytest.mark.parametrize(
    ("answer", "found"), [({2, 0, 1}, [0, 1, 2]), (None, []), (set(), []), (UnknownTopicOrPartitionError("t"), [])]
)
def test_a_topic_that_is_not_there_has_no_partitions_however_that_is_told(
    answer: set[int] | Exception | None, found: list[int]
) -> None:
    assert partitions_of(Consumer(answer), "t") == found


@pytest.mark.parametrize(
    ("error", "ours"),
    [(KafkaConnectionError("away"), BrokerUnavailable), (TopicAuthorizationFailedError("t"), BrokerRefused)],
)
def test_other_failures_are_told_as_what_they_mean(error: Exception, ours: type[Exception]) -> None:
    with pytest.raises(ours):
        partitions_of(Consumer(error), "t")
