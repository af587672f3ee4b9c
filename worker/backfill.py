"""A new space is back-filled beside the one in service, by healing: the log is replayed from the new space's own
watermarks, with its encoder, by the same loop and pipeline as a healing, in threads of its own.

Nothing is answered, published or committed here. Once the new space has come to where the group stands, these threads
end, and what they have filled goes into service (worker/exchange.py). A worker that dies on the way leaves its
watermarks in Redis; the next owner of a partition goes on from there.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Final

from model.health import Health
from model.users import UserKey
from worker.batch import Batcher
from worker.broker.base import BrokerUnavailable, CommitRefused, Shadow, Source
from worker.carry import Carry
from worker.checks import Beginning
from worker.deliver import Withheld
from worker.errors import WrongLog
from worker.follow import Follower
from worker.heal import of_partition, plan, read_note
from worker.lane import Lane
from worker.loop import Limits, Loop
from worker.metrics import Metrics
from worker.partition import Assignments, InFlight, Partition, PartitionState
from worker.pipeline import Pipeline, Work
from worker.publish import Outbox
from worker.retry import Persistent
from worker.serving import Serving
from worker.stages import Stage
from worker.store.base import Store, StoreUnavailable

log = logging.getLogger(__name__)

CLOSE_S: Final = 2.0
"""What is left when a space goes into service is healed with the partitions waiting: at most so many seconds' worth."""
NEVER_MS: Final = 1 << 62
"""Newcomers whose event is older than this are only learned from: here, all of them."""
LOOK_S: Final = 5.0
"""Seconds between two times that the space is kept, and looked at as a whole."""


@dataclass(frozen=True, slots=True)
class BackfillOptions:
    """share: of the time that a back-fill may encode while the space in service has work to do. The others as the
    worker's own."""

    share: float
    newcomer_events: int
    user_ttl_ms: int
    batch_max_events: int
    batch_max_tokens: int
    batch_max_age: float
    batches_in_flight: int
    refresh_seconds: float
    drain: float
    fail_point: Callable[[int], None]


@dataclass(frozen=True, slots=True)
class _Standing:
    """What a pipeline asks of worker/swap.py: one release, never exchanged."""

    serving: Serving

    def take_over(self, index: object, fail_point: object) -> None:
        """Nothing is exchanged."""

    def acknowledged(self, opened: float) -> None:
        """Nothing is acknowledged."""


def pause(spent: float, share: float) -> float:
    """Seconds to wait after so many of work, for the work to have that share of the time."""
    return spent * (1 / share - 1)


class Backfill:
    """lane: filled, then taken into service or closed. make_shadow: the reader, given the listener that it shall call.
    busy: whether the space in service has work. began: by time.monotonic, when its release was announced.

    `start`, `hold`, `remaining`, `finish` and `cancel` belong to one thread, the one that polls for the group.
    """

    def __init__(
        self,
        lane: Lane,
        make_shadow: Callable[[Assignments], Shadow],
        user_key: Callable[[str], UserKey],
        outbox: Outbox,
        options: BackfillOptions,
        *,
        carry: Carry,
        busy: Callable[[], bool],
        topic_id: str,
        began: float,
    ) -> None:
        self.lane = lane
        self.began = began
        self._make_shadow = make_shadow
        self._user_key = user_key
        self._options = options
        self._carry = carry
        self._busy = busy
        self._topic_id = topic_id
        # Of its own: what it does is told as a whole, and not as if the worker did it.
        self._metrics, self._health = Metrics(), Health()
        self._persist = Persistent(self._metrics, self._health, longest_pause=1.0)
        self._in_flight = InFlight()
        self._assignments = Assignments(self._in_flight)
        self._stop = threading.Event()
        self._cancelled = threading.Event()
        self._reached: Mapping[int, tuple[bool, int]] = {}
        self._whole = False
        """Whether the space is as far as the group in all partitions, other workers' too; looked at while this one has
        none."""
        self._next_look = 0.0
        self._paced = (began, 0.0)
        self._shadow: Shadow | None = None
        self._held: frozenset[int] = frozenset()
        self.failure: BaseException | None = None
        self.follower = Follower(
            lane.store,
            lane.make_index,
            lane.catalogue,
            self._metrics,
            options.refresh_seconds,
            lane.serving.head,
        )
        self._pipeline = Pipeline(
            encoder=lane.encoder,
            store=lane.store,
            follower=self.follower,
            encode_lock=lane.encode_lock,
            swap=_Standing(lane.serving),
            outbox=replace(outbox, answer_after_ms=NEVER_MS),
            delivery=Withheld(),
            persist=self._persist,
            metrics=self._metrics,
            newcomer_events=options.newcomer_events,
            user_ttl_ms=options.user_ttl_ms,
            on_fell_back=self._start_over,
            fail_point=options.fail_point,
        )
        self._loop: Loop | None = None
        self._thread = threading.Thread(target=self._run, name=f"backfill-{lane.serving.space[:8]}", daemon=True)

    def start(self) -> None:
        log.info("space %s: back-fill for release %s begins", self.lane.serving.space[:12], self.lane.serving.release)
        self._thread.start()

    def hold(self, partitions: Collection[int]) -> None:
        """The partitions that this worker has from the group."""
        self._held = frozenset(partitions)
        if self._shadow is not None:
            self._shadow.hold(self._held)

    def remaining(self, committed: Mapping[int, int]) -> int | None:
        """Events between what is filled and what the group has committed; None until every partition has been begun.

        committed: of the partitions that this worker has.
        """
        reached = self._reached
        if not committed.keys() <= reached.keys():
            return None
        return sum(max(0, offset - reached[number][1]) for number, offset in committed.items())

    def close_enough(self, committed: Mapping[int, int]) -> bool:
        """Whether the rest is healed within moments."""
        left = self.remaining(committed)
        if not committed:
            return not self._held and self._whole
        if left is None or not all(self._reached[number][0] for number in committed):
            return False
        return left <= max(self._options.batch_max_events, CLOSE_S * self.pace())

    def pace(self) -> float:
        """Events a second since it began; 0 before the first."""
        began, _ = self._paced
        return self._seen() / max(1e-3, time.monotonic() - began)

    def finish(self) -> None:
        """End the threads, with what is under way finished; see `ended`."""
        self._stop.set()

    def cancel(self) -> None:
        """End the threads and let everything go, sometime; nothing more is to be asked of it."""
        self._cancelled.set()
        self._persist.abandon.set()
        self._stop.set()
        if self._thread.ident is None:
            self._let_go()

    @property
    def ended(self) -> bool:
        return not self._thread.is_alive()

    def join(self, timeout: float) -> None:
        if self._thread.ident is not None:
            self._thread.join(timeout)

    # In its own threads.

    def _run(self) -> None:
        stages = self._stages()
        try:
            self._fill(stages)
        except BaseException as error:
            self.failure = error
        finally:
            drained = not self._in_flight.busy(self._held)
            for stage in stages:
                stage.stop(self._options.drain)
            if self.failure is None and not (drained and not any(stage.alive for stage in stages)):
                self.failure = RuntimeError("what was under way did not end in time")
            self._close(self._shadow)
            if self._cancelled.is_set() or self.failure is not None:
                self._let_go()

    def _fill(self, stages: list[Stage]) -> None:
        lane, persist = self.lane, self._persist
        lane.encoder.encode(lane.encoder.tokenise(["A newcomer writes a first sentence."]))
        shadow = self._shadow = persist("kafka", lambda: self._make_shadow(self._assignments))
        commits = persist("kafka", shadow.commits)
        notes = (read_note(found.metadata)[0] for found in commits.values())
        previous = frozenset(instance for instance in notes if instance is not None)
        identity = persist("redis", lambda: self._pipeline.identify(self._topic_id, previous))
        if identity.topic_id != self._topic_id:
            raise WrongLog(f"Redis holds states of this space that were made from another log ({identity.topic_id})")
        begins = {
            number: bounds.begin
            for number, bounds in persist("kafka", lambda: shadow.bounds(shadow.partitions())).items()
        }
        began = {number: read_note(found.metadata)[1] for number, found in commits.items()}
        persist("redis", lambda: self._carry.over(lane.store, begins, began))
        if lane.catalogue is not None:
            lane.catalogue.start()
            while not lane.catalogue.complete.wait(0.1) and not self._stop.is_set():
                self.follower.take_over()
        persist("redis", self.follower.load)
        loop = self._loop = self._make_loop(shadow, stages)
        for stage in stages:
            stage.start()
        self._paced = (time.monotonic(), 0.0)
        shadow.hold(self._held)
        loop.stopping = self._stop
        loop.run()

    def _make_loop(self, shadow: Shadow, stages: list[Stage]) -> Loop:
        options = self._options
        return Loop(
            reader=shadow,
            store=self.lane.store,
            encoder=self.lane.encoder,
            pipeline=self._pipeline,
            batcher=Batcher(
                max_events=options.batch_max_events,
                max_tokens=options.batch_max_tokens,
                max_age=options.batch_max_age,
            ),
            stages=stages,
            assignments=self._assignments,
            in_flight=self._in_flight,
            user_key=self._user_key,
            checks=_Checks(shadow, self.lane.store, self._identify),
            # How many bad records are too many is for the worker in service to decide.
            limits=Limits(1, 1, 1.0, options.drain, 2 * options.batch_max_events, pauses=False),
            metrics=self._metrics,
            health=self._health,
            fail_point=options.fail_point,
            between=self._note,
            name=f"back-fill of {self.lane.serving.space[:12]}: ",
        )

    def _stages(self) -> list[Stage]:
        waiting, capacity = self._metrics.stage_queue.labels, self._options.batches_in_flight
        pipeline = self._pipeline
        commit = Stage("fill-3", pipeline.settle, self._finished, capacity=capacity, waiting=waiting("commit"))
        update = Stage(
            "fill-2",
            pipeline.apply,
            commit.put,
            capacity=capacity,
            waiting=waiting("update"),
            idle=pipeline.maintain,
        )
        encode = Stage("fill-1", self._encode, update.put, capacity=capacity, waiting=waiting("encode"))
        return [encode, update, commit]

    def _encode(self, work: Work) -> None:
        """Then a pause, while the space in service has work to do: the two share a processor."""
        started = time.monotonic()
        self._pipeline.encode(work)
        self._options.fail_point(4)
        if self._busy():
            self._stop.wait(pause(time.monotonic() - started, self._options.share))

    def _finished(self, work: Work) -> None:
        self._in_flight.leave(work.held)

    def _identify(self) -> None:
        """Redis may have been emptied."""
        self._pipeline.identify(self._topic_id, frozenset())

    def _note(self, partitions: Mapping[int, Partition]) -> None:
        if time.monotonic() >= self._next_look:
            self._next_look = time.monotonic() + LOOK_S
            self._look()
        self._reached = {
            number: (
                partition.state is PartitionState.RUNNING,
                partition.started if partition.lease is None else max(partition.started, partition.lease.done),
            )
            for number, partition in partitions.items()
            if partition.reads
        }

    def _look(self) -> None:
        """Keep the space, which no worker serves yet; and see whether it is whole."""
        try:
            self.lane.store.keep()
            if self._shadow is None or self._held:
                self._whole = False
                return
            commits, marks = self._shadow.commits(), self.lane.store.watermarks()
        except (BrokerUnavailable, StoreUnavailable) as error:
            log.debug("how far a back-fill is cannot be told: %s", error)
            return
        self._whole = bool(commits) and all(
            min(shard.get(number, 0) for shard in marks) >= found.offset for number, found in commits.items()
        )

    def _seen(self) -> float:
        return self._metrics.registry.get_sample_value("kindred_events_in_total") or 0.0

    def _start_over(self) -> None:
        if self._loop is not None:
            self._loop.start_over.set()

    def _let_go(self) -> None:
        self._close(self.lane)

    def _close(self, part: Shadow | Lane | None) -> None:
        try:
            if part is not None:
                part.close()
        except Exception as error:
            log.warning("closing a back-fill: %s", error)


class _Checks:
    """Where a back-fill begins to read; see worker/checks.py for the worker's own."""

    def __init__(self, reader: Source, store: Store, identify: Callable[[], None]) -> None:
        self._reader = reader
        self._store = store
        self._identify = identify

    def begin(self, number: int, held: Callable[[], bool]) -> Beginning:  # noqa: ARG002
        """Raises WrongLog, CommitRefused while the group has not begun, and what the services raise."""
        committed = self._reader.committed(number)
        if committed is None:
            raise CommitRefused(f"the group has not begun to read partition {number}", retry=True)
        began = read_note(committed.metadata)[1]
        watermarks = self._store.watermarks()
        bounds = self._reader.bounds([number])[number]
        found = plan(
            self._reader.topic,
            number,
            committed=committed.offset,
            watermarks=of_partition(watermarks, number),
            bounds=bounds,
            begin=bounds.begin,
            began=began,
        )
        return Beginning(found.start, found.publish_from, began, watermarks)

    def identify(self) -> None:
        self._identify()

    def watch_group(self, now: float) -> None:
        """The space in service sees to it."""

    def watch_partitions(self, now: float) -> None:
        """The space in service sees to it."""
