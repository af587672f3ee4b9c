"""`endpoints.json`: where a stack's broker, Redis and metrics are, and which processes it consists of.

Written in one rename, so that a reader sees the old file or the new one, never a part. This module does not know
whether what it reads is still alive; `ops/stack/processes.py` does.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ops.errors import StackError

FILE = "endpoints.json"


@dataclass(frozen=True, slots=True)
class Endpoints:
    """kafka: host:port; redis: a URL; metrics: one URL a worker; pids: name → process id of what runs now."""

    kafka: str
    redis: str
    metrics: tuple[str, ...] = ()
    pids: dict[str, int] = field(default_factory=dict)
    console: str | None = None

    def as_json(self) -> dict[str, Any]:
        body: dict[str, Any] = {"kafka": self.kafka, "redis": self.redis, "metrics": list(self.metrics)}
        if self.console is not None:
            body["console"] = self.console
        return body | {"pids": self.pids}


def replace_file(path: Path, text: str) -> None:
    """Write text to path in one rename."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)


def write(data_dir: Path, endpoints: Endpoints) -> None:
    replace_file(data_dir / FILE, json.dumps(endpoints.as_json(), indent=2) + "\n")


def read(data_dir: Path) -> Endpoints | None:
    """The endpoints of the stack in data_dir, None for none. Raises StackError for a file of another shape."""
    try:
        text = (data_dir / FILE).read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        body = json.loads(text)
        return Endpoints(
            kafka=str(body["kafka"]),
            redis=str(body["redis"]),
            metrics=tuple(str(url) for url in body.get("metrics", ())),
            pids={str(name): int(pid) for name, pid in body.get("pids", {}).items()},
            console=body.get("console"),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StackError(
            f"{data_dir / FILE} is not what `kindred up` writes.",
            f"Run `kindred down --data-dir {data_dir}`, then `kindred up` again.",
        ) from error
