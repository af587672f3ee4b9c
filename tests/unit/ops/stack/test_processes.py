from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ops.stack import processes
from ops.stack.processes import Known
from tests.unit.ops.stack.running import wait_until

DEAF = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("deaf", flush=True)
time.sleep(600)
"""


@pytest.fixture
def deaf() -> Iterator[subprocess.Popen[bytes]]:
    """A process that ignores SIGTERM."""
    with subprocess.Popen([sys.executable, "-c", DEAF], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"deaf\n"
        yield process
        process.kill()


def test_a_process_is_alive_until_it_is_killed_even_before_it_is_reaped(deaf: subprocess.Popen[bytes]) -> None:
    record = processes.known("worker-0", deaf.pid)
    assert processes.alive(record)
    os.kill(deaf.pid, signal.SIGKILL)
    wait_until(lambda: not processes.alive(record), "a zombie counts as ended")


def test_a_process_id_that_now_belongs_to_somebody_else_is_never_signalled(deaf: subprocess.Popen[bytes]) -> None:
    other = Known("worker-0", deaf.pid, processes.known("any", deaf.pid).started - 1_000.0)
    assert not processes.alive(other)
    processes.end([other], drain_seconds=0.1)
    assert deaf.poll() is None


def test_what_ignores_sigterm_is_killed_after_the_drain(deaf: subprocess.Popen[bytes]) -> None:
    processes.end([processes.known("worker-0", deaf.pid)], drain_seconds=0.2)
    assert deaf.wait(5) == -signal.SIGKILL


def test_the_record_survives_a_round_trip_and_forgetting_removes_it(tmp_path: Path) -> None:
    records = [Known("broker", 1, 2.5), Known("worker-0", 3, 4.0)]
    processes.write(tmp_path, records)
    assert processes.read(tmp_path) == records
    processes.forget(tmp_path)
    processes.forget(tmp_path)
    assert processes.read(tmp_path) == []


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"a": 1}', '{"a": ["x", "y"]}'])
def test_a_damaged_record_names_no_process(text: str) -> None:
    assert processes.decode(text) == []


def test_down_where_nothing_runs_says_so(tmp_path: Path) -> None:
    assert processes.down(tmp_path) == []
