"""The workers of a fault test as processes that can be killed, frozen and woken.

Knows no topic and no state. Every process is ended by its own pid in the finalizer of the stack that made it.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Final

import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

ROOT: Final = Path(__file__).parents[2]
PROMPT_S: Final = 30.0
"""For what should take a second or two: the machine may be busy."""


def wait_for(condition: Callable[[], bool], what: str | Callable[[], str], seconds: float = PROMPT_S) -> None:
    """Poll until the condition holds; past the deadline fail the test with `what` (a function of it is called then)."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"not within {seconds:.0f} s: {what if isinstance(what, str) else what()}")
        time.sleep(0.02)


def past(moment: float) -> bool:
    """Whether it is later, by time.monotonic: for a fault that lasts a while, or comes at a random moment."""
    return time.monotonic() > moment


@dataclass(slots=True)
class WorkerProcess:
    """`python -m worker`, or another service, with the given KINDRED_ settings, nothing else of them inherited."""

    name: str
    directory: Path
    settings: Mapping[str, str]
    process: subprocess.Popen[bytes] | None = None
    arguments: Sequence[str] = ("worker",)

    def start(self) -> None:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("KINDRED_")}
        environment = {**inherited, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", **self.settings}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", *self.arguments], env=environment, cwd=self.directory, stdout=log, stderr=log
            )

    @property
    def log(self) -> Path:
        return self.directory / f"{self.name}.log"

    @property
    def said(self) -> str:
        return self.log.read_text(errors="replace")

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None, f"{self.name} was not started"
        self.process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL, also of a frozen one, and wait until it is gone."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def exit_code(self, seconds: float = PROMPT_S) -> int:
        """Wait for its end; negative: the signal that ended it."""
        assert self.process is not None, f"{self.name} was not started"
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            pytest.fail(f"{self.name} did not end within {seconds:.0f} s; its log ends:\n{self.said[-2000:]}")

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    @property
    def frozen(self) -> bool:
        """Stopped by SIGSTOP."""
        assert self.process is not None, f"{self.name} was not started"
        return psutil.Process(self.process.pid).status() == psutil.STATUS_STOPPED

    def ready(self) -> bool:
        """Whether /readyz says so: joined, everything assigned is running."""
        return self._get("readyz")[0] == HTTPStatus.OK

    def readiness(self) -> str:
        """What /readyz says, ready or not; empty while it cannot be asked."""
        return self._get("readyz")[1]

    @property
    def serves(self) -> bool:
        """Whether it runs a partition."""
        return self.metric("kindred_partitions", state="running") > 0

    def metric(self, name: str, **labels: str) -> float:
        """Sum of a metric's samples with these labels; 0 while the worker cannot be asked."""
        return sum(
            sample.value
            for family in text_string_to_metric_families(self._get("metrics")[1])
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    def _get(self, path: str) -> tuple[int, str]:
        """Status and body; (0, "") while nothing answers."""
        found = re.findall(r"metrics on http://(\S+):(\d+)/metrics", self.said)
        if not found:
            return 0, ""
        host, port = found[-1]
        connection = HTTPConnection(host, int(port), timeout=5)
        try:
            connection.request("GET", f"/{path}")
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        except (OSError, HTTPException):
            return 0, ""
        finally:
            connection.close()
