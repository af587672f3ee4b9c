"""The demo's refit: `kindred trainer --once` on its stack, while posts go on flowing."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

STEPS: Final = 7
FOLDS: Final = "3"
"""Instead of five, and the blend alone is fitted: a demo is looked at for three minutes."""
PATIENCE: Final = 120.0
"""Seconds for which posts are held back while it works."""
PAGE: Final = "All of it, with pictures: "
"""What the line begins with in which the trainer names its report (trainer/report.py)."""
_STEP: Final = re.compile(r"step (\d), ")


class Refit:
    """A trainer beside the stack in `data_dir`. told: what it printed, fold table and verdict. log: what it logged."""

    def __init__(self, data_dir: Path, width: int) -> None:
        told = ("--once", "--fit", "blend", "--data-dir", str(data_dir))
        self._command = (sys.executable, "-m", "ops.cli", "trainer", *told)
        self._environment = {"KINDRED_FOLDS": FOLDS} | os.environ | {"COLUMNS": str(width)}
        self._told, self._log = data_dir / "refit.txt", data_dir / "refit.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._started = self._seen = 0.0

    @property
    def told(self) -> str:
        return without_page(self._told.read_text(encoding="utf-8")) if self._told.exists() else ""

    @property
    def log(self) -> str:
        return self._log.read_text(encoding="utf-8") if self._log.exists() else ""

    @property
    def began(self) -> bool:
        return self._process is not None

    @property
    def running(self) -> bool:
        running = self._process is not None and self._process.poll() is None
        if running:
            self._seen = time.monotonic()
        return running

    @property
    def awaited(self) -> bool:
        """Whether it works and is not yet late."""
        return self.running and self.seconds < PATIENCE

    @property
    def seconds(self) -> float:
        """How long it was waited for."""
        return min(PATIENCE, self._seen - self._started)

    @property
    def done(self) -> int:
        """Steps of the recipe that are over."""
        if self._process is None:
            return 0
        if self._process.poll() == 0:
            return STEPS
        return steps_done(self.log)

    def start(self) -> None:
        with self._told.open("wb") as told, self._log.open("wb") as log:
            self._process = subprocess.Popen(self._command, env=self._environment, stdout=told, stderr=log)
        self._started = self._seen = time.monotonic()

    def end(self) -> None:
        """Whatever it is doing; a refit that is killed has published all or nothing."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()


def without_page(told: str) -> str:
    """The demo's directory is gone at its end, and with it the page that the trainer names."""
    return "".join(line for line in told.splitlines(keepends=True) if not line.startswith(PAGE))


def steps_done(log: str) -> int:
    """From what a trainer has logged that is still at work."""
    return max(map(int, _STEP.findall(log)), default=1) - 1
