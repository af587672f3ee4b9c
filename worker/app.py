"""The composition root of the worker: the only file here that names Kafka, Redis and a real encoder."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final

from model.encoder.base import Encoder
from model.fetch import fetch
from model.head import Head
from model.health import Health
from model.index import Index
from model.manifest import read_manifest
from model.nearest import Nearest, NumpyNearest
from model.release import Release, load_release, write_builtin
from model.transfer_weights import TransferWeights
from model.update import DAY_MS
from model.users import user_key
from schemas.announcement import ReleaseAnnouncement
from schemas.topics import (
    DEAD_LETTERS,
    ITEMS,
    MODEL_RELEASES,
    RECOMMENDATIONS,
    USER_INTERESTS,
    USER_TEXT,
    Topic,
    topic_name,
)
from worker.broker.base import Reader
from worker.broker.kafka import KafkaReader
from worker.broker.kafka_log import KafkaLog
from worker.broker.kafka_publisher import KafkaPublisher
from worker.broker.kafka_rights import Rights, check_rights
from worker.broker.kafka_shadow import KafkaShadow
from worker.broker.kafka_transactions import KafkaTransactions
from worker.catalogue import Catalogue
from worker.deliver import AtLeastOnce, Delivery, ExactlyOnce
from worker.lane import Lane
from worker.loop import Limits
from worker.metrics import Metrics
from worker.partition import Assignments
from worker.publish import Outbox
from worker.retry import Persistent
from worker.service import Options, Parts, Service
from worker.serving import Serving, Shared, first_release, load_announced, load_served
from worker.settings import WorkerSettings
from worker.store.redis import RedisStore
from worker.swap import Swap, announced_now, tell_refused

log = logging.getLogger(__name__)

_SIGNALLED: Final = 1.0
"""Seconds within which a signal to itself surely has stopped every thread."""


def build(settings: WorkerSettings, metrics: Metrics, health: Health) -> Service:
    """Settings → a worker that is ready to start. Raises what its parts raise when they cannot be reached or loaded."""
    persist = Persistent(metrics, health, longest_pause=settings.retry_max_seconds)
    access, namespace = settings.kafka(), settings.namespace
    # First of all, so that nobody waits for a model to hear that a password is wrong.
    persist("kafka", lambda: check_rights(access, settings.name, _rights(namespace), settings.group))
    announcements = persist("kafka", lambda: _log(settings, MODEL_RELEASES))
    announced = announced_now(announcements, metrics, persist)
    encoder, first, pending = _first(settings, announced, persist, metrics, health)
    log.info("release %s: encoder %s on %s, space %s", first.release, encoder.name, encoder.backend, encoder.space[:12])
    notes = persist("redis", lambda: _store(settings, space=""))

    def note(serving: Serving, names: Sequence[str] = _served(settings)) -> None:
        for name in names:
            persist("redis", lambda name=name: notes.note(name, str(serving.path)))  # type: ignore[misc]

    # Who begins behind what is announced says so of itself only.
    note(first, _served(settings)[: 1 if pending else 2])

    def open_lane(told: ReleaseAnnouncement) -> Lane:
        # The items that cannot be read were counted when the first lane read them.
        return _lane(settings, persist, *_announced(settings, told), on_bad=lambda _: None)

    lane = _lane(settings, persist, encoder, first, on_bad=lambda reason: metrics.items_bad.labels(reason).inc())
    parts = Parts(
        make_reader=lambda listener: persist("kafka", lambda: _reader(settings, listener)),
        make_shadow=partial(_shadow, settings),
        make_delivery=partial(_delivery, settings, persist),
        lane=lane,
        swap=Swap(
            announcements,
            partial(_next, settings),
            open_lane,
            lane,
            metrics,
            health,
            note,
            pending,
        ),
        user_key=partial(user_key, secret=settings.user_key_secret.get_secret_value().encode()),
        open_space=lambda space, shards: _store(settings, space, shards),
    )
    return Service(parts, _options(settings), metrics, health, persist)


def _lane(
    settings: WorkerSettings, persist: Persistent, encoder: Encoder, serving: Serving, *, on_bad: Callable[[str], None]
) -> Lane:
    lock = threading.Lock()
    items = persist("kafka", lambda: _log(settings, ITEMS))
    return Lane(
        serving=serving,
        encoder=encoder,
        encode_lock=lock,
        store=persist("redis", lambda: _store(settings, encoder.space)),
        make_index=partial(_index, settings, encoder),
        catalogue=Catalogue(items, encoder, lock, on_bad),
    )


def _rights(namespace: str) -> Rights:
    """What this worker does to each topic; docs/security.md lists the same."""
    return {
        topic_name(USER_TEXT, namespace): ("READ", "DESCRIBE_CONFIGS"),
        topic_name(ITEMS, namespace): ("READ",),
        topic_name(MODEL_RELEASES, namespace): ("READ",),
        topic_name(RECOMMENDATIONS, namespace): ("WRITE",),
        topic_name(DEAD_LETTERS, namespace): ("WRITE",),
        topic_name(USER_INTERESTS, namespace): ("WRITE",),
    }


def _log(settings: WorkerSettings, topic: Topic) -> KafkaLog:
    name = topic_name(topic, settings.namespace)
    return KafkaLog(access=settings.kafka(), topic=name, client_id=f"{settings.name}-{topic.name}")


def _first(
    settings: WorkerSettings,
    announced: ReleaseAnnouncement | None,
    persist: Persistent,
    metrics: Metrics,
    health: Health,
) -> tuple[Encoder, Serving, ReleaseAnnouncement | None]:
    """The release that this worker begins with, its encoder, and the announcement that it is to follow then."""
    load, limit = _load(settings), settings.items_per_answer

    def last() -> Path | None:
        notes = persist("redis", lambda: _store(settings, space=""))
        places = [persist("redis", lambda name=name: notes.noted(name)) for name in _served(settings)]  # type: ignore[misc]
        notes.close()
        place = next((found for found in places if found is not None), None)
        return None if place is None else fetch(settings.release_place, Path(place).name).path

    def reached(space: str) -> int:
        store = persist("redis", lambda: _store(settings, space))
        marks = persist("redis", store.watermarks)
        store.close()
        partitions = {number for shard in marks for number in shard}
        return sum(min(shard.get(number, 0) for shard in marks) for number in partitions)

    def builtin() -> Path:
        return write_builtin(
            settings.release_place.directory,
            settings.encoder,
            TransferWeights.default().to_dict(),
            now=datetime.now(UTC),
            cache=settings.cache,
            device=settings.device,
            backend=settings.backend,
        )

    return first_release(
        announced,
        load_announced=partial(load_announced, place=settings.release_place, load=load, limit=limit),
        load=partial(load_served, load=load, limit=limit),
        last=last,
        space_of=lambda path: read_manifest(path)[1].space,
        reached=reached,
        builtin=builtin,
        on_refused=partial(tell_refused, metrics=metrics, health=health),
    )


def _next(settings: WorkerSettings, announced: ReleaseAnnouncement, lane: Lane) -> Serving:
    """What was announced, for the encoder in service."""
    load = partial(_load(settings), running=Shared(lane.encoder, lane.encode_lock))
    limit = settings.items_per_answer
    return load_announced(announced, place=settings.release_place, load=load, limit=limit)[1]


def _announced(settings: WorkerSettings, announced: ReleaseAnnouncement) -> tuple[Encoder, Serving]:
    """What was announced, with its own encoder."""
    return load_announced(
        announced, place=settings.release_place, load=_load(settings), limit=settings.items_per_answer
    )


def _load(settings: WorkerSettings) -> partial[Release]:
    return partial(load_release, cache=settings.cache, device=settings.device, backend=settings.backend)


def _served(settings: WorkerSettings) -> tuple[str, str]:
    """Under these names Redis keeps which release this worker, and which its group, has served last."""
    return f"served:{settings.group}:{settings.name}", f"served:{settings.group}"


def _store(settings: WorkerSettings, space: str, shards: int | None = None) -> RedisStore:
    return RedisStore.connect(
        settings.redis_url.get_secret_value(),
        namespace=settings.namespace,
        space=space,
        shards=settings.shards if shards is None else shards,
        user_ttl_ms=int(settings.user_ttl_days * DAY_MS),
        space_ttl_ms=int(settings.space_ttl_days * DAY_MS),
    )


def _shadow(settings: WorkerSettings, listener: Assignments) -> KafkaShadow:
    reader = KafkaReader(
        access=settings.kafka(),
        topic=topic_name(USER_TEXT, settings.namespace),
        group=settings.group,
        client_id=f"{settings.name}-backfill",
        listener=listener,
        session_timeout_ms=settings.session_timeout_ms,
        drain_seconds=settings.drain_seconds,
    )
    return KafkaShadow(reader, listener)


def _reader(settings: WorkerSettings, listener: Assignments) -> KafkaReader:
    return KafkaReader(
        access=settings.kafka(),
        topic=topic_name(USER_TEXT, settings.namespace),
        group=settings.group,
        client_id=settings.name,
        listener=listener,
        session_timeout_ms=settings.session_timeout_ms,
        drain_seconds=settings.drain_seconds,
        slot=settings.name if settings.static_membership else None,
    )


def _delivery(
    settings: WorkerSettings, persist: Persistent, reader: Reader, start_over: Callable[[], None]
) -> Delivery:
    access, most = settings.kafka(), settings.max_record_bytes
    if settings.delivery == "at_least_once":
        publisher = KafkaPublisher(access=access, client_id=settings.name, max_record_bytes=most)
        return AtLeastOnce(publisher, reader, persist, max_bytes=most)
    transactions = KafkaTransactions(
        access=access,
        client_id=settings.name,
        max_record_bytes=most,
        transactional_id=f"{settings.group}-{settings.name}",
        timeout_ms=settings.transaction_timeout_ms,
        topic=reader.topic,
    )
    return ExactlyOnce(transactions, reader, persist, start_over, max_bytes=most)


def _index(settings: WorkerSettings, encoder: Encoder, head: Head) -> Index:
    return Index(
        encoder.dimension,
        settings.index_bytes,
        interest=head,
        nearest=partial(_nearest, encoder),
        min_events=settings.donor_min_events,
        min_donors=settings.min_donors,
    )


def _nearest(encoder: Encoder, dimension: int, capacity: int) -> Nearest:
    """The product runs where the encoder does; beside the dummy, without torch."""
    if encoder.backend == "dummy":
        return NumpyNearest(dimension, capacity)
    from model.nearest_torch import TorchNearest

    device = "cuda" if encoder.backend.startswith("torch-cuda") else "cpu"
    return TorchNearest(dimension, capacity, device)


def _options(settings: WorkerSettings) -> Options:
    after = settings.answer_after
    written = (RECOMMENDATIONS, DEAD_LETTERS, USER_INTERESTS)
    return Options(
        topics=[topic_name(topic, settings.namespace) for topic in (*written, MODEL_RELEASES)],
        outbox=Outbox(
            recommendations=topic_name(RECOMMENDATIONS, settings.namespace),
            dead_letters=topic_name(DEAD_LETTERS, settings.namespace),
            interests=topic_name(USER_INTERESTS, settings.namespace),
            worker=settings.name,
            max_bytes=settings.max_record_bytes,
            answer_after_ms=0 if after is None else int(after.timestamp() * 1000),
        ),
        start=settings.start,
        limits=Limits(
            dead_in_a_row=settings.dead_letters_in_a_row,
            dead_window=settings.dead_letters_window,
            dead_share=settings.dead_letters_share,
            drain=settings.drain_seconds,
            max_records=2 * settings.batch_max_events,
        ),
        newcomer_events=settings.newcomer_events,
        user_ttl_ms=int(settings.user_ttl_days * DAY_MS),
        batch_max_events=settings.batch_max_events,
        batch_max_tokens=settings.batch_max_tokens,
        batch_max_age=settings.batch_max_age_ms / 1000,
        batches_in_flight=settings.batches_in_flight,
        refresh_seconds=settings.refresh_seconds,
        backfill_share=settings.backfill_share,
        fail_point=_fail_point(settings.fail_point),
    )


def _fail_point(where: str | None) -> Callable[[int], None]:
    """The fault tests' way to die, or to freeze, at a numbered step; nothing otherwise."""
    if where is None:
        return lambda _step: None
    step, count = map(int, where.split(":")[:2])
    end = signal.SIGSTOP if where.endswith(":stop") else signal.SIGKILL
    passed: Counter[int] = Counter()

    def after(done: int) -> None:
        passed[done] += 1
        if done == step and passed[done] == count:
            os.kill(os.getpid(), end)
            time.sleep(_SIGNALLED)  # another thread may take the signal, and this one would get a step further

    return after
