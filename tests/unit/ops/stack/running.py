"""Stacks for tests: the real supervisor, broker and Redis, with tiny workers instead of real ones."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psutil

from ops.stack import endpoints, processes
from ops.stack.plan import StackPlan

FAKE_WORKER: Final = (sys.executable, str(Path(__file__).with_name("fake_worker.py")))


def wait_until(condition: Callable[[], object], what: str, seconds: float = 30.0) -> None:
    """Fails the test when the condition does not come true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.02)


def runs(pid: int) -> bool:
    """Does a process with this id run (and is not just waiting to be reaped)?"""
    try:
        return processes.alive(processes.known("any", pid))
    except psutil.NoSuchProcess:
        return False


@dataclass(slots=True)
class RunningStack:
    """A supervisor in a process of its own, as `kindred up --detach` starts it."""

    plan: StackPlan
    process: subprocess.Popen[bytes]
    report: int
    log: Path

    def first_word(self) -> dict[str, Any]:
        """What it reported about its start; {} when it died without a word."""
        with os.fdopen(self.report, "rb") as pipe:
            line = pipe.readline()
        return dict(json.loads(line)) if line else {}

    def endpoints(self) -> endpoints.Endpoints:
        found = endpoints.read(self.plan.data_dir)
        assert found is not None, self.said()
        return found

    def pid(self, name: str) -> int:
        return self.endpoints().pids.get(name, 0)

    def kill(self, name: str) -> int:
        """SIGKILL one process of the stack; returns its pid."""
        pid = self.pid(name)
        os.kill(pid, signal.SIGKILL)
        return pid

    def restarted(self, name: str, old: int) -> bool:
        return self.pid(name) not in (0, old) and runs(self.pid(name))

    def all_pids(self) -> list[int]:
        return [record.pid for record in processes.read(self.plan.data_dir)]

    def said(self) -> str:
        return self.log.read_text(encoding="utf-8")


@contextmanager
def supervised(plan: StackPlan, **environment: str) -> Iterator[RunningStack]:
    """Started, not yet ready; ended with everything at the end of the block."""
    read_end, write_end = os.pipe()
    plan.data_dir.mkdir(parents=True, exist_ok=True)
    path = plan.data_dir / "said.log"
    with path.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "ops.stack", plan.encode(), str(write_end)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            pass_fds=(write_end,),
            env=os.environ | environment,
        )
    os.close(write_end)
    try:
        yield RunningStack(plan, process, read_end, path)
    finally:
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)
        processes.down(plan.data_dir)


def fake_plan(data_dir: Path, workers: int = 1, start_seconds: float = 30.0) -> StackPlan:
    return StackPlan(data_dir, workers=workers, start_seconds=start_seconds, worker_command=FAKE_WORKER)
