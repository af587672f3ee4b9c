"""Step 7: which release is to be served, on `model-releases`; told once, by whoever refits or commands.

The topic is compacted to its last record, so each announcement carries the releases before it: where a rollback goes.
Kafka's clients are made and closed by the caller. Knows nothing of what a release holds.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from typing import Any, Final

from kafka import TopicPartition
from kafka.errors import KafkaError, KafkaTimeoutError

from model.fetch import Whole
from model.kafka.client import partitions_of
from schemas.announcement import CURRENT, MAX_BEFORE, ReleaseAnnouncement
from schemas.codec import decode_release_announcement, encode
from schemas.errors import BadRecord
from schemas.headers import schema_header
from schemas.topics import MODEL_RELEASES

log = logging.getLogger(__name__)

PATIENCE: Final = 10.0
"""Seconds for an acknowledgement by all in-sync replicas, and for reading a topic of a few records."""


def announcement(
    whole: Whole, uri: str, last: ReleaseAnnouncement | None, now: datetime, *, back: bool = False
) -> ReleaseAnnouncement:
    """What says that this release is to be served now. last: the announcement that stands, None for none. back: it is a
    rollback."""
    verdict = whole.manifest.verdict
    return ReleaseAnnouncement(
        release=whole.manifest.name,
        uri=uri,
        sha256=whole.sha256,
        space=whole.manifest.space,
        verdict="accept" if verdict is not None and verdict.accepted else "reject",
        created_at=now,
        before=before(whole.manifest.name, last, back=back),
    )


def before(release: str, last: ReleaseAnnouncement | None, *, back: bool = False) -> tuple[str, ...]:
    """The releases that were current before this one, the last one first.

    Where one is gone back to, what came after it is forgotten, so that a second rollback goes further back and not
    forth again.
    """
    if last is None:
        return ()
    way = (last.release, *last.before)
    if release in way:
        return way[way.index(release) + 1 :]
    return last.before if back else way[:MAX_BEFORE]


def announce(producer: Any, topic: str, told: ReleaseAnnouncement) -> None:
    """Returns once all in-sync replicas have it. producer: a KafkaProducer with acks=all. Raises KafkaError."""
    headers = [schema_header(MODEL_RELEASES.name)]
    producer.send(topic, key=CURRENT.encode(), value=encode(told), headers=headers).get(timeout=PATIENCE)


def announce_in_turn(
    producer: Any, topic: str, told: ReleaseAnnouncement, offsets: Mapping[TopicPartition, Any], membership: Any
) -> None:
    """The same in one transaction with the proof that it is this trainer's turn (trainer/turn.py).

    producer: with a transactional id that all trainers of the stack share, its transactions initialised. Raises
    KafkaError: CommitFailedError where the proof is refused. Nothing is announced then; only where the answer to the
    last request got lost it may be.
    """
    producer.begin_transaction()
    try:
        announce(producer, topic, told)
        producer.send_offsets_to_transaction(offsets, membership)
    except BaseException:
        with suppress(KafkaError):
            producer.abort_transaction()
        raise
    producer.commit_transaction()


def announced(consumer: Any, topic: str) -> ReleaseAnnouncement | None:
    """The announcement that stands: the last one that can be read; None where there is none, or no such topic.

    consumer: a KafkaConsumer without a group, which is left assigned. Raises KafkaError.
    """
    places = [TopicPartition(topic, number) for number in partitions_of(consumer, topic)]
    if not places:
        return None
    consumer.assign(places)
    consumer.seek_to_beginning(*places)
    ends = consumer.end_offsets(places)
    deadline = time.monotonic() + PATIENCE
    found = None
    while any(consumer.position(place) < end for place, end in ends.items()):
        if time.monotonic() > deadline:
            raise KafkaTimeoutError(f"{topic} could not be read to its end within {PATIENCE:.0f} s")
        for records in consumer.poll(timeout_ms=200).values():
            for record in records:
                found = _read(record) or found
    return found


def _read(record: Any) -> ReleaseAnnouncement | None:
    try:
        return decode_release_announcement(record.value, record.key, record.headers)
    except BadRecord as bad:
        log.warning("%s-%d@%d is left out: %s", record.topic, record.partition, record.offset, bad)
        return None
