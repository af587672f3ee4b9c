"""Settings of all tests, and the broker that tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.broker_servers import ABILITIES, KIND, BrokerServer, broker_server

# A busy machine is no bug: pytest-timeout bounds a test as a whole.
settings.register_profile("kindred", deadline=None)
settings.load_profile("kindred")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "needs(ability): skipped on a broker that lacks it, see tests/broker_servers.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        lacking = [
            ability
            for mark in item.iter_markers("needs")
            for ability in mark.args
            if not getattr(ABILITIES[KIND], ability)
        ]
        if lacking:
            item.add_marker(pytest.mark.skip(reason=f"the {KIND} broker lacks: {', '.join(lacking)}"))


@pytest.fixture(scope="session")
def lasting_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerServer]:
    """One broker for as many tests as can share it: each with topics and groups of its own, and it is mended after."""
    with broker_server(tmp_path_factory.mktemp("broker")) as server:
        yield server
