"""The broker's contract once more, on Apache Kafka from its official image."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.brokers import Backend, backend_of
from tests.containers.servers import KafkaInContainer, kafka_container
from tests.contract.test_broker import *  # noqa: F403

pytestmark = pytest.mark.docker


@pytest.fixture(scope="module")  # type: ignore[no-redef] # instead of the contract's
def broker(lasting_broker: KafkaInContainer) -> Iterator[Backend]:
    with backend_of(lasting_broker) as found:
        yield found


@pytest.fixture  # type: ignore[no-redef] # likewise
def restless(monkeypatch: pytest.MonkeyPatch) -> Iterator[Backend]:
    """A broker of its own, which may go away."""
    for module in ("kafka", "kafka_publisher"):
        monkeypatch.setattr(f"worker.broker.{module}.CALL_TIMEOUT_MS", 300)
    with kafka_container() as server, backend_of(server) as found:
        yield found
