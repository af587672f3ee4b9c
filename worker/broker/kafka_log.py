"""A topic on Kafka, read whole and outside any group: the catalogue, the announcements of releases."""

from __future__ import annotations

from kafka import KafkaConsumer, TopicPartition

from model.kafka import header_names
from model.kafka.client import asked, making_no_topics, partitions_of, polled
from schemas.access import KafkaAccess
from worker.broker.base import Record


class KafkaLog:
    """All partitions of a topic from their beginning, without a group; none of a topic that is not there."""

    def __init__(self, *, access: KafkaAccess, topic: str, client_id: str) -> None:
        header_names.tolerate()
        self._consumer = asked(
            lambda: KafkaConsumer(
                **access.arguments(),
                client_id=client_id,
                kafka_client=making_no_topics,
                auto_offset_reset="earliest",
                isolation_level="read_committed",
                enable_auto_commit=False,
            ),
            f"consumer of {topic}",
        )
        places = [TopicPartition(topic, number) for number in partitions_of(self._consumer, topic)]
        self._consumer.assign(places)
        self._ends = asked(lambda: self._consumer.end_offsets(places), "end offsets") if places else {}

    def poll(self, timeout_s: float, max_records: int) -> list[Record]:
        taken = polled(self._consumer, timeout_s, max_records)
        return [
            Record(r.topic, r.partition, r.offset, r.timestamp, r.key, r.value, r.headers)
            for records in taken.values()
            for r in records
        ]

    def at_end(self) -> bool:
        return asked(lambda: all(self._consumer.position(p) >= end for p, end in self._ends.items()), "position")

    def close(self) -> None:
        self._consumer.close()
