"""The broker's contract once more, on Apache Kafka from its official image."""

from __future__ import annotations

import gc
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import pytest

from tests.broker_servers import BrokerServer
from tests.brokers import Backend, KafkaBackend
from tests.containers.servers import KafkaInContainer, kafka_container
from tests.contract.test_broker import *  # noqa: F403

pytestmark = pytest.mark.docker


@pytest.fixture(scope="module")  # type: ignore[no-redef] # instead of the contract's
def broker(lasting_broker: KafkaInContainer) -> Iterator[Backend]:
    with _backend(lasting_broker) as found:
        yield found


@pytest.fixture  # type: ignore[no-redef] # likewise
def restless(monkeypatch: pytest.MonkeyPatch) -> Iterator[Backend]:
    """A broker of its own, which may go away."""
    for module in ("kafka", "kafka_publisher"):
        monkeypatch.setattr(f"worker.broker.{module}.CALL_TIMEOUT_MS", 300)
    with kafka_container() as server, _backend(server) as found:
        yield found


@contextmanager
def _backend(server: KafkaInContainer) -> Iterator[KafkaBackend]:
    log = logging.getLogger("kafka")
    level = log.level
    # kafka-python leaves the sockets of refused connections to the garbage collector, and kept log records hold them.
    log.setLevel(logging.CRITICAL + 1)
    try:
        found = KafkaBackend(cast(BrokerServer, server))
        yield found
        found.close()
    finally:
        log.setLevel(level)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            gc.collect()
