"""The embedded server, for units that are nothing without one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.redis_servers import RedisServer, redis_server
from tests.stores import RedisBackend, redis_backend


@pytest.fixture(scope="session")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """For tests that leave the server as it was."""
    with redis_server("embedded", tmp_path_factory.mktemp("shared")) as server:
        yield server


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[RedisServer]:
    """For tests that kill or reconfigure it."""
    with redis_server("embedded", tmp_path / "own") as server:
        yield server


@pytest.fixture
def backend(shared_server: RedisServer) -> Iterator[RedisBackend]:
    with redis_backend(shared_server.url) as place:
        yield place
