"""The worker's eight steps. Steps 1 to 3 belong to the polling thread (`worker/loop.py`); one batch goes through the
rest here, in order. Stages overlap (`worker/stages.py`): steps 4, 5 to 7 and the waiting of 7 with 8 are each one
thread, so that steps 5 and 6 of a partition run strictly in batch order.

    1 poll      records of the partitions that this worker runs or heals
    2 decode    bad record → dead letter; clean; tokenise
    3 batch     close by padded tokens, count or age
    4 encode    texts → unit vectors, and the titles of items seen for the first time
    5 update    pure: old state + vectors → new state; an event at or below its partition's position changes nothing
    6 save      one script a shard; what was refused is read again and computed again; a store that fell back is healed
    7 publish   answers to newcomers and dead letters; wait for every acknowledgement  (worker/deliver.py)
    8 commit    offsets, never below what was committed before                         (worker/deliver.py)

Between two batches the stage of steps 5 to 7 may exchange the release (worker/swap.py). `fail_point(step)` is called
after each step, for the fault tests, and with 0 in the middle of such an exchange.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from model.clean import clean
from model.encoder.base import Encoder, Tokens
from model.index import Index
from model.item_table import ItemEntry
from model.update import LogEvent, Outcome, Update, update
from model.users import UserKey
from schemas.state import UserState
from worker.batch import Batch
from worker.broker.base import OutRecord, Sent
from worker.decode import Entry
from worker.deliver import Delivery
from worker.follow import Follower
from worker.heal import fell_back
from worker.metrics import Metrics
from worker.publish import Asked, Outbox, due, heals
from worker.retry import Persistent
from worker.serving import Serving
from worker.spaces import Spaces
from worker.store.base import FellBack, Identity, Store, StoreUnavailable, Watermarks, Write

log = logging.getLogger(__name__)

TIMED: Final = ("encode", "update", "save", "answer", "publish", "commit")
"""Labels of kindred_stage_seconds; answer is the first half of step 7, publish the waiting for acknowledgements."""


@dataclass(slots=True)
class Work:
    """A batch on its way.

    vectors: (N, D), LogEvent.vector points into it. items: names (and vectors of titles) of items seen for the first
    time. saved: step 6 was done. out: what is to be published, by the partition that asks for it. dead: the reason of
    each dead letter among it. answered: strategy and event's timestamp of each recommendation. held: the partitions
    that were in the batch when it set out.
    """

    batch: Batch
    held: tuple[int, ...] = ()
    vectors: NDArray[np.float32] = field(default_factory=lambda: np.empty((0, 0), np.float32))
    items: list[ItemEntry] = field(default_factory=list)
    saved: bool = False
    out: dict[int, list[OutRecord]] = field(default_factory=dict)
    dead: list[str] = field(default_factory=list)
    answered: list[tuple[str, int]] = field(default_factory=list)
    sent: Sent | None = None


class Releases(Protocol):
    """serving: what answers the next batch. take_over: between two batches, exchange it if another one is ready (see
    worker/swap.py)."""

    @property
    def serving(self) -> Serving: ...

    def take_over(self, index: Index, fail_point: Callable[[int], None]) -> None: ...

    def acknowledged(self, opened: float) -> None:
        """A batch is through whose first event came then."""
        ...


class Pipeline:
    """spaces: the other ones; None where somebody else sees to them."""

    def __init__(
        self,
        *,
        encoder: Encoder,
        store: Store,
        follower: Follower,
        encode_lock: threading.Lock,
        swap: Releases,
        outbox: Outbox,
        delivery: Delivery,
        persist: Persistent,
        metrics: Metrics,
        newcomer_events: int,
        user_ttl_ms: int,
        on_fell_back: Callable[[], None],
        fail_point: Callable[[int], None],
        spaces: Spaces | None = None,
    ) -> None:
        self._encoder = encoder
        self._store = store
        self.follower = follower
        self._encode_lock = encode_lock
        self._swap = swap
        self._outbox = outbox
        self._delivery = delivery
        self._persist = persist
        self._metrics = metrics
        self._newcomer_events = newcomer_events
        self._user_ttl_ms = user_ttl_ms
        self._on_fell_back = on_fell_back
        self._fail_point = fail_point
        self._spaces = spaces
        self._seconds = {step: metrics.stage_seconds.labels(step) for step in TIMED}
        self.left: Watermarks = [{} for _ in range(store.shards)]
        """The watermarks that this worker left on every shard."""
        self.instance = ""
        """Id of the data in Redis; goes into every commit."""

    # Step 4: one thread.

    def encode(self, work: Work) -> None:
        started = time.perf_counter()
        work.batch.drop_dead()
        logs = [entry.log for entry in work.batch.entries if entry.log is not None and entry.length]
        tokens = [entry.tokens for entry in work.batch.entries if entry.log is not None and entry.length]
        new = self._new_items(work.batch)
        tokens += self._encoder.tokenise([clean(title) for _, _, title in new]).ids
        with self._encode_lock:
            work.vectors = self._encoder.encode(Tokens(tokens))
        for row, event in enumerate(logs):
            event.vector = row
        for row, (item, item_id, title) in enumerate(new, start=len(logs)):
            vector = work.vectors[row].astype(np.float16).tobytes() if len(tokens[row]) else b""
            work.items.append(ItemEntry(item, item_id, title or None, vector))
        counters = self._encoder.counters
        if counters.padded_tokens:
            self._metrics.padding_share.set(1 - counters.tokens / counters.padded_tokens)
        self._done("encode", started)

    def _new_items(self, batch: Batch) -> list[tuple[int, str, str]]:
        """(hash, id, title) of items that the index cannot name yet, each once; "" where no event told a title."""
        new: dict[int, tuple[int, str, str]] = {}
        for entry in batch.entries:
            event, item = entry.event, entry.log.item if entry.log is not None else None
            if event is None or event.item_id is None or item is None:
                continue
            known = self.follower.index.items.named(item, with_title=event.item_title is not None)
            if not known or heals(batch, entry):
                title = event.item_title or (new[item][2] if item in new else "")
                new[item] = (item, event.item_id, title)
        return list(new.values())

    # Steps 5, 6 and the sending of 7: one thread.

    def apply(self, work: Work) -> None:
        batch = work.batch
        batch.drop_dead()
        if not batch.entries:
            return
        read = [entry for entry in batch.entries if entry.log is not None]
        try:
            outcomes, states = self._update_and_save(work, [entry.log for entry in read if entry.log is not None])
        except FellBack as error:
            log.warning("%s", error)
            for lease in batch.leases.values():
                lease.alive = False  # what comes behind this batch must not be committed past it
            self._persist("redis", self._start_over)
            return
        erasures = [entry.log for entry in read if entry.log is not None and entry.log.erases]
        self._erase_elsewhere(erasures)
        self._fail_point(6)
        started = time.perf_counter()
        now_ms = int(time.time() * 1000)
        asked = self._outbox.questions(batch, read, outcomes, now_ms)
        self.follower.take_over()
        answers = self._answer(asked, states, {log.user for log in erasures})
        work.out = self._outbox.records(batch, asked, answers)
        work.answered = [
            (str(answer["strategy"]), entry.record.timestamp)
            for (entry, _, _), answer in zip(asked, answers, strict=True)
        ]
        work.dead = [
            entry.dead.reason for entry in batch.entries if entry.dead is not None and due(batch, entry.record)
        ]
        work.saved = True
        self._delivery.send(work)
        self._done("answer", started)

    def _erase_elsewhere(self, tombstones: Sequence[LogEvent]) -> None:
        spaces = self._spaces
        if spaces is not None and tombstones:
            self._persist("redis", lambda: spaces.erase(tombstones))

    def _answer(
        self, asked: Sequence[Asked], states: Mapping[UserKey, UserState | None], erased: Set[UserKey]
    ) -> list[dict[str, Any]]:
        """The batch's new states enter the index and its questions are answered: all at once, but for newcomers who ask
        several times in it. Their own row is as of the question, or it would tell them what they take next; not that of
        whoever was erased within the batch, who is nobody's donor for a moment."""
        index, serving = self.follower.index, self._swap.serving
        last = {question.user: seen for _, question, seen in asked if question.user not in erased}
        index.put_users([(user, state) for user, state in states.items() if user not in last])
        asks: Counter[UserKey] = Counter()
        rounds: list[list[int]] = []
        for place, (_, question, _) in enumerate(asked):
            if asks[question.user] == len(rounds):
                rounds.append([])
            rounds[asks[question.user]].append(place)
            asks[question.user] += 1
        answers: dict[int, dict[str, Any]] = {}
        for places in rounds:
            some = [asked[place] for place in places]
            index.put_users([(question.user, seen) for _, question, seen in some if question.user in last])
            answers.update(zip(places, serving.answer([question for _, question, _ in some], index), strict=True))
        index.put_users([(user, states[user]) for user, seen in last.items() if states.get(user, seen) is not seen])
        return [answers[place] for place in range(len(asked))]

    def _update_and_save(
        self, work: Work, events: Sequence[LogEvent]
    ) -> tuple[list[Outcome], dict[UserKey, UserState | None]]:
        """Steps 5 and 6; again for the users whose write was refused, from what is stored by then. Gives the new states
        too, which are yet to enter the index."""
        batch, index = work.batch, self.follower.index
        labels = self._outbox.labels(batch, index)
        outcomes: dict[int, Outcome] = {}
        states: dict[UserKey, UserState | None] = {}
        pending = list(range(len(events)))
        while True:
            started = time.perf_counter()
            result = self._compute([events[i] for i in pending], work.vectors)
            self._done("update", started)
            self._fail_point(5)
            started = time.perf_counter()
            write = Write(batch.next_offsets, [dict(marks) for marks in self.left], result.writes, work.items, labels)
            refused = self._save(write)
            outcomes.update(zip(pending, result.outcomes, strict=True))
            again = {result.writes[place].user for place in refused}
            index.learn(work.items, labels)
            states.update(
                (w.user, state) for w, state in zip(result.writes, result.states, strict=True) if w.user not in again
            )
            self._done("save", started)
            if not again:
                break
            self._metrics.writes_refused.inc(len(again))
            pending = [i for i in pending if events[i].user in again]
        for shard in self.left:
            for partition, mark in batch.next_offsets.items():
                shard[partition] = max(mark, shard.get(partition, 0))
        ordered = [outcomes[i] for i in range(len(events))]
        self._count(batch.entries, events, ordered)
        return ordered, states

    def _compute(self, events: Sequence[LogEvent], vectors: NDArray[np.float32]) -> Update:
        keys = list(dict.fromkeys(event.user for event in events))
        stored = self._persist("redis", lambda: self._store.load(keys))
        return update(
            dict(zip(keys, stored, strict=True)),
            events,
            vectors,
            newcomer_events=self._newcomer_events,
            user_ttl_ms=self._user_ttl_ms,
        )

    def _save(self, write: Write) -> set[int]:
        """A write whose reply was lost may have been made: asked again it is refused, and the users are read again."""
        return self._persist("redis", lambda: self._store.save(write))

    def _count(self, entries: Sequence[Entry], events: Sequence[LogEvent], outcomes: Sequence[Outcome]) -> None:
        applied = sum(outcome.applied for outcome in outcomes)
        replayed = sum(outcome.replayed for outcome in outcomes)
        erased = sum(e.erases and not o.replayed for e, o in zip(events, outcomes, strict=True))
        forgotten = sum(outcome.forgotten for outcome in outcomes)
        operator = sum(entry.log is None and entry.dead is None for entry in entries)
        self._metrics.events_applied.inc(applied)
        self._metrics.users_erased.inc(erased)
        self._metrics.events_skipped.labels("replayed").inc(replayed)
        self._metrics.events_skipped.labels("repeated").inc(len(events) - applied - erased - replayed - forgotten)
        self._metrics.events_skipped.labels("forgotten").inc(forgotten)
        self._metrics.events_skipped.labels("operator").inc(operator)

    # Between two batches, in the same thread; the feed about once a second.

    def maintain(self) -> None:
        """Exchange the release if one is ready; follow the feed of changes into the index, and see whether Redis has
        fallen back."""
        self._swap.take_over(self.follower.index, self._fail_point)
        if not self.follower.due():
            return
        try:
            stored = self._persist.once("redis", self._refreshed)
            if fell_back([dict(marks) for marks in self.left], stored):
                log.warning("Redis is behind what this worker left there")
                self._start_over()
        except StoreUnavailable as error:
            log.debug("the feed cannot be read: %s", error)

    def _refreshed(self) -> Watermarks:
        if self._spaces is not None:
            self._spaces.tend()
        self.follower.refresh()
        return self._store.watermarks()

    def _start_over(self) -> None:
        """Redis has fallen back. The index goes first: it must not take for known what Redis has forgotten, because
        names are stored only of items and labels that it lacks. Then the polling thread heals."""
        self.follower.load()
        self._on_fell_back()

    def identify(self, topic_id: str, previous: frozenset[str]) -> Identity:
        """Whose data Redis holds; from now on commits are made in its name. Raises StoreUnavailable."""
        identity = self._store.identify(topic_id, previous)
        self.instance = identity.instance
        return identity

    # Asked by the polling thread, for partitions of which nothing is under way.

    def adopt(self, partition: int, stored: Watermarks) -> None:
        """Take a partition's watermarks over as they are stored."""
        for shard, marks in zip(self.left, stored, strict=True):
            shard.pop(partition, None)
            if partition in marks:
                shard[partition] = marks[partition]

    def forget(self, partition: int) -> None:
        """Leave a partition's watermarks to whoever checks it next."""
        for shard in self.left:
            shard.pop(partition, None)

    def abandon(self, held: Callable[[int], bool]) -> None:
        """Forget the watermarks of partitions that are not held any more: another worker raises them now."""
        for shard in self.left:
            for partition in [known for known in list(shard) if not held(known)]:
                shard.pop(partition, None)

    # The waiting of step 7, and step 8: one thread.

    def settle(self, work: Work) -> None:
        if not work.saved:
            return
        started = time.perf_counter()
        self._delivery.publish(work)
        self._done("publish", started)
        self._fail_point(7)
        started = time.perf_counter()
        if self._delivery.commit(work, self.instance):
            self._count_published(work)
            self._swap.acknowledged(work.batch.opened)
        self._done("commit", started)
        self._fail_point(8)

    def _count_published(self, work: Work) -> None:
        now_ms = time.time() * 1000
        for strategy, timestamp in work.answered:
            self._metrics.recommendations.labels(strategy).inc()
            self._metrics.recommendation_seconds.observe(max(0.0, (now_ms - timestamp) / 1000))
        for reason in work.dead:
            self._metrics.events_dead.labels(reason).inc()

    def _done(self, step: str, started: float) -> None:
        self._seconds[step].observe(time.perf_counter() - started)
