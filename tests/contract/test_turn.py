"""One trainer at a time, on a real broker. One that freezes is a process, so that it can be stopped as a whole."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from multiprocessing import get_context
from multiprocessing.connection import Connection
from uuid import uuid4

import kafka
import pytest

from schemas.access import KafkaAccess
from schemas.announcement import ReleaseAnnouncement
from tests.broker_servers import KIND, broker_server
from tests.brokers import KafkaBackend, backend_of
from tests.builders import eventually
from trainer.announce import announce_in_turn, announced
from trainer.announcer import Announcer
from trainer.errors import Stopped, TurnLost
from trainer.turn import Turn

pytestmark = [
    getattr(pytest.mark, KIND),
    pytest.mark.timeout(180),
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),  # see tests/brokers.py
]

PATIENCE = 40.0
"""The embedded broker takes 5 s for a group's first member, 7 to 10 s for a later change."""


def told(release: str) -> ReleaseAnnouncement:
    return ReleaseAnnouncement(
        release=release,
        uri=f"/r/{release}",
        sha256="0" * 64,
        space="s",
        verdict="accept",
        created_at=datetime(2026, 1, 31, tzinfo=UTC),
    )


@dataclass(frozen=True, slots=True)
class Scene:
    """A topic of announcements and a group of trainers. Every trainer is ended with it."""

    address: str
    topic: str
    group: str = field(default_factory=lambda: uuid4().hex)
    ends: ExitStack = field(default_factory=ExitStack)

    def turn(self, name: str) -> Turn:
        return self.ends.enter_context(closing(Turn(KafkaAccess(self.address), self.group, self.topic, name)))

    def waiting(self, turn: Turn) -> threading.Thread:
        """A thread that ends when it is the trainer's turn, or that trainer is closed."""

        def take() -> None:
            with suppress(Stopped):
                turn.take(lambda: False)

        thread = threading.Thread(target=take, daemon=True)
        thread.start()
        return thread

    @property
    def announcer(self) -> Announcer:
        return Announcer(KafkaAccess(self.address), self.topic, "contract")

    def announce(self, turn: Turn, release: str) -> None:
        self.announcer.announce(turn, self.announcer.standing(), told(release))

    def current(self) -> str | None:
        found = self.announcer.standing()
        return None if found is None else found.release


def at_work(scene: Scene, pipe: Connection) -> None:
    """A trainer in a process of its own: tells when it is its turn, and announces when it is told to."""
    turn = scene.turn("at work")
    turn.take(lambda: False)
    pipe.send("took it")
    pipe.recv()
    try:
        scene.announce(turn, "late")
        pipe.send("announced")
    except TurnLost as lost:
        pipe.send(str(lost))
    turn.close()


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, KafkaBackend]]:
    with broker_server(tmp_path_factory.mktemp("broker")) as server, backend_of(server) as backend:
        yield server.address, backend


@pytest.fixture
def scene(broker: tuple[str, KafkaBackend]) -> Iterator[Scene]:
    address, backend = broker
    made = Scene(address, backend.topic(compacted=True))
    with made.ends:
        yield made


def test_a_second_trainer_waits_names_the_one_at_work_and_has_its_turn_when_that_one_ends(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "trainer")
    first, second = scene.turn("trainer-1"), scene.turn("trainer-2")
    first.take(lambda: False)
    waiting = scene.waiting(second)
    eventually(lambda: "besides this one: trainer-1" in caplog.text, "it says so", PATIENCE)
    with pytest.raises(TurnLost):
        scene.announce(second, "r0")
    scene.announce(first, "r1")
    assert waiting.is_alive()
    assert scene.current() == "r1"
    # See trainer.turn.ALONE_S.
    eventually(second._consumer._coordinator.generation_if_stable, "the second one has joined", PATIENCE)
    first.close()
    waiting.join(PATIENCE)
    assert not waiting.is_alive()
    scene.announce(second, "r2")
    assert scene.current() == "r2"


def test_a_trainer_that_froze_and_was_replaced_announces_nothing(scene: Scene) -> None:
    ours, theirs = get_context("spawn").Pipe()
    frozen = get_context("spawn").Process(
        target=at_work,
        args=(Scene(scene.address, scene.topic, scene.group), theirs),
    )
    frozen.start()
    try:
        assert ours.poll(PATIENCE)
        assert ours.recv() == "took it"
        os.kill(frozen.pid or 0, signal.SIGSTOP)
        other = scene.turn("the other")
        waiting = scene.waiting(other)
        waiting.join(PATIENCE)
        assert not waiting.is_alive()
        scene.announce(other, "r1")
        ours.send("announce")
        os.kill(frozen.pid or 0, signal.SIGCONT)
        assert ours.poll(PATIENCE)
        assert "did not answer Kafka for too long" in ours.recv()
        scene.announce(other, "r2")
        assert scene.current() == "r2"
    finally:
        frozen.kill()
        frozen.join()


@pytest.mark.needs("isolates_transactions")
def test_an_announcement_whose_proof_is_refused_was_never_made(scene: Scene) -> None:
    turn = scene.turn("trainer")
    turn.take(lambda: False)
    scene.announce(turn, "r1")
    membership = kafka.ConsumerGroupMetadata(scene.group, 99, "somebody else")
    producer = kafka.KafkaProducer(bootstrap_servers=scene.address, transactional_id=scene.group, acks="all")
    with closing(producer):
        producer.init_transactions()
        with pytest.raises(kafka.errors.CommitFailedError):
            announce_in_turn(producer, scene.topic, told("r2"), turn._proof()[0], membership)
    with closing(kafka.KafkaConsumer(bootstrap_servers=scene.address)) as consumer:
        sent = announced(consumer, scene.topic)
    assert sent == told("r2")
    assert scene.current() == "r1", "nobody who reads what is committed sees it"


def test_what_was_judged_against_another_release_than_stands_is_not_announced(scene: Scene) -> None:
    turn = scene.turn("trainer")
    turn.take(lambda: False)
    scene.announce(turn, "r1")
    with pytest.raises(TurnLost, match="r1 is announced by now"):
        scene.announcer.announce(turn, None, told("r2"))
    assert scene.current() == "r1"


def test_who_announces_while_another_one_joins_is_not_taken_for_gone(scene: Scene) -> None:
    turn = scene.turn("trainer-1")
    turn.take(lambda: False)
    waiting = scene.waiting(scene.turn("trainer-2"))
    for number in range(3):
        scene.announce(turn, f"r{number}")
    assert waiting.is_alive()
    assert scene.current() == "r2"


def test_who_is_told_to_stop_waits_no_longer(scene: Scene) -> None:
    with pytest.raises(Stopped, match="while another trainer was at work"):
        scene.turn("trainer").take(lambda: True)
