"""`kindred up --detach`: a supervisor in a process of its own, and how the start ended, over a pipe.

The supervisor writes one line: `{"ready": endpoints}` or `{"failed": [text, remedy]}`. A closed pipe without a line
means that it died.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
import types
from collections.abc import Callable
from typing import Final

from ops.errors import OpsError, StackFailed
from ops.stack import endpoints
from ops.stack.child import LOG_DIRECTORY
from ops.stack.plan import StackPlan, make_directory
from ops.stack.processes import DRAIN_SECONDS
from ops.stack.supervisor import Supervisor

LOG: Final = "supervisor.log"
MARGIN_SECONDS: Final = 60.0
"""Beyond the plan's own limit for the start: starting and ending the servers, ending what was started."""


def stop_on_signals(supervisor: Supervisor) -> None:
    """SIGTERM and SIGINT end the stack in order; a second one ends it at once."""
    seen = 0

    def ask(_number: int, _frame: types.FrameType | None) -> None:
        nonlocal seen
        seen += 1
        supervisor.stop(now=seen > 1)

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, ask)


def serve(plan: StackPlan, pipe: int) -> int:
    """Run a supervisor and report its start on the pipe; returns the exit code."""
    report = _Report(pipe)
    try:
        supervisor = Supervisor(plan, _log)
        stop_on_signals(supervisor)
        supervisor.run(lambda found: report.send({"ready": found.as_json()}))
    except OpsError as error:
        report.send({"failed": [error.text, error.remedy]})
        _log(str(error))
        return error.exit_code
    finally:
        report.close()
    return 0


class _Report:
    def __init__(self, pipe: int) -> None:
        self._pipe: int | None = pipe

    def send(self, body: dict[str, object]) -> None:
        if self._pipe is not None:
            try:
                os.write(self._pipe, json.dumps(body).encode() + b"\n")
            except BrokenPipeError:
                _log("whoever started this stack has gone; it runs on")
            self.close()

    def close(self) -> None:
        if self._pipe is not None:
            os.close(self._pipe)
            self._pipe = None


def _log(text: str) -> None:
    sys.stdout.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}\n")
    sys.stdout.flush()


def start_detached(plan: StackPlan, progress: Callable[[], None] = lambda: None) -> endpoints.Endpoints:
    """Start a supervisor and wait until its stack is ready; progress is called several times a second meanwhile.

    Raises what the supervisor raised: nothing of the stack is running then. So also when interrupted.
    """
    logs = plan.data_dir / LOG_DIRECTORY
    make_directory(logs)
    read_end, write_end = os.pipe()
    with (logs / LOG).open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "ops.stack", plan.encode(), str(write_end)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            pass_fds=(write_end,),
            start_new_session=True,
        )
    os.close(write_end)
    try:
        with os.fdopen(read_end, "rb") as pipe:
            line = _first_line(pipe.fileno(), plan.start_seconds + MARGIN_SECONDS, progress)
        body = json.loads(line) if line else {}
    except BaseException:
        _end(process)
        raise
    if "ready" in body:
        found = endpoints.read(plan.data_dir)
        if found is not None:
            return found
    _end(process)
    text, remedy = body.get("failed", ("The supervisor of the stack ended without a word.", f"See {logs / LOG}."))
    raise StackFailed(text, remedy)


def _first_line(pipe: int, seconds: float, progress: Callable[[], None]) -> bytes:
    """What was written up to the end of the line; less when the writer died or the time is over."""
    deadline, line = time.monotonic() + seconds, b""
    while not line.endswith(b"\n") and time.monotonic() < deadline:
        progress()
        if select.select([pipe], [], [], 0.1)[0]:
            piece = os.read(pipe, 65_536)
            if not piece:
                break
            line += piece
    return line


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(DRAIN_SECONDS + 15.0)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(5.0)
