"""A worker put together from its parts, whatever they are: threads, hand-over, start and end.

poll, decode, batch ──> encode ──> update, save, publish ──> wait for acks, commit
   (Loop)              (Stage)          (Stage)                   (Stage)
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from model.encoder.base import Encoder
from model.head import Head
from model.health import Health
from model.index import Index
from model.users import UserKey
from worker.batch import Batcher
from worker.broker.base import Reader
from worker.catalogue import Catalogue
from worker.checks import Checks, Start
from worker.deliver import Delivery
from worker.errors import WrongLog, WrongTopic
from worker.follow import Follower
from worker.heal import read_note
from worker.loop import Assignments, Limits, Loop
from worker.metrics import Metrics
from worker.partition import InFlight
from worker.pipeline import Pipeline, Work
from worker.publish import Outbox
from worker.retry import Persistent
from worker.stages import Stage
from worker.store.base import Store
from worker.swap import Swap

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Parts:
    """Everything a worker is made of. make_reader is given the listener that it shall call; make_delivery the reader,
    and what makes all partitions be read again from what is committed."""

    make_reader: Callable[[Assignments], Reader]
    make_delivery: Callable[[Reader, Callable[[], None]], Delivery]
    store: Store
    encoder: Encoder
    make_index: Callable[[Head], Index]
    swap: Swap
    user_key: Callable[[str], UserKey]
    catalogue: Catalogue | None
    encode_lock: threading.Lock


@dataclass(frozen=True, slots=True)
class Options:
    """The values a worker runs with; see worker/settings.py for what they mean. topics: those that must be there,
    besides the one that is read."""

    topics: Sequence[str]
    outbox: Outbox
    limits: Limits
    start: Start
    newcomer_events: int
    user_ttl_ms: int
    batch_max_events: int
    batch_max_tokens: int
    batch_max_age: float
    batches_in_flight: int
    refresh_seconds: float
    fail_point: Callable[[int], None]


class Service:
    """`start` gets everything warm and joins the group; `run` works until `stop`, then drains; `close` in any case."""

    def __init__(self, parts: Parts, options: Options, metrics: Metrics, health: Health, persist: Persistent) -> None:
        self._parts = parts
        self._options = options
        self._metrics = metrics
        self._health = health
        self._persist = persist
        self._in_flight = InFlight()
        self._assignments = Assignments(self._in_flight)
        self.reader = parts.make_reader(self._assignments)
        self._delivery = parts.make_delivery(self.reader, self._start_over)
        self.pipeline = Pipeline(
            encoder=parts.encoder,
            store=parts.store,
            follower=Follower(
                parts.store,
                parts.make_index,
                parts.catalogue,
                metrics,
                options.refresh_seconds,
                parts.swap.serving.head,
            ),
            encode_lock=parts.encode_lock,
            swap=parts.swap,
            outbox=options.outbox,
            delivery=self._delivery,
            persist=persist,
            metrics=metrics,
            newcomer_events=options.newcomer_events,
            user_ttl_ms=options.user_ttl_ms,
            on_fell_back=self._start_over,
            fail_point=options.fail_point,
        )
        self._stages = self._make_stages(options.batches_in_flight)
        self._loop: Loop | None = None
        self._stopping = threading.Event()
        self._running = threading.Event()

    def _make_stages(self, capacity: int) -> list[Stage]:
        waiting = self._metrics.stage_queue.labels
        commit = Stage("commit", self.pipeline.settle, self._finished, capacity=capacity, waiting=waiting("commit"))
        update = Stage(
            "update",
            self.pipeline.apply,
            commit.put,
            capacity=capacity,
            waiting=waiting("update"),
            idle=self.pipeline.maintain,
        )
        encode = Stage("encode", self._encode, update.put, capacity=capacity, waiting=waiting("encode"))
        return [encode, update, commit]

    def _encode(self, work: Work) -> None:
        self.pipeline.encode(work)
        self._options.fail_point(4)

    def _finished(self, work: Work) -> None:
        self._in_flight.leave(work.held)

    def _start_over(self) -> None:
        if self._loop is not None:
            self._loop.start_over.set()

    def start(self) -> None:
        """Warm up, check whose data Redis holds, fill the index, start the threads, join the group.

        Raises OperatorNeeded's kin, and what the persistent calls raise once they are abandoned.
        """
        parts, options = self._parts, self._options
        self._health.state = "warming up"
        parts.encoder.encode(parts.encoder.tokenise(["A newcomer writes a first sentence."]))
        self._check_topic()
        self._delivery.open()  # before commits are read: what an earlier worker left open hides them
        topic_id = self._persist("kafka", self.reader.topic_id)
        committed = self._persist("kafka", lambda: [self.reader.committed(p) for p in self.reader.partitions()])
        notes = [read_note(found.metadata) for found in committed if found is not None]
        previous = frozenset(instance for instance, _ in notes if instance is not None)
        identity = self._persist("redis", lambda: self.pipeline.identify(topic_id, previous))
        if identity.topic_id != topic_id:
            raise WrongLog(
                f"Redis holds the state of another log: {self.reader.topic} has topic id {topic_id}, the state was "
                f"made from {identity.topic_id}. State belongs to one log: use the Redis that belongs to this Kafka, "
                "or an empty database and a new consumer group (KINDRED_REDIS_URL, KINDRED_GROUP)."
            )
        self._health.state = "loading the index"
        if parts.catalogue is not None:
            parts.catalogue.start()
            while not parts.catalogue.complete.wait(0.1) and not self._stopping.is_set():
                self.pipeline.follower.take_over()
        self._persist("redis", self.pipeline.follower.load)
        self._loop = Loop(
            reader=self.reader,
            store=parts.store,
            encoder=parts.encoder,
            pipeline=self.pipeline,
            batcher=Batcher(
                max_events=options.batch_max_events,
                max_tokens=options.batch_max_tokens,
                max_age=options.batch_max_age,
            ),
            stages=self._stages,
            assignments=self._assignments,
            in_flight=self._in_flight,
            user_key=parts.user_key,
            checks=Checks(self.reader, parts.store, identity, self.pipeline.identify, options.start, self._metrics),
            limits=options.limits,
            metrics=self._metrics,
            health=self._health,
            fail_point=options.fail_point,
        )
        for stage in self._stages:
            stage.start()
        parts.swap.start(lambda: self.pipeline.follower.index)
        self.reader.join()
        log.info("joined the group with %d donors in the index", self.pipeline.follower.index.donors)

    def _check_topic(self) -> None:
        reader = self.reader
        if not self._persist("kafka", reader.partitions):
            raise WrongTopic(f"there is no topic {reader.topic}: make the topics with `kindred topics create`")
        missing = self._persist("kafka", lambda: reader.missing(self._options.topics))
        if missing:
            raise WrongTopic(
                f"there is no topic {', '.join(missing)}, or this worker may not see it: make the topics with `kindred "
                "topics create`; docs/security.md lists the rights a worker needs"
            )
        if self._persist("kafka", reader.compacted):
            raise WrongTopic(
                f"{reader.topic} is compacted, so Kafka would throw users' earlier events away and healing could not "
                "bring them back: set cleanup.policy=delete on it"
            )

    def run(self) -> None:
        """Until `stop`, or until something fails that a retry does not mend."""
        if self._loop is None:
            raise RuntimeError("start() comes before run()")
        self._running.set()
        self._loop.stopping = self._stopping
        self._loop.run()

    def stop(self) -> None:
        """Ask for a clean end: what is under way is finished; before `run`, nothing is waited for. May be called from a
        signal handler."""
        self._stopping.set()
        if not self._running.is_set():
            self._persist.abandon.set()

    def close(self) -> None:
        """Stop the threads, then leave the group and let everything go. Works after a failed `start` too."""
        self._persist.abandon.set()
        for stage in self._stages:
            stage.stop(2.0)
        self._in_flight.abandon()
        for part in (self.reader, self._delivery, self._parts.store):
            try:
                part.close()
            except Exception as error:
                log.warning("closing %s: %s", type(part).__name__, error)
        self._parts.swap.stop()
        if self._parts.catalogue is not None:
            self._parts.catalogue.stop()
