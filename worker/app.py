"""The composition root of the worker: the only file here that names Kafka, Redis and a real encoder."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Final

from model.errors import ReleaseRefused
from model.index import Index
from model.manifest import inside
from model.nearest import Nearest, NumpyNearest
from model.release import Release, load_release, write_builtin
from model.transfer_weights import TransferWeights
from model.update import DAY_MS
from model.users import user_key
from schemas.topics import DEAD_LETTERS, ITEMS, RECOMMENDATIONS, USER_INTERESTS, USER_TEXT, topic_name
from worker.answer import answer
from worker.broker.base import Reader
from worker.broker.kafka import KafkaReader
from worker.broker.kafka_items import KafkaItemLog
from worker.broker.kafka_publisher import KafkaPublisher
from worker.broker.kafka_rights import Rights, check_rights
from worker.broker.kafka_transactions import KafkaTransactions
from worker.catalogue import Catalogue
from worker.deliver import AtLeastOnce, Delivery, ExactlyOnce
from worker.health import Health
from worker.loop import Assignments, Limits
from worker.metrics import Metrics
from worker.publish import Outbox
from worker.retry import Persistent
from worker.service import Options, Parts, Service
from worker.settings import WorkerSettings
from worker.store.redis import RedisStore

log = logging.getLogger(__name__)

_SIGNALLED: Final = 1.0
"""Seconds within which a signal to itself surely has stopped every thread."""


def build(settings: WorkerSettings, metrics: Metrics, health: Health) -> Service:
    """Settings → a worker that is ready to start. Raises what its parts raise when they cannot be reached or loaded."""
    persist = Persistent(metrics, health, longest_pause=settings.retry_max_seconds)
    access, namespace = settings.kafka(), settings.namespace
    # First of all, so that nobody waits for a model to hear that a password is wrong.
    persist("kafka", lambda: check_rights(access, settings.name, _rights(namespace), settings.group))
    release = _release(settings, persist)
    encoder, manifest = release.encoder, release.manifest
    metrics.release.info({"release": manifest.name, "space": encoder.space, "backend": encoder.backend})
    log.info("release %s: encoder %s on %s, space %s", manifest.name, encoder.name, encoder.backend, encoder.space[:12])
    store = persist("redis", lambda: _store(settings, encoder.space))
    store.note(_served(settings), str(release.path))
    encode_lock = threading.Lock()
    items = persist(
        "kafka",
        lambda: KafkaItemLog(access=access, topic=topic_name(ITEMS, namespace), client_id=f"{settings.name}-items"),
    )
    parts = Parts(
        make_reader=lambda listener: persist("kafka", lambda: _reader(settings, listener)),
        make_delivery=partial(_delivery, settings, persist),
        store=store,
        encoder=encoder,
        make_index=partial(_index, settings, release),
        answer=partial(
            answer,
            weights=TransferWeights.from_dict(release.transfer),
            release=manifest.name,
            space=encoder.space,
            limit=settings.items_per_answer,
        ),
        user_key=partial(user_key, secret=settings.user_key_secret.get_secret_value().encode()),
        catalogue=Catalogue(items, encoder, encode_lock, lambda reason: metrics.items_bad.labels(reason).inc()),
        encode_lock=encode_lock,
    )
    return Service(parts, _options(settings), metrics, health, persist)


def _rights(namespace: str) -> Rights:
    """What this worker does to each topic; docs/security.md lists the same."""
    return {
        topic_name(USER_TEXT, namespace): ("READ", "DESCRIBE_CONFIGS"),
        topic_name(ITEMS, namespace): ("READ",),
        topic_name(RECOMMENDATIONS, namespace): ("WRITE",),
        topic_name(DEAD_LETTERS, namespace): ("WRITE",),
        topic_name(USER_INTERESTS, namespace): ("WRITE",),
    }


def _release(settings: WorkerSettings, persist: Persistent) -> Release:
    """The built-in release; where it is refused, the one that this group served last."""
    load = partial(load_release, cache=settings.cache, device=settings.device, backend=settings.backend)
    path = write_builtin(
        settings.releases,
        settings.encoder,
        TransferWeights.default().to_dict(),
        now=datetime.now(UTC),
        cache=settings.cache,
        device=settings.device,
        backend=settings.backend,
    )
    try:
        return load(path)
    except ReleaseRefused as refused:
        notes = persist("redis", lambda: _store(settings, space=""))
        last = notes.noted(_served(settings))
        notes.close()
        if last is None or last == str(path):
            raise
        log.error("%s; serving %s, the last release of this group, instead", refused, last)
        return load(inside(settings.releases, last))


def _served(settings: WorkerSettings) -> str:
    return f"served:{settings.group}"


def _store(settings: WorkerSettings, space: str) -> RedisStore:
    return RedisStore.connect(
        settings.redis_url.get_secret_value(),
        namespace=settings.namespace,
        space=space,
        shards=settings.shards,
        user_ttl_ms=int(settings.user_ttl_days * DAY_MS),
    )


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


def _index(settings: WorkerSettings, release: Release) -> Index:
    return Index(
        release.encoder.dimension,
        settings.index_bytes,
        interest=release.head,
        nearest=partial(_nearest, release),
        min_events=settings.donor_min_events,
        min_donors=settings.min_donors,
    )


def _nearest(release: Release, dimension: int, capacity: int) -> Nearest:
    """The product runs where the encoder does; beside the dummy, without torch."""
    if release.encoder.backend == "dummy":
        return NumpyNearest(dimension, capacity)
    from model.nearest_torch import TorchNearest

    device = "cuda" if release.encoder.backend.startswith("torch-cuda") else "cpu"
    return TorchNearest(dimension, capacity, device)


def _options(settings: WorkerSettings) -> Options:
    after = settings.answer_after
    return Options(
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
