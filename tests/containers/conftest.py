"""The fixtures of the contract suites, over containers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.containers.servers import KafkaInContainer, kafka_container, redis_container
from tests.contract.conftest import other, store
from tests.stores import RedisBackend, redis_backend

__all__ = ["other", "store"]


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    with redis_container() as url:
        yield url


@pytest.fixture
def backend(redis_url: str) -> Iterator[RedisBackend]:
    with redis_backend(redis_url) as place:
        yield place


@pytest.fixture(scope="session")
def lasting_broker() -> Iterator[KafkaInContainer]:
    with kafka_container() as server:
        yield server
