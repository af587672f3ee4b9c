"""The Docker engine and its compose, old or new. Missing, it skips the test at home and fails it in CI."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).resolve().parent.parent
LABEL: Final = "label=org.opencontainers.image.title=kindred-stream"
ASK_S: Final = 20.0


def require_engine() -> None:
    """Docker answers."""
    _demand(_works("docker", "info"), "no Docker engine answers: install Docker and start it")


def compose_command() -> Sequence[str]:
    """`docker compose`, or the docker-compose of old."""
    require_engine()
    for command in (("docker", "compose"), ("docker-compose",)):
        if _works(*command, "version"):
            return command
    _demand(False, "Docker has no compose: install its plugin, or docker-compose 1.29 or newer")
    raise AssertionError


@cache
def _works(*command: str) -> bool:
    try:
        return subprocess.run(command, capture_output=True, timeout=ASK_S, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def _demand(there: bool, message: str) -> None:
    if there:
        return
    if os.environ.get("CI") == "true":
        pytest.fail(message)
    pytest.skip(message)


@dataclass(frozen=True, slots=True)
class Compose:
    """One project of docker-compose.yml. environment: what the file's variables are set to."""

    command: Sequence[str]
    project: str
    environment: Mapping[str, str]

    def __call__(self, *arguments: str, seconds: float = 120.0) -> str:
        """What it prints. Raises AssertionError with all that it said when it fails."""
        with self.begin(*arguments) as process:
            try:
                out, err = process.communicate(timeout=seconds)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
        assert process.returncode == 0, f"compose {' '.join(arguments)}: {process.returncode}\n{out}{err}"
        return out

    def begin(self, *arguments: str) -> subprocess.Popen[str]:
        """Without waiting."""
        return subprocess.Popen(
            [*self.command, "--project-name", self.project, *arguments],
            cwd=ROOT,
            env={**os.environ, **self.environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
