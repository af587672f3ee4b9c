"""One process of the stack: started, watched, signalled, its output in a log file. Decides nothing."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path

from ops.stack import processes
from ops.stack.backoff import Backoff
from ops.stack.ports import HOST
from ops.stack.programs import Program

LOG_DIRECTORY = "logs"


@dataclass(slots=True)
class Child:
    """process: None between a death and the restart. due: when to restart. ready: has its `/readyz` said so since it
    was started. gave_up: its exit code said that a restart will not help."""

    program: Program
    log: Path
    process: subprocess.Popen[bytes] | None = None
    record: processes.Known | None = None
    started: float = 0.0
    due: float = 0.0
    ready: bool = False
    gave_up: bool = False
    backoff: Backoff = field(default_factory=Backoff)

    def start(self, now: float) -> None:
        """In a session of its own, so that the terminal's Ctrl-C reaches the supervisor only, who ends all in order."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.program.arguments,
                env=os.environ | self.program.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        # A child that nobody has waited for keeps its entry, also when it has already ended.
        self.record = processes.known(self.program.name, self.process.pid)
        self.started, self.ready = now, False

    def exit_code(self) -> int | None:
        """None while it runs, or when it is not started."""
        return None if self.process is None else self.process.poll()

    def reaped(self) -> None:
        self.process = self.record = None
        self.ready = False

    def signal(self, number: signal.Signals) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(number)

    def wait(self, seconds: float) -> bool:
        """True when it has ended within the time."""
        if self.process is None:
            return True
        try:
            self.process.wait(max(0.0, seconds))
        except subprocess.TimeoutExpired:
            return False
        return True

    def readiness(self) -> tuple[bool, str]:
        """(ready, why not): what `/readyz` says."""
        try:
            connection = http.client.HTTPConnection(HOST, self.program.port, timeout=1.0)
            try:
                connection.request("GET", "/readyz")
                answer = connection.getresponse()
                body = answer.read(65_536)
            finally:
                connection.close()
        except (OSError, http.client.HTTPException):
            return False, "not listening yet"
        if answer.status == 200:
            return True, ""
        try:
            said = json.loads(body)
            reasons = "; ".join(str(reason) for reason in said.get("reasons", ()))
            return False, f"{said.get('state', 'not ready')}{': ' if reasons else ''}{reasons}"
        except (ValueError, AttributeError):
            return False, f"/readyz answers {answer.status}"

    def last_lines(self, count: int) -> list[str]:
        """The end of its log, without empty lines."""
        try:
            with self.log.open("rb") as log:
                log.seek(max(0, self.log.stat().st_size - 16_384))
                lines = log.read().decode("utf-8", errors="replace").splitlines()
        except FileNotFoundError:
            return []
        return list(deque((line.rstrip() for line in lines if line.strip()), maxlen=count))

    def last_word(self) -> str:
        """What it said last before it gave up."""
        return f"It said: {' '.join(self.last_lines(1)) or 'nothing'} (log: {self.log})"

    def log_end(self) -> str:
        lines = self.last_lines(8)
        return "\n".join([f"The end of {self.log}:", *lines]) if lines else f"{self.log} is empty."
