"""Trainers are killed in each of their seven steps, frozen, and started twice: the log is learned from all the same,
and nothing is announced twice, or by two.

On a broker whose groups settle at once; a killed one's place in its group is free after the session timeout.
"""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from uuid import uuid4

import pytest

from ops import broker
from schemas.access import KafkaAccess
from schemas.announcement import ReleaseAnnouncement
from schemas.codec import decode_release_announcement
from schemas.release import Manifest
from schemas.topics import MODEL_RELEASES, USER_TEXT, topic_name
from tests.broker_servers import BrokerServer
from tests.communities import community
from tests.fault.processes import WorkerProcess, wait_for
from trainer.errors import TurnLost

pytestmark = [pytest.mark.apache, pytest.mark.timeout(600)]

END_S: Final = 120.0
MINUTE_MS: Final = 60_000
USERS: Final = 120
SETTINGS: Final = {
    "KINDRED_ENCODER": "dummy",
    "KINDRED_FIT": "blend",
    "KINDRED_FOLDS": "2",
    "KINDRED_LEAST_EVENTS": "400",
    "KINDRED_REFIT_LOOK_SECONDS": "0.5",
    "OMP_NUM_THREADS": "1",
}
"""Data that a fit takes seconds for, on one core."""


@dataclass(slots=True)
class Place:
    """A namespace with a log to learn from."""

    access: KafkaAccess
    directory: Path
    namespace: str = field(default_factory=lambda: f"fault-{uuid4().hex[:8]}")
    trainers: list[WorkerProcess] = field(default_factory=list)

    def write(self) -> None:
        broker.create_topics(self.access, self.namespace, 1)
        began_ms = int(time.time() * 1000) - 4 * USERS * MINUTE_MS  # within the topic's retention
        with broker.producer(self.access) as producer:
            topic = topic_name(USER_TEXT, self.namespace)
            sent = [
                producer.send(
                    topic,
                    key=event["user_id"].encode(),
                    value=json.dumps(event).encode(),
                    timestamp_ms=began_ms + turn * MINUTE_MS,
                )
                for turn, event in enumerate(community(USERS))
            ]
            for future in sent:
                future.get(30)

    def trainer(self, *options: str, fail_point: str | None = None, directory: str = "trainer") -> WorkerProcess:
        """`python -m trainer`, started."""
        settings = {
            **SETTINGS,
            "KINDRED_KAFKA_BOOTSTRAP": self.access.bootstrap,
            "KINDRED_NAMESPACE": self.namespace,
            "KINDRED_GROUP": self.namespace,
            "KINDRED_RELEASES": str(self.directory / "releases"),
            "KINDRED_CACHE": str(self.directory / "cache"),
            "KINDRED_TRAINER_DIRECTORY": str(self.directory / directory),
            **({} if fail_point is None else {"KINDRED_FAIL_POINT": fail_point}),
        }
        name = f"trainer-{len(self.trainers)}"
        made = WorkerProcess(name, self.directory, settings, arguments=("trainer", *options))
        self.trainers.append(made)
        made.start()
        return made

    def kill_all(self) -> None:
        for trainer in self.trainers:
            trainer.kill()

    def announced(self) -> list[ReleaseAnnouncement]:
        """All that was ever announced, as the workers see it."""
        topic = topic_name(MODEL_RELEASES, self.namespace)
        return [decode_release_announcement(r.value, r.key, r.headers) for r in broker.read_all(self.access, topic)]

    def released(self) -> set[str]:
        return {path.name for path in (self.directory / "releases").glob("refit-*")}

    def window_end(self) -> int:
        """Offset behind the window of the one release that there is."""
        (name,) = self.released()
        manifest = Manifest.model_validate_json((self.directory / "releases" / name / "manifest.json").read_bytes())
        assert manifest.window is not None
        return manifest.window.end["0"]


@pytest.fixture
def make_place(lasting_broker: BrokerServer, tmp_path: Path) -> Iterator[Callable[[], Place]]:
    with ExitStack() as ends:

        def make() -> Place:
            place = Place(KafkaAccess(lasting_broker.address), tmp_path / uuid4().hex)
            place.directory.mkdir()
            ends.callback(place.kill_all)
            place.write()
            return place

        yield make


def test_a_trainer_killed_in_any_step_is_gone_on_with_and_announces_its_release_once(
    make_place: Callable[[], Place],
) -> None:
    """Each successor waits for the session timeout of the killed one, all at the same time. What came meanwhile changes
    nothing: the release is that of the window which was begun."""
    places = {point: make_place() for point in ("1:1", "2:1", "3:1", "4:1", "5:1", "6:1", "7:1")}
    for point, place in places.items():
        assert place.trainer("--once", fail_point=point).exit_code(END_S) == -signal.SIGKILL, point
        place.write()
        place.trainer("--once")
    for point, place in places.items():
        successor = place.trainers[-1]
        assert successor.exit_code(END_S) == 0, point
        (told,) = place.announced()
        assert {told.release} == place.released(), f"{point}: it is the only one"
        assert told.verdict == "accept"
        assert place.window_end() == 4 * USERS, point
    assert "was refitted before" in places["7:1"].trainers[-1].said, "what was published is not fitted again"


def test_of_two_trainers_one_waits_and_says_for_whom(make_place: Callable[[], Place]) -> None:
    place = make_place()
    both = [place.trainer("--once", directory=name) for name in ("one", "two")]
    assert [trainer.exit_code(END_S) for trainer in both] == [0, 0]
    (waited,) = [trainer for trainer in both if "another trainer is at work" in trainer.said]
    (other,) = [trainer for trainer in both if trainer is not waited]
    assert other.process is not None
    assert f"-{other.process.pid}" in waited.said
    assert len(place.announced()) == 1, "the second one found nothing better than what the first announced"


def test_a_trainer_that_froze_and_was_replaced_announces_nothing_when_it_wakes(make_place: Callable[[], Place]) -> None:
    place = make_place()
    frozen = place.trainer("--once", fail_point="7:1:stop", directory="one")
    wait_for(lambda: frozen.frozen, "it is about to announce", END_S)
    assert place.trainer("--once", directory="two").exit_code(END_S) == 0
    before = place.announced()
    assert len(before) == 1
    frozen.signal(signal.SIGCONT)
    assert frozen.exit_code(END_S) == TurnLost.exit_code
    assert "nothing is announced" in frozen.said
    assert place.announced() == before


def test_a_trainer_that_goes_on_refits_when_it_is_due_and_ends_when_it_is_told_to(
    make_place: Callable[[], Place],
) -> None:
    place = make_place()
    trainer = place.trainer()
    wait_for(lambda: trainer.metric("kindred_trainer_refits_total", outcome="accepted") == 1, "it has refitted", END_S)
    assert len(place.announced()) == 1
    assert trainer.ready()
    assert trainer.metric("kindred_trainer_new_events") == 4 * USERS, "of the last look, which made it due"
    wait_for(lambda: trainer.metric("kindred_trainer_new_events") == 0, "it has looked again, and nothing is due")
    place.write()
    wait_for(lambda: trainer.metric("kindred_trainer_new_events") == 4 * USERS, "it sees what came")
    trainer.signal(signal.SIGTERM)
    assert trainer.exit_code() == 0
    assert len(place.announced()) == 1
