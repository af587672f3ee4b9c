"""One secured Kafka for all tests that need it: each has topics and groups of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.redis_servers import redis_server
from tests.security.place import Place
from tests.security.secured import SecuredKafka, secured_kafka


@pytest.fixture(scope="session")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredKafka]:
    with secured_kafka(tmp_path_factory.mktemp("secured")) as running:
        yield running


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with redis_server("embedded", tmp_path_factory.mktemp("redis")) as server:
        yield server.url


@pytest.fixture
def place(secured: SecuredKafka, redis_url: str, tmp_path: Path) -> Iterator[Place]:
    with Place(secured, redis_url, tmp_path) as place:
        yield place
