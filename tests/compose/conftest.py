"""The image, built once, and what is left of older builds removed."""

from __future__ import annotations

import subprocess

import pytest

from tests.docker_engine import LABEL, Compose, compose_command

BUILD_S = 1_500.0
"""The first build fetches torch: 3 minutes on two cores; the next ones take seconds."""


@pytest.fixture(scope="session")
def image() -> None:
    Compose(compose_command(), "kindred-test", {})("build", "worker", seconds=BUILD_S)
    subprocess.run(["docker", "image", "prune", "--force", "--filter", LABEL], check=True, capture_output=True)
