"""Which processes belong to a stack, and how they end: the record that outlives the supervisor.

A process is known by its id and the time it was started, so that an id that the system gave to somebody else is never
signalled. The record lies in `processes.json` beside `endpoints.json`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

from ops.stack.endpoints import FILE as ENDPOINTS_FILE
from ops.stack.endpoints import replace_file

FILE: Final = "processes.json"
SUPERVISOR: Final = "supervisor"
WATCHDOG: Final = "watchdog"

DRAIN_SECONDS: Final = 25.0
"""A worker drains within 20 s of SIGTERM; five more before it is killed."""

SAME_START_SECONDS: Final = 2.0
"""The start time is derived from the boot time, which moves a little when the clock is corrected."""

_POLL_SECONDS: Final = 0.05


@dataclass(frozen=True, slots=True)
class Known:
    """pid, and started: seconds since 1970."""

    name: str
    pid: int
    started: float


def known(name: str, pid: int) -> Known:
    """Raises psutil.NoSuchProcess."""
    return Known(name, pid, psutil.Process(pid).create_time())


def encode(records: Iterable[Known]) -> str:
    return json.dumps({record.name: [record.pid, record.started] for record in records})


def decode(text: str) -> list[Known]:
    """Nothing for a text that `encode` did not make (a record cut off when its writer was killed)."""
    try:
        return [Known(name, int(pid), float(started)) for name, (pid, started) in json.loads(text).items()]
    except (ValueError, TypeError, AttributeError):
        return []


def write(data_dir: Path, records: Iterable[Known]) -> None:
    replace_file(data_dir / FILE, encode(records) + "\n")


def read(data_dir: Path) -> list[Known]:
    try:
        return decode((data_dir / FILE).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return []


def forget(data_dir: Path) -> None:
    """Remove the record and endpoints.json: no stack runs here any more."""
    for name in (ENDPOINTS_FILE, FILE):
        (data_dir / name).unlink(missing_ok=True)


def alive(record: Known) -> bool:
    """False also for a process that has ended but that nobody has waited for yet."""
    try:
        process = psutil.Process(record.pid)
        same = abs(process.create_time() - record.started) < SAME_START_SECONDS
        return same and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def wait_gone(records: Iterable[Known], seconds: float) -> list[Known]:
    """Wait until all have ended, at most so long; returns those that still run."""
    deadline = time.monotonic() + seconds
    left = [record for record in records if alive(record)]
    while left and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
        left = [record for record in left if alive(record)]
    return left


def end(records: Iterable[Known], drain_seconds: float = DRAIN_SECONDS) -> None:
    """End all: workers first (they need broker and Redis to drain), then the rest; SIGKILL for what stays."""
    records = [record for record in records if alive(record)]
    workers = [record for record in records if record.name.startswith("worker-")]
    servers = [record for record in records if record not in workers]
    for group, seconds in ((workers, drain_seconds), (servers, 5.0)):
        _signal(group, psutil.Process.terminate)
        left = wait_gone(group, seconds)
        _signal(left, psutil.Process.kill)
        wait_gone(left, 5.0)


def _signal(records: Iterable[Known], call: Callable[[psutil.Process], None]) -> None:
    for record in records:
        try:
            if alive(record):
                call(psutil.Process(record.pid))
        except psutil.NoSuchProcess:
            continue


def down(data_dir: Path) -> list[str]:
    """End the stack in data_dir, whatever is left of it; returns the names of the processes that still ran.

    A living supervisor ends its own processes in order; where it has crashed its watchdog does; what neither has ended
    is ended here.
    """
    records = [record for record in read(data_dir) if alive(record)]
    by_name = {record.name: record for record in records}
    if supervisor := by_name.get(SUPERVISOR):
        _signal([supervisor], psutil.Process.terminate)
        wait_gone(records, DRAIN_SECONDS + 15.0)
    elif watchdog := by_name.get(WATCHDOG):
        wait_gone([watchdog], DRAIN_SECONDS + 15.0)
    # Read again: a supervisor that was ending may have replaced a process meanwhile.
    for leftover in (records, read(data_dir)):
        end(leftover)
    forget(data_dir)
    return [record.name for record in records]
