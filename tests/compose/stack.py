"""docker-compose.yml brought up under a name and ports of its own, and always taken down again."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

from ops import broker
from ops.cli.feed import Feed
from ops.cli.target import Target
from ops.cli.watch import progress
from ops.stack.ports import claim
from schemas.access import KafkaAccess
from schemas.settings import ReleasePlace
from schemas.topics import RECOMMENDATIONS, USER_TEXT
from tests.builders import eventually
from tests.compose.prometheus import Prometheus, impatient
from tests.docker_engine import Compose, compose_command

READY_S: Final = 120.0
FIRST_EVENTS: Final = 3
MOST_WAITING: Final = 1_000
PIECE: Final = 100


@dataclass(slots=True)
class Stack:
    """A running one. sent: (user, event_id) of every event that `feed` made, in order."""

    compose: Compose
    target: Target
    prometheus: Prometheus
    sent: list[tuple[str, str]] = field(default_factory=list)

    def feed(self, count: int, users: int = 200) -> None:
        """So many events in turn of so many users; returns when the broker has all of them."""
        with broker.producer(self.target.kafka) as producer:
            feed = Feed(producer, self.target.topic(USER_TEXT))
            for _ in range(count):
                number = len(self.sent)
                user, event = f"user-{number % users}", f"event-{number}"
                text = f"sentence {number} about bread number {number % 17} and telescope number {number % 23}"
                value = {"user_id": user, "text": text, "event_id": event, "item_id": f"item-{number % 50}"}
                feed.send(user.encode(), json.dumps(value).encode())
                self.sent.append((user, event))
            feed.finish()

    def feed_during(self, *arguments: str) -> None:
        """Events keep coming until this compose command is done, some of them always waiting to be read."""
        with self.compose.begin(*arguments) as process:
            while process.poll() is None:
                if self.lag() < MOST_WAITING:
                    self.feed(PIECE)
            out, err = process.communicate()
        assert process.returncode == 0, out + err

    def send(self, topic: str, key: bytes, value: bytes | None) -> None:
        with broker.producer(self.target.kafka) as producer:
            Feed(producer, topic).send(key, value)

    def lag(self) -> int:
        """Events that no worker has committed."""
        with broker.admin(self.target.kafka) as admin, broker.reader(self.target.kafka) as reader:
            return progress(self.target, admin, reader).lag

    def wait_until_read(self, seconds: float = READY_S) -> None:
        eventually(lambda: self.lag() == 0, "all events are committed", seconds)

    def scale(self, workers: int) -> None:
        self.compose("up", "--detach", "--no-recreate", "--scale", f"worker={workers}")
        self.wait_for_workers(workers)

    def wait_for_workers(self, count: int) -> None:
        """So many are scraped, and every partition is read by one of them."""
        up = 'count(up{job="kindred-worker"} == 1)'
        running = 'sum(kindred_partitions{state="running"})'
        eventually(lambda: self.prometheus.value(up) == count, f"{count} workers are scraped", READY_S)
        eventually(lambda: self.prometheus.value(running) == USER_TEXT.partitions, "every partition is read", READY_S)

    def answers(self) -> list[dict[str, Any]]:
        """All recommendations, those that a replay repeated included."""
        topic = self.target.topic(RECOMMENDATIONS)
        return [json.loads(record.value) for record in broker.read_all(self.target.kafka, topic)]

    def due(self) -> set[tuple[str, int, str]]:
        """(user, nth, event_id) of every answer that what was fed asks for."""
        seen: Counter[str] = Counter()
        found = set()
        for user, event in self.sent:
            seen[user] += 1
            if seen[user] <= FIRST_EVENTS:
                found.add((user, seen[user], event))
        return found

    def audit(self) -> dict[str, Any]:
        """What `kindred audit` says, run beside the workers with their settings."""
        found: dict[str, Any] = json.loads(self.compose("run", "--rm", "--no-deps", "-T", "worker", "audit", "--json"))
        return found


@contextmanager
def running(directory: Path, *, encoder: str, services: Sequence[str] = (), workers: int = 1) -> Iterator[Stack]:
    """The services, all where none is named, up and ready with so many workers. Their logs are in the directory, by the
    end of the test. Skips or fails the test without Docker."""
    command, taken = compose_command(), set[int]()
    kafka, redis, prometheus = (claim(0, name, taken) for name in ("kafka", "redis", "prometheus"))
    environment = {
        "KINDRED_HOST_KAFKA": str(kafka),
        "KINDRED_HOST_REDIS": str(redis),
        "KINDRED_HOST_PROMETHEUS": str(prometheus),
        "KINDRED_PROMETHEUS_DIR": str(impatient(directory)),
        "KINDRED_ENCODER": encoder,
    }
    compose = Compose(command, f"kindred-test-{uuid4().hex[:8]}", environment)
    target = Target(
        kafka=KafkaAccess(f"localhost:{kafka}"),
        redis_url=f"redis://localhost:{redis}/0",
        group="kindred",
        namespace="",
        releases=ReleasePlace(directory / "releases"),
    )
    stack = Stack(compose, target, Prometheus(prometheus))
    try:
        compose("up", "--detach", "--scale", f"worker={workers}", *services, seconds=2 * READY_S)
        if "prometheus" in services or not services:
            eventually(stack.prometheus.answers, "Prometheus answers", READY_S)
            stack.wait_for_workers(workers)
        yield stack
    finally:
        log = directory / "compose.log"
        log.write_text(compose("logs", "--no-color"))
        sys.stdout.write(f"compose logs: {log}\n")
        compose("--profile", "demo", "down", "--volumes", "--remove-orphans", "--timeout", "1")
