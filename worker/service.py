"""A worker put together from its parts, whatever they are: threads, hand-over, start and end.

poll, decode, batch ──> encode ──> update, save, publish ──> wait for acks, commit
   (Loop)              (Stage)          (Stage)                   (Stage)
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from model.health import Health
from model.users import UserKey
from worker.backfill import Backfill, BackfillOptions
from worker.batch import Batcher
from worker.broker.base import Reader, Shadow
from worker.carry import Carry
from worker.checks import Checks, Start
from worker.deliver import Delivery
from worker.errors import WrongLog, WrongTopic
from worker.exchange import Exchange
from worker.follow import Follower
from worker.heal import read_note
from worker.lane import Lane
from worker.loop import Limits, Loop
from worker.metrics import Metrics
from worker.partition import Assignments, InFlight
from worker.pipeline import Pipeline, Work
from worker.publish import Outbox
from worker.retry import Persistent
from worker.spaces import Spaces
from worker.stages import Stage
from worker.store.base import Identity, Store
from worker.swap import Swap

log = logging.getLogger(__name__)

FILLING: Final = 10
"""The fault tests call a step of a back-fill by its number and this."""


@dataclass(frozen=True, slots=True)
class Parts:
    """Everything a worker is made of. make_reader and make_shadow are given the listener that they shall call;
    make_delivery the reader, and what makes all partitions be read again from what is committed. lane: the one that the
    worker begins with. open_space: (name, shards) → the store of another space of the namespace."""

    make_reader: Callable[[Assignments], Reader]
    make_shadow: Callable[[Assignments], Shadow]
    make_delivery: Callable[[Reader, Callable[[], None]], Delivery]
    lane: Lane
    swap: Swap
    user_key: Callable[[str], UserKey]
    open_space: Callable[[str, int], Store]


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
    backfill_share: float
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
        self.lane = parts.lane
        self.pipeline = self._make_pipeline(
            parts.lane,
            Follower(
                parts.lane.store,
                parts.lane.make_index,
                parts.lane.catalogue,
                metrics,
                options.refresh_seconds,
                parts.lane.serving.head,
            ),
        )
        self._stages = self._make_stages(options.batches_in_flight)
        self._exchange = Exchange(
            self._make_backfill, self._serve, self._recheck, parts.swap.given_up, self._in_flight, metrics, health
        )
        self._loop: Loop | None = None
        self._checks: Checks | None = None
        self._topic_id = ""
        self._stopping = threading.Event()
        self._running = threading.Event()

    def _make_pipeline(self, lane: Lane, follower: Follower) -> Pipeline:
        options = self._options
        spaces = Spaces(
            lane.store,
            self._parts.open_space,
            newcomer_events=options.newcomer_events,
            user_ttl_ms=options.user_ttl_ms,
        )
        return Pipeline(
            encoder=lane.encoder,
            store=lane.store,
            follower=follower,
            encode_lock=lane.encode_lock,
            swap=self._parts.swap,
            outbox=options.outbox,
            delivery=self._delivery,
            persist=self._persist,
            metrics=self._metrics,
            newcomer_events=options.newcomer_events,
            user_ttl_ms=options.user_ttl_ms,
            on_fell_back=self._start_over,
            fail_point=options.fail_point,
            spaces=spaces,
        )

    def _make_stages(self, capacity: int) -> list[Stage]:
        waiting = self._metrics.stage_queue.labels
        # The pipeline is another one once another space is in service.
        commit = Stage("commit", self._settle, self._finished, capacity=capacity, waiting=waiting("commit"))
        update = Stage(
            "update", self._apply, commit.put, capacity=capacity, waiting=waiting("update"), idle=self._maintain
        )
        encode = Stage("encode", self._encode, update.put, capacity=capacity, waiting=waiting("encode"))
        return [encode, update, commit]

    def _encode(self, work: Work) -> None:
        self.pipeline.encode(work)
        self._options.fail_point(4)

    def _apply(self, work: Work) -> None:
        self.pipeline.apply(work)

    def _settle(self, work: Work) -> None:
        self.pipeline.settle(work)

    def _maintain(self) -> None:
        self.pipeline.maintain()

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
        lane = parts.lane
        self._health.state = "warming up"
        lane.encoder.encode(lane.encoder.tokenise(["A newcomer writes a first sentence."]))
        self._check_topic()
        self._delivery.open()  # before commits are read: what an earlier worker left open hides them
        topic_id = self._topic_id = self._persist("kafka", self.reader.topic_id)
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
        if lane.catalogue is not None:
            lane.catalogue.start()
            while not lane.catalogue.complete.wait(0.1) and not self._stopping.is_set():
                self.pipeline.follower.take_over()
        self._persist("redis", self.pipeline.follower.load)
        self._checks = Checks(self.reader, lane.store, identity, self._identify, options.start, self._metrics)
        self._loop = Loop(
            reader=self.reader,
            store=lane.store,
            encoder=lane.encoder,
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
            checks=self._checks,
            limits=options.limits,
            metrics=self._metrics,
            health=self._health,
            fail_point=options.fail_point,
            between=self._exchange.turn,
        )
        for stage in self._stages:
            stage.start()
        parts.swap.start(lambda: self.pipeline.follower.index, self._exchange.ask)
        self.reader.join()
        log.info("joined the group with %d donors in the index", self.pipeline.follower.index.donors)

    def _identify(self, topic_id: str, previous: frozenset[str]) -> Identity:
        return self.pipeline.identify(topic_id, previous)

    # From one space to another, in the polling thread (see worker/exchange.py).

    def _make_backfill(self, lane: Lane, began: float) -> Backfill:
        options, own = self._options, self.lane
        return Backfill(
            lane,
            self._parts.make_shadow,
            self._parts.user_key,
            options.outbox,
            BackfillOptions(
                share=options.backfill_share,
                newcomer_events=options.newcomer_events,
                user_ttl_ms=options.user_ttl_ms,
                batch_max_events=options.batch_max_events,
                batch_max_tokens=options.batch_max_tokens,
                batch_max_age=options.batch_max_age,
                batches_in_flight=options.batches_in_flight,
                refresh_seconds=options.refresh_seconds,
                drain=options.limits.drain,
                fail_point=lambda step: options.fail_point(FILLING + step),
            ),
            carry=Carry(lambda: self._parts.open_space(own.serving.space, own.store.shards), lane.encoder.dimension),
            busy=self._in_flight.any,
            topic_id=self._topic_id,
            began=began,
        )

    def _serve(self, filled: Backfill) -> None:
        """What was filled serves from here on: nothing is under way, and every partition is checked anew."""
        if self._loop is None or self._checks is None:
            raise RuntimeError("start() comes before an exchange")
        began, before = time.monotonic(), self.lane
        filled.follower.tell(self._metrics)
        pipeline = self._make_pipeline(filled.lane, filled.follower)
        pipeline.instance = self.pipeline.instance
        # First the swap: what it makes ready from now on is for the new index.
        self._parts.swap.moved(filled.lane, filled.began, began)
        self._parts = replace(self._parts, lane=filled.lane)
        self.lane, self.pipeline = filled.lane, pipeline
        self._checks.exchange(filled.lane.store)
        self._loop.exchange(filled.lane.store, filled.lane.encoder, pipeline)
        threading.Thread(target=before.close, name="close", daemon=True).start()  # polling does not wait for it

    def _recheck(self) -> None:
        if self._loop is not None:
            self._loop.recheck_all()

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
        self._exchange.close()
        for stage in self._stages:
            stage.stop(2.0)
        self._in_flight.abandon()
        self._parts.swap.stop()
        for part in (self.reader, self._delivery, self.lane):
            try:
                part.close()
            except Exception as error:
                log.warning("closing %s: %s", type(part).__name__, error)
