"""What a security test works with: a namespace of its own on the secured Kafka, a Redis, workers and commands as
processes. Everything that any of them writes is searched for the passwords at the end.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Final
from uuid import uuid4

from ops import broker
from schemas.topics import USER_TEXT, Topic, topic_name
from tests.fault.processes import ROOT, WorkerProcess
from tests.security.secured import ADMIN, OPERATOR, PASSWORDS, WORKER, Right, SecuredKafka, rights

COMMAND_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Done:
    """A command that has ended."""

    code: int
    said: str


@dataclass(slots=True)
class Place:
    """namespace: also the name of the group. secrets: what must be in no output."""

    secured: SecuredKafka
    redis_url: str
    directory: Path
    namespace: str = field(default_factory=lambda: f"n{uuid4().hex[:8]}")
    secrets: list[str] = field(default_factory=lambda: list(PASSWORDS.values()))
    workers: list[WorkerProcess] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)

    def __enter__(self) -> Place:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in self.workers:
            worker.kill()
        self.secured.revoke_all(WORKER)
        self.secured.revoke_all(OPERATOR)
        said = "\n".join([*self.outputs, *(worker.said for worker in self.workers)])
        leaked = [number for number, secret in enumerate(self.secrets) if secret in said]
        assert not leaked, f"secrets {leaked} are in the output"

    def create_topics(self) -> None:
        broker.create_topics(self.secured.access(), self.namespace, 1)

    def rights(self, table: str) -> list[Right]:
        return rights(table, NAMESPACE=self.namespace, GROUP=self.namespace)

    def grant(self, user: str, wanted: Iterable[Right]) -> None:
        self.secured.grant(user, list(wanted))

    def settings(self, user: str = WORKER) -> dict[str, str]:
        return {
            **self.secured.settings(user),
            "KINDRED_NAMESPACE": self.namespace,
            "KINDRED_GROUP": self.namespace,
            "KINDRED_REDIS_URL": self.redis_url,
            "KINDRED_RELEASES": str(self.directory / "releases"),
            "KINDRED_CACHE": str(self.directory / "cache"),
            "KINDRED_ENCODER": "dummy",
            "KINDRED_LOG_LEVEL": "DEBUG",
            "KINDRED_SESSION_TIMEOUT_MS": "6000",
            "KINDRED_RETRY_MAX_SECONDS": "0.5",
        }

    def worker(self, settings: Mapping[str, str] | None = None) -> WorkerProcess:
        """A new worker, started. settings: KINDRED_ variables over those of this place."""
        name = f"worker-{len(self.workers)}"
        worker = WorkerProcess(name, self.directory, {**self.settings(), "KINDRED_NAME": name, **(settings or {})})
        self.workers.append(worker)
        worker.start()
        return worker

    def kindred(self, *arguments: str, settings: Mapping[str, str] | None = None) -> Done:
        """A command as the operator."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("KINDRED_")}
        done = subprocess.run(
            [sys.executable, "-m", "ops.cli", *arguments],
            capture_output=True,
            text=True,
            timeout=COMMAND_S,
            cwd=self.directory,
            env={**inherited, "PYTHONPATH": str(ROOT), **self.settings(OPERATOR), **(settings or {})},
            check=False,
        )
        self.outputs.append(done.stdout + done.stderr)
        return Done(done.returncode, done.stdout + done.stderr)

    def send(self, *records: tuple[str, bytes | None]) -> None:
        """(key, value) into `user-text`, as somebody who may."""
        with broker.producer(self.secured.access(ADMIN)) as producer:
            topic = topic_name(USER_TEXT, self.namespace)
            for future in [producer.send(topic, key=key.encode(), value=value) for key, value in records]:
                future.get(10)

    def read(self, topic: Topic) -> list[Any]:
        """All committed records of a topic."""
        return list(broker.read_all(self.secured.access(ADMIN), topic_name(topic, self.namespace)))


def event(user: str, text: str, **more: object) -> tuple[str, bytes]:
    return user, json.dumps({"user_id": user, "text": text, **more}).encode()
