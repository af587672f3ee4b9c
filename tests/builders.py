"""A whole worker in one process, from parts that need no server, and short ways to write what it reads.

A `World` is what outlives workers: the log and the states. Workers run in threads; tests wait for conditions, never for
time.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal

from model.encoder.base import Encoder
from model.encoder.dummy import DummyEncoder
from model.head import identity
from model.health import Health
from model.index import Index
from model.transfer_weights import TransferWeights
from model.update import DAY_MS
from model.users import UserKey, user_key
from schemas.announcement import ReleaseAnnouncement
from schemas.codec import decode_recommendation, encode
from schemas.dead_letter import DeadLetter, read_dead_letter
from schemas.headers import Headers
from schemas.recommendation import Recommendation
from schemas.state import UserState
from worker.answer import answer
from worker.broker.base import Committed, Publisher, Reader, Record, Transactions
from worker.broker.memory import MemoryBroker, MemoryLog, MemoryPublisher, MemoryReader
from worker.broker.memory_shadow import MemoryShadow
from worker.catalogue import Catalogue
from worker.deliver import AtLeastOnce, Delivery, ExactlyOnce
from worker.lane import Lane
from worker.loop import Limits
from worker.metrics import Metrics
from worker.partition import Assignments
from worker.publish import Outbox
from worker.retry import Persistent
from worker.service import Options, Parts, Service
from worker.serving import Serving
from worker.store.base import Store
from worker.store.memory import MemoryData, MemoryStore
from worker.swap import Swap

TEXTS: Final = "user-text"
OUT: Final = "recommendations"
DEAD: Final = "user-text.dlq"
INTERESTS: Final = "user-interests"
RELEASES: Final = "model-releases"
GROUP: Final = "kindred"
K: Final = 3
PATIENCE: Final = 20.0
"""Seconds after which a condition is held never to come true."""

key_of = partial(user_key, secret=b"")


def eventually(condition: Callable[[], object], what: str, seconds: float = PATIENCE) -> None:
    """Wait until the condition holds; fails with `what` when it does not in time."""
    deadline = time.monotonic() + seconds
    pause = threading.Event()
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what}")
        pause.wait(0.003)


@dataclass(slots=True)
class World:
    """The log, the states, and every commit in the order in which it was made."""

    partitions: int = 2
    shards: int = 4
    broker: MemoryBroker = field(init=False)
    data: MemoryData = field(init=False)
    spaces: dict[str, MemoryData] = field(default_factory=dict)
    commits: list[tuple[int, Committed]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.broker = MemoryBroker({TEXTS: self.partitions, OUT: 1, DEAD: 1, INTERESTS: 1, RELEASES: 1})
        self.data = MemoryData(shards=self.shards)
        self.spaces[DummyEncoder().space] = self.data

    def of_space(self, space: str) -> MemoryData:
        """The states of a space: `data` are those of the encoder that workers begin with."""
        if space not in self.spaces:
            self.spaces[space] = self.data.another(DummyEncoder().space, space)
        return self.spaces[space]

    # Writing.

    def write(
        self,
        user: str,
        text: str = "a walk by the sea",
        *,
        partition: int | None = 0,
        timestamp: int | None = None,
        headers: Headers = (),
        **fields: Any,
    ) -> Record:
        """One event. partition None: by the user's name."""
        value = encode({"user_id": user, "text": text, **fields})
        return self.broker.append(TEXTS, user.encode(), value, headers, partition, timestamp)

    def forget(self, user: str, *, partition: int | None = 0) -> Record:
        return self.broker.append(TEXTS, user.encode(), None, (), partition)

    def spoil(
        self, value: bytes = b"no json", *, key: bytes = b"x", partition: int = 0, headers: Headers = ()
    ) -> Record:
        return self.broker.append(TEXTS, key, value, (), partition)

    # Reading.

    def log(self) -> list[Record]:
        return self.broker.records(TEXTS)

    def recommendations(self) -> list[Recommendation]:
        return [decode_recommendation(r.value, r.key, r.headers) for r in self.broker.records(OUT)]

    def dead_letters(self) -> list[DeadLetter]:
        return [read_dead_letter(r.headers, r.key, r.value) for r in self.broker.records(DEAD)]

    def answered(self) -> list[tuple[str, int]]:
        """(user, nth) of each recommendation, in the order of the topic."""
        return [(found.user_id, found.nth) for found in self.recommendations()]

    def ids(self) -> Counter[str]:
        return Counter(found.recommendation_id for found in self.recommendations())

    def state(self, user: str, data: MemoryData | None = None) -> UserState | None:
        (stored,) = MemoryStore(data or self.data).load([key_of(user)])
        return stored.state

    def users(self, data: MemoryData | None = None) -> dict[UserKey, tuple[bytes, bytes | None]]:
        """Every user's position and state, as bytes."""
        data = data or self.data
        with data.lock:
            return {key: value for shard in data.stored for key, value in shard.users.items()}

    def aggregates(self) -> dict[int, tuple[float, int]]:
        """Popularity (log2) and users of each item, as the index reads them."""
        (piece,) = MemoryStore(self.data).snapshot()
        return {row.item: (row.popularity, row.users) for row in piece.items}

    def committed(self, group: str = GROUP) -> dict[int, int]:
        with self.broker.lock:
            return {
                number: found.offset
                for (name, topic, number), found in self.broker.committed.items()
                if (name, topic) == (group, TEXTS)
            }

    def all_committed(self, group: str = GROUP) -> bool:
        ends = {n: t.begin[n] + len(t.partitions[n]) for t in [self.broker.topics[TEXTS]] for n in range(len(t.begin))}
        return self.committed(group) == ends

    # Working.

    def store(self) -> MemoryStore:
        return MemoryStore(self.data)

    @contextmanager
    def worker(self, **changes: Any) -> Iterator[Worker]:
        """A worker that has joined the group; it is stopped and closed at the end, and must have ended well unless the
        test has looked at its error. Changes: see `Setup`."""
        made = Worker(self, Setup(**changes))
        made.begin()
        try:
            made.await_start()
            yield made
        finally:
            made.end()
        if made.error is not None and not made.forgiven:
            raise made.error

    def work(self, **changes: Any) -> None:
        """Run a worker until everything in the log is committed."""
        with self.worker(**changes) as made:
            made.finish()


def built_in() -> Serving:
    """What a worker of a test serves at first."""
    space = DummyEncoder().space
    return Serving(
        release="built-in",
        path=Path("built-in"),
        sha256="0" * 64,
        space=space,
        backend="dummy",
        head=identity,
        head_sha256=None,
        answer=partial(answer, weights=TransferWeights.default(), release="built-in", space=space),
    )


def _nothing_to_load(announced: ReleaseAnnouncement) -> Serving:
    raise AssertionError(f"no release was expected, but {announced.release}")


def _nothing_to_open(announced: ReleaseAnnouncement) -> tuple[Encoder, Serving]:
    raise AssertionError(f"no release of another space was expected, but {announced.release}")


@dataclass(frozen=True, slots=True)
class Setup:
    """What a test may change of a worker."""

    name: str = "worker-0"
    group: str = GROUP
    store: Callable[[MemoryData], Store] = MemoryStore
    publisher: Callable[[MemoryBroker], Publisher] = MemoryPublisher
    transactions: Callable[[MemoryBroker], Transactions] | None = None
    reader: type[MemoryReader] = MemoryReader
    catalogue: Callable[[threading.Lock], Catalogue] | None = None
    start: Literal["earliest", "latest"] | datetime = "earliest"
    answer_after_ms: int = 0
    dead_in_a_row: int = 100
    batch_max_events: int = 8
    batch_max_age: float = 0.002
    batches_in_flight: int = 2
    drain: float = 10.0
    fail_point: Callable[[int], None] = lambda _step: None
    load: Callable[[ReleaseAnnouncement], Serving] = _nothing_to_load
    open: Callable[[ReleaseAnnouncement], tuple[Encoder, Serving]] = _nothing_to_open
    first: Callable[[], tuple[Encoder, Serving]] = lambda: (DummyEncoder(), built_in())
    pending: ReleaseAnnouncement | None = None


class Worker:
    """One Service in a thread, as worker/__main__.py runs it."""

    def __init__(self, world: World, setup: Setup) -> None:
        self.world = world
        self.setup = setup
        self.metrics = Metrics()
        self.health = Health()
        self.persist = Persistent(self.metrics, self.health, longest_pause=0.02)
        self.error: BaseException | None = None
        self.forgiven = False
        self.service = Service(self._parts(), self._options(), self.metrics, self.health, self.persist)
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, name=setup.name, daemon=True)

    def _parts(self) -> Parts:
        world, setup = self.world, self.setup

        class Reader(setup.reader):  # type: ignore[misc, name-defined]
            def commit(self, offsets: Mapping[int, Committed]) -> None:
                super().commit(offsets)
                world.commits += offsets.items()

        def make_reader(listener: Assignments) -> MemoryReader:
            made: MemoryReader = Reader(world.broker, TEXTS, setup.group, listener, setup.drain)
            return made

        log, lane = MemoryLog(world.broker, RELEASES), self._lane(*setup.first())
        notes = MemoryStore(world.data)

        def note(serving: Serving) -> None:
            notes.note(f"served:{setup.group}", str(serving.path))

        return Parts(
            make_reader=make_reader,
            make_shadow=lambda listener: MemoryShadow(world.broker, TEXTS, setup.group, listener),
            make_delivery=self._delivery,
            lane=lane,
            swap=Swap(
                log,
                lambda told, _: setup.load(told),
                lambda told: self._lane(*setup.open(told)),
                lane,
                self.metrics,
                self.health,
                note,
                setup.pending,
            ),
            user_key=key_of,
            open_space=lambda space, _: MemoryStore(world.of_space(space)),
        )

    def _lane(self, encoder: Encoder, serving: Serving) -> Lane:
        lock, setup = threading.Lock(), self.setup
        return Lane(
            serving=serving,
            encoder=encoder,
            encode_lock=lock,
            store=setup.store(self.world.of_space(encoder.space)),
            make_index=lambda head: Index(encoder.dimension, 4 << 20, interest=head),
            catalogue=None if setup.catalogue is None else setup.catalogue(lock),
        )

    def _delivery(self, reader: Reader, start_over: Callable[[], None]) -> Delivery:
        world, setup, most = self.world, self.setup, 1_000_000
        if setup.transactions is not None:
            return ExactlyOnce(setup.transactions(world.broker), reader, self.persist, start_over, max_bytes=most)
        return AtLeastOnce(setup.publisher(world.broker), reader, self.persist, max_bytes=most)

    def _options(self) -> Options:
        setup = self.setup
        return Options(
            topics=(OUT, DEAD, INTERESTS, RELEASES),
            outbox=Outbox(OUT, DEAD, INTERESTS, setup.name, 1_000_000, setup.answer_after_ms),
            limits=Limits(setup.dead_in_a_row, 1000, 0.5, setup.drain, 4 * setup.batch_max_events),
            start=setup.start,
            newcomer_events=K,
            user_ttl_ms=365 * DAY_MS,
            batch_max_events=setup.batch_max_events,
            batch_max_tokens=1 << 14,
            batch_max_age=setup.batch_max_age,
            batches_in_flight=setup.batches_in_flight,
            refresh_seconds=0.02,
            backfill_share=1.0,
            fail_point=setup.fail_point,
        )

    def begin(self) -> None:
        self._thread.start()

    def _run(self) -> None:
        try:
            self.service.start()
            self._started.set()
            self.service.run()
        except BaseException as error:
            self.error = error
        finally:
            self.service.close()
            self._started.set()

    def await_start(self) -> None:
        eventually(self._started.is_set, "the worker has started")

    def await_error(self) -> BaseException:
        """The error that ended this worker, which then does not fail the test."""
        self.forgiven = True
        self._thread.join(PATIENCE)
        assert self.error is not None, "the worker was expected to stop on an error"
        return self.error

    def end(self) -> None:
        """Stop and wait; as after SIGTERM."""
        self.service.stop()
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive(), "the worker does not stop"

    def finish(self) -> None:
        """Wait until everything in the log is committed and this worker is well."""
        eventually(lambda: self.world.all_committed() or self.error, f"all committed ({self.why()})")
        if self.error is None:
            eventually(lambda: self.ready() or self.error, "the worker is ready again")

    def ready(self) -> bool:
        return self.health.report()[0]

    def why(self) -> str:
        """State and reasons, as on /readyz."""
        found = self.health.report()[1]
        return f"{found['state']}: {found['reasons']}"

    def value(self, name: str, **labels: str) -> float:
        """A sample of /metrics; 0 where there is none."""
        return self.metrics.registry.get_sample_value(name, labels) or 0.0


class Gate:
    """A fail point that holds up the given step until it is opened. `reached` is set when the step was first met."""

    def __init__(self, step: int) -> None:
        self.reached = threading.Event()
        self.opened = threading.Event()
        self._step = step

    def __call__(self, step: int) -> None:
        if step == self._step:
            self.reached.set()
            assert self.opened.wait(PATIENCE), "nobody opened the gate"

    def await_reached(self) -> None:
        assert self.reached.wait(PATIENCE), f"step {self._step} was not met"

    def open(self) -> None:
        self.opened.set()
