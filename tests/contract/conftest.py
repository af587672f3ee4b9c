"""Servers and stores that the contract suites run on."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.redis_servers import RedisServer, redis_server
from tests.stores import AuditedStore, Backend, MemoryBackend, redis_backend


@pytest.fixture(scope="session")
def embedded_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_server("embedded", tmp_path_factory.mktemp("embedded")) as server:
        yield server


@pytest.fixture(scope="session")
def redis8_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_server("redis8", tmp_path_factory.mktemp("redis8")) as server:
        yield server


@pytest.fixture(
    params=[
        "memory",
        pytest.param("embedded", marks=pytest.mark.embedded),
        pytest.param("redis8", marks=pytest.mark.redis8),
    ]
)
def backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    if request.param == "memory":
        yield MemoryBackend()
        return
    server: RedisServer = request.getfixturevalue(f"{request.param}_server")
    with redis_backend(server.url) as place:
        yield place


@pytest.fixture
def store(backend: Backend) -> AuditedStore:
    return backend.open()


@pytest.fixture
def other(backend: Backend) -> AuditedStore:
    """The store of another worker over the same data."""
    return backend.open()
