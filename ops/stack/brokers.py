"""The brokers that a stack can run: the embedded one, which forgets on exit, and Apache Kafka, which keeps its log.

Starts nothing; the supervisor does, and treats them by what they keep.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from ops.stack import apache, programs
from ops.stack.programs import Program


class Broker(Protocol):
    """keeps_log: what it held is there again after a restart. start_seconds: it answers within this time."""

    @property
    def keeps_log(self) -> bool: ...

    @property
    def start_seconds(self) -> float: ...

    @property
    def program(self) -> Program: ...

    def prepare(self) -> str:
        """Make it ready to be started; returns the id of its log, "" for one that is another after every start.

        Raises MissingExtra, StackFailed.
        """


@dataclass(frozen=True, slots=True)
class EmbeddedBroker:
    """Ready in milliseconds, without Java."""

    port: int

    keeps_log = False
    start_seconds = 15.0

    @property
    def program(self) -> Program:
        return programs.broker(self.port)

    def prepare(self) -> str:
        return ""


@dataclass(frozen=True, slots=True)
class ApacheBroker:
    """One node of Apache Kafka; libs: what `apache.fetch` gave."""

    libs: Path
    node: apache.Node

    keeps_log = True
    start_seconds = 60.0
    """Two seconds on an idle machine; after a kill it reads its last segments again."""

    @property
    def program(self) -> Program:
        return apache.program(self.libs, self.node)

    def prepare(self) -> str:
        apache.prepare(self.libs, self.node)
        return apache.cluster_of(self.node)


REDIS_OF: Final = "of-log"
"""File beside Redis' own: the id of the log whose state Redis holds."""


def belongs(redis_directory: Path, log_id: str) -> bool:
    """Whether Redis holds the state of this log, by what `mark` wrote."""
    try:
        return bool(log_id) and (redis_directory / REDIS_OF).read_text(encoding="utf-8") == log_id
    except FileNotFoundError:
        return False


def mark(redis_directory: Path, log_id: str) -> None:
    (redis_directory / REDIS_OF).write_text(log_id, encoding="utf-8")
