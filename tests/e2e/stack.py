"""A stack as `kindred up` starts it, and the `kindred` command on it."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ops import broker
from ops.stack import endpoints, processes
from schemas.access import KafkaAccess
from schemas.codec import decode_recommendation
from schemas.recommendation import Recommendation
from tests.broker_servers import KIND

ROOT: Final = Path(__file__).parents[2]
POSTS: Final = ROOT / "ops" / "demo" / "stackexchange.jsonl.gz"
FIRST_K: Final = 3


@dataclass(frozen=True, slots=True)
class Stack:
    """A running stack and the `kindred` command on it."""

    data_dir: Path
    environment: dict[str, str]

    def kindred(self, *arguments: str, code: int = 0) -> str:
        """Standard output of a command that must end with this exit code."""
        done = self.run(*arguments)
        assert done.returncode == code, f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout if code == 0 else done.stderr

    def run(self, *arguments: str, by: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
        """A command, whatever its exit code. by: a module that starts it, and its arguments."""
        return subprocess.run(
            [sys.executable, *by, "-m", "ops.cli", *arguments, "--data-dir", str(self.data_dir)],
            capture_output=True,
            text=True,
            timeout=240,
            cwd=ROOT,
            env=os.environ | self.environment,
            check=False,
        )

    def up(self, workers: int) -> None:
        self.kindred("up", "--kafka", KIND, "--workers", str(workers), "--detach")

    def produce(self, posts: list[dict[str, Any]]) -> None:
        path = self.data_dir / "piece.jsonl"
        path.write_text("".join(json.dumps(post) + "\n" for post in posts), encoding="utf-8")
        self.kindred("produce", str(path), "--field", "occurred_at=ts")

    def json(self, *arguments: str) -> Any:
        return json.loads(self.kindred(*arguments, "--json"))

    def endpoints(self) -> endpoints.Endpoints:
        found = endpoints.read(self.data_dir)
        assert found is not None
        return found

    def recommendations(self) -> list[Recommendation]:
        """All that were published, repeats of a replay dropped by their id."""
        records = broker.read_all(KafkaAccess(self.endpoints().kafka), "recommendations")
        answers = [decode_recommendation(record.value, record.key, record.headers) for record in records]
        return list({answer.recommendation_id: answer for answer in answers}.values())

    def lag(self) -> int:
        return sum(int(row["lag"]) for row in self.json("offsets", "show"))


def wait_until(condition: Callable[[], object], what: str, seconds: float = 120.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.1)


@contextmanager
def running(data_dir: Path, *, encoder: str, workers: int) -> Iterator[Stack]:
    stack = Stack(data_dir, {"KINDRED_ENCODER": encoder, "HF_HUB_OFFLINE": "1"})
    try:
        stack.up(workers)
        yield stack
    finally:
        processes.down(data_dir)


def posts(count: int) -> list[dict[str, Any]]:
    with gzip.open(POSTS) as lines:
        return [json.loads(line) for line, _ in zip(lines, range(count), strict=False)]
