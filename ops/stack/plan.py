"""What a stack is to be: the values that `kindred up` was given, as they travel to a detached supervisor."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from ops.errors import StackError
from ops.stack.programs import worker_command


@dataclass(frozen=True, slots=True)
class StackPlan:
    """Ports: 0 for any free one; metrics_port is the first worker's, the others follow it. start_seconds: time for all
    workers to become ready (loading a model and timing its backends included). namespace: prefix of the topics.
    kafka_libs: the jars of Apache Kafka, which is run then (ops/stack/apache.py), else the embedded broker."""

    data_dir: Path
    workers: int = 1
    kafka_port: int = 0
    redis_port: int = 0
    metrics_port: int = 0
    namespace: str = ""
    start_seconds: float = 180.0
    kafka_libs: Path | None = None
    worker_command: tuple[str, ...] = field(default_factory=worker_command)

    def encode(self) -> str:
        return json.dumps(asdict(self), default=str)

    @classmethod
    def decode(cls, text: str) -> StackPlan:
        """What `encode` made, and nothing else."""
        values = json.loads(text)
        values["data_dir"] = Path(values["data_dir"])
        if values["kafka_libs"] is not None:
            values["kafka_libs"] = Path(values["kafka_libs"])
        values["worker_command"] = tuple(values["worker_command"])
        return cls(**values)


def make_directory(directory: Path) -> None:
    """Raises StackError where the data directory cannot be written."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StackError(
            f"The directory {directory} cannot be made: {error.strerror}.", "Name another one with --data-dir."
        ) from error
