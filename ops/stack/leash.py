"""The supervisor's end of the pipe to its watchdog (`ops/stack/watchdog.py`)."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from ops.stack import processes


class Leash:
    """A running watchdog. Whatever it was last told to hold is ended as soon as this process is gone."""

    def __init__(self, data_dir: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "ops.stack.watchdog", str(data_dir)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            text=True,
        )
        self._record = processes.known(processes.WATCHDOG, self._process.pid)

    def alive(self) -> bool:
        return self._process.poll() is None

    def hold(self, records: Iterable[processes.Known]) -> list[processes.Known]:
        """Tell the watchdog what belongs to the stack now; returns its own record, nothing when it has died."""
        try:
            stdin = self._process.stdin
            if stdin is not None:
                stdin.write(processes.encode(records) + "\n")
                stdin.flush()
        except BrokenPipeError:
            return []
        return [self._record]

    def release(self) -> None:
        """All has ended in order: the watchdog has nothing to do."""
        self.hold([])
        try:
            # close() flushes: with a dead watchdog, what was buffered for it cannot be written any more.
            if self._process.stdin is not None:
                self._process.stdin.close()
        except BrokenPipeError:
            pass
        self._process.wait(10.0)
